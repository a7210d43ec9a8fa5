//! Who is at the other end of a Unix socket.
#![allow(unsafe_code, reason = "getsockopt(2) with SO_PEERCRED")]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd};

/// Another process, as it was when it connected or listened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    /// `None` for one that this PID namespace does not see.
    pub(super) pid: Option<u32>,
    /// The overflow user for one that this user namespace does not know.
    pub(super) user: u32,
}

/// `getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length)`
///
/// rustix has it too, but takes a process id for one that is never 0.
///
/// <https://man7.org/linux/man-pages/man7/unix.7.html>
///
/// # Errors
/// `socket` is no connected Unix socket.
pub(super) fn peer(socket: impl AsFd) -> io::Result<Peer> {
    let mut credentials = libc::ucred {
        pid: 0,
        uid: u32::MAX,
        gid: u32::MAX,
    };
    let size = size_of::<libc::ucred>();
    let mut length = libc::socklen_t::try_from(size).map_err(io::Error::other)?;
    // SAFETY: the kernel writes at most `length` bytes, the size of `credentials`,
    // whose fields may have any value.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut credentials).cast(),
            &raw mut length,
        )
    };
    if answer != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Peer {
        pid: u32::try_from(credentials.pid).ok().filter(|pid| *pid != 0),
        user: credentials.uid,
    })
}
