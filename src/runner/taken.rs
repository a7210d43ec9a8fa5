//! Who has a port already.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;

use rustix::process::geteuid;

use crate::process::{Process, Protocol};
use crate::sockets::{self, Group, View};

/// A socket that keeps copies from a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    pub protocol: Protocol,
    pub address: SocketAddr,
    pub user: u32,
    /// A process that has it, and its name, where one shows that.
    pub process: Option<(u32, String)>,
    /// Whether it has the option, where it shows that; that is of no use where the
    /// user is another one.
    pub shares: Option<bool>,
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.user;
        write!(f, "{} {} is taken by ", self.protocol, self.address)?;
        match &self.process {
            Some((pid, command)) => write!(f, "{command} (process {pid}, user {user}), ")?,
            None => write!(
                f,
                "a process of the user {user} that does not show itself, "
            )?,
        }
        let own = geteuid().as_raw();
        f.write_str(match self.shares {
            Some(false) => return f.write_str("without SO_REUSEPORT"),
            Some(true) => "with SO_REUSEPORT",
            None => "with or without SO_REUSEPORT",
        })?;
        write!(
            f,
            "; only sockets of one user share a port, and this one acts as {own}"
        )
    }
}

/// The sockets at ports that `selects` names which certainly keep others from
/// them: they have not the option, or belong to another user. `proc` is `/proc`.
pub fn taken(proc: &Path, selects: impl Fn(u16) -> bool + Sync) -> Vec<Taken> {
    let view = View {
        proc,
        left_out: &[],
        wanted: &|group| selects(group.address.port()),
    };
    // Where the kernel does not say, the copies will.
    let groups = sockets::groups(view, None).unwrap_or_default();
    groups.iter().filter_map(|group| one(proc, group)).collect()
}

fn one(proc: &Path, group: &Group) -> Option<Taken> {
    let member = group.members.first()?;
    let process = member.processes.first().copied();
    let own = geteuid().as_raw();
    let read = process.and_then(|pid| Process::read(proc, pid).ok());
    let shares = read.and_then(|process| {
        let mut sockets = process.sockets.iter();
        let socket = sockets.find(|socket| socket.inode == member.inode)?;
        socket.reuseport.ok()
    });
    // Several sockets share it: they have the option.
    let shares = shares.or_else(|| (group.members.len() > 1).then_some(true));
    // A copy may become another user before it binds, where we are root.
    let is_taken = shares == Some(false) || (group.user != own && own != 0);
    is_taken.then(|| Taken {
        protocol: group.protocol,
        address: group.address,
        user: group.user,
        process: process.map(|pid| (pid, member.command.clone().unwrap_or_default())),
        shares,
    })
}
