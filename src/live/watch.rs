//! The processes of a copy, and their sockets.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::{Socket, State};
use crate::process::{self, OpenSocket, Process, Standing, Stat};
use crate::rules::Assignments;

const PROC: &str = "/proc";

/// The processes below `keeper`, which have not ended.
pub(super) fn processes(keeper: u32) -> io::Result<Vec<u32>> {
    Ok(below(keeper)?.into_iter().map(|one| one.pid).collect())
}

/// Whether all processes below `keeper` are stopped.
pub(super) fn are_stopped(keeper: u32) -> io::Result<bool> {
    Ok(below(keeper)?
        .iter()
        .all(|one| matches!(one.state, 'T' | 't')))
}

fn below(keeper: u32) -> io::Result<Vec<Stat>> {
    process::below(Path::new(PROC), keeper)
}

/// The sockets of the processes below `keeper` that take what comes to an
/// address, in order.
pub(super) fn open(keeper: u32) -> io::Result<Vec<OpenSocket>> {
    let mut open = process::open_sockets(Path::new(PROC), &processes(keeper)?);
    open.sort_by_key(|one| (one.protocol.number(), one.address, one.inode));
    Ok(open)
}

/// Those sockets, and what became of their binds under the rules `assignments`.
/// Left out are those that the kernel chose a port for, and TCP sockets that do
/// not listen.
pub(super) fn sockets(keeper: u32, assignments: &Assignments) -> io::Result<Vec<Socket>> {
    let mut found: BTreeMap<u64, Socket> = BTreeMap::new();
    for pid in processes(keeper)? {
        // One that ended meanwhile has no sockets.
        let Ok(process) = Process::read(Path::new(PROC), pid) else {
            continue;
        };
        for (socket, standing) in process::standings_under(&process, assignments) {
            let state = match standing {
                _ if !socket.is_listening => continue,
                Standing::Has if process.shims.mapped.is_empty() => State::SetsItself,
                Standing::Has => State::Hooked,
                Standing::Lacks | Standing::Silent => State::Bypassed,
                // The kernel chose the port, which nobody wants to share.
                Standing::LeftOut(_) if process.ephemeral.contains(&socket.address.port()) => {
                    continue;
                }
                Standing::Ephemeral => continue,
                Standing::LeftOut(_) => State::OutsideRules,
                Standing::Hidden(_) => State::Unknown,
            };
            let one = Socket {
                protocol: socket.protocol.to_string(),
                address: socket.address,
                state,
            };
            // A worker may have inherited it from a process that bound it.
            let known = found.entry(socket.inode).or_insert_with(|| one.clone());
            if known.state == State::Unknown || one.state == State::Hooked {
                *known = one;
            }
        }
    }
    let mut sockets: Vec<Socket> = found.into_values().collect();
    sockets.sort_by(|a, b| (&a.protocol, a.address).cmp(&(&b.protocol, b.address)));
    sockets.dedup();
    Ok(sockets)
}
