//! The files of an image as the check asks for them, through a container that never
//! runs: none but those that it looks at leave the engine.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
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

/// The files of the image that a container was made from.
#[derive(Debug)]
pub struct EngineFiles {
    container: Rc<Container>,
    /// What the engine has said: a check asks for the same again and again.
    known: RefCell<HashMap<PathBuf, Option<Stat>>>,
    /// The first error of the engine; a check of what it does not show ends with it.
    error: RefCell<Option<EngineError>>,
}

impl EngineFiles {
    /// The files that `container` shows. It stays until all who have it let it go.
    pub fn new(container: Rc<Container>) -> Self {
        Self {
            container,
            known: RefCell::default(),
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

    /// What lies at `path`, whose parents hold no links.
    fn stat(&self, path: &Path) -> io::Result<Option<Stat>> {
        if let Some(known) = self.known.borrow().get(path) {
            return Ok(known.clone());
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

    /// The regular file at `path`, which leads nowhere else, up to its data.
    fn entry(&self, path: &Path) -> io::Result<(Entry, impl Read + use<>)> {
        let archive = self.container.read(text(path)?);
        let archive = archive.map_err(|error| self.failed(error))?;
        let archive = archive.ok_or(io::ErrorKind::NotFound)?;
        let mut reader = Reader::new(Stream(archive));
        let entry = reader.next()?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if entry.kind != Kind::File {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok((entry, reader))
    }
}

impl Files for EngineFiles {
    fn status(&self, path: &Path, _: bool) -> io::Result<Status> {
        let (path, stat) = self.resolve(path)?;
        let is_file = stat.mode & libc::S_IFMT == libc::S_IFREG;
        // The owner of a file, and the set-id bits' meaning, are in its archive
        // alone. Where everyone may do the same with it, it is not asked for.
        let (user, group) = if is_file && stat.mode & 0o7555 != 0o555 {
            let (entry, _) = self.entry(&path)?;
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
        let (entry, reader) = self.entry(&path)?;
        let mut file = tempfile::tempfile()?;
        let copied = io::copy(&mut reader.take(entry.size), &mut file)?;
        if copied < entry.size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.flush()?;
        file.rewind()?;
        Ok(file)
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
        Ok(self.entry(&path)?.0.has_capabilities)
    }

    /// All files are known at once.
    fn deepen(&self) -> bool {
        false
    }
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
