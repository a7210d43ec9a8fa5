//! A group as the kernel has it: its members in the order by which a steering
//! program numbers them.
//!
//! Who listens is put at the end; when a member goes, the last one moves into the
//! hole. The kernel does not show that order. It shows in which order those who are
//! there have joined, and so the order is known as long as no member goes unseen.

use std::fmt;
use std::net::SocketAddr;

use crate::process::Protocol;
use crate::sockets::Listener;

/// What a group is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) protocol: Protocol,
    pub(super) address: SocketAddr,
    pub(super) interface: u32,
    is_v6_only: bool,
    user: u32,
}

impl Key {
    pub(super) fn of(listener: &Listener) -> Self {
        Self {
            protocol: listener.protocol,
            address: listener.address,
            interface: listener.interface,
            is_v6_only: listener.is_v6_only,
            user: listener.user,
        }
    }

    /// Whether a replacement that has `other` stands where this one stood; the user
    /// may have changed.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        (self.protocol, self.address) == (other.protocol, other.address)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol {
            Protocol::Tcp => write!(f, "{}", self.address),
            other => write!(f, "{other} {}", self.address),
        }
    }
}

/// The order of a group's members, by inode.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Order {
    members: Vec<u64>,
    is_lost: bool,
}

impl Order {
    /// The members, where their order is known.
    pub(super) fn known(&self) -> Option<&[u64]> {
        (!self.is_lost).then_some(&self.members)
    }

    /// Takes note of who is there: `joined` are all members in the order in which
    /// they have joined.
    pub(super) fn observe(&mut self, joined: &[u64]) {
        let is_there = |one: &u64| joined.contains(one);
        let gone: Vec<usize> = (0..self.members.len())
            .filter(|&index| !is_there(&self.members[index]))
            .collect();
        let is_new = |one: &&u64| !self.members.contains(one);
        let new: Vec<u64> = joined.iter().filter(is_new).copied().collect();
        match gone[..] {
            // Who joined is at the end of those who are there.
            [] if joined.ends_with(&new) => self.members.extend(new),
            [index] if new.is_empty() => {
                self.members.swap_remove(index);
            }
            // In which order they went, or before or after others came, is not seen.
            _ => {
                self.members = joined.to_vec();
                self.is_lost = true;
            }
        }
        if self.members.len() < 2 {
            self.is_lost = false;
        }
    }

    /// Takes note that the member `inode` has gone while others may have joined: `joined`
    /// are all that are there now. Where one has, `last` says who is the last member
    /// now, if it can.
    pub(super) fn leave(&mut self, inode: u64, joined: &[u64], last: impl FnOnce() -> Option<u64>) {
        let is_new = |one: &&u64| !self.members.contains(one);
        let new: Vec<u64> = joined.iter().filter(is_new).copied().collect();
        let before = self.members.last().copied();
        match new[..] {
            _ if self.is_lost => self.remove(inode),
            [] => self.remove(inode),
            [one] => {
                // Before that one went it got its number, else that after all others:
                // where the last one went, both are the same.
                let last = if before == Some(inode) {
                    before
                } else {
                    last()
                };
                if last.is_some() && last == before {
                    self.members.push(one);
                    self.remove(inode);
                } else {
                    self.remove(inode);
                    self.members.push(one);
                    self.is_lost = last != Some(one);
                }
            }
            _ => {
                self.remove(inode);
                self.members.extend(new);
                self.is_lost = true;
            }
        }
    }

