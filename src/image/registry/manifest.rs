//! Manifests and indexes: their very bytes, by tag or by digest (distribution
//! specification, "Pulling manifests" and "Pushing manifests").

use serde_json::Value;
use ureq::http::{HeaderName, Method, StatusCode, header};

use super::answer::{Answer, read_bounded};
use super::client::{Ask, Repository};
use super::error::{Error, Fault, tame};
use super::location::encode;
use super::retry::Retries;
use super::transport::Content;
use crate::image::descriptor::{Kind, kind, media_type};
use crate::image::store::LARGEST_MANIFEST;
use crate::image::{Descriptor, Digest, Item};

const PULL: &str = "a request for a manifest";
const PUSH: &str = "a manifest";
const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

impl Repository {
    /// The manifest or index that `reference` names, a tag or a digest, held
    /// against its digest.
    ///
    /// # Errors
    /// It is not there, no image, of schema 1, too large, or not what its digest
    /// says; or the registry does not give it.
    pub fn manifest(&self, reference: &str) -> Result<Item, Error> {
        self.get_manifest(reference)
            .and_then(|item| item.ok_or_else(|| self.missing(reference)))
            .map_err(|fault| self.error(reference, fault))
    }

    /// The same, where it may be missing.
    ///
    /// # Errors
    /// As for [`Self::manifest`], but that.
    pub fn find_manifest(&self, reference: &str) -> Result<Option<Item>, Error> {
        self.get_manifest(reference)
            .map_err(|fault| self.error(reference, fault))
    }

    /// The digest of what `reference` names, if it names something; without
    /// fetching that where the registry says it.
    ///
    /// # Errors
    /// The registry does not tell.
    pub fn resolve(&self, reference: &str) -> Result<Option<Digest>, Error> {
        let head = || {
            let answer = self.send(&self.ask_manifest(Method::HEAD, reference)?)?;
            match answer.status() {
                StatusCode::OK => Ok(Some(answer.header(DIGEST).and_then(|it| it.parse().ok()))),
                StatusCode::NOT_FOUND => Ok(None),
                _ => Err(answer.into_fault()),
            }
        };
        match head().map_err(|fault| self.error(reference, fault))? {
            None => Ok(None),
            Some(Some(digest)) => Ok(Some(digest)),
            // The header is no must.
            Some(None) => {
                let item = self.find_manifest(reference)?;
                Ok(item.map(|item| item.descriptor.digest().clone()))
            }
        }
    }

    /// Writes a manifest or an index, under a tag or its digest. What it names is
    /// there already.
    ///
    /// # Errors
    /// The registry does not take it.
    pub fn put_manifest(&self, reference: &str, item: &Item) -> Result<(), Error> {
        let put = || {
            let path = format!("manifests/{}", encode_reference(reference));
            let mut ask = self.ask(PUSH, Method::PUT, &path, true)?;
            ask = ask.header(header::CONTENT_TYPE, item.descriptor.media_type());
            let answer = self.send_with(&ask, &mut Content::Bytes(&item.bytes))?;
            // The specification's 201 is a must; some say 200 or 202.
            if !answer.status().is_success() {
                return Err(answer.into_fault());
            }
            let wanted = item.descriptor.digest();
            match answer.header(DIGEST).map(str::parse::<Digest>) {
                Some(Ok(got)) if got.algorithm() == wanted.algorithm() && got != *wanted => {
                    Err(Fault::WrongDigest {
                        wanted: wanted.to_string(),
                        got: got.to_string(),
                    })
                }
                _ => {
                    answer.drain();
                    Ok(())
                }
            }
        };
        put().map_err(|fault| self.error(reference, fault))
    }

    fn ask_manifest(&self, method: Method, reference: &str) -> Result<Ask, Fault> {
        let path = format!("manifests/{}", encode_reference(reference));
        let ask = self.ask(PULL, method, &path, false)?;
        Ok(ask.header(header::ACCEPT, &media_type::MANIFESTS.join(", ")))
    }

    fn get_manifest(&self, reference: &str) -> Result<Option<Item>, Fault> {
        let ask = self.ask_manifest(Method::GET, reference)?;
        let mut retries = Retries::new(self.patience());
        loop {
            let answer = self.send(&ask)?;
            match answer.status() {
                StatusCode::OK => {}
                StatusCode::NOT_FOUND => {
                    answer.drain();
                    return Ok(None);
                }
                _ => return Err(answer.into_fault()),
            }
            match read_manifest(reference, answer) {
                Err(Fault::ManifestCutOff) if retries.pause(None) => {}
                read => return read.map(Some),
            }
        }
    }

    /// Why there is no manifest: the tags that are there say more.
    fn missing(&self, reference: &str) -> Fault {
        if reference.contains(':') {
            return Fault::NoManifest;
        }
        match self.list_tags() {
            Ok(Some((tags, more))) => Fault::NoTag { tags, more },
            Ok(None) => Fault::NoRepository,
            // The list may be forbidden to those who may pull.
            Err(_) => Fault::NoTag {
                tags: Vec::new(),
                more: false,
            },
        }
    }
}

