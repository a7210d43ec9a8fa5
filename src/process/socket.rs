//! The sockets of a process, each fetched from it for a moment and asked.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::net::sockopt;
use rustix::net::{AddressFamily, SocketType};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use super::directory::Directory;
use super::table::{Protocol, Table};

/// A socket that takes what comes to an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    pub protocol: Protocol,
    pub address: SocketAddr,
    /// Whether connections or datagrams reach it. A TCP socket that is bound and
    /// not listening takes its port, and gets none.
    pub is_listening: bool,
    /// Whether SO_REUSEPORT is set on it.
    pub reuseport: Result<bool, Hidden>,
    /// Whether an IPv6 socket takes IPv4 too; `None` where that is not known.
    pub is_dual: Option<bool>,
    /// The effective user of the process that made it, at that time.
    pub user: u32,
    /// Who bound it, where that was evidently not this process.
    pub inherited: Option<Inherited>,
    /// The number of one of its descriptors in the process.
    pub(super) descriptor: u32,
    pub(crate) inode: u64,
}

/// Where a socket comes from that a process did not bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inherited {
    /// A service manager passed it, see sd_listen_fds(3).
    Passed,
    /// The parent, of this id, has it too, and has no shim.
    Parent(u32),
}

/// Why an option of another process's socket could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hidden {
    /// The kernel has no pidfd_getfd(2), or a filter says so.
    Missing,
    /// A filter of system calls forbids it, even on ourselves.
    Filtered,
    /// The right to trace the process is missing, see ptrace(2); the value of
    /// `kernel.yama.ptrace_scope`, if there is such.
    NotPermitted(Option<u8>),
    /// Whatever else.
    Failed(Errno),
}

impl fmt::Display for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str(
                "there is no pidfd_getfd(2) here: the kernel is older than 5.6, \
                 or a seccomp filter hides it",
            ),
            Self::Filtered => f.write_str(
                "a seccomp filter forbids pidfd_getfd(2), as Docker's default profile does \
                 without CAP_SYS_PTRACE",
            ),
            Self::NotPermitted(Some(scope @ 1..)) => write!(
                f,
                "EPERM: kernel.yama.ptrace_scope is {scope}, so that pidfd_getfd(2) needs \
                 CAP_SYS_PTRACE"
            ),
            Self::NotPermitted(_) => f.write_str(
                "EPERM: pidfd_getfd(2) needs CAP_SYS_PTRACE, or the same user, no more \
                 capabilities in the process than here, and a process that may be dumped",
            ),
            Self::Failed(error) => write!(f, "pidfd_getfd(2): {}", io::Error::from(*error)),
        }
    }
}

/// The descriptors of a process that are sockets: one for each, by inode.
///
/// # Errors
/// The descriptors cannot be read.
pub(super) fn descriptors(process: &Directory) -> io::Result<BTreeMap<u64, u32>> {
    let mut sockets = BTreeMap::new();
    for descriptor in process.numbers("fd")? {
        let target = match process.link(&format!("fd/{descriptor}")) {
            // Root without CAP_SYS_PTRACE sees the numbers alone.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
            // One that was closed meanwhile is none.
            target => target.ok(),
        };
        if let Some(inode) = target.as_deref().and_then(socket_inode) {
            let number = sockets.entry(inode).or_insert(descriptor);
            *number = descriptor.min(*number);
        }
    }
    Ok(sockets)
}

/// The inode in `socket:[INODE]`.
fn socket_inode(target: &Path) -> Option<u64> {
    let number = target.to_str()?.strip_prefix("socket:[")?;
    number.strip_suffix(']')?.parse().ok()
}

/// The sockets among `descriptors` that take what comes to an address. `table`
/// lists what is open in the process's network namespace: it stands in for what
/// may not be asked, and spares asking connections.
///
/// # Errors
/// The process has ended.
pub(super) fn read(
    fetch: &Fetch,
    descriptors: &BTreeMap<u64, u32>,
    table: &Table,
) -> Result<Vec<Socket>, Ended> {
    let rows = table
        .open
        .iter()
        .map(|row| (row.inode, row))
        .collect::<BTreeMap<_, _>>();
    let mut sockets = Vec::new();
    for (&inode, &descriptor) in descriptors {
        if table.connected.contains(&inode) {
            continue;
        }
        match fetch.get(descriptor, inode) {
            Ok(fetched) => sockets.extend(fetched.and_then(|fd| ask(&fd, descriptor, inode))),
            Err(Hidden::Failed(Errno::SRCH)) => return Err(Ended),
            Err(why) => sockets.extend(rows.get(&inode).map(|row| Socket {
                protocol: row.protocol,
                address: row.address,
                is_listening: true,
                reuseport: Err(why),
                is_dual: None,
                user: row.user,
                inherited: None,
                descriptor,
                inode,
            })),
        }
    }
    sockets.sort_by_key(|socket| (socket.protocol.number(), socket.address));
    Ok(sockets)
}

