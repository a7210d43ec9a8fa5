//! The sockets of a network namespace, as proc(5) lists them in `net/tcp`,
//! `net/udp` and their IPv6 counterparts.

use std::collections::HashSet;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::directory::Directory;

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP, and MPTCP.
    Tcp,
    Udp,
    /// Another one, by its number.
    Other(u32),
}

impl Protocol {
    /// The protocol's number, `IPPROTO_*`.
    pub fn number(self) -> u32 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Other(number) => number,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp => f.write_str("tcp"),
            Self::Udp => f.write_str("udp"),
            Self::Other(132) => f.write_str("sctp"),
            Self::Other(136) => f.write_str("udplite"),
            Self::Other(number) => write!(f, "protocol {number}"),
        }
    }
}

/// A socket that takes what comes to its address: a listening TCP socket, or a
/// UDP socket that is not connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenSocket {
    pub protocol: Protocol,
    pub address: SocketAddr,
    /// The effective user of the process that made it, at that time.
    pub user: u32,
    pub inode: u64,
    /// What waits in it: connections (TCP), or bytes of memory (UDP).
    pub queue: u64,
}

/// The sockets of a network namespace.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) open: Vec<OpenSocket>,
    /// Of the inodes that were asked for, those of other sockets: connections.
    pub(super) connected: HashSet<u64>,
}

/// More than 20 million connections: an end, for a file that has none.
const LONGEST: u64 = 4 << 30;

impl Table {
    /// Reads the tables of the network namespace of `process`. `own` are the
    /// inodes of the sockets whose connections are of interest.
    pub(super) fn read(process: &Directory, own: &HashSet<u64>) -> io::Result<Self> {
        let mut table = Self::default();
        for (name, protocol) in [
            ("net/tcp", Protocol::Tcp),
            ("net/tcp6", Protocol::Tcp),
            ("net/udp", Protocol::Udp),
            ("net/udp6", Protocol::Udp),
        ] {
            match process.file(name) {
                Ok(file) => table.add(file, protocol, own)?,
                // A kernel without IPv6.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(table)
    }

    fn add(&mut self, file: impl Read, protocol: Protocol, own: &HashSet<u64>) -> io::Result<()> {
        let mut lines = BufReader::with_capacity(1 << 16, file.take(LONGEST));
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line)? > 0 {
            match parse(&line, protocol) {
                Some((row, true)) if row.inode != 0 => self.open.push(row),
                Some((row, _)) if own.contains(&row.inode) => {
                    self.connected.insert(row.inode);
                }
                _ => {}
            }
            line.clear();
        }
        Ok(())
    }
}

/// A line, and whether its socket is open to all: in the state LISTEN (TCP), or
/// CLOSE, which for UDP is that of a bound socket that is not connected.
fn parse(line: &[u8], protocol: Protocol) -> Option<(OpenSocket, bool)> {
    let line = str::from_utf8(line).ok()?;
    let mut fields = line.split_ascii_whitespace();
    let address = endpoint(fields.nth(1)?)?;
    let state = fields.nth(1)?;
    let (_, queue) = fields.next()?.split_once(':')?;
    let queue = u64::from_str_radix(queue, 16).ok()?;
    let user = fields.nth(2)?.parse().ok()?;
    let inode = fields.nth(1)?.parse().ok()?;
    let is_open = match protocol {
        Protocol::Tcp => state == "0A",
        _ => state == "07",
    };
    let row = OpenSocket {
        protocol,
        address,
        user,
        inode,
        queue,
    };
    Some((row, is_open))
}

/// An address as 8 or 32 hexadecimal digits, each 8 of them a number as it lies
/// in this machine's memory; and a port.
fn endpoint(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |index: usize| {
        let digits = address.get(8 * index..8 * index + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let bytes: [u8; 16] = words.concat().try_into().ok()?;
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}

#[cfg(test)]
#[cfg(target_endian = "little")]
mod tests {
    use super::*;

    const TCP: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:07E8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     7        0 198 1 00000000902f14d4 100 0 0 10 0
   1: 00000000:6F2E 0100007F:1000 01 00000000:00000002 00:00000000 00000000     0        0 630889 3 0 100 0 0 10 0
   2: 00000000:6F2E 0100007F:1000 06 00000000:00000002 00:00000000 00000000     0        0 0 3 0
";
    const UDP6: &str = "   62: 000080FE00000000FF565552907C4AFE:0035 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000   101        0 14213 2 0 0\n";

    #[test]
    fn open_sockets_are_kept_and_own_connections_noted() {
        let mut table = Table::default();
        let own = HashSet::from([198, 630_889, 5]);
        table
            .add(TCP.as_bytes(), Protocol::Tcp, &own)
            .expect("readable");
        table
            .add(UDP6.as_bytes(), Protocol::Udp, &own)
            .expect("readable");
        let shown = table.open.iter().map(|row| {
            format!(
                "{} {} {} {}",
                row.protocol, row.address, row.user, row.inode
            )
        });
        let shown: Vec<_> = shown.collect();
        assert_eq!(
            shown,
            [
                "tcp 127.0.0.1:2024 7 198",
                "udp [fe80::5255:56ff:fe4a:7c90]:53 101 14213"
            ]
        );
        assert_eq!(table.connected, HashSet::from([630_889]));
    }

    #[test]
    fn lines_cut_off_anywhere_are_passed_over() {
        for text in [TCP, UDP6] {
            for length in 0..text.len() {
                let mut table = Table::default();
                let cut = &text.as_bytes()[..length];
                table
                    .add(cut, Protocol::Udp, &HashSet::new())
                    .expect("readable");
            }
        }
        assert_eq!(endpoint("é0000000:0000"), None);
    }
}
