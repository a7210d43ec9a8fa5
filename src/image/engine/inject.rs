//! The shim into an image of an engine and out of it, where that can be done
//! without moving the image: Docker commits one layer more, and either engine gives
//! another name to the image that was there before.

use std::ffi::OsString;

use serde_json::{Value, json};

use super::commit::is_same;
use super::images::Base;
use super::{Change, Engine, EngineError, Inspected, Kind, Unnamed};
use crate::image::descriptor::{Compression, Descriptor, Family, media_type};
use crate::image::edit::{self, Image};
use crate::image::error::Error;
use crate::image::json::Document;
use crate::image::layer::{self, Layer};
use crate::image::platform::Platform;
use crate::image::transform::Request;
use crate::shim;

impl From<EngineError> for Error {
    fn from(error: EngineError) -> Self {
        Self::Store {
            store: "docker-daemon".to_owned(),
            source: Box::new(error),
        }
    }
}

/// What is to be done to an image.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What the shim is put into.
    pub base: Inspected,
    /// The image as it is, as far as the engine shows it.
    pub before: Image,
    /// The image as it is to be, likewise.
    pub after: Image,
    layer: Layer,
}

impl Inspected {
    /// What it runs on.
    pub fn platform(&self) -> Platform {
        Platform::new(self.os(), self.architecture(), Some(self.variant()))
    }
}

impl Engine {
    /// The documents of `image` as far as the engine shows them: an edit can be
    /// judged by them, and a commit made from them. They have not the digests of
    /// the real ones.
    ///
    /// # Errors
    /// The engine does not say, or shows no image.
    pub fn documents(&self, image: &Inspected) -> Result<Image, Error> {
        let mut inner = image.config().clone();
        // What the engine does not know of it shows as null.
        if let Some(members) = inner.as_object_mut() {
            members.retain(|_, value| !value.is_null());
        }
        let layers = image.layers();
        let config = json!({
            "architecture": image.architecture(),
            "os": image.os(),
            "config": inner,
            "rootfs": {"type": "layers", "diff_ids": layers},
            "history": self.history(image)?,
        });
        let layer = |digest: &&str| json!({"mediaType": media_type::DOCKER_LAYER, "digest": digest, "size": 0});
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type::DOCKER_MANIFEST,
            "config": Descriptor::new(media_type::DOCKER_CONFIG, image.id.clone(), 0).to_value(),
            "layers": layers.iter().map(layer).collect::<Value>(),
        });
        let document = |tree: Value| {
            let parsed = Document::parse(tree.to_string().as_bytes());
            parsed.map_err(|error| malformed(image, &error))
        };
        Image::new(document(manifest)?, document(config)?).map_err(|error| malformed(image, &error))
    }

    /// Makes an image of `image` with the shim put in: `first` are the libraries that
    /// the loader must see before it. Where the shim is in it already, it is put into
    /// what was there before, so that it is there once.
    ///
    /// None where the image has to be saved, edited and loaded: in Podman; and where
    /// a shim is in it that cannot be had out otherwise.
    ///
    /// # Errors
    /// There is no shim for the image, or the engine refuses.
    pub fn inject(
        &self,
        image: &Inspected,
        request: &Request,
        first: &[OsString],
    ) -> Result<Option<Unnamed>, Error> {
        if self.kind() != Kind::Docker {
            return Ok(None);
        }
        if self.untouched(image)?.is_none() && self.documents(image)?.may_hold_shim() {
            return Ok(None);
        }
        let Plan {
            base,
            layer,
            after: edited,
            ..
        } = self.plan(image, request, first)?;
        let tree = &edited.config.tree;
        if !Self::can_commit(&base, &tree["config"]) {
            return Ok(None);
        }
        // An image without history gets one by a commit.
        let entries = tree["history"].as_array();
        let comment = entries.and_then(|entries| entries.last()?["comment"].as_str());
        let comment = comment.map_or_else(|| format!("reuseport base={}", base.id), str::to_owned);
        let change = Change {
            config: &tree["config"],
            layer: &layer.content,
            comment: &comment,
        };
        Ok(Some(self.commit(&base, &change)?))
    }

    /// What inject would make of `image`, as far as the engine shows it.
    ///
    /// # Errors
    /// There is no shim for the image, or the engine does not answer.
    pub fn plan(
        &self,
        image: &Inspected,
        request: &Request,
        first: &[OsString],
    ) -> Result<Plan, Error> {
        let base = self.untouched(image)?.unwrap_or_else(|| image.clone());
        let platform = base.platform();
        let shim = platform.shim_architecture().map(shim::packed);
        let Some(Ok(shim)) = shim else {
            return Err(Error::NoShim {
                digest: base.id,
                platform: platform.to_string(),
            });
        };
        let layer = layer::build(shim, Family::Docker, Compression::Plain, request.time);
        let change = edit::Change {
            rules: &request.rules,
            layer: &layer,
            base: &base.id,
            base_name: None,
            first,
            time: request.time,
        };
        let after = self.documents(&base)?.inject(&change);
        Ok(Plan {
            before: self.documents(image)?,
            after: after.map_err(|error| malformed(image, &error))?,
            base,
            layer,
        })
    }

    /// Gives the name `name` to what the shim was put into, where the engine still
    /// has it. None where the image has to be saved, edited and loaded.
    ///
    /// # Errors
    /// The engine refuses.
    pub fn eject(&self, image: &Inspected, name: &str) -> Result<Option<Inspected>, Error> {
        let Some(base) = self.untouched(image)? else {
            return Ok(None);
        };
        self.replace(&base.id, name)?;
        Ok(Some(base))
    }

    /// What the shim was put into, where the engine has it, and `image` without the
    /// shim is nothing else.
    ///
    /// # Errors
    /// The engine does not say.
    pub fn untouched(&self, image: &Inspected) -> Result<Option<Inspected>, Error> {
        let Base::Here(base) = self.base(image)? else {
            return Ok(None);
        };
        let documents = self.documents(image)?;
        let ours = image.layers().len() - 1;
        let Ok((without, _)) = documents.eject(&[ours]) else {
            return Ok(None);
        };
        let was = self.documents(&base)?;
        let config = |image: &Image| image.config.tree["config"].clone();
        let is_same = is_same_config(&config(&was), &config(&without));
        let is_same = is_same && base.platform() == image.platform();
        Ok(is_same.then_some(base))
    }
}

/// Whether two configs say the same, member for member.
fn is_same_config(one: &Value, other: &Value) -> bool {
    let names = |config: &Value| -> Vec<String> {
        let members = config.as_object().into_iter().flatten();
        members.map(|(name, _)| name.clone()).collect()
    };
    let mut all = names(one).into_iter().chain(names(other));
    all.all(|name| is_same(&one[&name], &other[&name]))
}

fn malformed(image: &Inspected, error: &dyn std::fmt::Display) -> Error {
    Error::Malformed {
        store: "docker-daemon".to_owned(),
        digest: image.id.clone(),
        what: error.to_string(),
    }
}
