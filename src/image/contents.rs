//! What a reference leads to, read whole but for the layers: an image, or an index
//! with all that it names.

use std::io::{self, Read};

use serde_json::Value;

use super::descriptor::{Descriptor, Kind};
use super::digest::Digest;
use super::edit::Image;
use super::error::Error;
use super::json::Document;
use super::layer;
use super::platform::Platform;
use super::store::{Item, LARGEST_CONFIG, LARGEST_MANIFEST, Source};

/// How deep indexes may lie in one another.
const DEEPEST: usize = 8;

/// The most manifests of all indexes together: one that names another one often
/// would have no end.
const MOST_MANIFESTS: usize = 1024;

/// A manifest or an index, with what it names.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    Index(Index),
    Image(Box<Picture>),
    /// A manifest of something else, or one that no platform is known of: it is
    /// carried along as it is. With its blobs.
    Other(Item, Vec<Descriptor>),
    /// What BuildKit says of an image beside it, under that image's digest.
    Attestation(Descriptor),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Index {
    pub item: Item,
    pub document: Document,
    pub children: Vec<Content>,
}

/// An image, with its own manifest's bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    pub item: Item,
    pub config: Vec<u8>,
    pub image: Image,
    /// The places of the layers that are ours, in rising order.
    pub ours: Vec<usize>,
    /// The content of a layer that no store has yet.
    pub new_layer: Option<layer::Layer>,
}

impl Picture {
    /// The picture of `image`, whose manifest `old` described before.
    pub fn new(image: Image, old: &Descriptor, new_layer: Option<layer::Layer>) -> Self {
        let bytes = image.manifest.to_bytes();
        Self {
            item: Item {
                descriptor: old.with_content(&bytes),
                bytes,
            },
            config: image.config.to_bytes(),
            ours: Vec::new(),
            image,
            new_layer,
        }
    }

    /// What it runs on: as its config says, or else the index.
    pub fn platform(&self) -> Option<Platform> {
        let own = Platform::of(&self.image.config.tree);
        self.item.descriptor.platform().or(own)
    }

    pub fn digest(&self) -> &Digest {
        self.item.descriptor.digest()
    }
}

impl Content {
    /// The manifest or index itself; `None` for one that was not read.
    pub fn item(&self) -> Option<&Item> {
        match self {
            Self::Index(index) => Some(&index.item),
            Self::Image(picture) => Some(&picture.item),
            Self::Other(item, _) => Some(item),
            Self::Attestation(_) => None,
        }
    }

    pub(super) fn descriptor(&self) -> &Descriptor {
        match self {
            Self::Attestation(descriptor) => descriptor,
            Self::Index(Index { item, .. }) | Self::Other(item, _) => &item.descriptor,
            Self::Image(picture) => &picture.item.descriptor,
        }
    }

    /// Every image, in the order of the indexes.
    pub fn images(&self) -> Vec<&Picture> {
        match self {
            Self::Image(picture) => vec![picture],
            Self::Index(index) => index.children.iter().flat_map(Self::images).collect(),
            Self::Other(..) | Self::Attestation(_) => Vec::new(),
        }
    }

    /// Every attestation.
    pub fn attestations(&self) -> Vec<&Descriptor> {
        match self {
            Self::Attestation(descriptor) => vec![descriptor],
            Self::Index(index) => {
                let children = index.children.iter();
                children.flat_map(Self::attestations).collect()
            }
            Self::Image(_) | Self::Other(..) => Vec::new(),
        }
    }

    /// Only what is for one of `platforms`: the image, where there is one such
    /// platform, else an index of those images.
    ///
    /// # Errors
    /// There is no image for one of them.
    pub fn select(self, platforms: &[Platform]) -> Result<Self, Error> {
        for wanted in platforms {
            let images = self.images();
            let known = images.iter().filter_map(|one| one.platform());
            let known: Vec<Platform> = known.collect();
            if !known.iter().any(|one| one.satisfies(wanted)) {
                return Err(Error::NoSuchPlatform {
                    wanted: wanted.clone(),
                    present: known,
                });
            }
        }
        match (self, platforms) {
            (this @ Self::Image(_), _) | (this, []) => Ok(this),
            (Self::Index(index), [wanted]) => {
                let child = index
                    .children
                    .into_iter()
                    .find(|child| child.is_for(wanted));
                child.map_or_else(
                    || unreachable!("it was found above"),
                    |child| child.select(platforms),
                )
            }
            (Self::Index(index), _) => {
                let is_wanted = |child: &Self| platforms.iter().any(|one| child.is_for(one));
                Ok(Self::Index(
                    index.rebuild(|child| Ok(is_wanted(&child).then_some(child)))?,
                ))
            }
            (this, _) => Ok(this),
        }
    }

