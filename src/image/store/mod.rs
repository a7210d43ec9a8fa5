//! The interface of a store. Stores do the I/O, and nothing else: what an image
//! becomes is decided by pure functions in between.

pub(super) mod abandoned;
mod archive;
mod archive_writer;
mod directory;
mod docker_archive;
mod layout;

use std::io::Read;
use std::path::PathBuf;

use super::descriptor::Descriptor;
use super::digest::Digest;
use super::engine::{self, Engine};
use super::error::Error;
use super::reference::Reference;
use super::registry::{Client, RegistryDestination, RegistrySource};

/// The most bytes of a manifest or an index. Registries take 4 MiB.
pub const LARGEST_MANIFEST: u64 = 4 << 20;

/// The most bytes of a config.
pub const LARGEST_CONFIG: u64 = 16 << 20;

/// A manifest or an index: its very bytes, and what describes them.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    pub descriptor: Descriptor,
    pub bytes: Vec<u8>,
}

/// A place in which content lies, so that a destination can tell whether it has
/// that content already, or can take it over without a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreId {
    /// The directory, links resolved.
    Layout(PathBuf),
    /// The archive's file, links resolved.
    Archive(PathBuf),
    /// A repository of a registry, from which another one there can mount.
    Registry { host: String, repository: String },
    /// An engine, by the address of its API.
    Engine(String),
}

/// A store that an image is read from, opened for one reference.
pub trait Source {
    /// What the reference names, a manifest or an index. Where the store has none
    /// (`docker save` of old), one is made, always the same.
    ///
    /// # Errors
    /// It is not there (the tags that are there are named), cannot be read, is
    /// too large, or is not what its digest says.
    fn top(&mut self) -> Result<Item, Error>;

    /// A manifest or an index that another one names: at most
    /// [`LARGEST_MANIFEST`] bytes, held against the descriptor.
    ///
    /// # Errors
    /// As for [`Source::top`].
    fn manifest(&mut self, descriptor: &Descriptor) -> Result<Vec<u8>, Error>;

    /// A config or a layer. The reader fails where the content is not what the
    /// descriptor says: see [`super::digest::Verifier`].
    ///
    /// # Errors
    /// It is not there, or cannot be opened.
    fn blob(&mut self, descriptor: &Descriptor) -> Result<Box<dyn Read + '_>, Error>;

    /// The manifest or index with this digest, if the store still has it: the
    /// base of an image that is to be given back. `None` where it has not.
    ///
    /// # Errors
    /// Whether it has cannot be told.
    fn find(&mut self, digest: &Digest) -> Result<Option<Item>, Error>;

    /// Where the content lies.
    fn id(&self) -> StoreId;

    /// The name under which others can have the image, for the annotation
    /// `org.opencontainers.image.base.name`: a registry's alone.
    fn name(&self) -> Option<String> {
        None
    }
}

/// A store that an image is written to, opened for one reference. What has been
/// put shows under the reference's name only once [`Destination::finish`] is done;
/// one that is dropped before leaves the old state.
pub trait Destination {
    /// Whether the blob is there, or can be taken over without a copy (a mount)
    /// from the store `from`, which has it; it is there afterwards. `None` where
    /// it is new, and no store may have it.
    ///
    /// # Errors
    /// Whether it is there cannot be told.
    fn reuse(&mut self, blob: &Descriptor, from: Option<&StoreId>) -> Result<bool, Error>;

    /// Writes a config or a layer from `content`, which fails where it is not
    /// what the descriptor says.
    ///
    /// # Errors
    /// It cannot be read or written.
    fn put(&mut self, blob: &Descriptor, content: &mut dyn Read) -> Result<(), Error>;

    /// Writes a manifest or an index that another one names. What it names is
    /// there already.
    ///
    /// # Errors
    /// It cannot be written, or has no place in this store.
    fn put_manifest(&mut self, item: &Item) -> Result<(), Error>;

    /// Writes the top manifest or index, and gives it the reference's name, in
    /// the place of what has it now. The reference that names it from now on is
    /// given back.
    ///
    /// # Errors
    /// It cannot be written. The old state is still there.
    fn finish(self: Box<Self>, top: &Item) -> Result<Reference, Error>;

    /// The digest that the reference names now, if there is one.
    ///
    /// # Errors
    /// It cannot be told.
    fn current(&mut self) -> Result<Option<Digest>, Error>;
}

/// Opens the store of `reference` to read the image that it names; registries
/// through `client`.
///
/// # Errors
/// There is no such store, or it is not one.
pub fn open(reference: &Reference, client: &Client) -> Result<Box<dyn Source>, Error> {
    match reference {
        Reference::Registry(name) => Ok(Box::new(RegistrySource::open(client, name)?)),
        Reference::Engine(name) => {
            let engine = Engine::find()?.watched_by(client.progress().clone());
            let name = engine::spelt(name);
            engine.source(&name, &engine.image(&name)?)
        }
        _ => open_file(reference),
    }
}

/// The same for what is a file or a directory.
///
/// # Errors
/// As for [`open`].
pub(super) fn open_file(reference: &Reference) -> Result<Box<dyn Source>, Error> {
    Ok(match reference {
        Reference::Layout { path, .. } => {
            let directory = directory::Directory(path.clone());
            Box::new(layout::Layout::new(directory, reference))
        }
        Reference::OciArchive { path, .. } => {
            let archive = archive::Archive::open(path)?;
            Box::new(layout::Layout::new(archive, reference))
        }
        Reference::DockerArchive { .. } => {
            Box::new(docker_archive::DockerArchive::open(reference)?)
        }
        Reference::Registry(_) | Reference::Engine(_) | Reference::Bare(_) => {
            return Err(unsupported(reference));
        }
    })
}

/// Opens the store of `reference` to write an image under that name; registries
/// through `client`.
///
/// # Errors
/// What is there is no such store, or cannot be written.
pub fn create(reference: &Reference, client: &Client) -> Result<Box<dyn Destination>, Error> {
    match reference {
        Reference::Registry(name) => Ok(Box::new(RegistryDestination::open(client, name)?)),
        Reference::Engine(name) => {
            let engine = Engine::find()?.watched_by(client.progress().clone());
            engine.destination(&engine::spelt(name))
        }
        _ => create_file(reference),
    }
}

/// The same for what is a file or a directory.
///
/// # Errors
/// As for [`create`].
pub(super) fn create_file(reference: &Reference) -> Result<Box<dyn Destination>, Error> {
    Ok(match reference {
        Reference::Layout { .. } => Box::new(layout::Writer::new(reference)?),
        Reference::OciArchive { .. } | Reference::DockerArchive { .. } => {
            Box::new(archive_writer::ArchiveWriter::new(reference)?)
        }
        Reference::Registry(_) | Reference::Engine(_) | Reference::Bare(_) => {
            return Err(unsupported(reference));
        }
    })
}

fn unsupported(reference: &Reference) -> Error {
    Error::Unsupported {
        reference: Box::new(reference.clone()),
        what: "name its store: docker-daemon: or docker://",
    }
}
