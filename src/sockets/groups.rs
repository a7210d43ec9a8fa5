//! Groups: who shares an address and port, and what is odd about that.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use super::diag::{self, Listener, State};
use crate::process::{self, Protocol};

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

/// Something that is probably not meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// Connections to this address do not come to the wildcard's sockets.
    StarvesWildcard(SocketAddr),
    /// IPv4 comes to the IPv4 wildcard alone, and not to this one.
    StarvedOfIpv4,
    /// A member's queue is full.
    FullQueue(u64),
    /// The connections are spread too unevenly for chance.
    Skew,
    /// Nobody has this socket, by its inode, any more, or nobody who shows it.
    NoProcess(u64),
}

impl Warning {
    /// A stable word.
    pub fn code(&self) -> &'static str {
        match self {
            Self::StarvesWildcard(_) => "starves-wildcard",
            Self::StarvedOfIpv4 => "starved-of-ipv4",
            Self::FullQueue(_) => "full-queue",
            Self::Skew => "skew",
            Self::NoProcess(_) => "no-process",
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StarvesWildcard(wildcard) => {
                write!(f, "what comes to this address does not come to {wildcard}")
            }
            Self::StarvedOfIpv4 => {
                f.write_str("IPv4 comes to the sockets of 0.0.0.0 alone, and not to these")
            }
            Self::FullQueue(inode) => write!(f, "the queue of the socket {inode} is full"),
            Self::Skew => f.write_str(
                "connections are spread more unevenly than chance does (chi-squared, p < 0.01)",
            ),
            Self::NoProcess(inode) => write!(
                f,
                "no process shows that it has the socket {inode}: run this as root to see"
            ),
        }
    }
}

/// All sockets of this network namespace that take what comes to an address, by
/// group, in the order of their ports. `proc` is `/proc`; the processes `left_out`
/// have them too, and take nothing from them.
///
/// # Errors
/// The kernel does not say.
pub fn groups(proc: &Path, left_out: &[u32]) -> io::Result<Vec<Group>> {
    let mut all = diag::listeners(Protocol::Tcp)?;
    all.extend(diag::listeners(Protocol::Udp)?);
    let inodes: HashSet<u64> = all.iter().map(|one| one.inode).collect();
    let mut owners = owners(proc, &inodes);
    for pids in owners.values_mut() {
        pids.retain(|pid| !left_out.contains(pid));
    }
    let mut groups: Vec<Group> = Vec::new();
    for one in &all {
        let member = member(proc, one, &owners);
        let is_its = |group: &&mut Group| {
            (group.protocol, group.address, group.user) == (one.protocol, one.address, one.user)
                && (group.interface, group.is_v6_only) == (one.interface, one.is_v6_only)
        };
        match groups.iter_mut().find(is_its) {
            Some(group) => group.members.push(member),
            None => groups.push(Group {
                protocol: one.protocol,
                address: one.address,
                interface: one.interface,
                is_v6_only: one.is_v6_only,
                user: one.user,
                members: vec![member],
                warnings: Vec::new(),
            }),
        }
    }
    groups.sort_by_key(|group| (group.address.port(), group.protocol.number(), group.address));
    for group in &mut groups {
        if group.protocol == Protocol::Tcp && group.members.len() > 1 {
            count_connections(proc, group)?;
        }
    }
    let warnings: Vec<Vec<Warning>> = groups.iter().map(|one| warnings(one, &groups)).collect();
    for (group, warnings) in groups.iter_mut().zip(warnings) {
        group.warnings = warnings;
    }
    Ok(groups)
}

/// The processes that have each of `inodes`.
fn owners(proc: &Path, inodes: &HashSet<u64>) -> HashMap<u64, Vec<u32>> {
    let mut found: HashMap<u64, Vec<u32>> = HashMap::new();
    for one in process::below(proc, 0).unwrap_or_default() {
        for inode in process::socket_descriptors(proc, one.pid)
            .unwrap_or_default()
            .into_keys()
            .filter(|inode| inodes.contains(inode))
        {
            found.entry(inode).or_default().push(one.pid);
        }
    }
    for pids in found.values_mut() {
        pids.sort_unstable();
    }
    found
}

