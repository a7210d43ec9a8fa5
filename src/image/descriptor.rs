//! Descriptors and media types: the OCI image specification, "Content
//! Descriptors", and Docker's image manifest version 2, schema 2.

use serde_json::{Map, Value, json};
use thiserror::Error;

use super::digest::{Digest, InvalidDigest};
use super::platform::Platform;

/// Who named the media types of an image. The two do not mix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Oci,
    Docker,
}

/// How a layer's archive is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    Plain,
    Gzip,
    Zstd,
}

/// What content of a media type is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Index,
    Manifest,
    Config,
    Layer(Compression),
    /// A layer that only its owner can read.
    Encrypted,
    /// Docker's manifest of before 2016, which names no config.
    Schema1,
    /// Something that is no part of an image: an attestation, a signature.
    Other,
}

pub mod media_type {
    //! The media types by name.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
    /// What a registry is asked for: every kind of manifest and index.
    pub const MANIFESTS: [&str; 4] = [OCI_INDEX, DOCKER_INDEX, OCI_MANIFEST, DOCKER_MANIFEST];
}

/// The media type of a layer that `family` packs by `compression`.
pub fn layer_type(family: Family, compression: Compression) -> String {
    match (family, compression) {
        (Family::Oci, Compression::Plain) => media_type::OCI_LAYER.into(),
        (Family::Oci, Compression::Gzip) => format!("{}+gzip", media_type::OCI_LAYER),
        (Family::Oci, Compression::Zstd) => format!("{}+zstd", media_type::OCI_LAYER),
        (Family::Docker, Compression::Plain) => media_type::DOCKER_LAYER.into(),
        (Family::Docker, Compression::Gzip) => format!("{}.gzip", media_type::DOCKER_LAYER),
        (Family::Docker, Compression::Zstd) => format!("{}.zstd", media_type::DOCKER_LAYER),
    }
}

/// The family that a media type belongs to.
pub fn family(media_type: &str) -> Option<Family> {
    if media_type.starts_with("application/vnd.oci.image.") {
        Some(Family::Oci)
    } else if media_type.starts_with("application/vnd.docker.") {
        Some(Family::Docker)
    } else {
        None
    }
}

/// What content of `media_type` is.
pub fn kind(media_type: &str) -> Kind {
    use self::media_type as names;

    match media_type {
        names::OCI_INDEX | names::DOCKER_INDEX => return Kind::Index,
        names::OCI_MANIFEST | names::DOCKER_MANIFEST => return Kind::Manifest,
        names::OCI_CONFIG | names::DOCKER_CONFIG => return Kind::Config,
        "application/vnd.docker.distribution.manifest.v1+json"
        | "application/vnd.docker.distribution.manifest.v1+prettyjws" => return Kind::Schema1,
        _ => {}
    }
    if media_type.ends_with("+encrypted") {
        return Kind::Encrypted;
    }
    let starts = [
        names::OCI_LAYER,
        names::DOCKER_LAYER,
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.docker.image.rootfs.foreign.diff.tar",
    ];
    let rest = starts.iter().find_map(|one| media_type.strip_prefix(one));
    match rest {
        Some("") => Kind::Layer(Compression::Plain),
        Some("+gzip" | ".gzip") => Kind::Layer(Compression::Gzip),
        Some("+zstd" | ".zstd") => Kind::Layer(Compression::Zstd),
        _ => Kind::Other,
    }
}

/// A descriptor with a field that is missing or of a wrong kind.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidDescriptor {
    #[error("a descriptor is no object")]
    NoObject,
    #[error("a descriptor has no mediaType")]
    NoMediaType,
    #[error("a descriptor's digest: {0}")]
    Digest(#[from] InvalidDigest),
    #[error("a descriptor has no digest")]
    NoDigest,
    #[error("a descriptor's size is no number of bytes")]
    Size,
}

/// A reference to content by its digest: the tree of JSON that was read, every
/// field and their order kept, with what we need of it at hand.
#[derive(Clone, Debug, PartialEq)]
pub struct Descriptor {
    tree: Map<String, Value>,
    digest: Digest,
    /// Bytes.
    size: u64,
}

