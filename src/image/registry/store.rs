//! A registry as a store: an image to read, an image to write.

use std::collections::HashMap;
use std::io::Read;

use super::client::{Client, Repository};
use super::error::{Error, Fault};
use super::upload::{Mount, Session};
use crate::image::digest::Verifier;
use crate::image::{
    Descriptor, Destination, Digest, Error as ImageError, Item, Name, Reference, Source, StoreId,
};

/// An image in a registry, to be read.
#[derive(Debug)]
pub struct RegistrySource {
    repository: Repository,
    name: Name,
}

/// An image in a registry, to be written.
#[derive(Debug)]
pub struct RegistryDestination {
    client: Client,
    repository: Repository,
    name: Name,
    tag: String,
    /// What refused mounts have begun.
    sessions: HashMap<Digest, Session>,
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
            sessions: HashMap::new(),
        })
    }
}

impl Destination for RegistryDestination {
    fn reuse(&mut self, blob: &Descriptor, from: &StoreId) -> Result<bool, ImageError> {
        let digest = blob.digest();
        if let StoreId::Registry { host, repository } = from
            && *host == self.name.host
        {
            if *repository == self.name.repository {
                return Ok(true);
            }
            let source = self.client.repository(host, repository)?;
            match self.repository.mount(digest, &source)? {
                Mount::Done => return Ok(true),
                Mount::Refused(session) => {
                    let session = session.map(|session| (digest.clone(), session));
                    self.sessions.extend(session);
                }
            }
        }
        Ok(self.repository.has_blob(digest)?)
    }

    fn put(&mut self, blob: &Descriptor, content: &mut dyn Read) -> Result<(), ImageError> {
        let session = self.sessions.remove(blob.digest());
        Ok(self.repository.push(blob, content, session)?)
    }

    fn put_manifest(&mut self, item: &Item) -> Result<(), ImageError> {
        let digest = item.descriptor.digest().to_string();
        Ok(self.repository.put_manifest(&digest, item)?)
    }

    fn finish(self: Box<Self>, top: &Item) -> Result<Reference, ImageError> {
        self.repository.put_manifest(&self.tag, top)?;
        let mut name = self.name;
        name.tag = Some(self.tag);
        Ok(Reference::Registry(name))
    }

    fn current(&mut self) -> Result<Option<Digest>, ImageError> {
        Ok(self.repository.resolve(&self.tag)?)
    }
}

impl From<Error> for ImageError {
    fn from(error: Error) -> Self {
        Self::Store {
            store: error.place.to_string(),
            source: error.fault,
        }
    }
}
