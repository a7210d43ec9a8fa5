//! What a trial needs of rtnetlink(7): the addresses of the machine, lo up, and
//! those addresses on lo.

use std::io;
use std::net::IpAddr;

use rustix::io::Errno;

use crate::netlink::{
    self, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, Socket, check,
};

/// From linux/rtnetlink.h, linux/netlink.h and linux/if_addr.h; what other families
/// have too is in [`crate::netlink`].
mod number {
    pub(super) const RTM_NEWLINK: u16 = 16;
    pub(super) const RTM_NEWADDR: u16 = 20;
    pub(super) const RTM_GETADDR: u16 = 22;
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

/// The sizes of `ifaddrmsg` and `rtattr`, in bytes.
const ADDRESS: usize = 8;
const ATTRIBUTE: usize = 4;

/// The end of dumps that go on for ever.
const MOST_ADDRESSES: usize = 4096;

/// All addresses of this network namespace's interfaces.
///
/// # Errors
/// The kernel does not say.
pub(super) fn addresses() -> io::Result<Vec<IpAddr>> {
    let mut socket = Socket::open(None)?;
    let flags = NLM_F_REQUEST | NLM_F_DUMP;
    socket.send(number::RTM_GETADDR, flags, &[0; ADDRESS])?;
    let mut found = Vec::new();
    while found.len() < MOST_ADDRESSES {
        for (kind, body) in socket.receive()? {
            match kind {
                NLMSG_DONE => return Ok(found),
                NLMSG_ERROR => check(body)?,
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
    command(number::RTM_NEWLINK, 0, &body)
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
    match command(number::RTM_NEWADDR, number::NLM_F_CREATE, &body) {
        Err(error) if error.raw_os_error() == Some(Errno::EXIST.raw_os_error()) => Ok(()),
        other => other,
    }
}

fn command(kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
    let mut socket = Socket::open(None)?;
    socket.send(kind, flags | NLM_F_REQUEST | NLM_F_ACK, body)?;
    for (kind, body) in socket.receive()? {
        if kind == NLMSG_ERROR {
            return check(body);
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

/// The address in the body of an RTM_NEWADDR. Where the interface is of a pair
/// of two points, it is `IFA_LOCAL`; IPv6 has `IFA_ADDRESS` alone.
fn address(body: &[u8]) -> Option<IpAddr> {
    let mut found = None;
    for (kind, octets) in netlink::attributes(body.get(ADDRESS..)?) {
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
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::{HEADER, messages};

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
