//! Handing a copy's sockets to the runner that started it, so that the runner
//! knows when the copy listens and can steer connections away from it.
//!
//! A new Unix socket carries the descriptor, made and closed here: one that a copy
//! inherits does not survive in servers that close what they do not know. Nothing
//! here blocks, and what goes wrong is passed over: the runner sees the sockets in
//! proc(5), later.
#![allow(unsafe_code, reason = "system calls")]

use core::ffi::c_int;

use crate::arch::{self, number};
use crate::errno::Errno;
use crate::sockopt;

/// `AF_UNIX`, as the kernel has it in an address and in socket(2).
const AF_UNIX: u8 = 1;
/// The most bytes of an abstract address's name that are used.
const LONGEST: usize = 40;

/// Where a runner waits for sockets: `LIBREUSEPORT_RUNNER`, which is
/// `USER/NAME`, the runner's user and the name of an abstract Unix address.
#[derive(Clone, Copy)]
pub struct Runner {
    user: u32,
    /// The length of `address`; 0 where there is no runner.
    length: u8,
    /// `sockaddr_un`: the family, and a name that begins with 0.
    address: [u8; 3 + LONGEST],
}

impl Runner {
    /// No runner: nothing but zeros, so that it takes no room in the file.
    pub const NONE: Self = Self {
        user: 0,
        length: 0,
        address: [0; 3 + LONGEST],
    };

    /// Parses `value`; leaves [`Runner::NONE`] where that is no runner's.
    pub fn fill(&mut self, value: &[u8]) {
        let mut user: u32 = 0;
        let mut bytes = value.iter();
        for &byte in bytes.by_ref() {
            if byte == b'/' {
                break;
            }
            user = user.wrapping_mul(10).wrapping_add(u32::from(byte & 15));
        }
        let name = bytes.as_slice();
        if name.is_empty() || name.len() > LONGEST {
            return;
        }
        self.user = user;
        self.length = 3 + name.len() as u8;
        let (family, place) = self.address.split_at_mut(3);
        if let Some(first) = family.first_mut() {
            *first = if cfg!(target_endian = "little") {
                AF_UNIX
            } else {
                0
            };
        }
        for (to, from) in place.iter_mut().zip(name) {
            *to = *from;
        }
    }

    /// Whether there is one.
    pub fn is_some(&self) -> bool {
        self.length != 0
    }

    /// Hands over `fd` where it is a datagram socket, which never listens.
    pub fn hand_datagrams(&self, fd: c_int) {
        const SOCK_DGRAM: c_int = 2;
        if sockopt::socket_type(fd) == Ok(SOCK_DGRAM) {
            self.hand(fd);
        }
    }

    /// Hands over `fd`.
    #[cold]
    #[inline(never)]
    pub fn hand(&self, fd: c_int) {
        /// `SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC`
        const KIND: usize = 5 | 0o4000 | 0o2_000_000;
        // SAFETY: socket(2) takes numbers; the descriptor is ours to close.
        unsafe {
            if let Ok(socket) = arch::syscall3(number::SOCKET, [AF_UNIX.into(), KIND, 0]) {
                #[cfg(any(accepts, test))]
                let page = crate::accepts::begin(fd);
                #[cfg(not(any(accepts, test)))]
                let page = None;
                let _ = self.send(socket, fd, page);
                let _ = arch::syscall3(number::CLOSE, [socket, 0, 0]);
                if let Some(page) = page {
                    let _ = arch::syscall3(number::CLOSE, [page, 0, 0]);
                }
            }
        }
    }

    /// Sends `fd`, its number and the `page` of counters through `socket`, to the
    /// runner and to nobody else.
    fn send(&self, socket: usize, fd: c_int, page: Option<usize>) -> Result<(), Errno> {
        const MSG_NOSIGNAL: usize = 0x4000;
        let address = self.address.as_ptr().expose_provenance();
        let connect = [socket, address, self.length.into()];
        // SAFETY: connect(2) reads `length` bytes of the address.
        unsafe { arch::syscall3(number::CONNECT, connect) }?;
        // Anyone may take an abstract address that has become free.
        if sockopt::peer_user(socket as c_int)? != self.user {
            return Err(Errno::EINVAL);
        }
        // Without the page's descriptor, its place is padding.
        let unused = if page.is_some() {
            0
        } else {
            size_of::<c_int>()
        };
        let control = Control {
            length: size_of::<Control>() - unused,
            level: 1,
            kind: 1,
            fds: [fd, page.unwrap_or(0) as c_int],
        };
        let part = [(&raw const fd).expose_provenance(), size_of::<c_int>()];
        let message = Message {
            name: [0; 2],
            parts: [(&raw const part).expose_provenance(), 1],
            control: [
                (&raw const control).expose_provenance(),
                size_of::<Control>(),
            ],
            flags: 0,
        };
        let send = [
            socket,
            (&raw const message).expose_provenance(),
            MSG_NOSIGNAL,
        ];
        // SAFETY: sendmsg(2) reads the message and what it points to, all of it
        // alive here.
        unsafe { arch::syscall3(number::SENDMSG, send) }.map(drop)
    }
}

/// `msghdr`, see sendmsg(2), of 64 bits: pairs of address and length.
#[repr(C)]
struct Message {
    name: [usize; 2],
    parts: [usize; 2],
    control: [usize; 2],
    flags: usize,
}

/// `cmsghdr` with two descriptors, see cmsg(3): level SOL_SOCKET, kind SCM_RIGHTS.
#[repr(C)]
struct Control {
    length: usize,
    level: c_int,
    kind: c_int,
    fds: [c_int; 2],
}
