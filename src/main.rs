//! The command `reuseport`.
//!
//! `main` is C's rather than Rust's: the standard library's start-up ignores
//! SIGPIPE and opens /dev/null on closed standard descriptors, and the program
//! that we turn into must find both as our caller left them.
#![cfg_attr(not(test), no_main)]
#![allow(unsafe_code, reason = "the C entry point")]

use std::ffi::{CStr, OsString, c_char, c_int};
use std::os::unix::ffi::OsStringExt;

/// # Safety
/// Called by the C library with its `argc` and `argv`.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn main(count: c_int, arguments: *const *const c_char) -> c_int {
    let count = usize::try_from(count).unwrap_or_default();
    let arguments = (0..count).map(|index| {
        // SAFETY: the C library passes `count` C strings, alive for as long as
        // the process.
        let argument = unsafe { CStr::from_ptr(*arguments.add(index)) };
        OsString::from_vec(argument.to_bytes().to_vec())
    });
    reuseport::cli::run(arguments.collect()).into()
}
