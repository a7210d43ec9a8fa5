//! sock_diag(7): listening sockets in the order in which they joined, with their
//! queues, and connections.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::net::netlink::SOCK_DIAG;

use crate::netlink::{
    NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, Socket, attributes, check, word,
};
use crate::process::Protocol;

/// From linux/sock_diag.h and linux/inet_diag.h.
mod number {
    pub(super) const SOCK_DIAG_BY_FAMILY: u16 = 20;
    pub(super) const INET_DIAG_SKMEMINFO: u16 = 7;
    pub(super) const INET_DIAG_SKV6ONLY: u16 = 11;
    pub(super) const AF_INET: u8 = 2;
    pub(super) const AF_INET6: u8 = 10;
}

/// The sizes of `inet_diag_req_v2` and `inet_diag_msg`, in bytes.
const REQUEST: usize = 56;
const MESSAGE: usize = 72;

/// The end of dumps that go on for ever.
const MOST: usize = 1 << 20;

/// The states of a TCP socket, see tcp_states.h; a UDP socket that takes what
/// comes from anybody is in the state `Close`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    Established = 1,
    SynReceived = 3,
    FinWait1 = 4,
    FinWait2 = 5,
    Close = 7,
    CloseWait = 8,
    LastAck = 9,
    Listen = 10,
    Closing = 11,
}

/// A socket that takes what comes to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    pub protocol: Protocol,
    pub address: SocketAddr,
    /// The index of the interface that it is bound to, or 0.
    pub interface: u32,
    /// Whether an IPv6 socket takes no IPv4.
    pub is_v6_only: bool,
    /// The effective user of the process that made it, at that time.
    pub user: u32,
    pub inode: u64,
    /// What waits in it: connections (TCP) or bytes (UDP).
    pub queue: u32,
    /// The most that may wait; for TCP alone.
    pub limit: u32,
    /// What was dropped, where the kernel says so.
    pub drops: Option<u32>,
}

/// A connection, or the beginning of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Connection {
    pub local: SocketAddr,
    pub remote: SocketAddr,
    /// 0 where no process has accepted it.
    pub inode: u64,
}

/// The sockets that take what comes to an address. Those of one address and family
/// stand in the order in which they joined.
///
/// # Errors
/// The kernel does not say.
pub fn listeners(protocol: Protocol) -> io::Result<Vec<Listener>> {
    let state = match protocol {
        Protocol::Tcp => State::Listen,
        _ => State::Close,
    };
    let mut found = Vec::new();
    for family in [number::AF_INET, number::AF_INET6] {
        let first = found.len();
        dump(family, protocol, &[state], 0, |body| {
            found.extend(listener(protocol, body));
        })?;
        // The kernel puts an IPv4 socket first in its list, an IPv6 one of a group
        // last, see __inet_hash().
        if family == number::AF_INET {
            found[first..].reverse();
        }
    }
    Ok(found)
}

/// The TCP connections to the local port `port` in one of `states`.
///
/// # Errors
/// The kernel does not say.
pub fn connections(port: u16, states: &[State]) -> io::Result<Vec<Connection>> {
    let mut found = Vec::new();
    for family in [number::AF_INET, number::AF_INET6] {
        dump(family, Protocol::Tcp, states, port, |body| {
            found.extend(connection(body));
        })?;
    }
    Ok(found)
}

/// Asks which listener a connection would come to.
#[derive(Debug)]
pub struct Chooser(Socket);

impl Chooser {
    /// # Errors
    /// The kernel has no sock_diag.
    pub fn open() -> io::Result<Self> {
        Socket::open(Some(SOCK_DIAG)).map(Self)
    }

    /// The inode of the TCP socket that the kernel finds for a packet from `remote` to
    /// `local` that comes in by `interface` (0 for any). Among the members of a group
    /// it chooses by a hash of the addresses alone, whatever program is attached: the
    /// same addresses name the same place as long as the group has the same size, see
    /// reuseport_select_sock(). `SO_INCOMING_CPU` of a member goes before that.
    ///
    /// # Errors
    /// There is none, or the kernel does not say.
    pub fn chosen(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
        interface: u32,
    ) -> io::Result<u64> {
        let (family, [local_ip, remote_ip]) = match (local.ip(), remote.ip()) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => (
                number::AF_INET,
                [local, remote].map(|ip| ip.octets().to_vec()),
            ),
            (IpAddr::V6(local), IpAddr::V6(remote)) => (
                number::AF_INET6,
                [local, remote].map(|ip| ip.octets().to_vec()),
            ),
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        let mut body = request(family, Protocol::Tcp, &[], local.port())?;
        body[10..12].copy_from_slice(&remote.port().to_be_bytes());
        body[12..12 + local_ip.len()].copy_from_slice(&local_ip);
        body[28..28 + remote_ip.len()].copy_from_slice(&remote_ip);
        body[44..48].copy_from_slice(&interface.to_ne_bytes());
        // INET_DIAG_NOCOOKIE
        body[48..].fill(0xff);
        self.0
            .send(number::SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, &body)?;
        for (kind, body) in self.0.receive()? {
            if kind == NLMSG_ERROR {
                check(body)?;
            } else if let Some(inode) = word(body, 68) {
                return Ok(inode.into());
            }
        }
        Err(io::ErrorKind::NotFound.into())
    }
}

