//! Sockets of others at the addresses of a process's own.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::path::Path;

use super::directory::{self, Directory};
use super::socket::{self, Socket};
use super::table::{Protocol, Table};

/// A socket that is none of the process's, beside one that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    pub protocol: Protocol,
    /// The address of the process's socket.
    pub own: SocketAddr,
    /// The address of the other one.
    pub address: SocketAddr,
    pub relation: Relation,
    /// The user of the other one.
    pub user: u32,
    /// The processes that hold it, as far as they may be read.
    pub holders: Vec<Holder>,
}

/// A process, by its id and the name that it has given itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub pid: u32,
    pub name: String,
}

/// What a neighbour takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// Its share: it is bound to the same address.
    Shares,
    /// All that comes to its address, which is a part of ours: the kernel prefers
    /// the socket whose address says more.
    TakesPart,
}

/// The neighbours of `own`, which are sockets of the process `process`.
pub(super) fn find(proc: &Path, process: u32, own: &[Socket], table: &Table) -> Vec<Neighbour> {
    let inodes = socket::inodes(own);
    let mut found = Vec::new();
    let others = table.open.iter().filter(|row| !inodes.contains(&row.inode));
    for row in others {
        let beside = own.iter().filter(|socket| {
            socket.protocol == row.protocol && socket.address.port() == row.address.port()
        });
        // Sockets of one address have the same neighbours.
        let nearest = beside
            .filter_map(|socket| Some((socket, relation(socket, row.address)?)))
            .min_by_key(|(_, relation)| *relation != Relation::Shares);
        if let Some((socket, relation)) = nearest {
            let neighbour = Neighbour {
                protocol: row.protocol,
                own: socket.address,
                address: row.address,
                relation,
                user: row.user,
                holders: Vec::new(),
            };
            found.push((row.inode, neighbour));
        }
    }
    if found.is_empty() {
        return Vec::new();
    }
    let mut holders = holders(
        proc,
        process,
        &found.iter().map(|(inode, _)| *inode).collect(),
    );
    for (inode, neighbour) in &mut found {
        neighbour.holders = holders.remove(inode).unwrap_or_default();
    }
    found.into_iter().map(|(_, neighbour)| neighbour).collect()
}

/// What a socket at `other`, of the same port, takes from `own`.
fn relation(own: &Socket, other: SocketAddr) -> Option<Relation> {
    let (ours, theirs) = (own.address.ip(), other.ip());
    if ours == theirs {
        return Some(Relation::Shares);
    }
    let takes_part = ours.is_unspecified()
        && match (ours.is_ipv4(), theirs.is_ipv4()) {
            (true, true) | (false, false) => true,
            (false, true) => own.is_dual == Some(true),
            (true, false) => false,
        };
    takes_part.then_some(Relation::TakesPart)
}

/// The processes but `except` that hold one of the sockets `inodes`.
fn holders(proc: &Path, except: u32, inodes: &HashSet<u64>) -> BTreeMap<u64, Vec<Holder>> {
    let mut holders: BTreeMap<u64, Vec<Holder>> = BTreeMap::new();
    for pid in directory::processes(proc).unwrap_or_default() {
        if pid == except {
            continue;
        }
        // Those of other users cannot be read, and others end meanwhile.
        let Ok(process) = Directory::open(proc.join(pid.to_string())) else {
            continue;
        };
        let held = socket::descriptors(&process).unwrap_or_default();
        for inode in held.into_keys().filter(|inode| inodes.contains(inode)) {
            let name = process.read("comm", 64).unwrap_or_default();
            let name = String::from_utf8_lossy(name.trim_ascii_end()).into_owned();
            let holder = Holder { pid, name };
            holders.entry(inode).or_default().push(holder);
        }
    }
    holders
}
