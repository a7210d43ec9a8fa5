//! Writing a file in the place of another: whoever looks, at any moment, sees the
//! old one or the new one, whole.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::Path;

use tempfile::Builder;

/// Writes `bytes` to `path`, unless they are there. A file that is there gives the
/// new one its mode and, where that is permitted, its owner; a link is followed. A
/// new file has `mode`, less what the file mode creation mask takes away.
///
/// Its content is on the disk before it gets its name, so that a machine that loses
/// its power keeps the old file or the new one, too. Which of them, it does not
/// promise: its directory is not waited for.
///
/// # Errors
/// The directory cannot be written, or the disk is full; the old file is still
/// there.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    write(path, bytes, mode, true)
}

/// The same for what need not outlive the machine's power: nothing waits for the
/// disk.
///
/// # Errors
/// As for [`replace`].
pub fn replace_unsynced(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    write(path, bytes, mode, false)
}

fn write(path: &Path, bytes: &[u8], mode: u32, is_synced: bool) -> io::Result<()> {
    let (path, old) = match fs::canonicalize(path) {
        Ok(path) => {
            let old = fs::metadata(&path)?;
            if old.len() == bytes.len() as u64 && fs::read(&path)? == bytes {
                return Ok(());
            }
            (path, Some(old))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => (path.to_owned(), None),
        Err(error) => return Err(error),
    };
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut file = Builder::new()
        .prefix(".reuseport-")
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(directory)?;
    if let Some(old) = old {
        let own = file.as_file().metadata()?;
        if (own.uid(), own.gid()) != (old.uid(), old.gid()) {
            // Who may not give it away keeps it.
            let _ = fchown(file.as_file(), Some(old.uid()), Some(old.gid()));
        }
        let mode = Permissions::from_mode(old.mode() & 0o7777);
        file.as_file().set_permissions(mode)?;
    }
    file.write_all(bytes)?;
    if is_synced {
        file.as_file().sync_all()?;
    }
    file.persist(&path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mode_and_links_stay() {
        let directory = tempfile::tempdir().expect("a directory");
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        replace(&file, b"one", 0o600).expect("a new file");
        fs::set_permissions(&file, Permissions::from_mode(0o640)).expect("a mode");
        std::os::unix::fs::symlink(&file, &link).expect("a link");
        replace(&link, b"two", 0o644).expect("the old file");
        assert_eq!(fs::read(&file).expect("the file"), b"two");
        assert_eq!(fs::metadata(&file).expect("it").mode() & 0o7777, 0o640);
        assert!(fs::symlink_metadata(&link).expect("it").is_symlink());
        assert_eq!(fs::read_dir(directory.path()).expect("it").count(), 2);
    }
}
