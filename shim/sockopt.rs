//! The socket options that the shim reads and sets, one function each.
//!
//! They are raw system calls, so that the program's `errno` stays as it is and
//! no other preloaded library sees options that the program never set.
#![allow(unsafe_code, reason = "system calls")]

use core::ffi::c_int;

use crate::arch::{self, number};
use crate::errno::Errno;
use crate::rules::{InterfaceName, Setting};

const SOL_SOCKET: usize = 1;

/// How setting an option went; `None` where it was to be left.
pub type Outcome = Option<Result<(), Errno>>;

/// `setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, setting, sizeof *setting)`, or
/// nothing where the option is to be left
///
/// <https://man7.org/linux/man-pages/man7/socket.7.html>
#[inline(always)]
pub fn set_reuseaddr(fd: c_int, setting: &Setting) -> Outcome {
    const SO_REUSEADDR: usize = 2;
    set(fd, SO_REUSEADDR, setting)
}

/// `setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, setting, sizeof *setting)`, or
/// nothing where the option is to be left
///
/// <https://man7.org/linux/man-pages/man7/socket.7.html>
#[inline(always)]
pub fn set_reuseport(fd: c_int, setting: &Setting) -> Outcome {
    const SO_REUSEPORT: usize = 15;
    set(fd, SO_REUSEPORT, setting)
}

/// `setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, strlen(name))`
///
/// <https://man7.org/linux/man-pages/man7/socket.7.html>
pub fn bind_to_device(fd: c_int, name: &InterfaceName) -> Result<(), Errno> {
    const SO_BINDTODEVICE: usize = 25;
    let name = name.as_bytes();
    set_bytes(
        fd,
        SO_BINDTODEVICE,
        name.as_ptr().expose_provenance(),
        name.len(),
    )
}

/// `getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, …)`: an `IPPROTO_*` number.
///
/// <https://man7.org/linux/man-pages/man7/socket.7.html>
#[inline(always)]
pub fn protocol(fd: c_int) -> Result<c_int, Errno> {
    const SO_PROTOCOL: usize = 38;
    get(fd, SO_PROTOCOL)
}

/// `getsockopt(fd, SOL_SOCKET, SO_TYPE, …)`: a `SOCK_*` number.
///
/// <https://man7.org/linux/man-pages/man7/socket.7.html>
pub fn socket_type(fd: c_int) -> Result<c_int, Errno> {
    const SO_TYPE: usize = 3;
    get(fd, SO_TYPE)
}

/// `getsockopt(fd, SOL_SOCKET, SO_PEERCRED, …)`: the effective user of who
/// listens at the other end of a Unix socket, as it began to.
///
/// <https://man7.org/linux/man-pages/man7/unix.7.html>
pub fn peer_user(fd: c_int) -> Result<u32, Errno> {
    const SO_PEERCRED: usize = 17;
    let [_pid, user, _group] = get::<[u32; 3]>(fd, SO_PEERCRED)?;
    Ok(user)
}

/// The value is passed where it lies: the rules are no shorter-lived.
#[inline(always)]
fn set(fd: c_int, option: usize, setting: &Setting) -> Outcome {
    if *setting == Setting::Leave {
        return None;
    }
    let value = (&raw const *setting).expose_provenance();
    Some(set_bytes(fd, option, value, size_of::<c_int>()))
}

#[inline(always)]
fn set_bytes(fd: c_int, option: usize, value: usize, length: usize) -> Result<(), Errno> {
    let fd = fd.cast_unsigned() as usize;
    let arguments = [fd, SOL_SOCKET, option, value, length];
    // SAFETY: setsockopt(2) reads `length` bytes at `value`, which the callers
    // borrow for as long as the call lasts.
    unsafe { arch::syscall5(number::SETSOCKOPT, arguments) }.map(drop)
}

#[inline(always)]
fn get<T: Default>(fd: c_int, option: usize) -> Result<T, Errno> {
    let mut value = T::default();
    let mut length = size_of::<T>() as u32;
    let arguments = [
        fd.cast_unsigned() as usize,
        SOL_SOCKET,
        option,
        (&raw mut value).expose_provenance(),
        (&raw mut length).expose_provenance(),
    ];
    // SAFETY: getsockopt(2) writes at most `length` bytes to `value` and the
    // number written to `length`.
    unsafe { arch::syscall5(number::GETSOCKOPT, arguments) }?;
    Ok(value)
}