/// Tags and digests need no encoding, but nothing else shall get into a path.
fn encode_reference(reference: &str) -> String {
    encode(reference).replace("%3A", ":")
}

fn read_manifest(reference: &str, answer: Answer) -> Result<Item, Fault> {
    let header = |name| answer.header(name).map(str::to_owned);
    let (content_type, claimed) = (header(header::CONTENT_TYPE), header(DIGEST));
    let size = answer.response.body().content_length();
    let too_large = || Fault::TooLarge {
        limit: LARGEST_MANIFEST,
    };
    if size.is_some_and(|size| size > LARGEST_MANIFEST) {
        return Err(too_large());
    }
    let bytes = read_bounded(answer.response.into_body(), LARGEST_MANIFEST);
    let bytes = bytes.map_err(|error| match error.kind() {
        std::io::ErrorKind::FileTooLarge => too_large(),
        _ => Fault::ManifestCutOff,
    })?;
    let judged = judge(content_type.as_deref(), &bytes);
    // The digest of one is that of a part of it alone.
    if let Err(Fault::Schema1) = judged {
        return Err(Fault::Schema1);
    }
    // By its digest, it is what was asked for. By a tag, the registry's word
    // shows what was damaged on the way.
    let wanted: Option<Digest> = reference.parse().ok();
    let wanted = wanted.or_else(|| claimed.and_then(|claimed| claimed.parse().ok()));
    if let Some(wanted) = &wanted
        && !wanted.is_of(&bytes)
    {
        return Err(Fault::WrongDigest {
            wanted: wanted.to_string(),
            got: Digest::of(&bytes).to_string(),
        });
    }
    let media_type = judged?;
    // By the digest that names it, whatever its algorithm.
    let digest = reference.parse().unwrap_or_else(|_| Digest::of(&bytes));
    let descriptor = Descriptor::new(&media_type, digest, bytes.len() as u64);
    Ok(Item { descriptor, bytes })
}

/// The media type: the answer's, and the manifest's own where the answer's says
/// nothing (image specification, "OCI Image Manifest", `mediaType`).
fn judge(content_type: Option<&str>, bytes: &[u8]) -> Result<String, Fault> {
    let tree: Value = serde_json::from_slice(bytes).unwrap_or(Value::Null);
    let own = tree.get("mediaType").and_then(Value::as_str);
    let outer = content_type.and_then(|value| value.split(';').next());
    let outer = outer.map(str::trim);
    for media_type in [outer, own].into_iter().flatten() {
        match kind(media_type) {
            Kind::Manifest | Kind::Index => {
                // What one reads as an image and the other as an index may mean
                // anything.
                return match own {
                    Some(own) if own != media_type => Err(Fault::NoImage(tame(&format!(
                        "sent as {media_type}, and calls itself {own}"
                    )))),
                    _ => Ok(media_type.to_owned()),
                };
            }
            Kind::Schema1 => return Err(Fault::Schema1),
            _ => {}
        }
    }
    if tree.get("schemaVersion").and_then(Value::as_u64) == Some(1) {
        return Err(Fault::Schema1);
    }
    let plain = |name: &&str| !matches!(*name, "" | "text/plain" | "application/json");
    match own.or(outer.filter(plain)) {
        Some(other) => Err(Fault::NoImage(tame(other))),
        // Without any type, OCI's two are told apart by what they hold.
        None if tree.get("manifests").is_some_and(Value::is_array) => {
            Ok(media_type::OCI_INDEX.to_owned())
        }
        None if tree.get("layers").is_some_and(Value::is_array) => {
            Ok(media_type::OCI_MANIFEST.to_owned())
        }
        None => Err(Fault::NoImage("something without a media type".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_is_the_answers_or_the_manifests_own() {
        let judged = |outer: &str, body: &str| judge(Some(outer), body.as_bytes());
        let oci = media_type::OCI_MANIFEST;
        let own = format!(r#"{{"mediaType": "{oci}"}}"#);
        for (outer, body) in [
            (oci, "{}"),
            (&format!("{oci}; charset=utf-8"), "{}"),
            ("text/plain", own.as_str()),
            ("application/json", r#"{"schemaVersion": 2, "layers": []}"#),
        ] {
            assert_eq!(judged(outer, body).expect("a type"), oci, "{outer} {body}");
        }
        for (outer, body) in [
            (
                "application/vnd.docker.distribution.manifest.v1+prettyjws",
                "{}",
            ),
            ("application/json", r#"{"schemaVersion": 1}"#),
        ] {
            assert!(
                matches!(judged(outer, body), Err(Fault::Schema1)),
                "{outer}"
            );
        }
        for (outer, body) in [
            (media_type::OCI_INDEX, own.as_str()),
            ("text/html", "<html>"),
            ("application/vnd.cncf.helm.config.v1+json", "{}"),
        ] {
            assert!(
                matches!(judged(outer, body), Err(Fault::NoImage(_))),
                "{outer}"
            );
        }
    }
}
