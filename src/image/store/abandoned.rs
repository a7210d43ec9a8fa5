//! Files that are not whole yet, and what a killed process has left of them.
//!
//! Whoever writes one holds a lock on it, which the kernel takes back from the dead:
//! a file without one is nobody's, and the next who writes there removes it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use tempfile::{Builder, NamedTempFile, TempDir};

/// What their names begin with. Nothing else may be called so: it would be removed.
const PREFIX: &str = ".reuseport-image-";

/// A new file in `directory`, which will be readable by those whom the umask lets.
pub(in crate::image) fn file(directory: &Path) -> io::Result<NamedTempFile> {
    loop {
        let file = Builder::new()
            .prefix(PREFIX)
            .permissions(fs::Permissions::from_mode(0o666))
            .tempfile_in(directory)?;
        if hold(file.as_file(), file.path())? {
            return Ok(file);
        }
    }
}

/// A new directory for temporary files, and what keeps others from removing it.
pub(in crate::image) fn room() -> io::Result<(TempDir, File)> {
    let parent = std::env::temp_dir();
    sweep(&parent);
    loop {
        let directory = Builder::new().prefix(PREFIX).tempdir_in(&parent)?;
        let opened = File::open(directory.path())?;
        if hold(&opened, directory.path())? {
            return Ok((directory, opened));
        }
    }
}

/// Takes the lock. `false` where someone who swept just then took the file for
/// abandoned: it is gone.
fn hold(file: &File, path: &Path) -> io::Result<bool> {
    if file.lock().is_err() {
        // A file system that has no locks: nothing is swept there either.
        return Ok(true);
    }
    let own = file.metadata()?.ino();
    Ok(fs::symlink_metadata(path).is_ok_and(|there| there.ino() == own))
}

/// Removes what nobody holds in `directory`. What cannot be removed stays.
pub(in crate::image) fn sweep(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(PREFIX.as_bytes())
        {
            let _ = remove(&entry.path());
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    let is_directory = fs::symlink_metadata(path)?.is_dir();
    // In a directory that others write to it may be a link or a FIFO by now.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    match file.try_lock() {
        Ok(()) if is_directory => fs::remove_dir_all(path),
        Ok(()) => fs::remove_file(path),
        Err(TryLockError::WouldBlock) => Ok(()),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_holds_is_removed() {
        let directory = tempfile::tempdir().expect("a directory");
        let held = file(directory.path()).expect("a file");
        let at = |name: &str| directory.path().join(name);
        let dead = at(&format!("{PREFIX}dead"));
        fs::write(&dead, "x").expect("written");
        let room = at(&format!("{PREFIX}room"));
        fs::create_dir(&room).expect("made");
        fs::write(room.join("image.tar"), "x").expect("written");
        let link = at(&format!("{PREFIX}link"));
        std::os::unix::fs::symlink("/etc/passwd", &link).expect("a link");
        let other = at(".reuseport-other");
        fs::write(&other, "x").expect("written");
        sweep(directory.path());
        assert!(!dead.exists() && !room.exists());
        assert!(held.path().exists() && other.exists());
        assert!(fs::symlink_metadata(&link).is_ok());
        let path = held.into_temp_path().keep().expect("kept");
        sweep(directory.path());
        assert!(!path.exists());
    }
}