    fn is_for(&self, wanted: &Platform) -> bool {
        let satisfies = |one: &&Picture| one.platform().is_some_and(|one| one.satisfies(wanted));
        self.images().iter().any(satisfies)
    }
}

impl Index {
    /// The index with what `change` makes of each child; those of which it makes
    /// nothing are left out.
    ///
    /// # Errors
    /// Those of `change`.
    pub fn rebuild(
        &self,
        mut change: impl FnMut(Content) -> Result<Option<Content>, Error>,
    ) -> Result<Self, Error> {
        let mut children = Vec::new();
        for child in &self.children {
            children.extend(change(child.clone())?);
        }
        let list = children.iter().map(|child| child.descriptor().to_value());
        let mut tree = self.document.tree.clone();
        tree["manifests"] = list.collect();
        Ok(self.with(tree, children))
    }

    /// The index with another tree.
    pub(super) fn with(&self, tree: Value, children: Vec<Content>) -> Self {
        let document = self.document.with(tree);
        // Nothing was changed: the very bytes, however they are spelt.
        let bytes = if document == self.document {
            self.item.bytes.clone()
        } else {
            document.to_bytes()
        };
        Self {
            item: Item {
                descriptor: self.item.descriptor.with_content(&bytes),
                bytes,
            },
            document,
            children,
        }
    }
}

/// Reads what `item` leads to.
///
/// # Errors
/// Something is not there, is not what its digest says, or is no image that we
/// know.
pub fn read(source: &mut dyn Source, item: Item) -> Result<Content, Error> {
    let mut left = MOST_MANIFESTS;
    read_at(source, item, 0, &mut left)
}

pub(super) fn malformed(item: &Item, what: &(impl ToString + ?Sized)) -> Error {
    Error::Malformed {
        store: "the image".into(),
        digest: item.descriptor.digest().clone(),
        what: what.to_string(),
    }
}

fn read_at(
    source: &mut dyn Source,
    item: Item,
    depth: usize,
    left: &mut usize,
) -> Result<Content, Error> {
    let document = Document::parse(&item.bytes).map_err(|error| malformed(&item, &error))?;
    match item.descriptor.kind() {
        Kind::Index => read_index(source, item, document, depth, left),
        Kind::Manifest => read_image(source, item, document),
        Kind::Schema1 => Err(Error::Schema1 {
            digest: item.descriptor.digest().clone(),
        }),
        _ => Ok(Content::Other(item, Vec::new())),
    }
}

fn read_index(
    source: &mut dyn Source,
    item: Item,
    document: Document,
    depth: usize,
    left: &mut usize,
) -> Result<Content, Error> {
    if depth >= DEEPEST {
        return Err(malformed(&item, "indexes lie in one another too deeply"));
    }
    let list = document.tree["manifests"].as_array();
    let list = list.ok_or_else(|| malformed(&item, "the index has no list of manifests"))?;
    *left = left
        .checked_sub(list.len())
        .ok_or_else(|| malformed(&item, "its indexes name more than 1024 manifests"))?;
    let mut children = Vec::new();
    for child in list {
        let descriptor = Descriptor::parse(child).map_err(|error| malformed(&item, &error))?;
        if is_attestation(&descriptor) {
            children.push(Content::Attestation(descriptor));
            continue;
        }
        let bytes = source.manifest(&descriptor)?;
        children.push(read_at(
            source,
            Item { descriptor, bytes },
            depth + 1,
            left,
        )?);
    }
    Ok(Content::Index(Index {
        item,
        document,
        children,
    }))
}

