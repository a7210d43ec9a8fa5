//! The files of an image as the check asks for them, through a container that never
//! runs: none but those that it looks at leave the engine.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use super::container::{Container, Stat};
use super::error::EngineError;
use crate::image::tar::{Entry, Kind, Reader, Stream};
use crate::program::{Files, Head, Status};

/// The most links that a path may lead through, as in the kernel.
const MOST_LINKS: usize = 40;

/// The largest file that is looked into.
const LARGEST: u64 = 1 << 30;

/// How much of a directory of libraries is read at once, in bytes. Docker starts a
/// process for each call: 40 ms, as much as some 20 MB of a stream take, and a server
/// has twenty libraries.
const MUCH: u64 = 64 << 20;

/// Files that the engine has given, one behind the other in a temporary file.
#[derive(Debug, Default)]
struct Kept {
    file: Option<File>,
    /// What each is, and where its content starts.
    entries: HashMap<PathBuf, (Entry, u64)>,
    /// The directories whose libraries were read.
    directories: HashSet<PathBuf>,
}

impl Kept {
    fn add(&mut self, path: PathBuf, entry: Entry, content: impl Read) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(tempfile::tempfile()?),
        };
        let start = file.seek(SeekFrom::End(0))?;
        let copied = io::copy(&mut content.take(entry.size), file)?;
        if copied < entry.size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.entries.insert(path, (entry, start));
        Ok(())
    }

    fn copy(&mut self, path: &Path) -> io::Result<File> {
        let (Some(file), Some((entry, start))) = (&mut self.file, self.entries.get(path)) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        file.seek(SeekFrom::Start(*start))?;
        let mut copy = tempfile::tempfile()?;
        io::copy(&mut file.take(entry.size), &mut copy)?;
        copy.rewind()?;
        Ok(copy)
    }
}

/// The files of the image that a container was made from.
#[derive(Debug)]
pub struct EngineFiles {
    container: Rc<Container>,
    /// What the engine has said: a check asks for the same again and again.
    known: RefCell<HashMap<PathBuf, Option<Stat>>>,
    kept: RefCell<Kept>,
    /// The first error of the engine; a check of what it does not show ends with it.
    error: RefCell<Option<EngineError>>,
}

impl EngineFiles {
    /// The files that `container` shows. It stays until all who have it let it go.
    pub fn new(container: Rc<Container>) -> Self {
        Self {
            container,
            known: RefCell::default(),
            kept: RefCell::default(),
            error: RefCell::default(),
        }
    }

    /// Why the engine did not show something, where that happened.
    pub fn take_error(&self) -> Option<EngineError> {
        self.error.borrow_mut().take()
    }

    fn failed(&self, error: EngineError) -> io::Error {
        let text = error.to_string();
        self.error.borrow_mut().get_or_insert(error);
        io::Error::other(text)
    }

    /// A file that could not be copied says nothing of the image.
    fn uncopied(&self, error: io::Error) -> io::Error {
        let path = std::env::temp_dir();
        self.failed(EngineError::Copy { path, error })
    }

    /// What lies at `path`, whose parents hold no links.
    fn stat(&self, path: &Path) -> io::Result<Option<Stat>> {
        if let Some(known) = self.known.borrow().get(path) {
            return Ok(known.clone());
        }
        if let Some((entry, _)) = self.kept.borrow().entries.get(path) {
            return Ok(Some(Stat {
                size: entry.size,
                mode: libc::S_IFREG | entry.mode,
                link: None,
            }));
        }
        let stat = self.container.stat(text(path)?);
        let stat = stat.map_err(|error| self.failed(error))?;
        let mut known = self.known.borrow_mut();
        known.insert(path.to_owned(), stat.clone());
        Ok(stat)
    }

