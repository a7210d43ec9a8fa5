//! What can be said of a running process: whether the shim is in it, how it was
//! started, and whether its sockets have the option.
//!
//! Everything is read through proc(5) and from the sockets themselves; nothing is
//! changed, and the process is not stopped. What belongs to it may be false, on
//! purpose: paths, names and its environment are its own to write.

mod directory;
mod maps;
mod neighbour;
mod presence;
mod reuse;
mod socket;
mod standing;
mod start;
mod table;
mod tree;
mod verdict;

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use thiserror::Error;

use crate::program::Elf;
use directory::Directory;
pub use maps::{MappedFile, Shims};
pub use neighbour::{Holder, Neighbour, Relation};
use socket::{Ended, Fetch};
pub use socket::{Hidden, Inherited, Socket};
pub(crate) use standing::{Standing, under as standings_under};
pub use start::Started;
use start::Status;
use table::Table;
pub use table::{OpenSocket, Protocol};
pub(crate) use tree::{Stat, below, is_running, stat};
pub use verdict::judge;

/// A running process, read.
#[derive(Debug)]
pub struct Process {
    /// The process's id: another than was asked for where that is a thread's.
    pub pid: u32,
    /// The user it acts as.
    pub user: u32,
    pub executable: Executable,
    pub shims: Shims,
    /// Whether the loader ran in secure mode, see ld.so(8).
    pub secure: Option<bool>,
    pub started: Started,
    /// What LD_PRELOAD names and is not there, as the process sees it.
    pub missing_preloads: Vec<PathBuf>,
    /// The inet sockets that take what comes to an address.
    pub sockets: Vec<Socket>,
    /// The sockets of others at the same addresses.
    pub neighbours: Vec<Neighbour>,
    /// The ports that the kernel chooses from, see ip(7).
    pub ephemeral: RangeInclusive<u16>,
}

/// The file that a process executes.
#[derive(Debug)]
pub struct Executable {
    /// The path, as the process sees it.
    pub path: PathBuf,
    /// Whether it is no longer there.
    pub is_deleted: bool,
    /// What it is, where it can be read.
    pub elf: Option<Elf>,
}

/// Why nothing can be said of a process.
#[derive(Debug, Error)]
pub enum Error {
    #[error("no process has the id {0}")]
    NoSuchProcess(u32),
    /// The process was there.
    #[error("the process {0} has ended")]
    Ended(u32),
    #[error("{0} is a kernel thread, which executes no program")]
    KernelThread(u32),
    /// The directory of the process is not shown to us.
    #[error("the process {0} is there, and {path} is hidden from this user", path = .1.display())]
    Invisible(u32, PathBuf),
    #[error("{path} cannot be read: {source}; the process acts as the user {user}, this one as {own}", path = .path.display())]
    NotPermitted {
        path: PathBuf,
        source: io::Error,
        user: u32,
        own: u32,
    },
    #[error("{path} cannot be read: {source}", path = .path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// What is read at most of a file whose size is the process's affair. The kernel
/// takes no more than 6 MiB of arguments and environment.
const LONGEST: u64 = 8 << 20;

impl Process {
    /// Reads the process that has the id `pid`, or a thread of that id, from
    /// `proc`, which is `/proc`.
    ///
    /// # Errors
    /// There is none, or it may not be read.
    pub fn read(proc: &Path, pid: u32) -> Result<Self, Error> {
        let (process, pid) = open(proc, pid)?;
        let mut reader = Reader {
            status: status(&process, pid)?,
            process,
            pid,
        };
        let is_first = !reader.status.has_ended();
        let id = if is_first {
            pid
        } else {
            reader.enter_thread()?
        };
        if !reader.status.has_memory {
            return Err(Error::KernelThread(pid));
        }
        let found = reader.read(
            proc,
            &Fetch::new(id, !is_first).map_err(|_| Error::Ended(pid))?,
        );
        // The memory of a process that ends goes before it does: what was read
        // of it then is not what it had.
        let last = status(&reader.process, pid)?;
        if last.has_ended() || !last.has_memory {
            return Err(Error::Ended(pid));
        }
        found
    }
}

/// The sockets that take what comes to an address, and that one of the processes
/// `pids` has, each once. All processes must be of one network namespace. Those
/// of a process that has ended, or that does not show them, are left out.
pub fn open_sockets(proc: &Path, pids: &[u32]) -> Vec<OpenSocket> {
    let directories = pids
        .iter()
        .filter_map(|pid| Directory::open(proc.join(pid.to_string())).ok());
    let directories: Vec<_> = directories.collect();
    let inodes: HashSet<u64> = directories
        .iter()
        .filter_map(|one| socket::descriptors(one).ok())
        .flat_map(BTreeMap::into_keys)
        .collect();
    // The first one may have ended meanwhile.
    let table = directories
        .iter()
        .find_map(|one| Table::read(one, &HashSet::new()).ok());
    let mut open = table.map_or(Vec::new(), |table| table.open);
    open.retain(|one| inodes.contains(&one.inode));
    open
}

/// The inodes of all sockets that the process `pid` has, each with one of its
/// descriptors.
///
/// # Errors
/// It has ended, or does not show them.
pub fn socket_descriptors(proc: &Path, pid: u32) -> io::Result<BTreeMap<u64, u32>> {
    socket::descriptors(&Directory::open(proc.join(pid.to_string()))?)
}

/// The directory of the process of `pid`, and the process's own id.
fn open(proc: &Path, pid: u32) -> Result<(Directory, u32), Error> {
    let open = |pid: u32| {
        let path = proc.join(pid.to_string());
        Directory::open(path.clone()).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound if !exists(pid) => Error::NoSuchProcess(pid),
            io::ErrorKind::NotFound => Error::Invisible(pid, path),
            _ => Error::Io {
                path,
                source: error,
            },
        })
    };
    let directory = open(pid)?;
    let process = status(&directory, pid)?.process;
    if process == pid {
        return Ok((directory, pid));
    }
    Ok((open(process)?, process))
}

