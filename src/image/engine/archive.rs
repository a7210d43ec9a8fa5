//! An engine as a store like any other: its images go through an archive in a
//! temporary file, which costs as much as the image is large.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use tempfile::TempDir;

use super::leftover::{self, Leftover, PENDING};
use super::{Engine, EngineError, Format, Inspected, Kind};
use crate::image::contents::{self, Content, Picture};
use crate::image::descriptor::{self, Descriptor};
use crate::image::digest::Digest;
use crate::image::edit::Change;
use crate::image::error::Error;
use crate::image::layer;
use crate::image::reference::Reference;
use crate::image::store::{self, Destination, Item, Source, StoreId, abandoned};
use crate::image::transfer;
use crate::image::transform::{self, Request};
use crate::shim;

/// An image that was saved.
struct Saved {
    inner: Box<dyn Source>,
    engine: StoreId,
    /// Holds the archive, and goes with it.
    _room: Room,
}

/// An image that will be loaded.
struct Loading {
    inner: Box<dyn Destination>,
    engine: Engine,
    archive: PathBuf,
    _room: Room,
    /// The name that the image has until it has been looked at.
    pending: String,
    /// The name that it is to have.
    name: String,
}

/// A directory that is removed when this is dropped, and held until then.
struct Room {
    _directory: TempDir,
    _lock: File,
}

/// Takes room for an archive, where temporary files are kept.
fn room() -> Result<(Room, PathBuf), Error> {
    let (directory, lock) = abandoned::room().map_err(|source| Error::File {
        path: std::env::temp_dir(),
        source,
    })?;
    let archive = directory.path().join("image.tar");
    Ok((
        Room {
            _directory: directory,
            _lock: lock,
        },
        archive,
    ))
}

impl Engine {
    fn store_id(&self) -> StoreId {
        StoreId::Engine(self.address().to_string())
    }

    /// The image `name`, to be read from as from any store: saved now.
    ///
    /// # Errors
    /// The engine does not give it, or there is no room for it.
    pub fn source(&self, name: &str, image: &Inspected) -> Result<Box<dyn Source>, Error> {
        let (room, path) = room()?;
        let (format, archive) = self.save(name, image)?;
        let mut archive = self.progress.of(name, None, archive);
        let fail = |source: io::Error| Error::File {
            path: path.clone(),
            source,
        };
        let mut file = File::create(&path).map_err(fail)?;
        io::copy(&mut archive, &mut file).map_err(fail)?;
        // The archive holds this one image.
        let reference = match format {
            Format::DockerArchive => Reference::DockerArchive { path, name: None },
            Format::OciArchive => Reference::OciArchive { path, tag: None },
        };
        Ok(Box::new(Saved {
            inner: store::open_file(&reference)?,
            engine: self.store_id(),
            _room: room,
        }))
    }

    /// An image that will be called `name`, to be written to as to any store: loaded
    /// when it is finished.
    ///
    /// # Errors
    /// There is no room for it.
    pub fn destination(&self, name: &str) -> Result<Box<dyn Destination>, Error> {
        let (room, path) = room()?;
        let tag = leftover::name();
        let archive = path.clone();
        // Podman reads the names of a docker archive as Docker Hub's.
        let (pending, reference) = match self.kind() {
            Kind::Docker => {
                let pending = format!("{PENDING}:{tag}");
                let name = pending.parse().ok();
                (pending, Reference::DockerArchive { path, name })
            }
            Kind::Podman => {
                let pending = format!("localhost/{PENDING}:{tag}");
                let tag = Some(pending.clone());
                (pending, Reference::OciArchive { path, tag })
            }
        };
        Ok(Box::new(Loading {
            inner: store::create_file(&reference)?,
            engine: self.clone(),
            archive,
            _room: room,
            pending,
            name: name.to_owned(),
        }))
    }

    /// Puts the shim into `image`, which was asked for by `from`: saved, edited and
    /// loaded as `name`.
    ///
    /// # Errors
    /// There is no shim for it, or the engine refuses.
    pub fn inject_by_archive(
        &self,
        from: &str,
        image: &Inspected,
        request: &Request,
        first: &[OsString],
        name: &str,
    ) -> Result<Inspected, Error> {
        let mut source = self.source(from, image)?;
        let (picture, base) = without_shim(source.as_mut(), image)?;
        let platform = image.platform();
        let shim = platform.shim_architecture().map(shim::packed);
        let Some(Ok(shim)) = shim else {
            return Err(Error::NoShim {
                digest: image.id.clone(),
                platform: platform.to_string(),
            });
        };
        let (family, compression) = picture.image.top_layer();
        let layer = layer::build(shim, family, compression, request.time);
        let change = Change {
            rules: &request.rules,
            layer: &layer,
            base: &base,
            base_name: None,
            first,
            time: request.time,
        };
        let edited = picture.image.inject(&change);
        let edited = edited.map_err(|error| self.malformed(&picture, &error))?;
        let new = Picture::new(edited, &picture.item.descriptor, Some(layer));
        self.load_picture(new, source.as_mut(), name)
    }

