//! The kernel's tables of sockets, and the processes that hold them: see
//! proc_pid_net(5) and proc_pid_fd(5).

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;

#[derive(Clone, Copy)]
pub enum Transport {
    Tcp,
    Udp,
}

/// A line of such a table.
struct Row {
    local_port: u16,
    remote_port: u16,
    /// As in the kernel's include/net/tcp_states.h.
    state: u8,
    /// 0 for a connection that the server has not accepted yet.
    inode: u64,
}

const ESTABLISHED: u8 = 1;
/// The state of a UDP socket that is bound and not connected.
const CLOSE: u8 = 7;
const LISTEN: u8 = 10;

impl Row {
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let port = |address: &str| u16::from_str_radix(address.rsplit_once(':')?.1, 16).ok();
        Some(Self {
            local_port: port(fields.get(1)?)?,
            remote_port: port(fields.get(2)?)?,
            state: u8::from_str_radix(fields.get(3)?, 16).ok()?,
            inode: fields.get(9)?.parse().ok()?,
        })
    }
}

/// The rows of the table /proc/net/`name` with the local port `port`; none where
/// the kernel has no IPv6.
fn rows(name: &str, port: u16) -> Vec<Row> {
    // The kernel fills what room there is, and starts where the buffer is small
    // with a few bytes a call.
    let mut table = Vec::with_capacity(1 << 20);
    if let Ok(mut file) = File::open(format!("/proc/net/{name}")) {
        _ = file.read_to_end(&mut table);
    }
    // Thousands of rows are of connections that linger in TIME_WAIT.
    let port_field = format!(":{port:04X} ");
    String::from_utf8_lossy(&table)
        .lines()
        .filter(|line| line.contains(&port_field))
        .filter_map(Row::parse)
        .filter(|row| row.local_port == port)
        .collect()
}

/// Whether any socket has `port`, be it one that lingers in TIME_WAIT.
pub fn is_used(port: u16) -> bool {
    let mut tables = ["tcp", "tcp6", "udp", "udp6"].into_iter();
    tables.any(|name| !rows(name, port).is_empty())
}

/// The inodes of the sockets through which clients reach servers at `port`.
fn serving(transport: Transport, port: u16) -> Vec<u64> {
    let (tables, state) = match transport {
        Transport::Tcp => (["tcp", "tcp6"], LISTEN),
        Transport::Udp => (["udp", "udp6"], CLOSE),
    };
    tables
        .into_iter()
        .flat_map(|name| rows(name, port))
        .filter(|row| row.state == state)
        .map(|row| row.inode)
        .collect()
}

/// The server's ends of the connections that it has accepted at `port`: the
/// client's port and the inode.
pub fn accepted(port: u16) -> HashMap<u16, u64> {
    ["tcp", "tcp6"]
        .into_iter()
        .flat_map(|name| rows(name, port))
        .filter(|row| row.state == ESTABLISHED && row.inode != 0)
        .map(|row| (row.remote_port, row.inode))
        .collect()
}

/// How many sockets through which clients reach a server at `port` are held by
/// the process `root` and its descendants.
pub fn count_serving(transport: Transport, port: u16, root: u32) -> usize {
    let held = held_by(root);
    let serving = serving(transport, port);
    serving.iter().filter(|&inode| held.contains(inode)).count()
}

/// The inodes of the sockets that the process `root` and its descendants hold.
pub fn held_by(root: u32) -> Vec<u64> {
    let socket = |target: &str| {
        target
            .strip_prefix("socket:[")?
            .strip_suffix(']')?
            .parse()
            .ok()
    };
    tree(root)
        .into_iter()
        .filter_map(|process| fs::read_dir(format!("/proc/{process}/fd")).ok())
        .flatten()
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|target| socket(target.to_str()?))
        .collect()
}

/// The process `root` and its descendants.
fn tree(root: u32) -> Vec<u32> {
    let mut tree = vec![root];
    let mut next = 0;
    while let Some(&process) = tree.get(next) {
        tree.extend(children(process));
        next += 1;
    }
    tree
}

/// The children of all threads of `process`; none where it has gone.
fn children(process: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{process}/task"));
    let lists = threads
        .into_iter()
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_whitespace()
                .filter_map(|child| child.parse().ok())
                .collect::<Vec<_>>()
        })
        .collect()
}