    /// Takes note that the member `inode` has gone.
    pub(super) fn remove(&mut self, inode: u64) {
        if let Some(index) = self.members.iter().position(|one| *one == inode) {
            self.members.swap_remove(index);
        }
        if self.members.len() < 2 {
            self.is_lost = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(steps: &[&[u64]]) -> Option<Vec<u64>> {
        let mut order = Order::default();
        for joined in steps {
            order.observe(joined);
        }
        order.known().map(<[u64]>::to_vec)
    }

    #[test]
    fn the_last_member_moves_into_the_hole() {
        assert_eq!(after(&[&[5, 3], &[5, 3, 9, 1]]), Some(vec![5, 3, 9, 1]));
        assert_eq!(after(&[&[5, 3, 9, 1], &[5, 9, 1]]), Some(vec![5, 1, 9]));
        // Joined is said in the order of joining, which is then another one.
        assert_eq!(
            after(&[&[5, 3, 9, 1], &[5, 9, 1], &[5, 9, 1, 7], &[9, 1, 7]]),
            Some(vec![7, 1, 9])
        );
    }

    #[test]
    fn what_was_not_seen_one_by_one_is_not_known_until_one_is_left() {
        assert_eq!(after(&[&[1, 2, 3, 4], &[1, 4]]), None);
        assert_eq!(after(&[&[1, 2, 3], &[1, 2, 4]]), None);
        assert_eq!(
            after(&[&[1, 2, 3, 4], &[1, 4], &[4], &[4, 5]]),
            Some(vec![4, 5])
        );
        // One that is older than those that are known.
        assert_eq!(after(&[&[2, 3], &[1, 2, 3]]), None);
    }

    #[test]
    fn where_nobody_says_who_is_last_the_order_is_not_known() {
        for last in [None, Some(7)] {
            let mut order = Order::default();
            order.observe(&[1, 2, 3]);
            order.leave(1, &[2, 3, 4], || last);
            assert_eq!(order.known(), None);
        }
        let mut order = Order::default();
        order.observe(&[1, 2, 3]);
        order.leave(3, &[1, 2, 4], || panic!("both are the same"));
        assert_eq!(order.known(), Some(&[1, 2, 4][..]));
        order.leave(1, &[2, 4, 5, 6], || Some(6));
        assert_eq!(order.known(), None);
    }

    #[test]
    fn a_member_that_we_let_go_is_not_missed() {
        let mut order = Order::default();
        order.observe(&[1, 2, 3]);
        order.remove(1);
        order.observe(&[2, 3, 4]);
        assert_eq!(order.known(), Some(&[3, 2, 4][..]));
    }

    /// The kernel's own order, told by a program that names a member, against ours.
    #[test]
    fn the_kernel_numbers_members_as_we_do() {
        use std::net::{TcpListener, TcpStream};
        use std::os::fd::{AsFd, OwnedFd};

        use rustix::net::{AddressFamily, SocketType, bind, listen, socket, sockopt};

        use super::super::witness::Witness;

        let inode = |fd: &OwnedFd| rustix::fs::fstat(fd).expect("a socket").st_ino;
        for ip in ["127.0.0.1", "::1"] {
            let mut address = SocketAddr::new(ip.parse().expect("an address"), 0);
            let family = if address.is_ipv4() {
                AddressFamily::INET
            } else {
                AddressFamily::INET6
            };
            let mut all: Vec<OwnedFd> = Vec::new();
            let mut order = Order::default();
            let mut chance: u32 = 7;
            for _ in 0..150 {
                chance = chance.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let number = (chance >> 16) as usize;
                let join = |all: &mut Vec<OwnedFd>, address: &mut SocketAddr| {
                    let fd = socket(family, SocketType::STREAM, None).expect("a socket");
                    sockopt::set_socket_reuseport(&fd, true).expect("SO_REUSEPORT");
                    bind(&fd, &*address).expect("a free address");
                    listen(&fd, 10).expect("listens");
                    let own = rustix::net::getsockname(&fd).expect("bound");
                    *address = own.try_into().expect("inet");
                    all.push(fd);
                };
                let found = |address: SocketAddr| {
                    let listeners = crate::sockets::listeners(Protocol::Tcp).expect("sock_diag");
                    let own = listeners
                        .into_iter()
                        .filter(move |one| one.address == address);
                    own.collect::<Vec<_>>()
                };
                let inodes = |all: &[Listener]| all.iter().map(|one| one.inode).collect::<Vec<_>>();
                if all.len() < 2 || (number.is_multiple_of(2) && all.len() < 9) {
                    join(&mut all, &mut address);
                } else {
                    let gone = all.swap_remove(number % all.len());
                    let number = number / 2 % 4;
                    let key = Key::of(&found(address)[0]);
                    let mut witness = Witness::find(&key, order.known().expect("all was seen"));
                    assert!(witness.is_some(), "{address}");
                    let inode = inode(&gone);
                    // One may join just before it goes, or just after.
                    if number == 0 {
                        join(&mut all, &mut address);
                    }
                    drop(gone);
                    match number {
                        0 | 1 => {
                            if number == 1 {
                                join(&mut all, &mut address);
                            }
                            let last = || witness.as_mut()?.last();
                            order.leave(inode, &inodes(&found(address)), last);
                        }
                        2 => order.remove(inode),
                        // Not told, and seen to be missing.
                        _ => {}
                    }
                }
                order.observe(&inodes(&found(address)));
                let known = order.known().expect("all was seen");
                let member = number % known.len();
                // It leaves out all but one.
                let others: Vec<usize> = (0..known.len()).filter(|one| *one != member).collect();
                let steer = super::super::Steer::Hash;
                let program = super::super::program::spread(steer, known.len(), &others);
                let program = program.expect("one is chosen");
                super::super::attach::attach(all[0].as_fd(), &program).expect("attached");
                let _client = TcpStream::connect(address).expect("connects");
                let chosen = all.iter().find(|fd| inode(fd) == known[member]);
                let chosen = chosen.expect("a member").try_clone().expect("a descriptor");
                let chosen = TcpListener::from(chosen);
                chosen.set_nonblocking(true).expect("a socket");
                chosen.accept().expect("the member that was named got it");
            }
        }
    }
}