    /// Takes the shim out of `image`, likewise; none where it holds none.
    ///
    /// # Errors
    /// The engine refuses.
    pub fn eject_by_archive(
        &self,
        from: &str,
        image: &Inspected,
        name: &str,
    ) -> Result<Option<Inspected>, Error> {
        let mut source = self.source(from, image)?;
        let item = source.top()?;
        let content = contents::read(source.as_mut(), item)?;
        let Some(ejected) = transform::eject(&content)? else {
            return Ok(None);
        };
        let Content::Image(picture) = ejected.content else {
            return Err(several(name));
        };
        let made = self.load_picture(*picture, source.as_mut(), name)?;
        Ok(Some(made))
    }

    fn load_picture(
        &self,
        picture: Picture,
        source: &mut dyn Source,
        name: &str,
    ) -> Result<Inspected, Error> {
        let destination = self.destination(name)?;
        let content = Content::Image(Box::new(picture));
        transfer::write(&content, source, destination, &self.progress)?;
        Ok(self.image(name)?)
    }

    fn malformed(&self, picture: &Picture, error: &dyn std::fmt::Display) -> Error {
        Error::Malformed {
            store: self.address().to_string(),
            digest: picture.digest().clone(),
            what: error.to_string(),
        }
    }
}

/// The image in `source` before a shim was put into it, and what names that one in
/// an engine: the digest of its config.
fn without_shim(source: &mut dyn Source, image: &Inspected) -> Result<(Picture, Digest), Error> {
    let item = source.top()?;
    let content = contents::read(source, item)?;
    let (content, recorded) = match transform::eject(&content)? {
        Some(ejected) => (ejected.content, ejected.base),
        None => (content, Some(image.id.clone())),
    };
    let Content::Image(picture) = content else {
        return Err(several(image.tags().first().unwrap_or(&"the image")));
    };
    let base = recorded.unwrap_or_else(|| Digest::of(&picture.config));
    Ok((*picture, base))
}

fn several(name: &str) -> Error {
    Error::NoStore {
        path: name.into(),
        what: "an engine holds one image under a name, and this is an index",
    }
}

impl Source for Saved {
    fn top(&mut self) -> Result<Item, Error> {
        self.inner.top()
    }

    fn manifest(&mut self, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        self.inner.manifest(descriptor)
    }

    fn blob(&mut self, descriptor: &Descriptor) -> Result<Box<dyn Read + '_>, Error> {
        self.inner.blob(descriptor)
    }

    fn find(&mut self, digest: &Digest) -> Result<Option<Item>, Error> {
        self.inner.find(digest)
    }

    fn id(&self) -> StoreId {
        self.engine.clone()
    }
}

impl Destination for Loading {
    fn reuse(&mut self, blob: &Descriptor, from: Option<&StoreId>) -> Result<bool, Error> {
        self.inner.reuse(blob, from)
    }

    fn put(&mut self, blob: &Descriptor, content: &mut dyn Read) -> Result<(), Error> {
        self.inner.put(blob, content)
    }

    fn put_manifest(&mut self, item: &Item) -> Result<(), Error> {
        self.inner.put_manifest(item)
    }

    fn finish(self: Box<Self>, top: &Item) -> Result<Reference, Error> {
        if top.descriptor.kind() == descriptor::Kind::Index {
            return Err(several(&self.name));
        }
        let Self {
            inner,
            engine,
            archive,
            _room: room,
            pending,
            name,
        } = *self;
        let wanted = name.parse().map_err(|error| Error::Store {
            store: name.clone(),
            source: Box::new(error),
        })?;
        inner.finish(top)?;
        let opened = File::open(&archive).and_then(|file| Ok((file.metadata()?.len(), file)));
        let (size, file) = opened.map_err(|source| Error::File {
            path: archive.clone(),
            source,
        })?;
        let mut file = engine.progress.of(&name, Some(size), file);
        let tag = Leftover::tag(&engine.client, &engine.version, &pending);
        engine.load(&mut file)?;
        // It has been read: the room can be used for something else.
        drop(room);
        let image = engine.image(&pending)?;
        let tree: serde_json::Value = serde_json::from_slice(&top.bytes).unwrap_or_default();
        if tree["config"]["digest"] != image.id.to_string() {
            return Err(EngineError::Altered {
                engine: engine.kind().name(),
                name,
            }
            .into());
        }
        engine.replace(&image.id, &name)?;
        tag.remove()?;
        Ok(Reference::Engine(wanted))
    }

    fn current(&mut self) -> Result<Option<Digest>, Error> {
        let found = self.engine.inspect(&self.name)?;
        Ok(found.map(|image| image.id))
    }
}
