//! The files of an image, found in its layers from the top down: the OCI image
//! specification, "Image Layer Filesystem Changeset".
//!
//! A layer is read once, whole, the first time that something may lie in it, and
//! never before. What is kept of its files is what the check asks for: their kind
//! and mode, what ELF files say of themselves, and small texts.

use std::cell::{Cell, RefCell};
use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::hash::BuildHasher;
use std::io::{self, Read, Seek};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::descriptor::Descriptor;
use super::error::Error;
use super::node::{Budget, Held, LARGEST_PROGRAM, Node, Scratch, What};
use super::packing::unpack;
use super::path::{join, normal, split};
use super::store::Source;
use super::tar::{self, Reader, Stream};
use crate::program::{Files, Head, Status, Step, walk};

/// The most bytes of a path: PATH_MAX, see limits.h(0p).
const LONGEST_PATH: usize = 4096;

/// A source that several own.
pub type Shared = Rc<RefCell<Box<dyn Source>>>;

/// The files of one image.
pub struct Tree {
    source: Shared,
    /// The lowest one first.
    layers: Vec<Descriptor>,
    /// What was read of them, the top one first.
    read: RefCell<Vec<Layer>>,
    /// The first error of a layer; a check of an image that cannot be read ends
    /// with it.
    error: RefCell<Option<Error>>,
    /// File names whose content is kept, though nothing else speaks for it.
    names: Vec<Vec<u8>>,
    /// Paths are kept as hashes, by keys that no image can know.
    hasher: RandomState,
    /// Bytes of packed layers that were read.
    bytes: Cell<u64>,
    /// What may still be kept of them.
    budget: Budget,
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tree")
            .field("layers", &self.layers)
            .finish_non_exhaustive()
    }
}

/// The entries of one layer, by the hashes of their paths.
#[derive(Default)]
struct Layer {
    entries: HashMap<u64, Node>,
    /// Paths of which the layers below have nothing (`.wh.NAME`).
    removed: HashSet<u64>,
    /// Directories of which the layers below have nothing (`.wh..wh..opq`).
    opaque: HashSet<u64>,
}

/// A path's place in the layers: what it is, and how it is written there.
struct Found {
    node: Node,
    path: PathBuf,
    /// Which layer, counted from the top.
    layer: usize,
}

impl Tree {
    /// The files of the image with these `layers`, the lowest one first. The
    /// content of files named as one of `names` is kept whatever it is.
    pub fn new(source: Shared, layers: Vec<Descriptor>, names: Vec<Vec<u8>>) -> Self {
        Self {
            source,
            layers,
            read: RefCell::default(),
            error: RefCell::default(),
            names,
            hasher: RandomState::new(),
            bytes: Cell::new(0),
            budget: Budget::default(),
        }
    }

    /// How many layers were read, and how many bytes of them, as they are packed.
    pub fn effort(&self) -> (usize, u64) {
        (self.read.borrow().len(), self.bytes.get())
    }

    /// The error of the first layer that could not be read.
    pub fn take_error(&self) -> Option<Error> {
        self.error.borrow_mut().take()
    }

    /// What cannot be read says nothing of the image.
    fn failed(&self, error: Error) -> io::Error {
        let text = error.to_string();
        self.error.borrow_mut().get_or_insert(error);
        io::Error::other(text)
    }

    fn hash(&self, path: &[u8]) -> u64 {
        self.hasher.hash_one(path)
    }

    /// Reads the next layer down; `false` where there is none left.
    fn read_next(&self) -> bool {
        let count = self.read.borrow().len();
        if count >= self.layers.len() || self.error.borrow().is_some() {
            return false;
        }
        let descriptor = &self.layers[self.layers.len() - 1 - count];
        match self.read_layer(descriptor) {
            Ok(layer) => {
                self.bytes.set(self.bytes.get() + descriptor.size());
                self.read.borrow_mut().push(layer);
                true
            }
            Err(error) => {
                self.failed(error);
                false
            }
        }
    }

