//! A registry as a store: an image to read, an image to write.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::client::{Client, Repository};
use super::crew::Crew;
use super::error::{Error, Fault};
use super::upload::{Mount, is_small};
use crate::image::digest::Verifier;
use crate::image::progress::Progress;
use crate::image::{
    Descriptor, Destination, Digest, Error as ImageError, Item, Kind, Name, Reference, Source,
    StoreId,
};

/// An image in a registry, to be read.
#[derive(Debug)]
pub struct RegistrySource {
    repository: Repository,
    name: Name,
}

/// An image in a registry, to be written.
///
/// Mounts and small blobs are on their way when [`Destination::reuse`] and
/// [`Destination::put`] are back; what becomes of them is known when
/// [`Destination::finish`] is. No manifest is written before.
#[derive(Debug)]
pub struct RegistryDestination {
    client: Client,
    repository: Repository,
    name: Name,
    tag: String,
    crew: Crew,
    /// Whether what is new was sent: who finds all of that may find the tag too.
    has_sent: Arc<AtomicBool>,
    /// Those that wait for their blobs, in the order in which they came.
    manifests: Vec<Item>,
}

impl RegistrySource {
    /// # Errors
    /// The name's host is none.
    pub fn open(client: &Client, name: &Name) -> Result<Self, ImageError> {
        Ok(Self {
            repository: client.repository(&name.host, &name.repository)?,
            name: name.clone(),
        })
    }

    /// The digest, which says more than a tag does.
    fn reference(&self) -> String {
        match (&self.name.digest, self.name.tag_or_latest()) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.unwrap_or_default().to_owned(),
        }
    }
}

impl Source for RegistrySource {
    fn top(&mut self) -> Result<Item, ImageError> {
        let item = self.repository.manifest(&self.reference());
        item.map_err(|error| match *error.fault {
            Fault::NoTag { tags, more } => ImageError::NoSuchTag {
                wanted: Box::new(Reference::Registry(self.name.clone())),
                present: tags.into_iter().chain(more.then(|| "…".into())).collect(),
            },
            _ => error.into(),
        })
    }

    fn manifest(&mut self, descriptor: &Descriptor) -> Result<Vec<u8>, ImageError> {
        let digest = descriptor.digest().to_string();
        let item = self.repository.manifest(&digest)?;
        let got = item.descriptor.size();
        if got != descriptor.size() {
            let fault = Fault::WrongSize {
                digest: digest.clone(),
                wanted: descriptor.size(),
                got,
            };
            return Err(self.repository.error(&digest, fault).into());
        }
        Ok(item.bytes)
    }

    fn blob(&mut self, descriptor: &Descriptor) -> Result<Box<dyn Read + '_>, ImageError> {
        let (digest, size) = (descriptor.digest(), descriptor.size());
        let blob = self.repository.blob(digest, size)?;
        Ok(Box::new(Verifier::new(blob, digest, size)))
    }

    fn find(&mut self, digest: &Digest) -> Result<Option<Item>, ImageError> {
        Ok(self.repository.find_manifest(&digest.to_string())?)
    }

    fn id(&self) -> StoreId {
        StoreId::Registry {
            host: self.name.host.clone(),
            repository: self.name.repository.clone(),
        }
    }

    fn name(&self) -> Option<String> {
        let mut name = self.name.clone();
        name.tag = name.tag_or_latest().map(str::to_owned);
        Some(name.to_string())
    }
}

impl RegistryDestination {
    /// # Errors
    /// The name's host is none, or it names a digest, which is not ours to give.
    pub fn open(client: &Client, name: &Name) -> Result<Self, ImageError> {
        let reference = Box::new(Reference::Registry(name.clone()));
        let tag = match (&name.digest, name.tag_or_latest()) {
            (None, Some(tag)) => tag.to_owned(),
            _ => {
                return Err(ImageError::Unsupported {
                    reference,
                    what: "a digest cannot be written to: give a tag instead",
                });
            }
        };
        Ok(Self {
            client: client.clone(),
            repository: client.repository(&name.host, &name.repository)?,
            name: name.clone(),
            tag,
            crew: Crew::default(),
            has_sent: Arc::default(),
            manifests: Vec::new(),
        })
    }
}

