//! The processes of a copy, and their sockets.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use super::{Socket, State};
use crate::process::{self, OpenSocket, Process, Standing};
use crate::rules::Assignments;

const PROC: &str = "/proc";

/// A process, as `/proc/N/stat` shows it.
#[derive(Clone, Copy, Debug)]
struct Stat {
    pid: u32,
    parent: u32,
    state: char,
}

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
    let all: Vec<Stat> = fs::read_dir(PROC)?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(stat)
        .collect();
    let mut known = vec![keeper];
    let mut found: Vec<Stat> = Vec::new();
    while let Some(parent) = known.pop() {
        for one in all.iter().filter(|one| one.parent == parent) {
            known.push(one.pid);
            if !matches!(one.state, 'Z' | 'X') {
                found.push(*one);
            }
        }
    }
    Ok(found)
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read(format!("{PROC}/{pid}/stat")).ok()?;
    let text = String::from_utf8_lossy(&text);
    // The name, in parentheses, may hold anything.
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    Some(Stat {
        pid,
        state: fields.next()?.chars().next()?,
        parent: fields.next()?.parse().ok()?,
    })
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
                Standing::LeftOut(_) => State::OutsideRules,
                Standing::Ephemeral => continue,
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