    fn scan(
        &self,
        descriptor: &Descriptor,
        mut visit: impl FnMut(&tar::Entry, &mut dyn Read) -> io::Result<()>,
    ) -> Result<(), Error> {
        let mut source = self.source.borrow_mut();
        let mut packed = source.blob(descriptor)?;
        let scanned = (|| {
            let (_, unpacked) = unpack(&mut packed)?;
            let mut reader = Reader::new(Stream(unpacked));
            while let Some(entry) = reader.next()? {
                visit(&entry, &mut reader)?;
            }
            reader.drain()
        })();
        // To the last byte, behind what is packed: the digest is held there.
        let scanned = scanned.and_then(|()| io::copy(&mut packed, &mut io::sink()));
        scanned.map(drop).map_err(|source| Error::Blob {
            store: "the image".into(),
            digest: descriptor.digest().clone(),
            source,
        })
    }

    fn read_layer(&self, descriptor: &Descriptor) -> Result<Layer, Error> {
        let mut layer = Layer::default();
        let mut links: Vec<(u64, u64)> = Vec::new();
        let mut scratch = Scratch::default();
        self.scan(descriptor, |entry, data| {
            let path = normal(&entry.path);
            // No program can name one that is longer.
            let Some(path) = path.filter(|path| path.len() <= LONGEST_PATH) else {
                return Ok(());
            };
            self.budget.entry()?;
            let (folder, name) = split(&path);
            self.imply_parents(&mut layer, folder)?;
            if name == b".wh..wh..opq" {
                layer.opaque.insert(self.hash(folder));
                return Ok(());
            }
            if let Some(name) = name.strip_prefix(b".wh.") {
                layer.removed.insert(self.hash(&join(folder, name)));
                return Ok(());
            }
            let (what, held) = match entry.kind {
                tar::Kind::Directory => (What::Directory, None),
                tar::Kind::SymbolicLink => (What::Link, Some(self.budget.link(&entry.link)?)),
                tar::Kind::HardLink => {
                    let target = normal(&entry.link).unwrap_or_default();
                    links.push((self.hash(&path), self.hash(&target)));
                    return Ok(());
                }
                tar::Kind::File => (What::File, self.keep(entry, name, data, &mut scratch)?),
                tar::Kind::Other => (What::Other, None),
            };
            let node = Node::new(entry, what, held);
            layer.entries.insert(self.hash(&path), node);
            Ok(())
        })?;
        // The file may come after the second name, or have several.
        for _ in 0..2 {
            for (path, target) in &links {
                if let Some(node) = layer.entries.get(target).cloned() {
                    layer.entries.insert(*path, node);
                }
            }
        }
        Ok(layer)
    }

    /// Directories that an archive names no entry for are made when it is
    /// unpacked.
    fn imply_parents(&self, layer: &mut Layer, folder: &[u8]) -> io::Result<()> {
        let mut folder = folder;
        while !folder.is_empty() {
            let implied = layer.entries.entry(self.hash(folder));
            let std::collections::hash_map::Entry::Vacant(vacant) = implied else {
                return Ok(());
            };
            self.budget.entry()?;
            vacant.insert(Node::directory());
            folder = split(folder).0;
        }
        Ok(())
    }

    /// What is kept of a file.
    fn keep(
        &self,
        entry: &tar::Entry,
        name: &[u8],
        data: &mut dyn Read,
        scratch: &mut Scratch,
    ) -> io::Result<Option<Rc<Held>>> {
        let contains = |part: &[u8]| name.windows(part.len()).any(|window| window == part);
        let is_executable = entry.mode & 0o111 != 0;
        let is_named = self.names.iter().any(|one| one == name)
            || name == b"ld.so.cache"
            || name.starts_with(b"ld-musl-") && name.ends_with(b".path")
            || matches!(name, b"passwd" | b"group");
        if !(is_executable || is_named || contains(b".so")) {
            return Ok(None);
        }
        scratch.file().map_err(|error| self.failed(other(error)))?;
        self.budget.keep(entry, is_named, data, scratch)
    }

    /// What lies at `path`, which has no links in it: as the layers read so far
    /// say, or as the next ones do where `deeper`.
    fn entry(&self, path: &[u8], deeper: bool) -> Option<(Node, usize)> {
        if path.is_empty() {
            return Some((Node::directory(), 0));
        }
        let mut place = 0;
        loop {
            while place < self.read.borrow().len() {
                let layers = self.read.borrow();
                let layer = &layers[place];
                if let Some(node) = layer.entries.get(&self.hash(path)) {
                    return Some((node.clone(), place));
                }
                if self.hides(layer, path) {
                    return None;
                }
                place += 1;
            }
            if !deeper || !self.read_next() {
                return None;
            }
        }
    }

