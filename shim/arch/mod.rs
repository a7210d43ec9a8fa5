//! All that differs from one architecture to the next: how to make a system
//! call, how to read a weak symbol, how to jump past `syscall()` without a
//! frame. One file an architecture, each with the same items.
#![allow(unsafe_code, reason = "inline assembly")]

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "aarch64")]
use aarch64 as imp;

#[cfg(target_arch = "x86_64")]
mod x86_64;
#[cfg(target_arch = "x86_64")]
use x86_64 as imp;

#[cfg(not(any(target_arch = "aarch64", target_arch = "x86_64")))]
compile_error!("the shim has no assembly for this architecture: see shim/arch/");

#[cfg(any(accepts, test))]
pub use imp::increment;
pub(crate) use imp::load_address;
#[cfg(test)]
pub use imp::syscall;
pub use imp::{number, raw_syscall, swap};

use crate::errno::Errno;

/// Defines functions that give the address of a symbol, or 0 where the process
/// has none. The address is read in assembly: rustc takes every `extern` item
/// for non-null and would delete the test.
macro_rules! weak_symbols {
    ($($(#[$doc:meta])* $function:ident = $symbol:literal;)+) => {$(
        $(#[$doc])*
        fn $function() -> usize {
            let address;
            // SAFETY: reads one slot of our own global offset table, which the
            // loader filled before any code of ours ran.
            unsafe { $crate::arch::load_address!($symbol, address) };
            address
        }
    )+};
}
pub(crate) use weak_symbols;

/// A system call with three arguments; an error is its number, and the
/// caller's `errno` is left alone.
///
/// # Safety
/// The arguments must be what the call `number` takes.
#[inline(always)]
pub unsafe fn syscall3(number: usize, arguments: [usize; 3]) -> Result<usize, Errno> {
    // SAFETY: passed on to the caller.
    result(unsafe { imp::syscall3(number, arguments) })
}

/// The same with five arguments.
///
/// # Safety
/// The arguments must be what the call `number` takes.
#[inline(always)]
pub unsafe fn syscall5(number: usize, arguments: [usize; 5]) -> Result<usize, Errno> {
    // SAFETY: passed on to the caller.
    result(unsafe { imp::syscall5(number, arguments) })
}

/// The same with six arguments.
///
/// # Safety
/// The arguments must be what the call `number` takes.
#[cfg(any(accepts, test))]
#[inline(always)]
pub unsafe fn syscall6(number: usize, arguments: [usize; 6]) -> Result<usize, Errno> {
    // SAFETY: passed on to the caller.
    result(unsafe { imp::syscall6(number, arguments) })
}

/// The kernel answers an error with its number negated, from -4095 to -1: see
/// syscall(2).
#[inline(always)]
fn result(answer: isize) -> Result<usize, Errno> {
    match answer {
        -4095..=-1 => Err(Errno(-answer as i32)),
        _ => Ok(answer.cast_unsigned()),
    }
}
