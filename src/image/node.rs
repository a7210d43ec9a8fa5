//! What is kept of an entry of a layer, and how much of all of them: an image may be
//! made to fill the memory of whoever looks into it.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::rc::Rc;

use thiserror::Error;

use super::tar;
use crate::program::{Elf, ElfError, Head, Status};

/// The most bytes of a text that is kept: scripts, the loader's lists.
const LARGEST_TEXT: u64 = 1 << 20;

/// The most bytes of a program or library that is looked into.
pub(super) const LARGEST_PROGRAM: u64 = 1 << 30;

/// The most bytes that the entries of all layers and what links lead to take: some
/// 900,000 files. Layers with more are refused.
const MOST_ENTRIES: u64 = 56 << 20;

/// The most bytes of what an engine tells of paths: some 50,000 of them. Of what
/// comes after that nothing is kept: it is asked for again where it is needed.
const MOST_PATHS: u64 = 16 << 20;

/// What a path takes in a map that grows beside its text and its link's, in bytes.
const PATH: u64 = 256;

/// What an entry takes in a map that grows, in bytes.
const ENTRY: u64 = 64;

/// The most bytes of texts, and of what programs say of themselves. Of what comes
/// after that nothing is kept: its layer is read again where it is needed.
const MOST_CONTENT: u64 = 8 << 20;

/// What is held takes so much beside its content.
const OVERHEAD: u64 = 72;

/// Layers of which more would be kept than anyone needs.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error(
    "its layers have more files and links than are kept in memory; --no-check leaves them unread"
)]
pub(super) struct TooMany;

impl From<TooMany> for io::Error {
    fn from(error: TooMany) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Directory,
    File,
    /// Where it leads to is held.
    Link,
    Other,
}

/// An entry. There may be many: it is as small as can be.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub what: What,
    pub has_capabilities: bool,
    mode: u16,
    user: u32,
    group: u32,
    pub held: Option<Rc<Held>>,
}

/// What is kept of its content.
#[derive(Debug)]
pub(super) enum Held {
    Link(Box<[u8]>),
    Text(Box<[u8]>),
    /// What it says of itself.
    Elf(Box<Result<Elf, &'static str>>),
}

impl Held {
    /// What the file is, where that is held.
    pub fn head(&self) -> Option<Head> {
        match self {
            Self::Elf(elf) => Some(Head::Elf(match elf.as_ref() {
                Ok(elf) => Ok(elf.clone()),
                Err(what) => Err(ElfError::Damaged(what)),
            })),
            Self::Link(_) | Self::Text(_) => None,
        }
    }

    /// A copy of the file, where all of it is held.
    pub fn copy(&self) -> Option<io::Result<File>> {
        let copy = |text: &[u8]| {
            let mut file = tempfile::tempfile()?;
            file.write_all(text)?;
            file.rewind()?;
            Ok(file)
        };
        match self {
            Self::Text(text) => Some(copy(text)),
            Self::Link(_) | Self::Elf(_) => None,
        }
    }
}

/// A file without a name that one program after the other is put into, to be
/// looked at in any order.
#[derive(Debug, Default)]
pub(super) struct Scratch(Option<File>);

impl Scratch {
    /// The file, made where there is none yet.
    ///
    /// # Errors
    /// There is no place for it.
    pub fn file(&mut self) -> io::Result<&mut File> {
        let file = match self.0.take() {
            Some(file) => file,
            None => tempfile::tempfile()?,
        };
        Ok(self.0.insert(file))
    }

    fn fill(&mut self, head: &[u8], rest: &mut dyn Read) -> io::Result<&File> {
        let file = self.file()?;
        file.rewind()?;
        file.write_all(head)?;
        io::copy(rest, file)?;
        let length = file.stream_position()?;
        file.set_len(length)?;
        Ok(file)
    }
}

impl Node {
    pub fn new(entry: &tar::Entry, what: What, held: Option<Rc<Held>>) -> Self {
        Self {
            what,
            has_capabilities: entry.has_capabilities,
            mode: u16::try_from(entry.mode & 0o7777).unwrap_or_default(),
            user: u32::try_from(entry.user).unwrap_or(u32::MAX),
            group: u32::try_from(entry.group).unwrap_or(u32::MAX),
            held,
        }
    }