/// The process has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended;

/// A way to the descriptors of a process: a pidfd, or why there is none.
#[derive(Debug)]
pub(super) struct Fetch(Result<OwnedFd, Hidden>);

impl Fetch {
    /// The way to the process of the id `id`, or to that of the thread of this id
    /// where the process's first thread has ended.
    ///
    /// # Errors
    /// There is no such process.
    pub(super) fn new(id: u32, is_thread: bool) -> Result<Self, Ended> {
        // PIDFD_THREAD of pidfd_open(2), since Linux 6.9, is O_EXCL.
        let thread = PidfdFlags::from_bits_retain(rustix::fs::OFlags::EXCL.bits());
        let flags = if is_thread {
            thread
        } else {
            PidfdFlags::empty()
        };
        match pidfd_open(pid(id).ok_or(Ended)?, flags) {
            Ok(fd) => Ok(Self(Ok(fd))),
            Err(Errno::SRCH) => Err(Ended),
            Err(Errno::NOSYS) => Ok(Self(Err(Hidden::Missing))),
            Err(Errno::PERM) => Ok(Self(Err(Hidden::Filtered))),
            Err(error) => Ok(Self(Err(Hidden::Failed(error)))),
        }
    }

    /// The descriptor of the number `descriptor`, if it is still that of the
    /// socket `inode`. Ours is a second one: it should be closed soon, since it
    /// keeps the socket open.
    fn get(&self, descriptor: u32, inode: u64) -> Result<Option<OwnedFd>, Hidden> {
        let process = self.0.as_ref().map_err(|why| *why)?;
        let number = descriptor.try_into().unwrap_or(-1);
        let fd = match pidfd_getfd(process, number, PidfdGetfdFlags::empty()) {
            Ok(fd) => fd,
            // Closed meanwhile.
            Err(Errno::BADF) => return Ok(None),
            Err(Errno::NOSYS) => return Err(Hidden::Missing),
            Err(Errno::PERM) if is_filtered() => return Err(Hidden::Filtered),
            Err(Errno::PERM) => return Err(Hidden::NotPermitted(yama())),
            Err(error) => return Err(Hidden::Failed(error)),
        };
        let is_same = rustix::fs::fstat(&fd).is_ok_and(|stat| stat.st_ino == inode);
        Ok(is_same.then_some(fd))
    }
}

/// Whether even our own descriptors cannot be fetched, which the kernel itself
/// always permits.
fn is_filtered() -> bool {
    let own = pidfd_open(rustix::process::getpid(), PidfdFlags::empty());
    own.is_ok_and(|own| {
        let fetched = pidfd_getfd(&own, own.as_raw_fd(), PidfdGetfdFlags::empty());
        fetched.is_err_and(|error| error == Errno::PERM)
    })
}

fn yama() -> Option<u8> {
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope");
    scope.ok()?.trim().parse().ok()
}

/// `process` as the kernel's type; 0 and what is too large are none.
pub(super) fn pid(process: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(process).ok()?)
}

/// What `fd`, the socket `inode`, says of itself; `None` for one that takes
/// nothing: another family, a connection, one that is not bound.
fn ask(fd: &OwnedFd, descriptor: u32, inode: u64) -> Option<Socket> {
    let family = sockopt::socket_domain(fd).ok()?;
    let kind = sockopt::socket_type(fd).ok()?;
    if !matches!(family, AddressFamily::INET | AddressFamily::INET6) || kind == SocketType::RAW {
        return None;
    }
    let address = SocketAddr::try_from(rustix::net::getsockname(fd).ok()?).ok()?;
    let is_connected = matches!(rustix::net::getpeername(fd), Ok(Some(_)));
    if address.port() == 0 || is_connected {
        return None;
    }
    let number = sockopt::socket_protocol(fd).ok()?;
    let protocol = match number.map_or(0, |protocol| protocol.as_raw().get()) {
        6 | 262 => Protocol::Tcp,
        17 => Protocol::Udp,
        other => Protocol::Other(other),
    };
    let is_dual = address.is_ipv6() && !sockopt::ipv6_v6only(fd).ok()?;
    Some(Socket {
        protocol,
        address,
        is_listening: kind == SocketType::DGRAM || sockopt::socket_acceptconn(fd).ok()?,
        reuseport: sockopt::socket_reuseport(fd).map_err(Hidden::Failed),
        is_dual: Some(is_dual),
        user: rustix::fs::fstat(fd.as_fd()).ok()?.st_uid,
        inherited: None,
        descriptor,
        inode,
    })
}

/// The inodes of `sockets`.
pub(super) fn inodes(sockets: &[Socket]) -> HashSet<u64> {
    sockets.iter().map(|socket| socket.inode).collect()
}