/// Whether there is a process or thread of the id `pid`, shown or not.
fn exists(pid: u32) -> bool {
    let process = socket::pid(pid);
    process.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(Errno::SRCH))
}

fn status(directory: &Directory, pid: u32) -> Result<Status, Error> {
    let path = directory.path("status");
    match directory.read("status", LONGEST) {
        Ok(text) => Status::parse(&text).ok_or_else(|| Error::Io {
            path,
            source: io::ErrorKind::InvalidData.into(),
        }),
        Err(source) if is_end(&source) => Err(Error::Ended(pid)),
        // Mounted with hidepid=1.
        Err(source) if source.kind() == io::ErrorKind::PermissionDenied => {
            Err(Error::Invisible(pid, path))
        }
        Err(source) => Err(Error::Io { path, source }),
    }
}

/// Whether `error` is that of a file of a process that is no more.
fn is_end(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    error.kind() == io::ErrorKind::NotFound || code == Some(Errno::SRCH.raw_os_error())
}

/// A process that is being read.
struct Reader {
    process: Directory,
    pid: u32,
    status: Status,
}

impl Reader {
    /// Goes on with a thread that runs, where the first one has ended: a process
    /// lives as long as any. Gives the thread's id.
    fn enter_thread(&mut self) -> Result<u32, Error> {
        for thread in self.process.numbers("task").unwrap_or_default() {
            if let Ok(directory) = self.process.below(&format!("task/{thread}"))
                && let Ok(status) = status(&directory, self.pid)
                && !status.has_ended()
            {
                (self.process, self.status) = (directory, status);
                return Ok(thread);
            }
        }
        Err(Error::Ended(self.pid))
    }

    fn read(&self, proc: &Path, fetch: &Fetch) -> Result<Process, Error> {
        let process = &self.process;
        let executable = self.executable()?;
        let is_64_bit = executable.elf.as_ref().is_none_or(|elf| elf.is_64_bit);
        let vector = self.try_to("auxv", process.read("auxv", LONGEST))?;
        let started = Started::parse(&self.try_to("environ", process.read("environ", LONGEST))?);
        let shims = self.try_to("maps", Shims::read(process))?;
        let descriptors = self.try_to("fd", socket::descriptors(process))?;
        let inodes = descriptors.keys().copied().collect();
        let table = self.try_to("net", Table::read(process, &inodes))?;
        let sockets = socket::read(fetch, &descriptors, &table);
        let mut sockets = sockets.map_err(|Ended| Error::Ended(self.pid))?;
        self.note_inherited(proc, &mut sockets, &started);
        Ok(Process {
            pid: self.pid,
            user: self.status.user,
            executable,
            shims,
            secure: start::is_secure(&vector, is_64_bit),
            missing_preloads: self.missing_preloads(&started),
            started,
            neighbours: neighbour::find(proc, self.pid, &sockets, &table),
            sockets,
            ephemeral: self.ephemeral(proc),
        })
    }

