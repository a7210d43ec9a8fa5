//! The invariants of an image, held against every byte of it: the OCI image
//! specification, "Image Manifest" and "Image Configuration".

use std::io::{self, Read};

use serde_json::Value;
use thiserror::Error as ThisError;

use super::contents::{self, Content, Picture};
use super::descriptor::{Compression, Descriptor, Family, Kind, family};
use super::digest::{Digest, Hasher};
use super::error::Error;
use super::packing::unpack;
use super::platform::Platform;
use super::store::Source;

/// An invariant that does not hold. `at` is the digest of the manifest or index.
#[derive(Clone, Debug, ThisError, PartialEq, Eq)]
pub enum Violation {
    #[error("{at}: {blob}: {what}")]
    Blob {
        at: Digest,
        blob: Digest,
        what: String,
    },
    #[error("{at}: layer {place}: unpacked it is {found}, and the config says {expected}")]
    DiffId {
        at: Digest,
        place: usize,
        expected: Digest,
        found: Digest,
    },
    #[error("{at}: layer {place}: its media type says {expected:?}, and it is packed as {found:?}")]
    Compression {
        at: Digest,
        place: usize,
        expected: Compression,
        found: Compression,
    },
    #[error("{at}: the history has {entries} entries that made a layer, and there are {layers}")]
    History {
        at: Digest,
        entries: usize,
        layers: usize,
    },
    #[error("{at}: {media_type}: not of the family of the manifest's own media type")]
    Family { at: Digest, media_type: String },
    #[error("{at}: {media_type}: no layer of an image")]
    LayerType { at: Digest, media_type: String },
    #[error("{at}: its descriptor says {media_type}, and it says {own}")]
    MediaType {
        at: Digest,
        media_type: String,
        own: String,
    },
    #[error("{at}: the index says {listed}, and the config {own}")]
    Platform {
        at: Digest,
        listed: Platform,
        own: Platform,
    },
    #[error("{at}: schemaVersion is not 2")]
    SchemaVersion { at: Digest },
}

/// Reads all that the reference of `source` leads to, and gives what is wrong
/// with it.
///
/// # Errors
/// It is so wrong that it cannot be read: a manifest or config that is not there,
/// malformed, or other content than its digest says.
pub fn validate(source: &mut dyn Source) -> Result<Vec<Violation>, Error> {
    let top = source.top()?;
    let content = contents::read(source, top)?;
    let mut violations = Vec::new();
    visit(source, &content, &mut violations)?;
    Ok(violations)
}

fn visit(
    source: &mut dyn Source,
    content: &Content,
    violations: &mut Vec<Violation>,
) -> Result<(), Error> {
    match content {
        Content::Index(index) => {
            let at = index.item.descriptor.digest();
            check_types(at, &index.item.descriptor, &index.document.tree, violations);
            for child in &index.children {
                visit(source, child, violations)?;
            }
        }
        Content::Image(picture) => check_image(source, picture, violations)?,
        Content::Other(item, blobs) => {
            let at = item.descriptor.digest();
            for blob in blobs {
                check_blob(source, at, blob, violations, |_| Ok(()))?;
            }
        }
        Content::Attestation(descriptor) => drop(source.manifest(descriptor)?),
    }
    Ok(())
}

/// The media types of what `tree` names, which `descriptor` describes.
fn check_types(
    at: &Digest,
    descriptor: &Descriptor,
    tree: &Value,
    violations: &mut Vec<Violation>,
) {
    let described = descriptor.media_type();
    if tree["schemaVersion"].as_u64() != Some(2) {
        violations.push(Violation::SchemaVersion { at: at.clone() });
    }
    if let Some(own) = tree["mediaType"].as_str()
        && own != described
    {
        violations.push(Violation::MediaType {
            at: at.clone(),
            media_type: described.to_owned(),
            own: own.to_owned(),
        });
    }
    let named = ["manifests", "layers"]
        .iter()
        .filter_map(|list| tree[*list].as_array())
        .flatten()
        .chain(tree.get("config"));
    for media_type in named.filter_map(|one| one["mediaType"].as_str()) {
        let is_foreign = family(media_type).is_some_and(|one| Some(one) != family(described));
        // An OCI index may name what Docker made, though registries dislike it.
        let is_lenient = family(described) == Some(Family::Oci) && !tree["layers"].is_array();
        if is_foreign && !is_lenient {
            violations.push(Violation::Family {
                at: at.clone(),
                media_type: media_type.to_owned(),
            });
        }
    }
}

