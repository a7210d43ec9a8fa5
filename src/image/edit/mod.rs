//! What an image becomes: pure functions from its manifest and config to others.
//!
//! `eject(inject(x))` is `x`, to the byte, and `inject(inject(x))` is `inject(x)`:
//! what an edit could not undo by itself, it writes down. The digest of what the
//! shim was put into stands in the comment of our entry in the history.

mod config;
mod environment;
mod manifest;

use std::ffi::OsString;

use serde_json::Value;
use thiserror::Error;

pub use config::Recorded;
pub(super) use manifest::{annotate, disannotate, is_oci};

use super::descriptor::{Compression, Descriptor, Family, InvalidDescriptor, Kind, family, kind};
use super::digest::Digest;
use super::json::Document;
use super::layer::Layer;
use crate::rules::Assignments;

/// Why a manifest or a config is none.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Malformed {
    #[error("the manifest is no JSON object")]
    Manifest,
    #[error("the config is no JSON object")]
    Config,
    #[error("the manifest has no list of layers")]
    NoLayers,
    #[error("the config has no list rootfs.diff_ids")]
    NoDiffIds,
    #[error("the config has {diff_ids} diff_ids for {layers} layers")]
    DiffIds { diff_ids: usize, layers: usize },
    #[error("the config's Env is no list of strings")]
    Env,
    #[error("the config's history is no list")]
    History,
    #[error("{0}")]
    Descriptor(#[from] InvalidDescriptor),
}

/// An image: what its manifest and its config say.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    pub manifest: Document,
    pub config: Document,
}

/// What is put into an image.
#[derive(Clone, Debug)]
pub struct Change<'a> {
    pub rules: &'a Assignments,
    pub layer: &'a Layer,
    /// The digest of the manifest that the shim is put into, for whoever wants
    /// it back.
    pub base: &'a Digest,
    /// The name that others can have that manifest by.
    pub base_name: Option<&'a str>,
    /// Libraries that the loader must see before the shim.
    pub first: &'a [OsString],
    /// Seconds since 1970.
    pub time: u64,
}

impl Image {
    /// The image of these documents.
    ///
    /// # Errors
    /// They do not fit together.
    pub fn new(manifest: Document, config: Document) -> Result<Self, Malformed> {
        let this = Self { manifest, config };
        if !this.manifest.tree.is_object() {
            return Err(Malformed::Manifest);
        }
        if !this.config.tree.is_object() {
            return Err(Malformed::Config);
        }
        let (layers, diff_ids) = (this.layers()?.len(), this.diff_ids()?.len());
        if layers != diff_ids {
            return Err(Malformed::DiffIds { diff_ids, layers });
        }
        Ok(this)
    }

    /// The descriptor of the config.
    ///
    /// # Errors
    /// There is none.
    pub fn config_descriptor(&self) -> Result<Descriptor, Malformed> {
        Ok(Descriptor::parse(&self.manifest.tree["config"])?)
    }

    /// The layers, the lowest one first.
    ///
    /// # Errors
    /// The manifest has no such list.
    pub fn layers(&self) -> Result<Vec<Descriptor>, Malformed> {
        let layers = self.manifest.tree["layers"].as_array();
        let layers = layers.ok_or(Malformed::NoLayers)?.iter();
        Ok(layers.map(Descriptor::parse).collect::<Result<_, _>>()?)
    }

    /// The digests of the unpacked layers, in the same order.
    ///
    /// # Errors
    /// The config has no such list.
    pub fn diff_ids(&self) -> Result<Vec<Digest>, Malformed> {
        let list = self.config.tree["rootfs"]["diff_ids"].as_array();
        let list = list.ok_or(Malformed::NoDiffIds)?.iter();
        let parsed = list.map(|one| one.as_str()?.parse().ok());
        parsed.collect::<Option<_>>().ok_or(Malformed::NoDiffIds)
    }

    /// What the top layer is like; the next one is to be the same.
    pub fn top_layer(&self) -> (Family, Compression) {
        let own = self.manifest.tree["mediaType"].as_str();
        let config = self.manifest.tree["config"]["mediaType"].as_str();
        let of_image = own.or(config).and_then(family).unwrap_or(Family::Oci);
        let layers = self.manifest.tree["layers"].as_array();
        let top = layers.and_then(|layers| layers.last()?["mediaType"].as_str());
        match top.map(|top| (family(top), kind(top))) {
            Some((family, Kind::Layer(compression))) => (family.unwrap_or(of_image), compression),
            _ => (of_image, Compression::Gzip),
        }
    }

    /// Whether there are signs that a shim of ours is in it; only its layers
    /// prove it.
    pub fn may_hold_shim(&self) -> bool {
        config::mentions_shim(&self.config.tree)
    }

    /// The image with the shim: one layer more. It holds none of ours before.
    ///
    /// # Errors
    /// The config is not what it should be.
    pub fn inject(&self, change: &Change<'_>) -> Result<Self, Malformed> {
        let config = self.config.with(config::inject(&self.config.tree, change)?);
        let manifest = manifest::inject(&self.manifest.tree, &config.to_bytes(), change)?;
        Ok(Self {
            manifest: self.manifest.with(manifest),
            config,
        })
    }

    /// The image without our layers, which are `ours` by their places, and what
    /// was written down when the shim was put in.
    ///
    /// # Errors
    /// The config is not what it should be.
    pub fn eject(&self, ours: &[usize]) -> Result<(Self, Recorded), Malformed> {
        let count = self.layers()?.len();
        let is_direct = ours.last().is_some_and(|&last| last + 1 == count);
        let (tree, mut recorded) = config::eject(&self.config.tree, ours, is_direct)?;
        let config = self.config.with(tree);
        let manifest = manifest::eject(
            &self.manifest.tree,
            &config.to_bytes(),
            ours,
            is_direct,
            &mut recorded,
        )?;
        let image = Self {
            manifest: self.manifest.with(manifest),
            config,
        };
        Ok((image, recorded))
    }
}

/// The member `name` of `tree`, if it is an object that has one.
fn member<'a>(tree: &'a Value, name: &str) -> Option<&'a Value> {
    tree.get(name).filter(|value| !value.is_null())
}
