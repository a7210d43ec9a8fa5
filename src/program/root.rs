//! A root, inside which every path is resolved: `/`, a directory that stands for
//! it, or the files of an image that lie in no directory yet. Nothing below leads
//! out of it: absolute links start at the root, `..` ends there.

use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, StatVfsMountFlags, openat, openat2};
use rustix::io::Errno;

use super::files::{FileCapabilities, Files, Head, Status};
use super::walk::{MOST_LINKS, names};
use crate::mount;

/// A file system that programs are looked for in.
#[derive(Debug)]
pub struct Root(Place);

#[derive(Debug)]
enum Place {
    /// The machine's own root, where the kernel resolves as ever.
    Host,
    Directory {
        path: PathBuf,
        directory: OwnedFd,
    },
    Files(Box<dyn Files>),
}

/// How often a resolution that a rename disturbed is tried again.
const TRIES: usize = 16;

impl Root {
    /// The machine's own.
    pub fn host() -> Self {
        Self(Place::Host)
    }

    /// What `files` hold.
    pub fn of(files: impl Files + 'static) -> Self {
        Self(Place::Files(Box::new(files)))
    }

    /// The directory at `path`.
    ///
    /// # Errors
    /// It cannot be opened, or is no directory.
    pub fn new(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(rustix::fs::CWD, path, flags, Mode::empty())?;
        let path = fs::canonicalize(path)?;
        Ok(Self(if path == Path::new("/") {
            Place::Host
        } else {
            Place::Directory { path, directory }
        }))
    }

    /// Whether this is the machine's own root.
    pub fn is_host(&self) -> bool {
        matches!(self.0, Place::Host)
    }

