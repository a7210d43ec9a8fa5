//! What the families of netlink(7) have in common: messages with a header each.

use std::io;

use rustix::fd::OwnedFd;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto,
    socket_with,
};

/// From linux/netlink.h.
pub(crate) const NLMSG_ERROR: u16 = 2;
pub(crate) const NLMSG_DONE: u16 = 3;
pub(crate) const NLM_F_REQUEST: u16 = 0x1;
pub(crate) const NLM_F_ACK: u16 = 0x4;
pub(crate) const NLM_F_DUMP: u16 = 0x300;

/// The size of `nlmsghdr`, in bytes.
pub(crate) const HEADER: usize = 16;

/// The most bytes of a datagram that the kernel sends.
const LONGEST: usize = 1 << 16;

/// A socket to the kernel.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens one for `protocol`; `None` is the first, `NETLINK_ROUTE`.
    ///
    /// # Errors
    /// The kernel does not have it, or there are no descriptors left.
    pub(crate) fn open(protocol: Option<Protocol>) -> io::Result<Self> {
        let fd = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            protocol,
        )?;
        Ok(Self {
            fd,
            buffer: vec![0; LONGEST],
        })
    }

    /// Sends a message of the type `kind`.
    ///
    /// # Errors
    /// The kernel does not take it.
    pub(crate) fn send(&self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        let length = u32::try_from(HEADER + body.len()).map_err(io::Error::other)?;
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        // The sequence number and the port, which the kernel fills in.
        message.extend([0; 8]);
        message.extend(body);
        sendto(
            &self.fd,
            &message,
            SendFlags::empty(),
            &SocketAddrNetlink::new(0, 0),
        )?;
        Ok(())
    }

    /// Waits for a datagram, and gives its messages: type and body.
    ///
    /// # Errors
    /// The kernel has lost it.
    pub(crate) fn receive(&mut self) -> io::Result<impl Iterator<Item = (u16, &[u8])>> {
        let (length, _) = recv(&self.fd, &mut self.buffer[..], RecvFlags::empty())?;
        Ok(messages(&self.buffer[..length]))
    }
}

/// The error in the body of an `nlmsgerr`, 0 for none.
///
/// # Errors
/// That error.
pub(crate) fn check(body: &[u8]) -> io::Result<()> {
    let code = body
        .first_chunk()
        .map_or(0, |code| i32::from_ne_bytes(*code));
    match code {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code.saturating_neg())),
    }
}

/// The messages of a datagram: type and body.
pub(crate) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::try_from(word(bytes, 0)?).ok()?;
        let kind = half(bytes, 4)?;
        let body = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    })
}

/// The attributes at the end of a message: type and value.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    /// The size of `rtattr` and `nlattr`.
    const ATTRIBUTE: usize = 4;
    std::iter::from_fn(move || {
        let length = usize::from(half(bytes, 0)?);
        let kind = half(bytes, 2)?;
        let value = bytes.get(ATTRIBUTE..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The 16-bit number at `at`, in this machine's order.
pub(crate) fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The 32-bit number at `at`, in this machine's order.
pub(crate) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}
