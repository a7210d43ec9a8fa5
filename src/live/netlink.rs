//! What a trial needs of rtnetlink(7): the addresses of the machine, lo up, and
//! those addresses on lo.

use std::io;
use std::net::IpAddr;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
};

/// From linux/rtnetlink.h, linux/netlink.h and linux/if_addr.h.
mod number {
    pub(super) const NLMSG_ERROR: u16 = 2;
    pub(super) const NLMSG_DONE: u16 = 3;
    pub(super) const RTM_NEWLINK: u16 = 16;
    pub(super) const RTM_NEWADDR: u16 = 20;
    pub(super) const RTM_GETADDR: u16 = 22;
    pub(super) const NLM_F_REQUEST: u16 = 0x1;
    pub(super) const NLM_F_ACK: u16 = 0x4;
    pub(super) const NLM_F_DUMP: u16 = 0x300;
    pub(super) const NLM_F_CREATE: u16 = 0x400;
    pub(super) const IFA_ADDRESS: u16 = 1;
    pub(super) const IFA_LOCAL: u16 = 2;
    pub(super) const IFA_F_NODAD: u8 = 0x2;
    pub(super) const IFF_UP: u32 = 1;
    pub(super) const AF_INET: u8 = 2;
    pub(super) const AF_INET6: u8 = 10;
}

/// The index of lo in every network namespace.
const LOOPBACK: u32 = 1;

/// The sizes of `nlmsghdr`, `ifaddrmsg` and `rtattr`, in bytes.
const HEADER: usize = 16;
const ADDRESS: usize = 8;
const ATTRIBUTE: usize = 4;

/// The end of dumps that go on for ever.
const MOST_ADDRESSES: usize = 4096;

/// All addresses of this network namespace's interfaces.
///
/// # Errors
/// The kernel does not say.
pub(super) fn addresses() -> io::Result<Vec<IpAddr>> {
    let socket = Socket::open()?;
    let flags = number::NLM_F_REQUEST | number::NLM_F_DUMP;
    socket.send(number::RTM_GETADDR, flags, &[0; ADDRESS])?;
    let mut found = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    while found.len() < MOST_ADDRESSES {
        let (length, _) = recv(&socket.fd, &mut buffer[..], RecvFlags::empty())?;
        for (kind, body) in messages(&buffer[..length]) {
            match kind {
                number::NLMSG_DONE => return Ok(found),
                number::NLMSG_ERROR => check(body)?,
                number::RTM_NEWADDR => found.extend(address(body)),
                _ => {}
            }
        }
    }
    Ok(found)
}

/// Brings lo up.
///
/// # Errors
/// The right to do so is missing.
pub(super) fn raise_loopback() -> io::Result<()> {
    // `ifinfomsg`: family, padding, type, index, flags, and which flags change.
    let mut body = vec![0; 4];
    body.extend(LOOPBACK.to_ne_bytes());
    body.extend(number::IFF_UP.to_ne_bytes());
    body.extend(number::IFF_UP.to_ne_bytes());
    Socket::open()?.command(number::RTM_NEWLINK, 0, &body)
}

/// Gives lo the address `address`, for this machine alone. One that it has is
/// no error.
///
/// # Errors
/// The kernel does not take it.
pub(super) fn add_to_loopback(address: IpAddr) -> io::Result<()> {
    let (family, octets) = match address {
        IpAddr::V4(address) => (number::AF_INET, address.octets().to_vec()),
        IpAddr::V6(address) => (number::AF_INET6, address.octets().to_vec()),
    };
    let bits = u8::try_from(octets.len() * 8).unwrap_or(u8::MAX);
    // `ifaddrmsg`: family, prefix length, flags, scope, index.
    let mut body = vec![family, bits, number::IFA_F_NODAD, 0];
    body.extend(LOOPBACK.to_ne_bytes());
    for kind in [number::IFA_LOCAL, number::IFA_ADDRESS] {
        let length = u16::try_from(ATTRIBUTE + octets.len()).unwrap_or(u16::MAX);
        body.extend(length.to_ne_bytes());
        body.extend(kind.to_ne_bytes());
        body.extend(&octets);
    }
    match Socket::open()?.command(number::RTM_NEWADDR, number::NLM_F_CREATE, &body) {
        Err(error) if error.raw_os_error() == Some(Errno::EXIST.raw_os_error()) => Ok(()),
        other => other,
    }
}

struct Socket {
    fd: rustix::fd::OwnedFd,
}

impl Socket {
    fn open() -> io::Result<Self> {
        // The default protocol, 0, is NETLINK_ROUTE.
        let fd = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok(Self { fd })
    }

    fn send(&self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
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

    fn command(&self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.send(
            kind,
            flags | number::NLM_F_REQUEST | number::NLM_F_ACK,
            body,
        )?;
        let mut buffer = vec![0; 1 << 16];
        let (length, _) = recv(&self.fd, &mut buffer[..], RecvFlags::empty())?;
        for (kind, body) in messages(&buffer[..length]) {
            if kind == number::NLMSG_ERROR {
                return check(body);
            }
        }
        Err(io::ErrorKind::InvalidData.into())
    }
}

/// The error in the body of an `nlmsgerr`, 0 for none.
fn check(body: &[u8]) -> io::Result<()> {
    let code = body
        .first_chunk()
        .map_or(0, |code| i32::from_ne_bytes(*code));
    match code {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code.saturating_neg())),
    }
}

/// The messages of a datagram: type and body.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*bytes.first_chunk()?);
        let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
        let length = usize::try_from(length).ok()?;
        let body = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    })
}

/// The address in the body of an RTM_NEWADDR. Where the interface is of a pair
/// of two points, it is `IFA_LOCAL`; IPv6 has `IFA_ADDRESS` alone.
fn address(body: &[u8]) -> Option<IpAddr> {
    let mut attributes = body.get(ADDRESS..)?;
    let mut found = None;
    while let Some(length) = attributes.first_chunk() {
        let length = usize::from(u16::from_ne_bytes(*length));
        let kind = u16::from_ne_bytes(*attributes.get(2..)?.first_chunk()?);
        let octets = attributes.get(ATTRIBUTE..length)?;
        let value = match octets.len() {
            4 => octets
                .first_chunk::<4>()
                .map(|octets| IpAddr::from(*octets)),
            16 => octets
                .first_chunk::<16>()
                .map(|octets| IpAddr::from(*octets)),
            _ => None,
        };
        match kind {
            number::IFA_LOCAL => return value,
            number::IFA_ADDRESS => found = value,
            _ => {}
        }
        attributes = attributes
            .get(length.next_multiple_of(4)..)
            .unwrap_or_default();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_its_loopback_address() {
        let found = addresses().expect("rtnetlink");
        assert!(found.contains(&IpAddr::from([127, 0, 0, 1])), "{found:?}");
    }

    #[test]
    fn messages_cut_off_anywhere_are_passed_over() {
        let mut message = vec![0; HEADER + ADDRESS];
        message[0] = 32;
        message[4] = 20;
        message.extend([8, 0, 1, 0, 10, 1, 2, 3]);
        let found = |bytes: &[u8]| messages(bytes).find_map(|(_, body)| address(body));
        assert_eq!(found(&message), Some(IpAddr::from([10, 1, 2, 3])));
        for length in 0..message.len() {
            assert_eq!(found(&message[..length]), None);
        }
    }
}
