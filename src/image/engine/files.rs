//! The files of an image as the check asks for them, through a container that never
//! runs: none but those that it looks at leave the engine.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use super::container::{Container, Stat};
use super::error::EngineError;
use crate::image::node::{Budget, Held, LARGEST_PROGRAM, Node, Scratch, What};
use crate::image::tar::{Entry, Kind, Reader, Stream};
use crate::program::{Files, Head, Status};

/// The most links that a path may lead through, as in the kernel.
const MOST_LINKS: usize = 40;

/// How much of a directory of libraries is read at once, in bytes. Docker starts a
/// process for each call: 40 ms, as much as some 20 MB of a stream take, and a server
/// has twenty libraries.
const MUCH: u64 = 64 << 20;

/// What the engine has said: a check asks for the same again and again.
#[derive(Debug, Default)]
struct Known {
    stats: HashMap<PathBuf, Option<Stat>>,
    /// What archives say of files, and what is kept of them.
    nodes: HashMap<PathBuf, Node>,
    /// The directories whose libraries were read, and whether those were all.
    directories: HashMap<PathBuf, bool>,
    budget: Budget,
    scratch: Scratch,
}

impl Known {
    fn keep(
        &mut self,
        path: PathBuf,
        entry: &Entry,
        is_named: bool,
        content: &mut dyn Read,
    ) -> io::Result<Node> {
        let held = self
            .budget
            .keep(entry, is_named, content, &mut self.scratch)?;
        let stat = Stat {
            size: entry.size,
            mode: libc::S_IFREG | entry.mode,
            link: None,
        };
        let node = Node::new(entry, What::File, held);
        self.stats.insert(path.clone(), Some(stat));
        self.nodes.insert(path, node.clone());
        Ok(node)
    }

    /// Whether `path` is no library of a directory of which all are known.
    fn is_missing(&self, path: &Path) -> bool {
        let directory = path
            .parent()
            .and_then(|parent| self.directories.get(parent));
        let name = path.file_name().unwrap_or_default();
        directory == Some(&true) && is_library(name.as_bytes())
    }
}

/// The files of the image that a container was made from.
#[derive(Debug)]
pub struct EngineFiles {
    container: Container,
    known: RefCell<Known>,
    /// The first error of the engine; a check of what it does not show ends with it.
    error: RefCell<Option<EngineError>>,
}

