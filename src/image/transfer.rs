//! Copying what was read of an image, and what it has become, into a store.

use serde_json::Value;

use super::contents::{Content, Picture, blobs, malformed};
use super::descriptor::Descriptor;
use super::edit::Malformed;
use super::error::Error;
use super::progress::Progress;
use super::reference::Reference;
use super::store::{Destination, Item, Source};

/// Writes `content` to `destination`, taking from `source` what has no new
/// content, and gives it the destination's name.
///
/// # Errors
/// Something cannot be read or written: the destination is as it was.
pub fn write(
    content: &Content,
    source: &mut dyn Source,
    mut destination: Box<dyn Destination>,
    progress: &Progress,
) -> Result<Reference, Error> {
    let Some(top) = content.item() else {
        unreachable!("an attestation is in an index");
    };
    let mut copy = Copy {
        source,
        destination: destination.as_mut(),
        progress,
    };
    copy.parts(content)?;
    destination.finish(top)
}

/// Where content comes from, and where it goes.
struct Copy<'a> {
    source: &'a mut dyn Source,
    destination: &'a mut dyn Destination,
    progress: &'a Progress,
}

impl Copy<'_> {
    fn parts(&mut self, content: &Content) -> Result<(), Error> {
        match content {
            Content::Index(index) => {
                for child in &index.children {
                    self.parts(child)?;
                    match child.item() {
                        Some(item) => self.destination.put_manifest(item)?,
                        None => self.attestation(child.descriptor())?,
                    }
                }
            }
            Content::Image(picture) => self.image(picture)?,
            Content::Other(_, blobs) => {
                for blob in blobs {
                    self.carry(blob)?;
                }
            }
            Content::Attestation(_) => {}
        }
        Ok(())
    }

    /// An attestation that comes back with its image.
    fn attestation(&mut self, descriptor: &Descriptor) -> Result<(), Error> {
        let bytes = self.source.manifest(descriptor)?;
        let item = Item {
            descriptor: descriptor.clone(),
            bytes,
        };
        let tree: Value =
            serde_json::from_slice(&item.bytes).map_err(|error| malformed(&item, &error))?;
        for blob in blobs(&item, &tree)? {
            self.carry(&blob)?;
        }
        self.destination.put_manifest(&item)
    }

    fn image(&mut self, picture: &Picture) -> Result<(), Error> {
        let wrong = |error: Malformed| malformed(&picture.item, &error);
        // First: it is new as a rule, and takes a registry longest.
        let config = picture.image.config_descriptor().map_err(wrong)?;
        self.put_new(&config, &picture.config)?;
        for layer in picture.image.layers().map_err(wrong)? {
            match &picture.new_layer {
                Some(new) if new.descriptor.digest() == layer.digest() => {
                    self.put_new(&layer, &new.content)?;
                }
                _ => self.carry(&layer)?,
            }
        }
        Ok(())
    }

    fn put_new(&mut self, blob: &Descriptor, mut content: &[u8]) -> Result<(), Error> {
        if self.destination.reuse(blob, None)? {
            return Ok(());
        }
        self.destination.put(blob, &mut content)
    }

    fn carry(&mut self, blob: &Descriptor) -> Result<(), Error> {
        if self.destination.reuse(blob, Some(&self.source.id()))? {
            return Ok(());
        }
        let content = self.source.blob(blob)?;
        let mut content = self.progress.of_blob(blob, content);
        self.destination.put(blob, &mut content)
    }
}
