//! `--digest-file FILE`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use super::image::Refusal;
use crate::image::Digest;

/// Where the digest will be written to. It is opened before anything is changed,
/// and where nothing comes of that, no new file is left.
pub(super) struct DigestFile<'a>(Option<Opened<'a>>);

struct Opened<'a> {
    path: &'a Path,
    file: File,
    is_abandoned: bool,
}

impl<'a> DigestFile<'a> {
    pub(super) fn open(path: Option<&'a Path>) -> Result<Self, Refusal> {
        let Some(path) = path else {
            return Ok(Self(None));
        };
        let is_abandoned = fs::symlink_metadata(path).is_err();
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).open(path);
        let file = file.map_err(|error| fault(path, &error))?;
        Ok(Self(Some(Opened {
            path,
            file,
            is_abandoned,
        })))
    }

    pub(super) fn write(self, digest: &Digest) -> Result<(), Refusal> {
        let Some(mut opened) = self.0 else {
            return Ok(());
        };
        opened.is_abandoned = false;
        // A pipe has no length.
        let _ = opened.file.set_len(0);
        let written = opened.file.write_all(digest.to_string().as_bytes());
        written.map_err(|error| fault(opened.path, &error))
    }
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        if self.is_abandoned {
            let _ = fs::remove_file(self.path);
        }
    }
}

fn fault(path: &Path, error: &io::Error) -> Refusal {
    Refusal::fault(format_args!("{}: {error}", path.display()))
}
