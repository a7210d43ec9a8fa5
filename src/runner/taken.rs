//! Who has a port already.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;

use crate::process::{Process, Protocol};
use crate::sockets::{self, Group};

/// A socket that keeps copies from a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    pub protocol: Protocol,
    pub address: SocketAddr,
    pub user: u32,
    /// A process that has it, and its name.
    pub process: u32,
    pub command: String,
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            protocol,
            address,
            user,
            process,
            command,
        } = self;
        write!(
            f,
            "{protocol} {address} is taken by {command} (process {process}, user {user}), \
             without SO_REUSEPORT"
        )
    }
}

/// The sockets at ports that `selects` names which certainly keep others from
/// them: they have not the option. `proc` is `/proc`.
pub fn taken(proc: &Path, selects: impl Fn(u16) -> bool) -> Vec<Taken> {
    // Where the kernel does not say, the copies will.
    let groups = sockets::groups(proc, &[]).unwrap_or_default();
    let selected = groups.iter().filter(|one| selects(one.address.port()));
    selected.filter_map(|group| one(proc, group)).collect()
}

fn one(proc: &Path, group: &Group) -> Option<Taken> {
    // Several sockets share it: they have the option.
    let [member] = &group.members[..] else {
        return None;
    };
    let pid = *member.processes.first()?;
    let process = Process::read(proc, pid).ok()?;
    let mut sockets = process.sockets.iter();
    let socket = sockets.find(|socket| socket.inode == member.inode)?;
    (socket.reuseport == Ok(false)).then_some(Taken {
        protocol: group.protocol,
        address: group.address,
        user: group.user,
        process: pid,
        command: member.command.clone().unwrap_or_default(),
    })
}
