//! Steering: which members of each group get new connections.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::net::{AddressFamily, SocketType, sockopt};

use super::Plan;
use super::attach;
use super::copy::{Copy, Held, migrates};
use super::group::{Key, Order};
use super::handoff::Handed;
use super::program::{self, Instruction, Steer};
use super::supervisor::Supervisor;
use super::witness::Witness;
use crate::process::Protocol;
use crate::sockets::{self, Listener};

/// How often a witness is looked for while others listen.
const WITNESSES: usize = 4;

/// A group of TCP listeners, with members of ours.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) key: Key,
    order: Order,
    /// Whether new connections go where we want.
    pub(super) is_steered: bool,
    /// The program that is attached.
    program: Option<Vec<Instruction>>,
    /// The ports from which the program leads to members of their own.
    probes: Vec<u16>,
    /// How many members have left.
    removals: u64,
    /// Whether it was said that it cannot be steered.
    is_said: bool,
}

impl Supervisor<'_> {
    /// Takes a socket that a copy's shim has brought.
    pub(super) fn take_handed(&mut self, generation: u64, handed: Handed) {
        let inode = rustix::fs::fstat(&handed.socket).map(|stat| stat.st_ino);
        self.take_socket(generation, handed.socket);
        let Some(copy) = self.copy_mut(generation) else {
            return;
        };
        if let Some(page) = handed.page {
            copy.pages.add(handed.pid, page);
        }
        if let Some(held) = copy.held.iter_mut().find(|one| Ok(one.inode) == inode) {
            held.accepts = copy.pages.counter(handed.pid, handed.number);
        }
    }

    /// Takes a socket that a copy has, of which `all` are known to the kernel.
    pub(super) fn take_socket(&mut self, generation: u64, fd: OwnedFd) {
        let is_inet = matches!(
            sockopt::socket_domain(&fd),
            Ok(AddressFamily::INET | AddressFamily::INET6)
        );
        let protocol = match sockopt::socket_type(&fd) {
            Ok(SocketType::STREAM) => Protocol::Tcp,
            Ok(SocketType::DGRAM) => Protocol::Udp,
            _ => return,
        };
        let Ok(inode) = rustix::fs::fstat(&fd).map(|stat| stat.st_ino) else {
            return;
        };
        let all = sockets::listeners(protocol).unwrap_or_default();
        let found = all.iter().find(|one| one.inode == inode);
        let (Some(listener), true) = (found, is_inet) else {
            return;
        };
        let key = Key::of(listener);
        let shares = sockopt::socket_reuseport(&fd).unwrap_or(false);
        let Some(copy) = self.copy_mut(generation) else {
            return;
        };
        let now = Instant::now();
        let (first, _) = *copy.came.get_or_insert((now, now));
        copy.came = Some((first, now));
        if !shares {
            // Held, it would keep its port from the next copy.
            copy.alone = Some(key.address);
            return;
        }
        if copy.inodes().any(|one| one == inode) {
            return;
        }
        // Datagrams that come to a socket that we hold, and nobody reads, are lost.
        if protocol == Protocol::Udp {
            // Servers that ask others, as resolvers do, open many, and none for long.
            let is_open = |(inode, _): &(u64, Key)| all.iter().any(|one| one.inode == *inode);
            copy.datagrams.retain(is_open);
            copy.datagrams.push((inode, key));
        } else {
            copy.held.push(Held {
                fd: Some(fd),
                inode,
                key,
                accepts: None,
            });
            self.let_go_of_closed(generation, Some(inode));
            self.steer();
        }
    }

    /// A server that listens again may have closed what it listened on before `newest`.
    /// Whether it has.
    pub(super) fn let_go_of_closed(&mut self, generation: u64, newest: Option<u64>) -> bool {
        let Some(copy) = self.copy_mut(generation) else {
            return false;
        };
        if newest.is_some() && (copy.held.len() < 2 || copy.is_starting()) {
            return false;
        }
        let own = super::drain::own_sockets(copy.keeper);
        if !own.is_complete {
            return false;
        }
        let is_open = |one: &Held| newest == Some(one.inode) || own.inodes.contains(&one.inode);
        let (open, closed): (Vec<_>, Vec<_>) = copy.held.drain(..).partition(is_open);
        copy.held = open;
        let has_closed = !closed.is_empty();
        self.close(closed);
        has_closed
    }

    /// Closes listeners that nobody else has.
    pub(super) fn close(&mut self, held: Vec<Held>) {
        // One after another; those whose turn is yet to come are nobody's else.
        self.closing = held.into_iter().filter(|one| one.fd.is_some()).collect();
        while let Some(one) = self.closing.last() {
            let (key, inode) = (one.key, one.inode);
            self.steer();
            // A copy may listen at any moment, just before this one goes or just after.
            let mut witness = self.witness(key);
            self.closing.pop();
            if let Some(group) = self.groups.iter_mut().find(|group| group.key == key) {
                match joined(key) {
                    Ok(joined) => {
                        let last = || witness.as_mut()?.last();
                        group.order.leave(inode, &joined, last);
                    }
                    Err(_) => group.order.remove(inode),
                }
                group.removals += 1;
            }
        }
    }

    /// Looks for a witness of the group `key`.
    fn witness(&mut self, key: Key) -> Option<Witness> {
        let copies = self.copies.iter().flat_map(|copy| &copy.held);
        let held = copies.chain(&self.closing).filter(|one| one.key == key);
        let has_cpu = |fd: &OwnedFd| sockopt::socket_incoming_cpu(fd) != Ok(u32::MAX);
        if held.filter_map(|one| one.fd.as_ref()).any(has_cpu) {
            return None;
        }
        let mut groups = self.groups.iter_mut();
        let group = groups.find(|group| group.key == key)?;
        for _ in 0..WITNESSES {
            let before = joined(key).ok()?;
            group.order.observe(&before);
            let witness = Witness::find(&key, group.order.known()?)?;
            // Nobody has listened meanwhile.
            if joined(key).ok()? == before {
                return Some(witness);
            }
        }
        None
    }

    /// Whether a request from the copy's probe comes to it; where nothing is steered,
    /// chance decides.
    pub(super) fn is_led(&self, generation: u64) -> bool {
        let copy = self.copy(generation);
        let Some((probe, held)) =
            copy.and_then(|copy| Some((copy.probe.as_ref()?, copy.held.first()?)))
        else {
            return false;
        };
        let mut groups = self.groups.iter();
        let group = groups.find(|group| group.key == held.key);
        group.is_some_and(|group| !group.is_steered || group.probes.contains(&probe.port))
    }

    /// How often a member has left the groups that the copy is in, and the numbers of
    /// others have changed.
    pub(super) fn removals(&self, copy: &Copy) -> u64 {
        let is_its = |group: &&Group| copy.held.iter().any(|one| one.key == group.key);
        self.groups
            .iter()
            .filter(is_its)
            .map(|one| one.removals)
            .sum()
    }

    /// Makes each group's program what the copies' phases ask for.
    pub(super) fn steer(&mut self) {
        let all = sockets::listeners(Protocol::Tcp);
        let closing = &self.closing;
        let orphans = || {
            let kept = self.orphans.iter().map(|orphan| &orphan.held);
            kept.chain(closing)
        };
        let held = self.copies.iter().flat_map(|copy| &copy.held);
        for key in held.chain(orphans()).map(|one| one.key) {
            if !self.groups.iter().any(|group| group.key == key) {
                self.groups.push(Group {
                    key,
                    order: Order::default(),
                    is_steered: false,
                    program: None,
                    probes: Vec::new(),
                    removals: 0,
                    is_said: false,
                });
            }
        }
        let copies = &self.copies;
        self.groups.retain(|group| {
            let held = copies.iter().flat_map(|copy| &copy.held);
            held.chain(orphans()).any(|one| one.key == group.key)
        });
        let orphans: Vec<&Held> = orphans().collect();
        let mut unsteered = Vec::new();
        for group in &mut self.groups {
            let outcome = match &all {
                Ok(all) => group.apply(all, copies, &orphans, closing, &self.plan, self.is_opening),
                Err(error) => Err(format!("the kernel does not list its sockets: {error}")),
            };
            group.is_steered = outcome.is_ok();
            if let Err(why) = outcome
                && !std::mem::replace(&mut group.is_said, true)
            {
                unsteered.push((group.key.address, why));
            }
        }
        for (address, why) in unsteered {
            let instead = if migrates() {
                "connections that wait are given to the other copies (net.ipv4.tcp_migrate_req)"
            } else {
                "a restart may lose connections that wait; net.ipv4.tcp_migrate_req=1 would keep them"
            };
            self.say(
                "unsteered",
                None,
                format!("{address}: not steered, since {why}; {instead}"),
            );
        }
    }

    /// Whether new connections can be kept from the copy `generation` in some group.
    pub(super) fn is_steered_away(&self, generation: u64) -> bool {
        let Some(copy) = self.copies.iter().find(|one| one.generation == generation) else {
            return false;
        };
        copy.held.iter().any(|one| {
            let mut groups = self.groups.iter();
            let has_other = self.copies.iter().any(|other| {
                other.is_serving() && other.held.iter().any(|held| held.key == one.key)
            });
            has_other && groups.any(|group| group.key == one.key && group.is_steered)
        })
    }

    /// Lets go of the copy's listeners that cannot be steered around: they are to go
    /// when the copy closes them.
    pub(super) fn let_go(&mut self, generation: u64) {
        let steered: Vec<Key> = self
            .groups
            .iter()
            .filter(|group| group.is_steered)
            .map(|group| group.key)
            .collect();
        let others: Vec<Key> = self
            .copies
            .iter()
            .filter(|copy| copy.is_serving())
            .flat_map(|copy| copy.held.iter().map(|one| one.key))
            .collect();
        if let Some(copy) = self.copy_mut(generation) {
            for one in &mut copy.held {
                if !steered.contains(&one.key) || !others.contains(&one.key) {
                    one.fd = None;
                }
            }
        }
    }

    /// How many connections wait in the copy's listeners.
    pub(super) fn waiting(held: &[Held]) -> u32 {
        let all = sockets::listeners(Protocol::Tcp).unwrap_or_default();
        let is_own = |one: &&Listener| held.iter().any(|held| held.inode == one.inode);
        all.iter().filter(is_own).map(|one| one.queue).sum()
    }
}

