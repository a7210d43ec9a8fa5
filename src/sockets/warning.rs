//! What is odd about a group.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::groups::Group;

/// Something that is probably not meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// Connections to this address do not come to the wildcard's sockets.
    StarvesWildcard(SocketAddr),
    /// IPv4 comes to the IPv4 sockets of this address alone, and not to these.
    StarvedOfIpv4(SocketAddr),
    /// A member's queue is full.
    FullQueue(u64),
    /// The connections are spread too unevenly for chance.
    Skew,
    /// Nobody has this socket, by its inode, any more, or nobody who shows it.
    NoProcess(u64),
    /// So many processes have the group's only socket, made before they were forked.
    OneSocket(usize),
    /// The only member has the option, and shares with nobody.
    Alone,
    /// The members run these different programs.
    Mixed(Vec<String>),
    /// A member, by its inode, that is not a copy of the runner whose group this is.
    Stranger(u64),
}

impl Warning {
    /// A stable word.
    pub fn code(&self) -> &'static str {
        match self {
            Self::StarvesWildcard(_) => "starves-wildcard",
            Self::StarvedOfIpv4(_) => "starved-of-ipv4",
            Self::FullQueue(_) => "full-queue",
            Self::Skew => "skew",
            Self::NoProcess(_) => "no-process",
            Self::OneSocket(_) => "one-socket",
            Self::Alone => "alone",
            Self::Mixed(_) => "mixed",
            Self::Stranger(_) => "stranger",
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StarvesWildcard(wildcard) => {
                write!(f, "what comes to this address does not come to {wildcard}")
            }
            Self::StarvedOfIpv4(other) => {
                write!(
                    f,
                    "IPv4 comes to the sockets of {other} alone, and not to these"
                )
            }
            Self::FullQueue(inode) => write!(f, "the queue of the socket {inode} is full"),
            Self::Skew => f.write_str(
                "connections are spread more unevenly than chance does (chi-squared, p < 0.01)",
            ),
            Self::NoProcess(inode) => write!(
                f,
                "no process shows that it has the socket {inode}: run this as root to see"
            ),
            Self::OneSocket(count) => write!(
                f,
                "{count} processes have this one socket, made before they were forked: the \
                 kernel does not spread connections among them"
            ),
            Self::Alone => f.write_str("it has SO_REUSEPORT, and shares with nobody"),
            Self::Mixed(names) => {
                write!(
                    f,
                    "its members run different programs: {}",
                    names.join(", ")
                )
            }
            Self::Stranger(inode) => write!(f, "the socket {inode} is not a copy's"),
        }
    }
}

/// What the addresses, the queues and the processes of `group` show, `all` being
/// the groups of its network namespace.
pub(super) fn warnings(group: &Group, all: &[Group]) -> Vec<Warning> {
    let mut found = Vec::new();
    found.extend(beside(group, all));
    for member in &group.members {
        if member.limit.is_some_and(|limit| member.queue > limit) {
            found.push(Warning::FullQueue(member.inode));
        }
        if member.processes.is_empty() {
            found.push(Warning::NoProcess(member.inode));
        }
    }
    let mut names: Vec<String> = group
        .members
        .iter()
        .filter_map(|one| one.command.clone())
        .collect();
    names.sort_unstable();
    names.dedup();
    if names.len() > 1 {
        found.push(Warning::Mixed(names));
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

/// Another group that gets what this one might be expected to get, or the other
/// way round.
fn beside(group: &Group, all: &[Group]) -> Option<Warning> {
    let is_wildcard = |one: &Group| one.address.ip().is_unspecified();
    let mut beside = all
        .iter()
        .filter(|one| one.protocol == group.protocol && one.address.port() == group.address.port());
    match group.address.ip() {
        // A socket of IPv4 goes before one of IPv6 that takes IPv4 as well.
        IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => {
            let own = ip.to_ipv4_mapped()?;
            let other = beside.find(|one| one.address.ip() == own)?;
            Some(Warning::StarvedOfIpv4(other.address))
        }
        IpAddr::V6(ip) if ip.is_unspecified() => {
            let other = beside.find(|one| is_wildcard(one) && one.address.is_ipv4());
            let other = other.filter(|_| !group.is_v6_only)?;
            Some(Warning::StarvedOfIpv4(other.address))
        }
        ip if !ip.is_unspecified() => {
            let is_like = |one: &&Group| is_wildcard(one) && one.address.is_ipv4() == ip.is_ipv4();
            Some(Warning::StarvesWildcard(beside.find(is_like)?.address))
        }
        _ => None,
    }
}

/// Whether chance spreads connections like this in less than one of a hundred cases:
/// a chi-squared test, by the approximation of Wilson and Hilferty.
pub fn is_skewed(counts: &[u32]) -> bool {
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
