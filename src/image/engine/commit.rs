//! One more layer and another config, the way that costs no more for a large image:
//! a container that never runs takes the layer, `POST /commit` takes the config.
//!
//! This is Docker's way. Podman's commit rewrites the environment and drops what it
//! is given; there an image is saved, edited and loaded.

use std::fmt;

use serde_json::{Map, Value};
use ureq::http::Method;

use super::client::{Call, Content};
use super::container::{Container, NOTHING_TO_RUN};
use super::error::EngineError;
use super::images::split;
use super::leftover::{self, Leftover, PENDING};
use super::{Engine, Inspected};
use crate::image::digest::Digest;

/// What an image is to become.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// Its whole `config`, as it is to be.
    pub config: &'a Value,
    /// The one layer on top: an uncompressed tar archive.
    pub layer: &'a [u8],
    /// The comment of the entry in the history.
    pub comment: &'a str,
}

/// An image that was made, and that goes when this is dropped, unless it has been
/// given a name: see [`Engine::name`].
#[derive(Debug)]
pub struct Unnamed {
    image: Inspected,
    /// In what it differs from what was meant.
    losses: Vec<Loss>,
    pending: Leftover,
}

/// An image that was made.
#[derive(Clone, Debug, PartialEq)]
pub struct Committed {
    /// As the engine shows it.
    pub image: Inspected,
    /// In what it differs from what was meant.
    pub losses: Vec<Loss>,
}

/// Something that the engine did not take over.
#[derive(Clone, Debug, PartialEq)]
pub struct Loss {
    /// The field's name: `Author`, or `Config.Shell`.
    pub field: String,
    /// What was meant; null where it was to be absent.
    pub meant: Value,
    /// What is there; null where nothing is.
    pub is: Value,
}

impl fmt::Display for Loss {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, meant, is } = self;
        match (meant, is) {
            (_, Value::Null) => write!(formatter, "{field} is lost: it was {meant}"),
            (Value::Null, _) => write!(formatter, "{field} was added: {is}"),
            _ => write!(formatter, "{field} has changed from {meant} to {is}"),
        }
    }
}

/// The members of an image's config that a commit may add to and never takes from:
/// Docker merges them with those of the image below.
const MERGED: [&str; 4] = ["Env", "ExposedPorts", "Labels", "Volumes"];

/// What an image says of itself besides its config.
const DESCRIPTION: [&str; 5] = ["Author", "Architecture", "Variant", "Os", "OsVersion"];

impl Engine {
    /// Whether a commit on `base` can give an image with `config`: it takes nothing
    /// away that is there.
    pub fn can_commit(base: &Inspected, config: &Value) -> bool {
        MERGED
            .iter()
            .all(|name| keys(&base.config()[*name]).is_subset(&keys(&config[*name])))
    }

    /// Makes an image of `base` and `change`: `POST /containers/create`,
    /// `PUT /containers/ID/archive`, `POST /commit`. What the engine did not take over
    /// is named in the result.
    ///
    /// # Errors
    /// The engine refuses, or the layer is lost. The engine is as it was then.
    pub fn commit(&self, base: &Inspected, change: &Change) -> Result<Unnamed, EngineError> {
        let container = Container::create(self, base)?;
        container.write(change.layer)?;
        // Until it has been looked at, the image has a name by which a later run
        // finds it if this one is killed.
        let tag = leftover::name();
        let name = format!("{PENDING}:{tag}");
        let pending = Leftover::tag(&self.client, &self.version, &name);
        let call = Call::new(Method::POST, self.path("/commit"))
            .with("container", container.name())
            .with("repo", PENDING)
            .with("tag", &tag)
            .with("comment", change.comment)
            .with("author", base.text("Author"))
            // There is nothing to pause.
            .with("pause", "0");
        pending.make(|| self.client.json(&call, Content::Json(change.config)))?;
        container.remove()?;
        let image = self.image(&name)?;
        let (below, all) = (base.layers(), image.layers());
        if all.len() != below.len() + 1 || !all.starts_with(&below) {
            return Err(EngineError::LayerLost {
                engine: self.kind.name(),
                name: base
                    .tags()
                    .first()
                    .map_or_else(|| base.id.to_string(), |name| (*name).to_owned()),
            });
        }
        let mut losses = losses(base, change.config, &image);
        let history = self.history(&image)?;
        let comment = history
            .last()
            .map_or(&Value::Null, |entry| &entry["comment"]);
        if *comment != change.comment {
            losses.push(Loss {
                field: "history comment".to_owned(),
                meant: change.comment.into(),
                is: comment.clone(),
            });
        }
        Ok(Unnamed {
            image,
            losses,
            pending,
        })
    }

