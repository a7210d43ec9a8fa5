//! How the file system that a file lies on is mounted.

use std::io;
use std::path::Path;

use rustix::fs::{StatVfsMountFlags, statvfs};

/// Whether the mount that holds `path` has one of `flags`, see statvfs(3).
///
/// # Errors
/// `path` cannot be looked up.
pub fn is(path: &Path, flags: StatVfsMountFlags) -> io::Result<bool> {
    Ok(statvfs(path)?.f_flag.intersects(flags))
}