impl Destination for RegistryDestination {
    fn reuse(&mut self, blob: &Descriptor, from: Option<&StoreId>) -> Result<bool, ImageError> {
        let digest = blob.digest();
        if from.is_none() && is_small(blob) {
            // Asked when it is put, and others meanwhile.
            return Ok(false);
        }
        if let Some(StoreId::Registry { host, repository }) = from
            && *host == self.name.host
        {
            if *repository == self.name.repository {
                return Ok(true);
            }
            let source = self.client.repository(host, repository)?;
            let (target, blob) = (self.repository.clone(), blob.clone());
            let progress = self.client.progress().clone();
            self.crew
                .give(move || bring(&target, &source, &blob, &progress));
            return Ok(true);
        }
        Ok(self.repository.has_blob(digest)?)
    }

    fn put(&mut self, blob: &Descriptor, content: &mut dyn Read) -> Result<(), ImageError> {
        let Some(bytes) = self.repository.take_small(blob, content)? else {
            self.has_sent.store(true, Ordering::Relaxed);
            return Ok(self.repository.push(blob, content, None)?);
        };
        let (target, blob) = (self.repository.clone(), blob.clone());
        let has_sent = self.has_sent.clone();
        self.crew.give(move || {
            // The shim's layer is the same in every image: to ask for it costs a
            // registry nothing. A config is new, as a rule: one request tells, and
            // begins its upload.
            let mut session = None;
            if blob.kind() == Kind::Config {
                match target.mount(blob.digest(), &target)? {
                    Mount::Done => return Ok(()),
                    Mount::Refused(begun) => session = begun,
                }
            } else if target.has_blob(blob.digest())? {
                return Ok(());
            }
            has_sent.store(true, Ordering::Relaxed);
            target.push(&blob, &mut bytes.as_slice(), session)
        });
        Ok(())
    }

    fn put_manifest(&mut self, item: &Item) -> Result<(), ImageError> {
        self.manifests.push(item.clone());
        Ok(())
    }

    fn finish(mut self: Box<Self>, top: &Item) -> Result<Reference, ImageError> {
        self.crew.wait()?;
        // A second run finds all that it would write. Who cannot be asked is told.
        let digest = Some(top.descriptor.digest());
        let finds_all = || {
            self.repository
                .resolve(&self.tag)
                .is_ok_and(|tag| tag.as_ref() == digest)
        };
        if self.has_sent.load(Ordering::Relaxed) || !finds_all() {
            for item in &self.manifests {
                let digest = item.descriptor.digest().to_string();
                self.repository.put_manifest(&digest, item)?;
            }
            self.repository.put_manifest(&self.tag, top)?;
        }
        let mut name = self.name;
        name.tag = Some(self.tag);
        Ok(Reference::Registry(name))
    }

    fn current(&mut self) -> Result<Option<Digest>, ImageError> {
        Ok(self.repository.resolve(&self.tag)?)
    }
}

/// Mounts a blob, or copies it where the registry refuses that.
fn bring(
    target: &Repository,
    source: &Repository,
    blob: &Descriptor,
    progress: &Progress,
) -> Result<(), Error> {
    let (digest, size) = (blob.digest(), blob.size());
    let session = match target.mount(digest, source)? {
        Mount::Done => return Ok(()),
        Mount::Refused(session) => session,
    };
    // It costs little against sending what is there.
    if target.has_blob(digest)? {
        return Ok(());
    }
    let content = source.blob(digest, size)?;
    let content = Verifier::new(content, digest, size);
    target.push(blob, &mut progress.of_blob(blob, content), session)
}

impl From<Error> for ImageError {
    fn from(error: Error) -> Self {
        Self::Store {
            store: error.place.to_string(),
            source: error.fault,
        }
    }
}
