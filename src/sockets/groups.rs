//! Groups: who shares an address and port.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use super::diag::{self, Connection, Listener, State};
use super::namespace::Namespace;
use super::warning::{Warning, warnings};
use crate::process::{self, Process, Protocol};

/// The sockets that share one address and port.
#[derive(Clone, Debug)]
pub struct Group {
    pub protocol: Protocol,
    pub address: SocketAddr,
    /// The index of the interface that they are bound to, or 0.
    pub interface: u32,
    pub is_v6_only: bool,
    /// The user that the sockets belong to.
    pub user: u32,
    /// In the order in which they have joined.
    pub members: Vec<Member>,
    pub warnings: Vec<Warning>,
}

/// One of those sockets.
#[derive(Clone, Debug)]
pub struct Member {
    pub inode: u64,
    /// The processes that have it, as far as they show that.
    pub processes: Vec<u32>,
    /// The name of the first of them.
    pub command: Option<String>,
    /// The connections to this address that those processes have; TCP alone.
    pub established: Option<usize>,
    pub queue: u32,
    /// The most that may wait; TCP alone.
    pub limit: Option<u32>,
    pub drops: Option<u32>,
}

/// What is to be shown.
#[derive(Clone, Copy)]
#[allow(missing_debug_implementations, reason = "holds a function")]
pub struct View<'a> {
    /// `/proc`.
    pub proc: &'a Path,
    /// Processes that have sockets too, and take nothing from them.
    pub left_out: &'a [u32],
    /// Which groups; their warnings are empty yet, and their members have no
    /// processes.
    pub wanted: &'a (dyn Fn(&Group) -> bool + Sync),
}

/// The groups of `namespace` that `view` wants, in the order of their ports: the
/// sockets that take what comes to an address.
///
/// # Errors
/// The kernel does not say, or the namespace may not be entered.
pub fn groups(view: View<'_>, namespace: Option<&Namespace>) -> io::Result<Vec<Group>> {
    match namespace {
        Some(namespace) => namespace.inside(|| look(view)),
        None => look(view),
    }
}

fn look(view: View<'_>) -> io::Result<Vec<Group>> {
    let mut all = diag::listeners(Protocol::Tcp)?;
    all.extend(diag::listeners(Protocol::Udp)?);
    let mut groups = together(&all);
    let wanted: Vec<bool> = groups.iter().map(view.wanted).collect();
    let chosen = || wanted.iter().copied();
    let inodes: HashSet<u64> = groups
        .iter()
        .zip(chosen())
        .filter(|(_, wanted)| *wanted)
        .flat_map(|(group, _)| group.members.iter().map(|one| one.inode))
        .collect();
    if inodes.is_empty() {
        return Ok(Vec::new());
    }
    let owners = Owners::find(view, &inodes);
    for (group, _) in groups
        .iter_mut()
        .zip(chosen())
        .filter(|(_, wanted)| *wanted)
    {
        for member in &mut group.members {
            owners.note(view.proc, member);
        }
        if group.protocol == Protocol::Tcp {
            count_connections(&owners, group)?;
        }
    }
    let mut found = Vec::new();
    for (group, _) in groups.iter().zip(chosen()).filter(|(_, wanted)| *wanted) {
        let mut all = warnings(group, &groups);
        if let [member] = &group.members[..] {
            all.extend(lonely(view.proc, member));
        }
        found.push(Group {
            warnings: all,
            ..group.clone()
        });
    }
    Ok(found)
}

/// The sockets by address, in the order of their ports.
fn together(all: &[Listener]) -> Vec<Group> {
    let mut groups: BTreeMap<_, Group> = BTreeMap::new();
    for one in all {
        let key = (
            (one.address.port(), one.protocol.number(), one.address),
            (one.user, one.interface, one.is_v6_only),
        );
        let group = groups.entry(key).or_insert_with(|| Group {
            protocol: one.protocol,
            address: one.address,
            interface: one.interface,
            is_v6_only: one.is_v6_only,
            user: one.user,
            members: Vec::new(),
            warnings: Vec::new(),
        });
        group.members.push(Member {
            inode: one.inode,
            processes: Vec::new(),
            command: None,
            established: None,
            queue: one.queue,
            limit: (one.protocol == Protocol::Tcp).then_some(one.limit),
            drops: one.drops,
        });
    }
    groups.into_values().collect()
}

/// Who has sockets, and which.
struct Owners {
    /// The processes that have each listener.
    processes: HashMap<u64, Vec<u32>>,
    /// The sockets that each of those processes has.
    sockets: HashMap<u32, Vec<u64>>,
}

impl Owners {
    fn find(view: View<'_>, inodes: &HashSet<u64>) -> Self {
        let mut found = Self {
            processes: HashMap::new(),
            sockets: HashMap::new(),
        };
        for one in process::below(view.proc, 0).unwrap_or_default() {
            if view.left_out.contains(&one.pid) {
                continue;
            }
            let own = process::socket_descriptors(view.proc, one.pid).unwrap_or_default();
            let own: Vec<u64> = own.into_keys().collect();
            let mut has_one = false;
            for inode in own.iter().filter(|inode| inodes.contains(inode)) {
                found.processes.entry(*inode).or_default().push(one.pid);
                has_one = true;
            }
            if has_one {
                found.sockets.insert(one.pid, own);
            }
        }
        for pids in found.processes.values_mut() {
            pids.sort_unstable();
        }
        found
    }

    fn note(&self, proc: &Path, member: &mut Member) {
        member.processes = self
            .processes
            .get(&member.inode)
            .cloned()
            .unwrap_or_default();
        let first = member.processes.first();
        let name =
            first.and_then(|pid| std::fs::read_to_string(proc.join(format!("{pid}/comm"))).ok());
        member.command = name.map(|name| name.trim_end().to_owned());
    }
}

fn count_connections(owners: &Owners, group: &mut Group) -> io::Result<()> {
    let connections = diag::connections(group.address.port(), &[State::Established])?;
    let is_here = |one: &&Connection| {
        let ip = one.local.ip();
        one.inode != 0 && (group.address.ip().is_unspecified() || ip == group.address.ip())
    };
    let inodes: HashSet<u64> = connections
        .iter()
        .filter(is_here)
        .map(|one| one.inode)
        .collect();
    for member in &mut group.members {
        let own: HashSet<u64> = member
            .processes
            .iter()
            .filter_map(|pid| owners.sockets.get(pid))
            .flatten()
            .copied()
            .collect();
        member.established = Some(own.intersection(&inodes).count());
    }
    Ok(())
}

/// What is odd about a socket that is the only one.
fn lonely(proc: &Path, member: &Member) -> Option<Warning> {
    // Those that have forked the others only look after them.
    let is_parent = |pid: u32| {
        let mut others = member.processes.iter();
        others.any(|other| process::stat(proc, *other).is_some_and(|stat| stat.parent == pid))
    };
    let file = |pid: u32| std::fs::read_link(proc.join(format!("{pid}/exe"))).ok();
    let first = member.processes.first().copied()?;
    let copies = member.processes.iter().copied();
    let copies = copies.filter(|pid| !is_parent(*pid) && file(*pid) == file(first));
    let count = copies.count();
    if count > 1 {
        return Some(Warning::OneSocket(count));
    }
    let process = Process::read(proc, first).ok()?;
    let mut sockets = process.sockets.iter();
    let socket = sockets.find(|socket| socket.inode == member.inode)?;
    (socket.reuseport == Ok(true)).then_some(Warning::Alone)
}