fn check_image(
    source: &mut dyn Source,
    picture: &Picture,
    violations: &mut Vec<Violation>,
) -> Result<(), Error> {
    let at = picture.digest();
    let image = &picture.image;
    let malformed = |error: super::edit::Malformed| Error::Malformed {
        store: "the image".into(),
        digest: at.clone(),
        what: error.to_string(),
    };
    check_types(
        at,
        &picture.item.descriptor,
        &image.manifest.tree,
        violations,
    );
    let layers = image.layers().map_err(malformed)?;
    let diff_ids = image.diff_ids().map_err(malformed)?;
    if let Some(history) = image.config.tree["history"].as_array()
        && !history.is_empty()
    {
        let makes = |entry: &&Value| entry["empty_layer"] != Value::Bool(true);
        let entries = history.iter().filter(makes).count();
        if entries != layers.len() {
            violations.push(Violation::History {
                at: at.clone(),
                entries,
                layers: layers.len(),
            });
        }
    }
    let listed = picture.item.descriptor.platform();
    if let (Some(listed), Some(own)) = (listed, Platform::of(&image.config.tree))
        && !own.satisfies(&listed)
        && own.variant.is_some()
    {
        let (at, own) = (at.clone(), own);
        violations.push(Violation::Platform { at, listed, own });
    }
    for (place, (layer, expected)) in layers.iter().zip(&diff_ids).enumerate() {
        let Kind::Layer(compression) = layer.kind() else {
            violations.push(Violation::LayerType {
                at: at.clone(),
                media_type: layer.media_type().to_owned(),
            });
            continue;
        };
        let mut found = None;
        check_blob(source, at, layer, violations, |reader| {
            let (packed, mut unpacked) = unpack(reader)?;
            let mut hasher = Hasher::new(expected.algorithm());
            let mut buffer = vec![0; 64 * 1024];
            loop {
                match unpacked.read(&mut buffer)? {
                    0 => break,
                    count => hasher.update(&buffer[..count]),
                }
            }
            drop(unpacked);
            found = Some((packed, hasher.finish()));
            Ok(())
        })?;
        let Some((packed, diff_id)) = found else {
            continue;
        };
        if packed != compression {
            violations.push(Violation::Compression {
                at: at.clone(),
                place,
                expected: compression,
                found: packed,
            });
        }
        if diff_id != *expected {
            violations.push(Violation::DiffId {
                at: at.clone(),
                place,
                expected: expected.clone(),
                found: diff_id,
            });
        }
    }
    Ok(())
}

/// Reads a blob to its end: by `consume`, and then what that left.
fn check_blob(
    source: &mut dyn Source,
    at: &Digest,
    blob: &Descriptor,
    violations: &mut Vec<Violation>,
    consume: impl FnOnce(&mut dyn Read) -> io::Result<()>,
) -> Result<(), Error> {
    let outcome = match source.blob(blob) {
        Ok(mut reader) => consume(&mut reader)
            .and_then(|()| io::copy(&mut reader, &mut io::sink()))
            .map_err(|error| error.to_string()),
        Err(error @ Error::NoSuchBlob { .. }) => Err(error.to_string()),
        Err(error) => return Err(error),
    };
    if let Err(what) = outcome {
        violations.push(Violation::Blob {
            at: at.clone(),
            blob: blob.digest().clone(),
            what,
        });
    }
    Ok(())
}
