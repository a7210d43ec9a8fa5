//! Finding the file that a command names.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why a command names no program that can be run.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NotFound {
    #[error("{}: no such file", .0.display())]
    Missing(PathBuf),
    #[error("{}: not found in PATH", .0.display())]
    NotInPath(OsString),
    #[error("{}: is a directory", .0.display())]
    Directory(PathBuf),
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

/// The file that `command` names, as execvp(3) finds it: a path where it holds
/// a slash, else looked up in the directories of `path`, the value of PATH.
///
/// # Errors
/// There is none, or none that this process may execute.
pub fn find(command: &OsStr, path: Option<&OsStr>, directory: &Path) -> Result<PathBuf, NotFound> {
    if command.as_bytes().contains(&b'/') {
        return examine(Path::new(command));
    }
    let path = path.unwrap_or(OsStr::new(DEFAULT_PATH));
    if let Ok(found) = which::which_in(command, Some(path), directory) {
        return Ok(found);
    }
    // Nothing can be executed; say so if there is at least a file.
    let candidates = std::env::split_paths(path).map(|directory| directory.join(command));
    let denied = candidates
        .filter(|_| !command.is_empty())
        .filter_map(|candidate| examine(&candidate).err())
        .find(|error| matches!(error, NotFound::NotExecutable(_) | NotFound::Denied(_)));
    Err(denied.unwrap_or_else(|| NotFound::NotInPath(command.to_owned())))
}

/// The file at `path`, if this process may execute it.
fn examine(path: &Path) -> Result<PathBuf, NotFound> {
    let metadata = path.metadata().map_err(|error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => NotFound::Denied(path.to_owned()),
        _ => NotFound::Missing(path.to_owned()),
    })?;
    if metadata.is_dir() {
        return Err(NotFound::Directory(path.to_owned()));
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        return Err(NotFound::NotExecutable(path.to_owned()));
    }
    match rustix::fs::access(path, rustix::fs::Access::EXEC_OK) {
        Ok(()) => Ok(path.to_owned()),
        Err(_) => Err(NotFound::Denied(path.to_owned())),
    }
}