    /// Whether `layer` lets nothing of the layers below show at `path`.
    fn hides(&self, layer: &Layer, path: &[u8]) -> bool {
        if layer.removed.contains(&self.hash(path)) {
            return true;
        }
        let mut folder = split(path).0;
        loop {
            let hash = self.hash(folder);
            let replaced = layer.entries.get(&hash);
            let replaced = replaced.is_some_and(|node| node.what != What::Directory);
            if replaced || layer.opaque.contains(&hash) || layer.removed.contains(&hash) {
                return true;
            }
            if folder.is_empty() {
                return false;
            }
            folder = split(folder).0;
        }
    }

    fn find(&self, path: &Path, deeper: bool) -> io::Result<Found> {
        let root = (Node::directory(), 0);
        let (path, (node, layer)) = walk(path, root, |path| {
            let found = self.entry(inside(path), deeper);
            let found = found.ok_or(io::ErrorKind::NotFound)?;
            Ok(match found.0.held.as_deref() {
                Some(Held::Link(target)) => Step::Link(OsStr::from_bytes(target).into()),
                _ if found.0.what == What::Directory => Step::Directory(found),
                _ => Step::Other(found),
            })
        })?;
        Ok(Found { node, path, layer })
    }

    /// A copy of a file whose content was not kept: its layer is read again.
    fn extract(&self, found: &Found) -> Result<File, Error> {
        let descriptor = &self.layers[self.layers.len() - 1 - found.layer];
        let mut copy = None;
        let mut wanted = inside(&found.path).to_vec();
        // A second name leads to the first, which may come before it.
        for _ in 0..2 {
            self.scan(descriptor, |entry, data| {
                if normal(&entry.path).as_deref() != Some(&wanted) {
                    return Ok(());
                }
                match entry.kind {
                    tar::Kind::File => {
                        let mut file = tempfile::tempfile()?;
                        io::copy(&mut data.take(LARGEST_PROGRAM), &mut file)?;
                        copy = Some(file);
                    }
                    tar::Kind::HardLink => wanted = normal(&entry.link).unwrap_or_default(),
                    _ => {}
                }
                Ok(())
            })?;
            if copy.is_some() {
                break;
            }
        }
        let mut file = copy.map_or_else(tempfile::tempfile, Ok).map_err(other)?;
        file.rewind().map_err(other)?;
        Ok(file)
    }
}

/// `path`, which starts at the root, as it stands in layers.
fn inside(path: &Path) -> &[u8] {
    let bytes = path.as_os_str().as_bytes();
    bytes.strip_prefix(b"/").unwrap_or(bytes)
}

fn other(source: io::Error) -> Error {
    Error::File {
        path: std::env::temp_dir(),
        source,
    }
}

impl Files for Tree {
    fn status(&self, path: &Path, deeper: bool) -> io::Result<Status> {
        self.find(path, deeper).map(|found| found.node.status())
    }

    fn open(&self, path: &Path, deeper: bool) -> io::Result<File> {
        let found = self.find(path, deeper)?;
        match found.node.what {
            What::File => {
                let copy = match found.node.held.as_deref().and_then(Held::copy) {
                    Some(copy) => copy.map_err(other),
                    None => self.extract(&found),
                };
                copy.map_err(|error| self.failed(error))
            }
            What::Directory => Err(io::ErrorKind::IsADirectory.into()),
            What::Link | What::Other => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn head(&self, path: &Path, deeper: bool) -> io::Result<Head> {
        let found = self.find(path, deeper)?;
        match found.node.held.as_deref().and_then(Held::head) {
            Some(head) => Ok(head),
            None => Head::of(&self.open(path, deeper)?),
        }
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        self.find(path, true).map(|found| found.path)
    }

    fn has_capabilities(&self, path: &Path) -> io::Result<bool> {
        self.find(path, true)
            .map(|found| found.node.has_capabilities)
    }

    fn deepen(&self) -> bool {
        self.read_next()
    }
}
