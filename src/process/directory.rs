//! A process's directory in proc(5), held open.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Dir, Mode, OFlags};

/// `/proc/N`, or a directory below it. Since it is held open, what is read
/// through it is always of one process: once that has ended it can be read no
/// longer, even where another process has got its id.
#[derive(Debug)]
pub(super) struct Directory {
    fd: OwnedFd,
    path: PathBuf,
}

impl Directory {
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        let fd = rustix::fs::openat(CWD, &path, Self::FLAGS, Mode::empty())?;
        Ok(Self { fd, path })
    }

    /// The directory `name` of this one. Where it is one of the kernel's links
    /// (`root`), what that leads to.
    pub(super) fn below(&self, name: &str) -> io::Result<Self> {
        let fd = rustix::fs::openat(&self.fd, name, Self::FLAGS, Mode::empty())?;
        let path = self.path(name);
        Ok(Self { fd, path })
    }

    const FLAGS: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

    /// The path of the file `name`, for messages.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Opens the file `name`, to be read.
    pub(super) fn file(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.fd, name, flags, Mode::empty())?.into())
    }

    /// The content of the file `name`, or the first `limit` bytes of it.
    pub(super) fn read(&self, name: &str, limit: u64) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        self.file(name)?.take(limit).read_to_end(&mut content)?;
        Ok(content)
    }

    /// Where the link `name` leads.
    pub(super) fn link(&self, name: &str) -> io::Result<PathBuf> {
        let target = rustix::fs::readlinkat(&self.fd, name, Vec::new())?;
        Ok(OsString::from_vec(target.into_bytes()).into())
    }

    /// The entries of the directory `name` that are numbers: descriptors,
    /// threads.
    pub(super) fn numbers(&self, name: &str) -> io::Result<Vec<u32>> {
        numbers(&self.file(name)?)
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The ids of all processes that `proc` shows.
pub(super) fn processes(proc: &Path) -> io::Result<Vec<u32>> {
    numbers(&File::open(proc)?)
}

fn numbers(directory: &File) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_str().map(str::parse::<u32>);
        numbers.extend(name.into_iter().flatten());
    }
    Ok(numbers)
}
