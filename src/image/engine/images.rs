//! The images that an engine has.

use std::sync::PoisonError;

use serde_json::{Map, Value, json};
use ureq::http::Method;

use super::client::{Call, Content};
use super::error::EngineError;
use super::{Engine, Kind};
use crate::image::digest::{Digest, InvalidDigest};
use crate::image::reference::{LATEST, Name};

/// An image as the engine shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Inspected {
    /// The digest of its config, which names the image in the engine.
    pub id: Digest,
    /// The whole answer of `GET /images/NAME/json`.
    pub(super) json: Value,
}

/// The image that another one was made from by inject.
#[derive(Clone, Debug, PartialEq)]
pub enum Base {
    /// Nothing says that the image was made by inject.
    NotRecorded,
    /// It was made from this one, which the engine no longer has.
    Gone(Digest),
    /// It was made from this one, which is there.
    Here(Inspected),
}

/// What the comment of our entry in the history starts with, before the digest of
/// the base.
const BASE: &str = "reuseport base=";

/// The most names that are listed where an image is not found.
const MOST_NEAR: usize = 8;

impl Inspected {
    /// The image's `config`, as its engine understands it: of fields that it does
    /// not know it says nothing.
    pub fn config(&self) -> &Value {
        &self.json["Config"]
    }

    /// `amd64`, `arm64`, …
    pub fn architecture(&self) -> &str {
        self.text("Architecture")
    }

    /// `linux`, …
    pub fn os(&self) -> &str {
        self.text("Os")
    }

    /// `v7` of `arm/v7`; empty where there is none.
    pub fn variant(&self) -> &str {
        self.text("Variant")
    }

    /// The names of the image here.
    pub fn tags(&self) -> Vec<&str> {
        strings(&self.json["RepoTags"]).collect()
    }

    /// The digests of its layers, unpacked.
    pub fn layers(&self) -> Vec<&str> {
        strings(&self.json["RootFS"]["Layers"]).collect()
    }

    pub(super) fn text(&self, name: &str) -> &str {
        self.json[name].as_str().unwrap_or_default()
    }

    /// The media type of the manifest, where the engine says it: Podman does.
    pub(super) fn manifest_type(&self) -> &str {
        self.text("ManifestType")
    }
}

impl Engine {
    /// The name under which the engine has `image`, which was asked for by `name`,
    /// with `tag` in the place of its own. Podman may have found a short name with
    /// another host before it than Docker's.
    pub fn sibling(&self, name: &Name, image: &Inspected, tag: &str) -> String {
        let asked = spelt(name);
        let (asked, asked_tag) = split(&asked);
        let found = image
            .tags()
            .into_iter()
            .map(split)
            .find(|(repository, tag)| *tag == asked_tag && is_same_repository(repository, asked));
        let repository = found.map_or(asked, |(repository, _)| repository);
        format!("{repository}:{tag}")
    }

    /// `GET /images/NAME/json`; none where the engine has no such image.
    ///
    /// # Errors
    /// The engine does not say.
    pub fn inspect(&self, name: &str) -> Result<Option<Inspected>, EngineError> {
        // Podman resolves a short name in its own API as its command does; in
        // Docker's it puts docker.io before it.
        let path = match self.kind {
            Kind::Docker => self.path(&format!("/images/{name}/json")),
            Kind::Podman => format!("{}/images/{name}/json", self.libpod),
        };
        let found = self.client.find(&Call::new(Method::GET, path))?;
        found.map(|json| self.read(json)).transpose()
    }

    fn read(&self, mut json: Value) -> Result<Inspected, EngineError> {
        // Podman gives the digest without its algorithm, and this field outside of the
        // config.
        let id = json["Id"].as_str().unwrap_or_default();
        let id = match id.split_once(':') {
            Some(_) => id.parse(),
            None => format!("sha256:{id}").parse(),
        };
        let id = id.map_err(|error: InvalidDigest| {
            let call = Call::new(Method::GET, "/images/NAME/json");
            self.client.garbled(&call, error.to_string())
        })?;
        if let Some(check) = json
            .as_object_mut()
            .and_then(|all| all.remove("Healthcheck"))
            && let Some(config) = json["Config"].as_object_mut()
        {
            config.entry("Healthcheck").or_insert(check);
        }
        Ok(Inspected { id, json })
    }