fn dump(
    family: u8,
    protocol: Protocol,
    states: &[State],
    port: u16,
    mut each: impl FnMut(&[u8]),
) -> io::Result<()> {
    let mut socket = Socket::open(Some(SOCK_DIAG))?;
    let request = request(family, protocol, states, port)?;
    socket.send(
        number::SOCK_DIAG_BY_FAMILY,
        NLM_F_REQUEST | NLM_F_DUMP,
        &request,
    )?;
    let mut count = 0;
    while count < MOST {
        for (kind, body) in socket.receive()? {
            match kind {
                NLMSG_DONE => return Ok(()),
                // One that says nothing of an error ends the dump all the same.
                NLMSG_ERROR => return check(body),
                _ => each(body),
            }
            count += 1;
        }
    }
    Ok(())
}

fn request(family: u8, protocol: Protocol, states: &[State], port: u16) -> io::Result<Vec<u8>> {
    let states: u32 = states.iter().map(|state| 1 << (*state as u8)).sum();
    let number = u8::try_from(protocol.number()).map_err(io::Error::other)?;
    let more = 1 << (number::INET_DIAG_SKMEMINFO - 1);
    let mut body = vec![family, number, more, 0];
    body.extend(states.to_ne_bytes());
    // `inet_diag_sockid`, of which the local port is matched.
    body.extend(port.to_be_bytes());
    body.resize(REQUEST, 0);
    Ok(body)
}

/// The address at `address` with the port at `port`, both as in the network.
fn endpoint(body: &[u8], port: usize, address: usize) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(*body.get(port..)?.first_chunk()?);
    let ip = if *body.first()? == number::AF_INET {
        IpAddr::V4(Ipv4Addr::from(*body.get(address..)?.first_chunk::<4>()?))
    } else {
        IpAddr::V6(Ipv6Addr::from(*body.get(address..)?.first_chunk::<16>()?))
    };
    Some(SocketAddr::new(ip, port))
}

fn listener(protocol: Protocol, body: &[u8]) -> Option<Listener> {
    let mut found = Listener {
        protocol,
        address: endpoint(body, 4, 8)?,
        interface: word(body, 40)?,
        is_v6_only: false,
        user: word(body, 64)?,
        inode: word(body, 68)?.into(),
        queue: word(body, 56)?,
        limit: word(body, 60)?,
        drops: None,
    };
    for (kind, value) in attributes(body.get(MESSAGE..).unwrap_or_default()) {
        match kind {
            number::INET_DIAG_SKMEMINFO => found.drops = word(value, 32),
            number::INET_DIAG_SKV6ONLY => found.is_v6_only = value.first() == Some(&1),
            _ => {}
        }
    }
    // A UDP socket that has no port yet takes nothing.
    (found.address.port() != 0).then_some(found)
}

fn connection(body: &[u8]) -> Option<Connection> {
    Some(Connection {
        local: endpoint(body, 4, 8)?,
        remote: endpoint(body, 6, 24)?,
        inode: word(body, 68)?.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fd::OwnedFd;
    use rustix::net::{AddressFamily, SocketType, bind, listen, socket, sockopt};

    fn inode(fd: &OwnedFd) -> u64 {
        rustix::fs::fstat(fd).expect("a socket").st_ino
    }

    fn join(address: SocketAddr) -> OwnedFd {
        let family = match address {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let fd = socket(family, SocketType::STREAM, None).expect("a socket");
        sockopt::set_socket_reuseport(&fd, true).expect("SO_REUSEPORT");
        bind(&fd, &address).expect("a free address");
        fd
    }

    #[test]
    fn members_of_a_group_stand_in_the_order_in_which_they_listened() {
        for ip in ["127.0.0.1", "::1"] {
            let first = join(SocketAddr::new(ip.parse().expect("an address"), 0));
            let address = rustix::net::getsockname(&first).expect("bound");
            let address = SocketAddr::try_from(address).expect("inet");
            let mut all = vec![first];
            all.extend((0..4).map(|_| join(address)));
            // Not the order of their inodes.
            all.rotate_left(2);
            for fd in &all {
                listen(fd, 10).expect("listens");
            }
            let inodes = |all: &[OwnedFd]| all.iter().map(inode).collect::<Vec<_>>();
            let found = || -> Vec<u64> {
                let all = listeners(Protocol::Tcp).expect("sock_diag");
                let all = all.into_iter().filter(|one| one.address == address);
                all.map(|one| one.inode).collect()
            };
            assert_eq!(found(), inodes(&all), "{address}");
            all.remove(1);
            assert_eq!(found(), inodes(&all), "{address}");
        }
    }

    #[test]
    fn a_connection_that_waits_is_counted_and_has_no_inode() {
        let listener = join("127.0.0.1:0".parse().expect("an address"));
        listen(&listener, 10).expect("listens");
        let address = rustix::net::getsockname(&listener).expect("bound");
        let address = SocketAddr::try_from(address).expect("inet");
        let _client = std::net::TcpStream::connect(address).expect("connects");
        let all = listeners(Protocol::Tcp).expect("sock_diag");
        let own = all.iter().find(|one| one.inode == inode(&listener));
        let own = own.expect("listed");
        assert_eq!((own.queue, own.limit), (1, 10));
        assert_eq!(own.drops, Some(0));
        let found = connections(address.port(), &[State::Established]).expect("sock_diag");
        let inodes: Vec<u64> = found.iter().map(|one| one.inode).collect();
        assert_eq!(inodes, [0]);
    }
}