    /// Gives `unnamed` the name `name`: see [`Engine::replace`].
    ///
    /// # Errors
    /// The engine refuses.
    pub fn name(&self, unnamed: Unnamed, name: &str) -> Result<Committed, EngineError> {
        self.replace(&unnamed.image.id, name)?;
        unnamed.pending.remove()?;
        Ok(Committed {
            image: self.image(name)?,
            losses: unnamed.losses,
        })
    }

    /// Gives the name `name` to the image `id`. The image that had it goes where it
    /// is one of ours and nothing else names or uses it.
    ///
    /// # Errors
    /// The engine refuses.
    pub fn replace(&self, id: &Digest, name: &str) -> Result<(), EngineError> {
        let (repository, tag) = split(name);
        let name = format!("{repository}:{tag}");
        let before = self.inspect(&name)?;
        self.tag(id, &name)?;
        if let Some(before) = before
            && before.id != *id
            && self.is_ours(&before)?
        {
            self.remove_unnamed(&before.id)?;
        }
        Ok(())
    }
}

/// The keys of a map, or of a list of `KEY=VALUE`.
fn keys(value: &Value) -> std::collections::BTreeSet<&str> {
    let listed = super::images::strings(value);
    let listed = listed.map(|entry| entry.split_once('=').map_or(entry, |(key, _)| key));
    let mapped = value.as_object().into_iter().flatten();
    listed.chain(mapped.map(|(key, _)| key.as_str())).collect()
}

/// In what `image` differs from `base` with `config`.
fn losses(base: &Inspected, config: &Value, image: &Inspected) -> Vec<Loss> {
    let empty = Map::new();
    let meant = config.as_object().unwrap_or(&empty);
    let is = image.config().as_object().unwrap_or(&empty);
    let added = is.keys().filter(|name| !meant.contains_key(*name));
    let config = meant.keys().chain(added).map(|name| Loss {
        field: format!("Config.{name}"),
        meant: meant.get(name).cloned().unwrap_or_default(),
        is: is.get(name).cloned().unwrap_or_default(),
    });
    let description = DESCRIPTION.iter().map(|name| Loss {
        field: (*name).to_owned(),
        meant: base.json[*name].clone(),
        is: image.json[*name].clone(),
    });
    config
        .chain(description)
        .filter(|loss| !is_same(&loss.meant, &loss.is))
        .filter(|loss| !is_placeholder(loss))
        .collect()
}

/// To an engine, nothing and an empty value are the same; so they are to what runs
/// the image.
pub(super) fn is_same(one: &Value, other: &Value) -> bool {
    one == other || (is_empty(one) && is_empty(other))
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

/// An image that runs nothing could not be changed otherwise.
fn is_placeholder(loss: &Loss) -> bool {
    loss.field == "Config.Cmd" && loss.is == serde_json::json!([NOTHING_TO_RUN])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn image(json: Value) -> Inspected {
        Inspected {
            id: Digest::of(b""),
            json,
        }
    }

    #[test]
    fn what_is_lost_is_named() {
        let base = image(json!({"Author": "me", "Architecture": "amd64", "Config": {}}));
        let meant = json!({"Env": ["A=b"], "Shell": ["sh"], "Labels": null, "Tty": false, "X": 1});
        let made = json!({"Env": ["A=b"], "Hostname": "abc", "Shell": null, "Labels": {}});
        let made = image(json!({"Author": "", "Architecture": "amd64", "Config": made}));
        let losses = losses(&base, &meant, &made);
        let shown: Vec<String> = losses.iter().map(Loss::to_string).collect();
        assert_eq!(
            shown,
            [
                "Config.Shell is lost: it was [\"sh\"]",
                "Config.X is lost: it was 1",
                "Config.Hostname was added: \"abc\"",
                "Author has changed from \"me\" to \"\"",
            ]
        );
    }

    #[test]
    fn a_commit_takes_nothing_away() {
        let base = image(json!({"Config": {"Env": ["A=b", "C=d"], "Labels": {"l": "1"}}}));
        let can = |config| Engine::can_commit(&base, &config);
        assert!(can(
            json!({"Env": ["C=", "A=x", "E=f"], "Labels": {"l": "2"}})
        ));
        assert!(!can(json!({"Env": ["A=b"], "Labels": {"l": "1"}})));
        assert!(!can(json!({"Env": ["A=b", "C=d"]})));
    }
}
