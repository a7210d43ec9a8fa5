//! The files of an image as the check asks for them, through a container that never
//! runs: none but those that it looks at leave the engine.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::container::{Container, Stat};
use super::error::EngineError;
use crate::image::node::{Budget, Held, LARGEST_PROGRAM, Node, Scratch, What};
use crate::image::tar::{Entry, Flaw, Input, Kind, Reader, Stream};
use crate::program::{Files, Head, Status, Step, walk};

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
        if self.put(path.clone(), Some(stat)) && self.budget.path(path.as_os_str().len()) {
            self.nodes.insert(path, node.clone());
        }
        Ok(node)
    }

    /// Keeps what lies at `path`, where there is room.
    fn put(&mut self, path: PathBuf, stat: Option<Stat>) -> bool {
        let link = stat.as_ref().and_then(|stat| stat.link.as_ref());
        let link = link.map_or(0, |link| link.as_os_str().len());
        let fits = self.budget.path(path.as_os_str().len() + link);
        if fits {
            self.stats.insert(path, stat);
        }
        fits
    }

    /// Keeps what the libraries in the archive `reader` of `directory` say of
    /// themselves, as far as they come early in it and there is room. `false` where
    /// that is not all of them.
    fn put_libraries<I: Input>(
        &mut self,
        directory: &Path,
        reader: &mut Reader<I>,
    ) -> io::Result<bool> {
        let mut is_all = true;
        while let Some(entry) = reader.next()? {
            if entry.end() > MUCH {
                return Ok(false);
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
                    self.keep(path.clone(), &entry, false, reader)?;
                    if !self.nodes.contains_key(&path) {
                        return Ok(false);
                    }
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
            if !self.put(path, Some(Stat { size, mode, link })) {
                return Ok(false);
            }
        }
        Ok(is_all)
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

    /// An archive of `path` that broke off, is none, or could not be copied says
    /// nothing of the image.
    fn unread(&self, path: &Path, error: io::Error) -> io::Error {
        let error = match error.downcast::<EngineError>() {
            Ok(error) => return self.failed(error),
            Err(error) => error,
        };
        let flaw: Option<&Flaw> = error.get_ref().and_then(|inner| inner.downcast_ref());
        self.failed(if flaw.is_some() {
            self.container.garbled(path, &error)
        } else {
            let path = std::env::temp_dir();
            EngineError::Copy { path, error }
        })
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
        known.put(path.to_owned(), stat.clone());
        Ok(stat)
    }

    /// Where `path` leads, and what lies there. Nothing leads out of the image.
    fn resolve(&self, path: &Path) -> io::Result<(PathBuf, Stat)> {
        let root = Stat {
            size: 0,
            mode: libc::S_IFDIR | 0o755,
            link: None,
        };
        walk(path, root, |path| {
            let found = self.stat(path)?.ok_or(io::ErrorKind::NotFound)?;
            Ok(match &found.link {
                // Targets are given from the root of the image.
                Some(target) => Step::Link(Path::new("/").join(target)),
                None if found.mode & libc::S_IFMT == libc::S_IFDIR => Step::Directory(found),
                None => Step::Other(found),
            })
        })
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
        kept.map_err(|error| self.unread(path, error))
    }

    /// Keeps what the libraries in `directory` say of themselves, where there is room.
    fn keep_libraries(&self, directory: &Path) -> io::Result<()> {
        if !self.known.borrow().budget.path(directory.as_os_str().len()) {
            return Ok(());
        }
        let mut reader = self.archive(directory)?;
        let mut known = self.known.borrow_mut();
        known.directories.insert(directory.to_owned(), false);
        let is_all = known.put_libraries(directory, &mut reader);
        let is_all = is_all.map_err(|error| self.unread(directory, error))?;
        known.directories.insert(directory.to_owned(), is_all);
        Ok(())
    }

    /// The regular file at `path`, which leads nowhere else.
    fn file(&self, path: &Path) -> io::Result<(Entry, impl Read + use<>)> {
        let mut reader = self.archive(path)?;
        let entry = reader.next().map_err(|error| self.unread(path, error))?;
        let entry = entry.ok_or(io::ErrorKind::UnexpectedEof)?;
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
        copy.map_err(|error| self.unread(&path, error))
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

/// A path in a call: engines take text.
fn text(path: &Path) -> io::Result<&str> {
    path.to_str().ok_or_else(|| {
        let problem = "engines take no path that is not UTF-8";
        io::Error::new(io::ErrorKind::InvalidInput, problem)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tar::header;

    #[test]
    fn no_more_is_kept_of_a_directory_than_there_is_room_for() {
        let archive = |count: usize| {
            let mut archive = header("lib/", Kind::Directory, 0o755, 0, 0).to_vec();
            for number in 0..count {
                let name = format!("lib/{number}.so");
                archive.extend(header(&name, Kind::Directory, 0o755, 0, 0));
            }
            archive
        };
        let mut known = Known::default();
        let mut put = |count| {
            let archive = archive(count);
            let mut reader = Reader::new(Stream(archive.as_slice()));
            let is_all = known.put_libraries(Path::new("/lib"), &mut reader);
            (is_all.expect("an archive"), known.stats.len())
        };
        assert_eq!(put(10_000), (true, 10_000));
        let (is_all, count) = put(100_000);
        assert!(!is_all && count < 60_000, "{count}");
        assert_eq!(put(10), (false, count));
        // What is asked for from then on is answered, and not kept.
        assert!(!known.put("/x".into(), None));
    }
    /// Gives the first bytes of an archive, and then an error of the engine.
    struct Broken(Vec<u8>);

    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.0.len().min(buffer.len());
            if count == 0 {
                let error = io::ErrorKind::ConnectionReset.into();
                return Err(io::Error::other(EngineError::Source(error)));
            }
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0.drain(..count);
            Ok(count)
        }
    }

    #[test]
    fn an_archive_that_breaks_off_is_the_fault_of_the_engine() {
        // In a header, and in a program.
        for length in [600, 1536] {
            let mut archive = header("lib/", Kind::Directory, 0o755, 0, 0).to_vec();
            archive.extend(header("lib/a.so", Kind::File, 0o755, 4096, 0));
            archive.extend(b"\x7fELF");
            archive.resize(length, 0);
            let mut reader = Reader::new(Stream(Broken(archive)));
            let put = Known::default().put_libraries(Path::new("/lib"), &mut reader);
            let error = put.expect_err("it breaks off").downcast::<EngineError>();
            assert!(matches!(error, Ok(EngineError::Source(_))), "{length}");
        }
        let mut reader = Reader::new(Stream(&[b'x'; 512][..]));
        let put = Known::default().put_libraries(Path::new("/lib"), &mut reader);
        let error = put.expect_err("it is no archive").downcast::<Flaw>();
        assert!(matches!(error, Ok(Flaw::Checksum(0))));
    }
}