    /// Opens what `path` names, with `flags`. No controlling terminal, and no
    /// waiting for the other end of a FIFO.
    fn open_with(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        // The kernel takes no more with O_PATH, which opens nothing anyway.
        let flags = if flags.contains(OFlags::PATH) {
            flags | OFlags::CLOEXEC
        } else {
            flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY
        };
        let directory = match &self.0 {
            Place::Host => return Ok(openat(rustix::fs::CWD, path, flags, Mode::empty())?),
            Place::Directory { directory, .. } => directory,
            Place::Files(_) => return Err(io::ErrorKind::Unsupported.into()),
        };
        for _ in 0..TRIES {
            let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
            match openat2(directory, path, flags, Mode::empty(), how) {
                Ok(file) => return Ok(file),
                Err(Errno::AGAIN) => {}
                // Linux before 5.6, or a filter that knows no openat2.
                Err(Errno::NOSYS | Errno::PERM) => {
                    return open_by_steps(directory.as_fd(), path, flags);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Errno::AGAIN.into())
    }

    /// What `path` names, links followed.
    ///
    /// # Errors
    /// It cannot be reached.
    pub fn status(&self, path: &Path) -> io::Result<Status> {
        match &self.0 {
            Place::Host => Ok(Status::of(&path.metadata()?)),
            Place::Directory { .. } => {
                let file = File::from(self.open_with(path, OFlags::PATH)?);
                Ok(Status::of(&file.metadata()?))
            }
            Place::Files(files) => files.status(path, true),
        }
    }

    /// Opens the regular file that `path` names, for reading. Anything else, a
    /// FIFO or a device, is refused without being opened.
    ///
    /// # Errors
    /// It cannot be read, or is no regular file.
    pub fn open(&self, path: &Path) -> io::Result<File> {
        if let Place::Files(files) = &self.0 {
            return files.open(path, true);
        }
        let is_file = |metadata: &Metadata| {
            if metadata.is_file() {
                return Ok(());
            }
            Err(io::Error::from(if metadata.is_dir() {
                io::ErrorKind::IsADirectory
            } else {
                io::ErrorKind::InvalidInput
            }))
        };
        let found = match &self.0 {
            Place::Host => path.metadata()?,
            _ => File::from(self.open_with(path, OFlags::PATH)?).metadata()?,
        };
        is_file(&found)?;
        let file = File::from(self.open_with(path, OFlags::RDONLY)?);
        // It may have been replaced in between.
        is_file(&file.metadata()?)?;
        Ok(file)
    }

    /// Where `path` leads, links resolved, as a path in this root.
    ///
    /// # Errors
    /// It cannot be reached, or /proc is not there to tell.
    pub fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        let root = match &self.0 {
            Place::Host => return path.canonicalize(),
            Place::Directory { path, .. } => path,
            Place::Files(files) => return files.canonical(path),
        };
        let file = self.open_with(path, OFlags::PATH)?;
        let real = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        let inside = real.strip_prefix(root).unwrap_or(&real);
        Ok(Path::new("/").join(inside))
    }

    /// The first bytes of the regular file that `path` names, and what it says of
    /// itself where it is ELF.
    ///
    /// # Errors
    /// It cannot be read, or is no regular file.
    pub fn head(&self, path: &Path) -> io::Result<Head> {
        match &self.0 {
            Place::Files(files) => files.head(path, true),
            _ => Head::of(&self.open(path)?),
        }
    }

    /// The same, but only as far as the files are known: see [`Root::deepen`].
    pub(super) fn known_head(&self, path: &Path) -> io::Result<Head> {
        match &self.0 {
            Place::Files(files) => files.head(path, false),
            _ => self.head(path),
        }
    }

    /// As [`Root::open`], but only as far as the files are known.
    pub(super) fn open_known(&self, path: &Path) -> io::Result<File> {
        match &self.0 {
            Place::Files(files) => files.open(path, false),
            _ => self.open(path),
        }
    }

    /// Learns of more files, where they come in parts: the next layer of an
    /// image. `false` where all are known.
    pub(super) fn deepen(&self) -> bool {
        match &self.0 {
            Place::Files(files) => files.deepen(),
            _ => false,
        }
    }

    /// Whether the file at `path` has file capabilities, see capabilities(7).
    ///
    /// # Errors
    /// It cannot be reached.
    pub fn has_capabilities(&self, path: &Path) -> io::Result<bool> {
        if let Place::Files(files) = &self.0 {
            return files.has_capabilities(path);
        }
        Ok(self.capabilities(path)?.is_some())
    }

    /// The capabilities of the file at `path`, which lies in a directory.
    ///
    /// # Errors
    /// It cannot be reached.
    pub fn capabilities(&self, path: &Path) -> io::Result<Option<FileCapabilities>> {
        let mut value = [0_u8; 64];
        let file = self.pinned(path)?;
        let read = rustix::fs::getxattr(&file.path, "security.capability", &mut value);
        let value = read.ok().and_then(|length| value.get(..length));
        Ok(value.and_then(FileCapabilities::parse))
    }

    /// Whether set-id bits and capabilities have no effect where `path` lies.
    ///
    /// # Errors
    /// It cannot be reached.
    pub fn is_nosuid(&self, path: &Path) -> io::Result<bool> {
        if let Place::Files(files) = &self.0 {
            return files.is_nosuid(path);
        }
        mount::is(&self.pinned(path)?.path, StatVfsMountFlags::NOSUID)
    }

    /// `path` on the machine, for what takes no descriptor (extended attributes,
    /// the mount that it lies on); kept open by the result.
    ///
    /// # Errors
    /// It cannot be reached.
    pub fn pinned(&self, path: &Path) -> io::Result<Pinned> {
        let file = self.open_with(path, OFlags::PATH)?;
        let path = format!("/proc/self/fd/{}", file.as_raw_fd()).into();
        Ok(Pinned { path, _file: file })
    }
}

/// A file that stays the same one while its path is used.
#[derive(Debug)]
pub struct Pinned {
    pub path: PathBuf,
    _file: OwnedFd,
}

/// Resolves `path` one component at a time, each opened without following it.
fn open_by_steps(root: impl AsFd, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let step = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let again = |directory: &OwnedFd| directory.try_clone();
    let root = openat(root, ".", step | OFlags::DIRECTORY, Mode::empty())?;
    // The directories passed, so that `..` need not ask the file system.
    let mut passed: Vec<OwnedFd> = Vec::new();
    let mut rest = names(path);
    let mut links = 0;
    while let Some(name) = rest.pop() {
        let here = passed.last().unwrap_or(&root);
        if name == ".." {
            passed.pop();
            continue;
        }
        let opened = openat(here, &name, step, Mode::empty())?;
        let metadata = File::from(again(&opened)?).metadata()?;
        if metadata.is_symlink() {
            links += 1;
            if links > MOST_LINKS {
                return Err(Errno::LOOP.into());
            }
            let target = rustix::fs::readlinkat(&opened, "", Vec::new())?;
            let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
            if target.is_absolute() {
                passed.clear();
            }
            rest.extend(names(&target));
        } else if rest.is_empty() && !flags.contains(OFlags::PATH) {
            return Ok(openat(
                here,
                &name,
                flags | OFlags::NOFOLLOW,
                Mode::empty(),
            )?);
        } else {
            passed.push(opened);
        }
    }
    match passed.pop() {
        Some(last) => Ok(last),
        None => Ok(root),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use super::*;

    /// Both ways to resolve, on the same tree.
    fn read(root: &Path, path: &str) -> [Option<String>; 2] {
        let text = |file: io::Result<File>| {
            let mut text = String::new();
            file.ok()?.read_to_string(&mut text).ok()?;
            Some(text)
        };
        let by_kernel = Root::new(root).and_then(|root| root.open(Path::new(path)));
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(rustix::fs::CWD, root, flags, Mode::empty()).expect("a directory");
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let by_steps = open_by_steps(directory, Path::new(path), flags).map(File::from);
        [text(by_kernel), text(by_steps)]
    }

    #[test]
    fn both_ways_to_resolve_a_path_stay_inside_and_agree() {
        let outer = tempfile::tempdir().expect("a directory");
        let root = outer.path().join("root");
        fs::create_dir_all(root.join("a/b")).expect("made");
        fs::write(outer.path().join("secret"), "secret").expect("written");
        fs::write(root.join("file"), "inside").expect("written");
        fs::write(root.join("a/b/file"), "deep").expect("written");
        for (link, target) in [
            ("absolute", "/file"),
            ("up", "../../../file"),
            ("out", "../secret"),
            ("loop", "loop"),
            ("folder", "/a/../a/b/./"),
            ("chain", "folder/back"),
            ("a/b/back", "../../absolute"),
            ("dangling", "nothing"),
        ] {
            symlink(target, root.join(link)).expect("a link");
        }
        for (path, expected) in [
            ("file", Some("inside")),
            ("/file", Some("inside")),
            ("/../../file", Some("inside")),
            ("absolute", Some("inside")),
            ("up", Some("inside")),
            ("folder/file", Some("deep")),
            ("/folder/../b/file", Some("deep")),
            ("chain", Some("inside")),
            ("a/b/../../file", Some("inside")),
            ("out", None),
            ("../secret", None),
            ("loop", None),
            ("loop/file", None),
            ("dangling", None),
            ("file/more", None),
        ] {
            let expected = expected.map(str::to_owned);
            assert_eq!(read(&root, path), [expected.clone(), expected], "{path}");
        }
    }

    #[test]
    fn canonical_paths_are_paths_in_the_root() {
        let root = tempfile::tempdir().expect("a directory");
        fs::create_dir(root.path().join("a")).expect("made");
        fs::write(root.path().join("a/file"), "").expect("written");
        symlink("/a/file", root.path().join("link")).expect("a link");
        let inside = Root::new(root.path()).expect("a root");
        assert_eq!(
            inside.canonical(Path::new("link")).expect("there"),
            Path::new("/a/file")
        );
        assert!(Root::new(Path::new("/.")).expect("the host").is_host());
    }
}