fn member(proc: &Path, one: &Listener, owners: &HashMap<u64, Vec<u32>>) -> Member {
    let processes = owners.get(&one.inode).cloned().unwrap_or_default();
    let name = |pid: &u32| std::fs::read_to_string(proc.join(format!("{pid}/comm"))).ok();
    Member {
        inode: one.inode,
        command: processes
            .first()
            .and_then(name)
            .map(|name| name.trim_end().to_owned()),
        processes,
        established: None,
        queue: one.queue,
        limit: (one.protocol == Protocol::Tcp).then_some(one.limit),
        drops: one.drops,
    }
}

fn count_connections(proc: &Path, group: &mut Group) -> io::Result<()> {
    let connections = diag::connections(group.address.port(), &[State::Established])?;
    let is_here =
        |ip: std::net::IpAddr| group.address.ip().is_unspecified() || ip == group.address.ip();
    let inodes: HashSet<u64> = connections
        .iter()
        .filter(|one| is_here(one.local.ip()) && one.inode != 0)
        .map(|one| one.inode)
        .collect();
    for member in &mut group.members {
        let own: HashSet<u64> = member
            .processes
            .iter()
            .filter_map(|pid| process::socket_descriptors(proc, *pid).ok())
            .flat_map(BTreeMap::into_keys)
            .collect();
        member.established = Some(own.intersection(&inodes).count());
    }
    Ok(())
}

fn warnings(group: &Group, all: &[Group]) -> Vec<Warning> {
    let mut found = Vec::new();
    let is_wildcard = |one: &Group| one.address.ip().is_unspecified();
    let beside = all
        .iter()
        .filter(|one| one.protocol == group.protocol && one.address.port() == group.address.port());
    let wildcards: Vec<&Group> = beside.filter(|one| is_wildcard(one)).collect();
    if !is_wildcard(group) {
        let like = wildcards
            .iter()
            .find(|one| one.address.is_ipv4() == group.address.is_ipv4());
        found.extend(like.map(|one| Warning::StarvesWildcard(one.address)));
    } else if group.address.is_ipv6()
        && !group.is_v6_only
        && wildcards.iter().any(|one| one.address.is_ipv4())
    {
        found.push(Warning::StarvedOfIpv4);
    }
    for member in &group.members {
        if member.limit.is_some_and(|limit| member.queue > limit) {
            found.push(Warning::FullQueue(member.inode));
        }
        if member.processes.is_empty() {
            found.push(Warning::NoProcess(member.inode));
        }
    }
    let counts: Vec<u32> = group
        .members
        .iter()
        .filter_map(|one| u32::try_from(one.established?).ok())
        .collect();
    if is_skewed(&counts) {
        found.push(Warning::Skew);
    }
    found
}

/// Whether chance spreads connections like this in less than one of a hundred cases:
/// a chi-squared test, by the approximation of Wilson and Hilferty.
fn is_skewed(counts: &[u32]) -> bool {
    /// The quantile of the normal distribution for 0.99.
    const QUANTILE: f64 = 2.326;
    let Ok(groups) = u32::try_from(counts.len()) else {
        return false;
    };
    let sum: f64 = counts.iter().copied().map(f64::from).sum();
    let expected = sum / f64::from(groups.max(1));
    // With fewer the test means nothing.
    if groups < 2 || expected < 5.0 {
        return false;
    }
    let square = |count: &u32| (f64::from(*count) - expected).powi(2) / expected;
    let chi: f64 = counts.iter().map(square).sum();
    let freedom = f64::from(groups - 1);
    let part = 2.0 / (9.0 * freedom);
    chi > freedom * (1.0 - part + QUANTILE * part.sqrt()).powi(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_chance_does_not_do_is_skewed() {
        assert!(!is_skewed(&[50, 50]));
        assert!(!is_skewed(&[43, 57]));
        // The limit for one degree of freedom is 6.63, the approximation gives 6.59.
        assert!(!is_skewed(&[38, 62]));
        assert!(is_skewed(&[36, 64]));
        assert!(is_skewed(&[400, 0, 0, 0]));
        assert!(!is_skewed(&[1, 9, 0]));
        assert!(!is_skewed(&[]));
    }
}