/// The members of the group `key` among `all`, in the order in which they have joined.
fn members(all: &[Listener], key: Key) -> Vec<u64> {
    let is_one = |one: &&Listener| Key::of(one) == key;
    all.iter().filter(is_one).map(|one| one.inode).collect()
}

/// The same as of now.
fn joined(key: Key) -> io::Result<Vec<u64>> {
    let all = sockets::listeners(Protocol::Tcp)?;
    Ok(members(&all, key))
}

impl Group {
    fn apply(
        &mut self,
        all: &[Listener],
        copies: &[Copy],
        orphans: &[&Held],
        closing: &[Held],
        plan: &Plan,
        is_opening: bool,
    ) -> Result<(), String> {
        let joined = members(all, self.key);
        self.order.observe(&joined);
        let owner = |inode: u64| {
            copies
                .iter()
                .find(|copy| copy.held.iter().any(|held| held.inode == inode))
        };
        let is_orphan = |inode: u64| orphans.iter().any(|one| one.inode == inode);
        let foreign = joined
            .iter()
            .filter(|inode| owner(**inode).is_none() && !is_orphan(**inode))
            .count();
        let member = copies
            .iter()
            .flat_map(|copy| &copy.held)
            .chain(orphans.iter().copied())
            .find(|held| held.key == self.key && held.fd.is_some() && joined.contains(&held.inode));
        let Some(fd) = member.and_then(|held| held.fd.as_ref()) else {
            return Ok(());
        };
        let order = match self.order.known() {
            // Those of copies that have just listened are on their way to us, and
            // left out.
            Some(order) if foreign == 0 || copies.iter().any(Copy::is_starting) => order,
            None if foreign > 0 && copies.iter().any(Copy::is_starting) => return Ok(()),
            _ => {
                self.set(fd, None).map_err(|error| error.to_string())?;
                return Err(match foreign {
                    0 => "the order of its sockets is not known".to_owned(),
                    1 => "one of its sockets is not a copy's".to_owned(),
                    _ => format!("{foreign} of its sockets are not the copies'"),
                });
            }
        };
        let serves = |inode: &u64| owner(*inode).is_some_and(Copy::is_serving);
        // Where nobody serves, what comes waits for the next copy.
        let is_any = order.iter().any(serves);
        let is_in_service = |inode: &u64| {
            serves(inode)
                || (!is_any && is_orphan(*inode) && closing.iter().all(|one| one.inode != *inode))
        };
        let mut left_out: Vec<usize> = (0..order.len())
            .filter(|&index| !is_in_service(&order[index]))
            .collect();
        // As a member goes the last one gets its number, and has no other from then
        // on: neither is chosen meanwhile, so that what is chosen stays.
        let last = order.len().saturating_sub(1);
        let goes = closing.last();
        if goes.is_some_and(|one| order.contains(&one.inode))
            && !left_out.contains(&last)
            && left_out.len() + 1 < order.len()
        {
            left_out.push(last);
        }
        // Who listens next gets the number after the last, which is not chosen.
        let is_awaited = is_opening || copies.iter().any(Copy::is_starting);
        let program = if left_out.is_empty() && !is_awaited && plan.steer == Steer::Hash {
            None
        } else {
            program::spread(plan.steer, order.len(), &left_out)
        };
        let program = match program {
            Some(program) if plan.steer == Steer::Cpu && !plan.cpus.is_empty() => {
                let mut own: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
                for (index, inode) in order.iter().enumerate() {
                    let copy = owner(*inode).filter(|copy| copy.is_serving());
                    if let Some(cpu) = copy.and_then(|copy| plan.cpu(copy.slot)) {
                        own.entry(cpu).or_default().push(index);
                    }
                }
                Some(program::with_cpus(&program, &own))
            }
            program => program,
        };
        let probes: Vec<(u16, usize)> = copies
            .iter()
            .filter_map(|copy| {
                let port = copy.probe.as_ref()?.port;
                let own = |inode: &u64| copy.held.iter().any(|held| held.inode == *inode);
                Some((port, order.iter().position(own)?))
            })
            .collect();
        let ports = probes.iter().map(|(port, _)| *port).collect();
        let program = probes.into_iter().fold(program, |program, (port, member)| {
            let rest = program.unwrap_or_else(program::by_hash);
            Some(program::with_probe(&rest, port, member))
        });
        self.set(fd, program)
            .map_err(|error| format!("the kernel takes no program: {error}"))?;
        self.probes = ports;
        Ok(())
    }

    /// Attaches `program`, or none.
    fn set(&mut self, fd: &OwnedFd, program: Option<Vec<Instruction>>) -> io::Result<()> {
        if self.program != program {
            match &program {
                Some(program) => attach::attach(fd.as_fd(), program)?,
                None => attach::detach(fd.as_fd())?,
            }
            self.program = program;
        }
        Ok(())
    }
}
