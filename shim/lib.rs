//! `libreuseport.so`, the shim: named in `LD_PRELOAD`, it sets
//! `SO_REUSEPORT` on a socket just before the program binds it.
//!
//! What it promises, and where each promise is kept:
//!
//! - It runs in any process on glibc and on musl: no `DT_NEEDED`, no symbol
//!   versions, only weak undefined symbols (`arch`, `next`).
//! - It never makes the program fail: the real `bind` is always called with
//!   the caller's arguments, its result and its `errno` are the caller's
//!   (`hooks`). The one exception is `LIBREUSEPORT_INTERFACE`.
//! - No allocation, no lock, no thread-local storage, no panic path: safe in a
//!   signal handler, and after vfork(2) once the constructor has run. The
//!   panic handler below does not link, which proves the last one at each
//!   build.
//! - The environment is read once, into plain values (`state`).
//! - In a copy of a runner, and nowhere else, sockets are handed to it (`runner`),
//!   and what they accept is counted (`accepts`).
//!
//! This file is the root of two crates: the shared object, which the build
//! step compiles (`builder.rs`), and the test target `shim` of the package,
//! through which clippy, rust-analyzer and the unit tests see these sources.
#![cfg_attr(not(test), no_std)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "sizes of small things, digits, and numbers as the kernel takes them"
)]

#[cfg(not(target_os = "linux"))]
compile_error!("the shim speaks to the Linux kernel");

#[cfg(any(accepts, test))]
mod accepts;
mod arch;
mod debug;
mod environ;
mod errno;
mod hooks;
mod next;
mod note;
mod program;
mod reason;
mod rules;
mod runner;
mod sockaddr;
mod sockopt;
mod state;

#[cfg(test)]
mod tests;

/// Fails the link if the compiler could not prove that nothing panics: the
/// function that it calls does not exist.
#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    unsafe extern "C" {
        fn the_shim_must_not_have_a_panic_path() -> !;
    }
    // SAFETY: never reached, since a shim that refers to it does not link.
    unsafe { the_shim_must_not_have_a_panic_path() }
}