/// BuildKit's attestations have an annotation, and a platform that is none.
fn is_attestation(descriptor: &Descriptor) -> bool {
    let platform = descriptor.platform();
    descriptor.annotation("vnd.docker.reference.type").is_some()
        || platform.is_some_and(|one| one.os == "unknown" && one.architecture == "unknown")
}

fn read_image(source: &mut dyn Source, item: Item, document: Document) -> Result<Content, Error> {
    let wrong = |error: &dyn std::fmt::Display| malformed(&item, &error);
    if document.tree.get("schemaVersion").and_then(Value::as_u64) == Some(1) {
        return Err(Error::Schema1 {
            digest: item.descriptor.digest().clone(),
        });
    }
    let config = Descriptor::parse(&document.tree["config"]).map_err(|error| wrong(&error))?;
    if config.kind() != Kind::Config {
        // A signature, a chart, a list of parts: whatever it is, it is not ours.
        let blobs = blobs(&item, &document.tree)?;
        return Ok(Content::Other(item, blobs));
    }
    let bytes = read_config(source, &config)?;
    let tree = Document::parse(&bytes).map_err(|error| wrong(&format!("its config: {error}")))?;
    let image = Image::new(document, tree).map_err(|error| wrong(&error))?;
    let layers = image.layers().map_err(|error| wrong(&error))?;
    if let Some(layer) = layers.iter().find(|one| one.kind() == Kind::Encrypted) {
        return Err(Error::Encrypted {
            digest: layer.digest().clone(),
        });
    }
    let mut ours = Vec::new();
    if image.may_hold_shim() {
        for (place, layer) in layers.iter().enumerate() {
            if layer.size() <= layer::LARGEST && is_ours(source, layer)? {
                ours.push(place);
            }
        }
    }
    Ok(Content::Image(Box::new(Picture {
        item,
        config: bytes,
        image,
        ours,
        new_layer: None,
    })))
}

/// The blobs that a manifest names, whatever they are.
pub(super) fn blobs(item: &Item, manifest: &Value) -> Result<Vec<Descriptor>, Error> {
    let layers = manifest["layers"].as_array().into_iter().flatten();
    let all = manifest.get("config").into_iter().chain(layers);
    let parsed = all.map(Descriptor::parse).collect::<Result<_, _>>();
    parsed.map_err(|error| malformed(item, &error))
}

fn is_ours(source: &mut dyn Source, descriptor: &Descriptor) -> Result<bool, Error> {
    let fail = |source| Error::Blob {
        store: "the image".into(),
        digest: descriptor.digest().clone(),
        source,
    };
    layer::is_ours(source.blob(descriptor)?).map_err(fail)
}

/// Reads a config whole.
///
/// # Errors
/// It has more than [`LARGEST_CONFIG`] bytes, or cannot be read.
pub fn read_config(source: &mut dyn Source, config: &Descriptor) -> Result<Vec<u8>, Error> {
    check_size(config, LARGEST_CONFIG)?;
    let mut bytes = Vec::new();
    let read = source
        .blob(config)?
        .take(LARGEST_CONFIG)
        .read_to_end(&mut bytes);
    read.map_err(|source| Error::Blob {
        store: "the image".into(),
        digest: config.digest().clone(),
        source,
    })?;
    Ok(bytes)
}

/// Refuses a manifest or a config that claims to have more bytes than `most`.
///
/// # Errors
/// It does.
pub fn check_size(descriptor: &Descriptor, most: u64) -> Result<(), Error> {
    if descriptor.size() <= most {
        return Ok(());
    }
    Err(Error::TooLarge {
        store: "the image".into(),
        digest: descriptor.digest().clone(),
        size: descriptor.size(),
        most,
    })
}

/// Holds a manifest's bytes against what describes them.
///
/// # Errors
/// They are others, or more than [`LARGEST_MANIFEST`].
pub fn check_manifest(store: &str, descriptor: &Descriptor, bytes: &[u8]) -> Result<(), Error> {
    check_size(descriptor, LARGEST_MANIFEST)?;
    let mut reader = super::digest::Verifier::new(bytes, descriptor.digest(), descriptor.size());
    io::copy(&mut reader, &mut io::sink())
        .map(drop)
        .map_err(|source| Error::Blob {
            store: store.to_owned(),
            digest: descriptor.digest().clone(),
            source,
        })
}
