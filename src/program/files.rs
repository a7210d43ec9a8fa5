//! What the check asks of a file system: of a directory, or of files that lie in
//! none, such as an image's.

use std::fmt;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::elf::{self, Elf};
use super::read_at_most;

/// What a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    pub is_directory: bool,
    /// Whether it is a regular file.
    pub is_file: bool,
    /// Permissions and set-id bits.
    pub mode: u32,
    pub user: u32,
    pub group: u32,
}

impl Status {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            is_directory: metadata.is_dir(),
            is_file: metadata.is_file(),
            mode: metadata.mode() & 0o7777,
            user: metadata.uid(),
            group: metadata.gid(),
        }
    }
}

/// The extended attribute `security.capability`, see <linux/capability.h>: sets of
/// bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileCapabilities {
    pub permitted: u64,
    pub inheritable: u64,
    /// Whether what is gained is in effect at once.
    pub is_effective: bool,
}

impl FileCapabilities {
    /// Reads the attribute's `value`; what has another form has none.
    pub(super) fn parse(value: &[u8]) -> Option<Self> {
        const EFFECTIVE: u32 = 1;
        let mut words = value.chunks_exact(4).map(|bytes| {
            let bytes = bytes.try_into().unwrap_or_default();
            u32::from_le_bytes(bytes)
        });
        let flags = words.next()?;
        let low = [words.next()?, words.next()?];
        let high = [words.next().unwrap_or(0), words.next().unwrap_or(0)];
        let set = |index: usize| u64::from(high[index]) << 32 | u64::from(low[index]);
        Some(Self {
            permitted: set(0),
            inheritable: set(1),
            is_effective: flags & EFFECTIVE != 0,
        })
    }
}

/// What a file is, by its beginning.
#[derive(Debug)]
pub enum Head {
    Elf(Result<Elf, elf::Error>),
    /// The first 256 bytes of what is no ELF file, or fewer where it is shorter.
    Text(Vec<u8>),
}

impl Head {
    /// What `file` is.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn of(file: &File) -> io::Result<Self> {
        let mut head = [0; 256];
        let length = read_at_most(file, &mut head, 0)?;
        let head = &head[..length];
        Ok(if head.starts_with(b"\x7fELF") {
            Self::Elf(Elf::read(file))
        } else {
            Self::Text(head.to_vec())
        })
    }
}

/// Files that lie in no directory. Paths start at their root, and links are
/// followed inside it.
///
/// They may become known in parts, the ones that hide others first. Where `deeper`
/// is set, as many parts are asked for as it takes to be certain; else a path that
/// is in none of those known is not there.
pub trait Files: fmt::Debug {
    /// What `path` names.
    ///
    /// # Errors
    /// It cannot be reached.
    fn status(&self, path: &Path, deeper: bool) -> io::Result<Status>;

    /// A copy of the regular file that `path` names.
    ///
    /// # Errors
    /// It cannot be read, or is no regular file.
    fn open(&self, path: &Path, deeper: bool) -> io::Result<File>;

    /// What the regular file is that `path` names.
    ///
    /// # Errors
    /// As for [`Files::open`].
    fn head(&self, path: &Path, deeper: bool) -> io::Result<Head>;

    /// Where `path` leads, links resolved.
    ///
    /// # Errors
    /// It cannot be reached.
    fn canonical(&self, path: &Path) -> io::Result<PathBuf>;

    /// Whether the file has the extended attribute `security.capability`.
    ///
    /// # Errors
    /// It cannot be reached.
    fn has_capabilities(&self, path: &Path) -> io::Result<bool>;

    /// Whether set-id bits and capabilities have no effect there.
    ///
    /// # Errors
    /// It cannot be reached.
    fn is_nosuid(&self, _: &Path) -> io::Result<bool> {
        Ok(false)
    }

    /// Asks for the next part; `false` where there is none left.
    fn deepen(&self) -> bool;
}

impl<T: Files + ?Sized> Files for Rc<T> {
    fn status(&self, path: &Path, deeper: bool) -> io::Result<Status> {
        self.as_ref().status(path, deeper)
    }

    fn open(&self, path: &Path, deeper: bool) -> io::Result<File> {
        self.as_ref().open(path, deeper)
    }

    fn head(&self, path: &Path, deeper: bool) -> io::Result<Head> {
        self.as_ref().head(path, deeper)
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        self.as_ref().canonical(path)
    }

    fn has_capabilities(&self, path: &Path) -> io::Result<bool> {
        self.as_ref().has_capabilities(path)
    }

    fn is_nosuid(&self, path: &Path) -> io::Result<bool> {
        self.as_ref().is_nosuid(path)
    }

    fn deepen(&self) -> bool {
        self.as_ref().deepen()
    }
}
