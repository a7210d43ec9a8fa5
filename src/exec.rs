//! Becoming another program.
//!
//! `std::process::Command::exec` resets SIGPIPE and the signal mask on the way.
//! A program that is started through us is to find both as our caller left them.
#![allow(unsafe_code, reason = "execve(2)")]

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::ptr;

use crate::environment::Environment;

/// Replaces this process's program: same process id, signals and descriptors.
/// Returns only where that failed.
pub fn exec(path: &Path, arguments: &[OsString], environment: Environment) -> io::Error {
    match prepare(path, arguments, environment) {
        Ok((path, arguments, environment)) => {
            let arguments = pointers(&arguments);
            let environment = pointers(&environment);
            // SAFETY: the path is a C string; both lists hold C strings that
            // outlive the call, and end with a null pointer.
            unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
            io::Error::last_os_error()
        }
        Err(error) => error,
    }
}

type Prepared = (CString, Vec<CString>, Vec<CString>);

fn prepare(path: &Path, arguments: &[OsString], environment: Environment) -> io::Result<Prepared> {
    let text = |text: &OsStr| Ok::<_, io::Error>(CString::new(text.as_bytes())?);
    let entry = |(mut name, value): (OsString, OsString)| {
        name.push("=");
        name.push(value);
        Ok::<_, io::Error>(CString::new(name.into_vec())?)
    };
    Ok((
        text(path.as_os_str())?,
        arguments
            .iter()
            .map(|argument| text(argument))
            .collect::<Result<_, _>>()?,
        environment
            .into_iter()
            .map(entry)
            .collect::<Result<_, _>>()?,
    ))
}

fn pointers(texts: &[CString]) -> Vec<*const libc::c_char> {
    texts
        .iter()
        .map(|text| text.as_ptr())
        .chain([ptr::null()])
        .collect()
}

/// Opens /dev/null on each of the three standard descriptors that is closed, so
/// that no file of ours takes its number. The program that we become does not
/// inherit it.
pub fn fill_standard_descriptors() {
    for fd in 0..=2 {
        // SAFETY: F_GETFD takes no argument, and open(2) a C string; the lowest
        // free number, which is the one just found closed, is taken.
        unsafe {
            if libc::fcntl(fd, libc::F_GETFD) == -1 {
                libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
            }
        }
    }
}
