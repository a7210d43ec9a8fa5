//! The file that holds the runner's process id. It is locked as long as the runner
//! lives, see flock(2): one that nobody has locked is stale.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::Error;

/// Longer than any process id.
const LONGEST: u64 = 64;

/// The file, which goes with this value.
#[derive(Debug)]
pub(super) struct PidFile {
    path: PathBuf,
    file: File,
}

impl PidFile {
    /// Writes the id of this process to `path`, in place of a stale one.
    ///
    /// # Errors
    /// Another runner has it, it is a file of another kind, or it cannot be written.
    pub(super) fn write(path: &Path) -> Result<Self, Error> {
        let failed = |error| Error::io(&format!("--pid-file {}", path.display()), error);
        let file = open(path).map_err(failed)?;
        // From here on it goes again where the rest fails.
        let own = Self {
            path: path.to_owned(),
            file,
        };
        let text = format!("{}\n", std::process::id());
        // Longer ones give way after that: nobody sees none.
        let written = own.file.write_all_at(text.as_bytes(), 0);
        let written = written.and_then(|()| own.file.set_len(text.len() as u64));
        written.map(|()| own).map_err(failed)
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Somebody may have put another one there.
        if is_at(&self.file, &self.path).unwrap_or(false) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Opens the file, and locks it.
fn open(path: &Path) -> io::Result<File> {
    loop {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        let mut text = String::new();
        let read = (&mut file).take(LONGEST).read_to_string(&mut text);
        let text = text.trim();
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let message = format!("a runner that is there has it: process {text}");
                return Err(io::Error::other(message));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Whoever had it may have removed it meanwhile.
        if !is_at(&file, path)? {
            continue;
        }
        if read.is_err() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            let message = "it holds something else than a process id, and stays";
            return Err(io::Error::other(message));
        }
        return Ok(file);
    }
}

/// Whether `file` is what `path` names.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let own = file.metadata()?;
    match fs::metadata(path) {
        Ok(named) => Ok((own.dev(), own.ino()) == (named.dev(), named.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_locked_or_holds_something_else_stays() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("pid");
        let own = format!("{}\n", std::process::id());
        let read = || fs::read_to_string(&path).expect("the file");
        // A stale one, longer than ours.
        fs::write(&path, "12345678901234567890\n").expect("a file");
        let first = PidFile::write(&path).expect("stale");
        assert_eq!(read(), own);
        let error = PidFile::write(&path).expect_err("it is locked").to_string();
        assert!(error.starts_with("--pid-file /"), "{error}");
        assert!(
            error.ends_with(&format!("process {}", own.trim())),
            "{error}"
        );
        assert_eq!(read(), own);
        // Another one in its place is not ours.
        fs::remove_file(&path).expect("it is there");
        let second = PidFile::write(&path).expect("new");
        drop(first);
        assert_eq!(read(), own);
        drop(second);
        assert!(!path.exists());
        for other in ["listen 80;\n", "1 2\n"] {
            fs::write(&path, other).expect("a file");
            let error = PidFile::write(&path).expect_err("no id").to_string();
            assert!(error.contains("something else"), "{error}");
            assert_eq!(read(), other);
        }
        let error = PidFile::write("/dev/null".as_ref()).expect_err("a device");
        assert!(error.to_string().contains("no regular file"), "{error}");
    }
}