impl Descriptor {
    /// A descriptor with the three fields that every one has.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        let tree = json!({"mediaType": media_type, "digest": digest.to_string(), "size": size});
        let Value::Object(tree) = tree else {
            unreachable!("an object was written");
        };
        Self { tree, digest, size }
    }

    /// The descriptor of `content`.
    pub fn of(media_type: &str, content: &[u8]) -> Self {
        Self::new(media_type, Digest::of(content), content.len() as u64)
    }

    /// The descriptor that `tree` is.
    ///
    /// # Errors
    /// `mediaType`, `digest` or `size` is missing or malformed.
    pub fn parse(tree: &Value) -> Result<Self, InvalidDescriptor> {
        let tree = tree.as_object().ok_or(InvalidDescriptor::NoObject)?;
        if tree.get("mediaType").and_then(Value::as_str).is_none() {
            return Err(InvalidDescriptor::NoMediaType);
        }
        let digest = tree.get("digest").and_then(Value::as_str);
        let size = tree.get("size").and_then(Value::as_u64);
        Ok(Self {
            digest: digest.ok_or(InvalidDescriptor::NoDigest)?.parse()?,
            size: size.ok_or(InvalidDescriptor::Size)?,
            tree: tree.clone(),
        })
    }

    /// The same descriptor, but of `content`: media type, platform, annotations
    /// and unknown fields stay.
    #[must_use]
    pub fn with_content(&self, content: &[u8]) -> Self {
        let mut this = self.clone();
        this.digest = Digest::of(content);
        this.size = content.len() as u64;
        this.tree
            .insert("digest".into(), this.digest.to_string().into());
        this.tree.insert("size".into(), this.size.into());
        // Both are the old content, or lead there.
        this.tree.shift_remove("data");
        this.tree.shift_remove("urls");
        this
    }

    pub fn media_type(&self) -> &str {
        let found = self.tree.get("mediaType").and_then(Value::as_str);
        found.unwrap_or_default()
    }

    pub fn kind(&self) -> Kind {
        kind(self.media_type())
    }

    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The content's size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The platform that an index gives the image.
    pub fn platform(&self) -> Option<Platform> {
        self.tree.get("platform").and_then(Platform::of)
    }

    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.tree.get("annotations")?.get(name)?.as_str()
    }

    /// The tree, for what holds it.
    pub fn to_value(&self) -> Value {
        Value::Object(self.tree.clone())
    }

    /// The tree, to be given other fields than the three.
    pub fn tree_mut(&mut self) -> &mut Map<String, Value> {
        &mut self.tree
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_are_made_and_read_alike() {
        for family in [Family::Oci, Family::Docker] {
            for compression in [Compression::Plain, Compression::Gzip, Compression::Zstd] {
                let name = layer_type(family, compression);
                assert_eq!(kind(&name), Kind::Layer(compression));
                assert_eq!(super::family(&name), Some(family));
            }
        }
        let encrypted = "application/vnd.oci.image.layer.v1.tar+gzip+encrypted";
        assert_eq!(kind(encrypted), Kind::Encrypted);
        assert_eq!(kind("application/vnd.in-toto+json"), Kind::Other);
    }

    #[test]
    fn new_content_changes_nothing_else() {
        let old = json!({
            "size": 1, "x": [1, {"y": null}], "mediaType": "a/b", "data": "AA==",
            "digest": Digest::of(b"a").to_string(),
            "platform": {"architecture": "arm64", "os": "linux", "variant": "v8"},
        });
        let old = Descriptor::parse(&old).expect("a descriptor");
        let new = old.with_content(b"new");
        assert_eq!(new.size(), 3);
        let text = serde_json::to_string(&new.to_value()).expect("JSON");
        assert_eq!(
            text,
            format!(
                r#"{{"size":3,"x":[1,{{"y":null}}],"mediaType":"a/b","digest":"{}","platform":{{"architecture":"arm64","os":"linux","variant":"v8"}}}}"#,
                Digest::of(b"new")
            )
        );
        let platform = new.platform().expect("a platform");
        assert_eq!(platform.to_string(), "linux/arm64");
    }
}