    /// One that no archive has an entry for.
    pub fn directory() -> Self {
        Self {
            what: What::Directory,
            has_capabilities: false,
            mode: 0o755,
            user: 0,
            group: 0,
            held: None,
        }
    }

    pub fn status(&self) -> Status {
        Status {
            is_directory: self.what == What::Directory,
            is_file: self.what == What::File,
            mode: self.mode.into(),
            user: self.user,
            group: self.group,
        }
    }
}

/// What has been kept so far.
#[derive(Debug, Default)]
pub(super) struct Budget {
    entries: Cell<u64>,
    paths: Cell<u64>,
    content: Cell<u64>,
}

/// Adds `more` to `sum`, unless that would be more than `most`.
fn take(sum: &Cell<u64>, more: u64, most: u64) -> bool {
    let new = sum.get() + more;
    let fits = new <= most;
    if fits {
        sum.set(new);
    }
    fits
}

impl Budget {
    pub fn entry(&self) -> Result<(), TooMany> {
        let fits = take(&self.entries, ENTRY, MOST_ENTRIES);
        fits.then_some(()).ok_or(TooMany)
    }

    pub fn link(&self, target: &[u8]) -> Result<Rc<Held>, TooMany> {
        let fits = take(&self.entries, target.len() as u64 + OVERHEAD, MOST_ENTRIES);
        let held = fits.then(|| Rc::new(Held::Link(target.into())));
        held.ok_or(TooMany)
    }

    /// Whether there is room for a path and what lies there, with so many bytes of
    /// text.
    pub fn path(&self, length: usize) -> bool {
        take(&self.paths, length as u64 + PATH, MOST_PATHS)
    }

    /// What is kept of the file `entry` with the content `data`: what it says of
    /// itself where it is ELF, and all of a script, or of what is named.
    pub fn keep(
        &self,
        entry: &tar::Entry,
        is_named: bool,
        data: &mut dyn Read,
        scratch: &mut Scratch,
    ) -> io::Result<Option<Rc<Held>>> {
        let mut head = Vec::with_capacity(256);
        data.take(256).read_to_end(&mut head)?;
        if head.starts_with(b"\x7fELF") && entry.size <= LARGEST_PROGRAM {
            let file = scratch.fill(&head, data)?;
            let elf = match Elf::read(file) {
                Ok(elf) => Ok(elf),
                Err(ElfError::Damaged(what)) => Err(what),
                Err(ElfError::Io(error)) => return Err(error),
            };
            return Ok(self.elf(elf));
        }
        if (is_named || head.starts_with(b"#!")) && entry.size <= LARGEST_TEXT {
            data.read_to_end(&mut head)?;
            return Ok(self.text(head));
        }
        Ok(None)
    }

    fn text(&self, text: Vec<u8>) -> Option<Rc<Held>> {
        let fits = take(&self.content, text.len() as u64 + OVERHEAD, MOST_CONTENT);
        fits.then(|| Rc::new(Held::Text(text.into())))
    }

    fn elf(&self, elf: Result<Elf, &'static str>) -> Option<Rc<Held>> {
        let named = elf.as_ref().map_or(0, Elf::named);
        let size = named + size_of::<Elf>() as u64 + OVERHEAD;
        let fits = take(&self.content, size, MOST_CONTENT);
        fits.then(|| Rc::new(Held::Elf(Box::new(elf))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_kept_than_the_budget_has() {
        assert!(size_of::<Node>() <= 24);
        let budget = Budget::default();
        assert!(budget.text(vec![0; 6 << 20]).is_some());
        assert!(budget.text(vec![0; 3 << 20]).is_none());
        assert!(budget.text(vec![0; 1 << 20]).is_some());
        assert!(budget.link(&vec![0; 55 << 20]).is_ok());
        assert_eq!(budget.link(&vec![0; 2 << 20]).err(), Some(TooMany));
        assert!(budget.path(15 << 20));
        assert!(!budget.path(1 << 20));
        let more = (0..900_000).take_while(|_| budget.entry().is_ok()).count();
        assert_eq!(more, ((1 << 20) - 72) / 64);
    }
}