    /// Names the file and the user where `result` is an error.
    fn try_to<T>(&self, name: &str, result: io::Result<T>) -> Result<T, Error> {
        let path = self.process.path(name);
        result.map_err(|source| match source.kind() {
            _ if is_end(&source) => Error::Ended(self.pid),
            io::ErrorKind::PermissionDenied => Error::NotPermitted {
                path,
                source,
                user: self.status.user,
                own: rustix::process::geteuid().as_raw(),
            },
            _ => Error::Io { path, source },
        })
    }

    fn executable(&self) -> Result<Executable, Error> {
        let target = self.try_to("exe", self.process.link("exe"))?;
        let target = target.into_os_string().into_vec();
        let path = target.strip_suffix(b" (deleted)");
        // The link leads to the file even where its path does not.
        let fd = self.process.as_fd().as_raw_fd();
        let file = fs::File::open(format!("/proc/self/fd/{fd}/exe"));
        let elf = file.ok().and_then(|file| Elf::read(&file).ok());
        Ok(Executable {
            is_deleted: path.is_some(),
            path: OsStr::from_bytes(path.unwrap_or(&target)).into(),
            elf,
        })
    }

    fn missing_preloads(&self, started: &Started) -> Vec<PathBuf> {
        let list = started.preload().unwrap_or_default();
        let Ok(root) = self.process.below("root") else {
            return Vec::new();
        };
        let entries = list.as_bytes().split(|byte| matches!(byte, b' ' | b':'));
        // Names without a slash are searched for, and `$` is expanded.
        let paths = entries.filter(|entry| entry.starts_with(b"/") && !entry.contains(&b'$'));
        paths
            .map(|entry| PathBuf::from(OsStr::from_bytes(entry)))
            .filter(|path| maps::is_missing_below(&root, path))
            .collect()
    }

    /// Notes which of `sockets` without the option the process did not bind.
    fn note_inherited(&self, proc: &Path, sockets: &mut [Socket], started: &Started) {
        let lacking = |socket: &&mut Socket| socket.reuseport == Ok(false);
        let passed = 3..3 + u64::from(started.passed_descriptors());
        let mut parent = None;
        for socket in sockets.iter_mut().filter(lacking) {
            let held = || self.held_by_bare_parent(proc).unwrap_or_default();
            if passed.contains(&socket.descriptor.into()) {
                socket.inherited = Some(Inherited::Passed);
            } else if parent.get_or_insert_with(held).contains(&socket.inode) {
                socket.inherited = Some(Inherited::Parent(self.status.parent));
            }
        }
    }

    /// The sockets of the parent, where that has no shim.
    fn held_by_bare_parent(&self, proc: &Path) -> io::Result<Vec<u64>> {
        let parent = Directory::open(proc.join(self.status.parent.to_string()))?;
        if Shims::read(&parent)? != Shims::default() {
            return Ok(Vec::new());
        }
        Ok(socket::descriptors(&parent)?.into_keys().collect())
    }

    /// The range of ephemeral ports is that of a network namespace, and `/proc/sys`
    /// shows the reader's own: of another one it is not known, and the kernel's
    /// default is taken.
    fn ephemeral(&self, proc: &Path) -> RangeInclusive<u16> {
        const DEFAULT: RangeInclusive<u16> = 32768..=60999;
        let own = fs::read_link(proc.join("self/ns/net")).ok();
        if own.is_none() || own != self.process.link("ns/net").ok() {
            return DEFAULT;
        }
        let range = fs::read_to_string(proc.join("sys/net/ipv4/ip_local_port_range"));
        let range = range.unwrap_or_default();
        let mut ends = range.split_whitespace().map(str::parse);
        match (ends.next(), ends.next()) {
            (Some(Ok(first)), Some(Ok(last))) => first..=last,
            _ => DEFAULT,
        }
    }
}