    /// The image `name`.
    ///
    /// # Errors
    /// It is not there; the error lists those with similar names.
    pub fn image(&self, name: &str) -> Result<Inspected, EngineError> {
        match self.inspect(name)? {
            Some(image) => Ok(image),
            None => Err(EngineError::NoImage {
                engine: self.kind.name(),
                name: name.to_owned(),
                near: self.near(name)?,
            }),
        }
    }

    /// `GET /images/json`: the names of all images here.
    ///
    /// # Errors
    /// The engine does not say.
    pub fn names(&self) -> Result<Vec<String>, EngineError> {
        let call = Call::new(Method::GET, self.path("/images/json"));
        let all = self.client.json(&call, Content::None)?;
        let images = all.as_array().into_iter().flatten();
        let names = images.flat_map(|image| strings(&image["RepoTags"]));
        let mut names: Vec<String> = names
            .filter(|name| *name != "<none>:<none>")
            .map(str::to_owned)
            .collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// The names here that may have been meant by `name`, best first: other tags of
    /// it, then names that look like it.
    fn near(&self, name: &str) -> Result<Vec<String>, EngineError> {
        Ok(nearest(name, self.names()?))
    }

    /// `GET /images/ID/history`, oldest entry first, as an image's config has it:
    /// the base's digest is in a comment there.
    ///
    /// # Errors
    /// The engine does not say.
    pub fn history(&self, image: &Inspected) -> Result<Vec<Value>, EngineError> {
        let known = || {
            self.histories
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        if let Some(history) = known().get(&image.id) {
            return Ok(history.clone());
        }
        let path = self.path(&format!("/images/{}/history", image.id));
        let answer = self
            .client
            .json(&Call::new(Method::GET, path), Content::None)?;
        let entries = answer.as_array().cloned().unwrap_or_default();
        let entry = |entry: Value| {
            let mut made = Map::new();
            made.insert("created_by".to_owned(), entry["CreatedBy"].clone());
            if entry["Comment"].as_str().is_some_and(|it| !it.is_empty()) {
                made.insert("comment".to_owned(), entry["Comment"].clone());
            }
            if entry["Size"] == json!(0) {
                made.insert("empty_layer".to_owned(), json!(true));
            }
            Value::Object(made)
        };
        let history: Vec<Value> = entries.into_iter().rev().map(entry).collect();
        known().insert(image.id.clone(), history.clone());
        Ok(history)
    }

    /// The image that `image` was made from, by the comment of its newest entry in
    /// the history: an image that was built FROM one of ours has no base in this
    /// sense.
    ///
    /// # Errors
    /// The engine does not say.
    pub fn base(&self, image: &Inspected) -> Result<Base, EngineError> {
        let history = self.history(image)?;
        let newest = history
            .last()
            .map_or(&Value::Null, |entry| &entry["comment"]);
        let Some(id) = newest.as_str().and_then(|text| text.strip_prefix(BASE)) else {
            return Ok(Base::NotRecorded);
        };
        // What stands there is written by whoever made the image. An image is asked
        // for by a digest, not by a name that this may be.
        let id = id.split(' ').next().unwrap_or_default();
        let Ok(id) = id.parse::<Digest>() else {
            return Ok(Base::NotRecorded);
        };
        let base = self.inspect(&id.to_string())?.filter(|base| base.id == id);
        Ok(match base {
            // It may hold anything; it is the base where it lacks one layer of this.
            Some(base) if is_below(&base, image) => Base::Here(base),
            Some(_) => Base::NotRecorded,
            None => Base::Gone(id),
        })
    }

    /// Whether `image` was made by inject: see [`Engine::base`].
    ///
    /// # Errors
    /// The engine does not say.
    pub(super) fn is_ours(&self, image: &Inspected) -> Result<bool, EngineError> {
        let history = self.history(image)?;
        let newest = history
            .last()
            .map_or(&Value::Null, |entry| &entry["comment"]);
        Ok(newest.as_str().is_some_and(|text| text.starts_with(BASE)))
    }

    /// `POST /images/ID/tag`.
    ///
    /// # Errors
    /// The engine refuses.
    pub fn tag(&self, id: &Digest, name: &str) -> Result<(), EngineError> {
        let (repository, tag) = split(name);
        let path = match self.kind {
            Kind::Docker => self.path(&format!("/images/{id}/tag")),
            Kind::Podman => format!("{}/images/{id}/tag", self.libpod),
        };
        let call = Call::new(Method::POST, path)
            .with("repo", repository)
            .with("tag", tag);
        self.client.done(&call, Content::None)
    }

    /// `DELETE /images/ID`, where nothing names the image and nothing uses it. The
    /// images below it stay. Says whether it is gone.
    ///
    /// # Errors
    /// The engine cannot be asked.
    pub fn remove_unnamed(&self, id: &Digest) -> Result<bool, EngineError> {
        let Some(image) = self.inspect(&id.to_string())? else {
            return Ok(true);
        };
        if image.id != *id || !image.tags().is_empty() {
            return Ok(false);
        }
        let path = self.path(&format!("/images/{id}"));
        let call = Call::new(Method::DELETE, path).with("noprune", "1");
        match self.client.done(&call, Content::None) {
            Ok(()) => Ok(true),
            // A container was made from it, or an image built from it.
            Err(EngineError::Refused { status: 409, .. }) => Ok(false),
            Err(error) if error.is_not_found() => Ok(true),
            Err(error) => Err(error),
        }
    }
}

/// `name` as engines take it. It always has a tag or a digest: without, Docker would
/// save every image of that name.
pub fn spelt(name: &Name) -> String {
    let mut name = name.clone();
    if name.digest.is_none() && name.tag.is_none() {
        name.tag = Some(LATEST.to_owned());
    }
    name.familiar()
}

/// The strings in a list of JSON; none where it is no list.
pub(super) fn strings(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

/// Whether `image` has the layers of `base`, and one more.
fn is_below(base: &Inspected, image: &Inspected) -> bool {
    let (below, all) = (base.layers(), image.layers());
    all.len() == below.len() + 1 && all.starts_with(&below)
}

/// The repository and the tag of a name; the tag is `latest` where it has none. The
/// port of a registry is no tag.
pub(super) fn split(name: &str) -> (&str, &str) {
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (name, "latest"),
    }
}

/// A repository without the host that an engine put before it.
fn bare(repository: &str) -> &str {
    let hosts = ["localhost/", "docker.io/library/", "docker.io/"];
    let without = hosts.iter().find_map(|host| repository.strip_prefix(host));
    without.unwrap_or(repository)
}

fn is_same_repository(one: &str, other: &str) -> bool {
    one == other || bare(one) == bare(other)
}

fn nearest(name: &str, names: Vec<String>) -> Vec<String> {
    let bare = |name: &str| bare(split(name).0).to_owned();
    let wanted = bare(name);
    let last = |name: &str| name.rsplit('/').next().unwrap_or(name).to_owned();
    let distance = |name: &String| {
        let here = bare(name);
        if here == wanted {
            0
        } else if last(&here) == last(&wanted) {
            1
        } else {
            1 + strsim::damerau_levenshtein(&here, &wanted)
        }
    };
    let mut near: Vec<(usize, String)> = names
        .into_iter()
        .map(|name| (distance(&name), name))
        .filter(|(distance, _)| *distance <= 3)
        .collect();
    near.sort();
    near.truncate(MOST_NEAR);
    near.into_iter().map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_a_tag() {
        assert_eq!(split("redis:7"), ("redis", "7"));
        assert_eq!(split("redis"), ("redis", "latest"));
        assert_eq!(split("host:5000/redis"), ("host:5000/redis", "latest"));
        assert_eq!(split("host:5000/redis:7"), ("host:5000/redis", "7"));
    }

    #[test]
    fn the_nearest_names_come_first() {
        let names = ["localhost/redis:6", "nginx:1", "radis:1", "me/redis:1"];
        let names = names.map(str::to_owned).to_vec();
        assert_eq!(
            nearest("redis:7", names),
            ["localhost/redis:6", "me/redis:1", "radis:1"]
        );
    }
}
