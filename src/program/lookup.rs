//! Finding the file that a command names.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::root::Root;

/// Why a command names no program that can be run.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NotFound {
    #[error("{}: no such file", .0.display())]
    Missing(PathBuf),
    #[error("{}: not found in PATH", .0.display())]
    NotInPath(OsString),
    #[error("{}: is a directory", .0.display())]
    Directory(PathBuf),
    #[error("{}: is no regular file", .0.display())]
    Special(PathBuf),
    #[error("{}: not executable: chmod +x {}", .0.display(), .0.display())]
    NotExecutable(PathBuf),
    #[error("{}: permission denied", .0.display())]
    Denied(PathBuf),
}

impl NotFound {
    /// Whether there is a file, which just cannot be run.
    pub fn exists(&self) -> bool {
        !matches!(self, Self::Missing(_) | Self::NotInPath(_))
    }
}

/// What execvp(3) takes where PATH is not set.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// Where commands are looked up.
#[derive(Clone, Copy, Debug)]
pub struct Lookup<'a> {
    pub root: &'a Root,
    /// The value of PATH.
    pub path: Option<&'a OsStr>,
    /// The working directory, which relative paths start at.
    pub directory: &'a Path,
}

impl Lookup<'_> {
    /// The file that `command` names, as execvp(3) finds it: a path where it
    /// holds a slash, else looked up in the directories of PATH.
    ///
    /// # Errors
    /// There is none, or none that may be executed.
    pub fn find(&self, command: &OsStr) -> Result<PathBuf, NotFound> {
        if command.as_bytes().contains(&b'/') {
            return self.examine(self.absolute(command));
        }
        let path = self.path.unwrap_or(OsStr::new(DEFAULT_PATH));
        if self.root.is_host()
            && let Ok(found) = which::which_in(command, Some(path), self.directory)
        {
            return Ok(found);
        }
        // Nothing, or not for us: say so if there is at least a file.
        let mut denied = None;
        for directory in std::env::split_paths(path).filter(|_| !command.is_empty()) {
            match self.examine(self.absolute(&directory).join(command)) {
                Ok(found) => return Ok(found),
                Err(error @ (NotFound::NotExecutable(_) | NotFound::Denied(_))) => {
                    denied.get_or_insert(error);
                }
                Err(_) => {}
            }
        }
        Err(denied.unwrap_or_else(|| NotFound::NotInPath(command.to_owned())))
    }

    /// `path` from the root on. On the machine itself it stays as it was given,
    /// which is how people recognise it.
    fn absolute(&self, path: impl AsRef<Path>) -> PathBuf {
        if self.root.is_host() {
            return path.as_ref().to_owned();
        }
        Path::new("/").join(self.directory).join(path)
    }

    /// The file at `path`, if it may be executed.
    fn examine(&self, path: PathBuf) -> Result<PathBuf, NotFound> {
        let status = match self.root.status(&path) {
            Ok(status) => status,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(NotFound::Denied(path));
            }
            Err(_) => return Err(NotFound::Missing(path)),
        };
        if status.is_directory {
            return Err(NotFound::Directory(path));
        }
        if !status.is_file {
            return Err(NotFound::Special(path));
        }
        if status.mode & 0o111 == 0 {
            return Err(NotFound::NotExecutable(path));
        }
        // In another root, who will run it is somebody else.
        if self.root.is_host() && rustix::fs::access(&path, rustix::fs::Access::EXEC_OK).is_err() {
            return Err(NotFound::Denied(path));
        }
        Ok(path)
    }
}
