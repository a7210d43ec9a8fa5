//! Who is the last member of a group: the kernel says it to who asks for a connection
//! that it would give to that one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::group::Key;
use super::probe::reached;
use crate::sockets::Chooser;

/// How many addresses are tried for each member: one of as many as there are members
/// leads to the last. That none does has a chance of e⁻⁸.
const TRIES: usize = 8;

/// Addresses by whose hash the kernel chooses the last member of a group, as long as
/// that has the same size.
pub(super) struct Witness {
    chooser: Chooser,
    local: SocketAddr,
    remote: SocketAddr,
    interface: u32,
}

impl Witness {
    /// Looks for one in the group `key`, whose members are `members` in their order, and
    /// stay the same meanwhile. No member may have SO_INCOMING_CPU.
    pub(super) fn find(key: &Key, members: &[u64]) -> Option<Self> {
        let local = reached(key.address);
        // Addresses of documentation: nobody connects from there.
        let documentation = Ipv4Addr::new(192, 0, 2, 1);
        let remote: IpAddr = match local.ip() {
            IpAddr::V4(_) => documentation.into(),
            IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => {
                documentation.to_ipv6_mapped().into()
            }
            IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
        };
        let mut this = Self {
            chooser: Chooser::open().ok()?,
            local,
            remote: SocketAddr::new(remote, 0),
            interface: key.interface,
        };
        let last = members.last().copied()?;
        let most = u16::try_from(members.len() * TRIES).unwrap_or(u16::MAX);
        (1..=most).find_map(|port| {
            this.remote.set_port(port);
            (this.last()? == last).then_some(())
        })?;
        Some(this)
    }

    /// The last member now.
    pub(super) fn last(&mut self) -> Option<u64> {
        let chosen = self.chooser.chosen(self.local, self.remote, self.interface);
        chosen.ok()
    }
}