    /// Where `path` leads, and what lies there. Nothing leads out of the image.
    fn resolve(&self, path: &Path) -> io::Result<(PathBuf, Stat)> {
        let mut rest: Vec<PathBuf> = parts(path);
        let mut here = PathBuf::from("/");
        let mut stat = self.stat(&here)?.ok_or(io::ErrorKind::NotFound)?;
        let mut links = 0;
        while let Some(part) = rest.pop() {
            if stat.mode & libc::S_IFMT != libc::S_IFDIR {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            if part == Path::new("..") {
                here.pop();
                stat = self.stat(&here)?.ok_or(io::ErrorKind::NotFound)?;
                continue;
            }
            let next = here.join(&part);
            let found = self.stat(&next)?.ok_or(io::ErrorKind::NotFound)?;
            let Some(target) = found.link else {
                (here, stat) = (next, found);
                continue;
            };
            links += 1;
            if links > MOST_LINKS {
                return Err(rustix::io::Errno::LOOP.into());
            }
            rest.extend(parts(&target));
            // An engine gives targets from the root of the image.
            here = PathBuf::from("/");
            stat = self.stat(&here)?.ok_or(io::ErrorKind::NotFound)?;
        }
        Ok((here, stat))
    }

    /// What the regular file at `path` is, which leads nowhere else. It is kept then.
    fn entry(&self, path: &Path) -> io::Result<Entry> {
        let mut kept = self.kept.borrow_mut();
        if let Some((entry, _)) = kept.entries.get(path) {
            return Ok(entry.clone());
        }
        let directory = path.parent().unwrap_or(path);
        let name = path.file_name().unwrap_or_default();
        if is_library(name.as_bytes()) && kept.directories.insert(directory.to_owned()) {
            self.keep_libraries(directory, &mut kept)?;
            if let Some((entry, _)) = kept.entries.get(path) {
                return Ok(entry.clone());
            }
        }
        let mut reader = self.archive(path)?;
        let entry = reader.next()?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if entry.kind != Kind::File {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if entry.size > LARGEST {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let kept = kept.add(path.to_owned(), entry.clone(), reader);
        kept.map_err(|error| self.uncopied(error))?;
        Ok(entry)
    }

    /// Keeps the libraries in `directory`, as far as they come early in it.
    fn keep_libraries(&self, directory: &Path, kept: &mut Kept) -> io::Result<()> {
        let mut reader = self.archive(directory)?;
        while let Some(entry) = reader.next()? {
            if entry.end() > MUCH {
                break;
            }
            // The archive starts with the directory's own name.
            let mut parts = entry.path.splitn(2, |byte| *byte == b'/').skip(1);
            let name = parts.next().unwrap_or_default();
            if entry.kind == Kind::File && is_library(name) {
                let path = directory.join(OsStr::from_bytes(name));
                let kept = kept.add(path, entry, &mut reader);
                kept.map_err(|error| self.uncopied(error))?;
            }
        }
        Ok(())
    }

    fn archive(&self, path: &Path) -> io::Result<Reader<Stream<impl Read + use<>>>> {
        let archive = self.container.read(text(path)?);
        let archive = archive.map_err(|error| self.failed(error))?;
        let archive = archive.ok_or(io::ErrorKind::NotFound)?;
        Ok(Reader::new(Stream(archive)))
    }
}

impl Files for EngineFiles {
    fn status(&self, path: &Path, _: bool) -> io::Result<Status> {
        let (path, stat) = self.resolve(path)?;
        let is_file = stat.mode & libc::S_IFMT == libc::S_IFREG;
        // The owner of a file, and the set-id bits' meaning, are in its archive
        // alone. Where everyone may do the same with it, it is not asked for.
        let (user, group) = if is_file && stat.mode & 0o7555 != 0o555 {
            let entry = self.entry(&path)?;
            let number = |id: u64| u32::try_from(id).unwrap_or(u32::MAX);
            (number(entry.user), number(entry.group))
        } else {
            (0, 0)
        };
        Ok(Status {
            is_directory: stat.mode & libc::S_IFMT == libc::S_IFDIR,
            is_file,
            mode: stat.mode & 0o7777,
            user,
            group,
        })
    }

    fn open(&self, path: &Path, _: bool) -> io::Result<File> {
        let (path, stat) = self.resolve(path)?;
        match stat.mode & libc::S_IFMT {
            libc::S_IFREG if stat.size <= LARGEST => {}
            libc::S_IFREG => return Err(io::ErrorKind::FileTooLarge.into()),
            libc::S_IFDIR => return Err(io::ErrorKind::IsADirectory.into()),
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        }
        self.entry(&path)?;
        let copy = self.kept.borrow_mut().copy(&path);
        copy.map_err(|error| self.uncopied(error))
    }

    fn head(&self, path: &Path, deeper: bool) -> io::Result<Head> {
        Head::of(&self.open(path, deeper)?)
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        self.resolve(path).map(|(path, _)| path)
    }

    fn has_capabilities(&self, path: &Path) -> io::Result<bool> {
        let (path, stat) = self.resolve(path)?;
        if stat.mode & libc::S_IFMT != libc::S_IFREG {
            return Ok(false);
        }
        Ok(self.entry(&path)?.has_capabilities)
    }

    /// All files are known at once.
    fn deepen(&self) -> bool {
        false
    }
}

/// Whether a file of this name, in a directory and not below it, is a library.
fn is_library(name: &[u8]) -> bool {
    name.windows(3).any(|part| part == b".so") && !name.contains(&b'/')
}

/// The parts of a path, the last one first.
fn parts(path: &Path) -> Vec<PathBuf> {
    let named = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.into()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    let mut parts: Vec<PathBuf> = named.collect();
    parts.reverse();
    parts
}

/// A path in a call: engines take text.
fn text(path: &Path) -> io::Result<&str> {
    path.to_str().ok_or_else(|| {
        let problem = "engines take no path that is not UTF-8";
        io::Error::new(io::ErrorKind::InvalidInput, problem)
    })
}
