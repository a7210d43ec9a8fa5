//! What is kept of an entry of a layer, and how much of all of them: an image may be
//! made to fill the memory of whoever looks into it.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use thiserror::Error;

use super::tar;
use crate::program::{Elf, Status};

/// The most bytes that the entries of all layers and what links lead to take: some
/// 900,000 files. Layers with more are refused.
const MOST_ENTRIES: u64 = 56 << 20;

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

    pub fn text(&self, text: Vec<u8>) -> Option<Rc<Held>> {
        let fits = take(&self.content, text.len() as u64 + OVERHEAD, MOST_CONTENT);
        fits.then(|| Rc::new(Held::Text(text.into())))
    }

    pub fn elf(&self, elf: Result<Elf, &'static str>) -> Option<Rc<Held>> {
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
        let more = (0..900_000).take_while(|_| budget.entry().is_ok()).count();
        assert_eq!(more, ((1 << 20) - 72) / 64);
    }
}