impl EngineFiles {
    /// The files that `container` shows.
    pub fn new(container: Container) -> Self {
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

    /// A file that could not be copied says nothing of the image.
    fn uncopied(&self, error: io::Error) -> io::Error {
        let path = std::env::temp_dir();
        self.failed(EngineError::Copy { path, error })
    }

    /// What lies at `path`, whose parents hold no links.
    fn stat(&self, path: &Path) -> io::Result<Option<Stat>> {
        if let Some(stat) = self.known.borrow().stats.get(path) {
            return Ok(stat.clone());
        }
        if self.known.borrow().is_missing(path) {
            return Ok(None);
        }
        let stat = self.container.stat(text(path)?);
        let stat = stat.map_err(|error| self.failed(error))?;
        let mut known = self.known.borrow_mut();
        known.stats.insert(path.to_owned(), stat.clone());
        Ok(stat)
    }

    /// Where `path` leads, and what lies there. Nothing leads out of the image.
    fn resolve(&self, path: &Path) -> io::Result<(PathBuf, Stat)> {
        let directory = || Stat {
            size: 0,
            mode: libc::S_IFDIR | 0o755,
            link: None,
        };
        let mut rest: Vec<PathBuf> = parts(path);
        let mut here = PathBuf::from("/");
        let mut stat = directory();
        let mut links = 0;
        while let Some(part) = rest.pop() {
            if stat.mode & libc::S_IFMT != libc::S_IFDIR {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            if part == Path::new("..") {
                here.pop();
                stat = directory();
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
            // Targets are given from the root of the image.
            here = PathBuf::from("/");
            stat = directory();
        }
        Ok((here, stat))
    }

    /// What an archive says of the regular file at `path`, which leads nowhere else.
    fn node(&self, path: &Path) -> io::Result<Node> {
        let known = || self.known.borrow().nodes.get(path).cloned();
        if let Some(node) = known() {
            return Ok(node);
        }
        let directory = path.parent().unwrap_or(path);
        let name = path.file_name().unwrap_or_default();
        let is_new = !self.known.borrow().directories.contains_key(directory);
        if is_library(name.as_bytes()) && is_new {
            self.keep_libraries(directory)?;
            if let Some(node) = known() {
                return Ok(node);
            }
        }
        let (entry, mut content) = self.file(path)?;
        let mut known = self.known.borrow_mut();
        let kept = known.keep(path.to_owned(), &entry, true, &mut content);
        kept.map_err(|error| self.uncopied(error))
    }

    /// Keeps what the libraries in `directory` say of themselves, as far as they come
    /// early in it.
    fn keep_libraries(&self, directory: &Path) -> io::Result<()> {
        let mut reader = self.archive(directory)?;
        let mut known = self.known.borrow_mut();
        known.directories.insert(directory.to_owned(), false);
        let mut is_all = true;
        while let Some(entry) = reader.next()? {
            if entry.end() > MUCH {
                return Ok(());
            }
            // The archive starts with the directory's own name.
            let mut parts = entry.path.splitn(2, |byte| *byte == b'/').skip(1);
            let name = parts.next().unwrap_or_default();
            let name = name.strip_suffix(b"/").unwrap_or(name);
            if !is_library(name) {
                continue;
            }
            let path = directory.join(OsStr::from_bytes(name));
            let (kind, link) = match entry.kind {
                Kind::File => {
                    let kept = known.keep(path, &entry, false, &mut reader);
                    kept.map_err(|error| self.uncopied(error))?;
                    continue;
                }
                Kind::SymbolicLink => {
                    let target = directory.join(OsStr::from_bytes(&entry.link));
                    (libc::S_IFLNK, Some(target))
                }
                Kind::Directory => (libc::S_IFDIR, None),
                // The engine tells of it.
                Kind::HardLink | Kind::Other => {
                    is_all = false;
                    continue;
                }
            };
            let mode = kind | entry.mode;
            let size = entry.size;
            known.stats.insert(path, Some(Stat { size, mode, link }));
        }
        known.directories.insert(directory.to_owned(), is_all);
        Ok(())
    }

    /// The regular file at `path`, which leads nowhere else.
    fn file(&self, path: &Path) -> io::Result<(Entry, impl Read + use<>)> {
        let mut reader = self.archive(path)?;
        let entry = reader.next()?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if entry.kind != Kind::File {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if entry.size > LARGEST_PROGRAM {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok((entry, reader))
    }

    /// Where the path of a regular file leads, and what is kept of that.
    fn held(&self, path: &Path) -> io::Result<(PathBuf, Option<Rc<Held>>)> {
        let (path, stat) = self.resolve(path)?;
        match stat.mode & libc::S_IFMT {
            libc::S_IFREG if stat.size <= LARGEST_PROGRAM => {}
            libc::S_IFREG => return Err(io::ErrorKind::FileTooLarge.into()),
            libc::S_IFDIR => return Err(io::ErrorKind::IsADirectory.into()),
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        }
        let held = self.node(&path)?.held;
        Ok((path, held))
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
            let status = self.node(&path)?.status();
            (status.user, status.group)
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
        let (path, held) = self.held(path)?;
        let copy = match held.as_deref().and_then(Held::copy) {
            Some(copy) => copy,
            None => copy_of(&mut self.file(&path)?.1),
        };
        copy.map_err(|error| self.uncopied(error))
    }

    fn head(&self, path: &Path, deeper: bool) -> io::Result<Head> {
        match self.held(path)?.1.as_deref().and_then(Held::head) {
            Some(head) => Ok(head),
            None => Head::of(&self.open(path, deeper)?),
        }
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        self.resolve(path).map(|(path, _)| path)
    }

    fn has_capabilities(&self, path: &Path) -> io::Result<bool> {
        let (path, stat) = self.resolve(path)?;
        if stat.mode & libc::S_IFMT != libc::S_IFREG {
            return Ok(false);
        }
        Ok(self.node(&path)?.has_capabilities)
    }

    /// All files are known at once.
    fn deepen(&self) -> bool {
        false
    }
}

fn copy_of(content: &mut impl Read) -> io::Result<File> {
    let mut copy = tempfile::tempfile()?;
    io::copy(content, &mut copy)?;
    copy.rewind()?;
    Ok(copy)
}

/// Whether a file of this name, in a directory and not below it, is a library.
fn is_library(name: &[u8]) -> bool {
    let is_named_so = name.windows(3).any(|part| part == b".so");
    is_named_so && !name.contains(&b'/') && name != b"ld.so.cache"
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
