//! What a TARGET names: an image in a store, by the transports that skopeo named,
//! see containers-transports(5).

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use thiserror::Error;

use super::digest::{Digest, InvalidDigest};

/// An image in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// `docker-daemon:NAME[:TAG]`: in a container engine.
    Engine(Name),
    /// `docker://HOST/NAME[:TAG|@DIGEST]`: in a registry.
    Registry(Name),
    /// `oci:DIR[:TAG]`: in an OCI image layout.
    Layout { path: PathBuf, tag: Option<String> },
    /// `oci-archive:FILE[:TAG]`: in a tar archive of such a layout.
    OciArchive { path: PathBuf, tag: Option<String> },
    /// `docker-archive:FILE[:NAME:TAG]`: in what `docker save` writes.
    DockerArchive { path: PathBuf, name: Option<Name> },
    /// `NAME[:TAG]`: in the engine that has it, else in a registry.
    Bare(Name),
}

/// An image's name in an engine or a registry, in Docker's grammar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The registry's host, with its port if it has one; Docker Hub is
    /// `docker.io`.
    pub host: String,
    /// The path in the registry: `library/redis`.
    pub repository: String,
    pub tag: Option<String>,
    pub digest: Option<Digest>,
}

/// Text that names no image.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidReference {
    #[error("'{}': {transport}: needs a path: {transport}:PATH[:TAG]", .text.escape_debug())]
    NoPath {
        text: String,
        transport: &'static str,
    },
    #[error(
        "'{}' is no image's name: give [HOST[:PORT]/]NAME[:TAG] in small letters (redis:7, localhost:5000/app)",
        .0.escape_debug()
    )]
    Name(String),
    #[error(
        "'{}' is no tag: give at most 128 letters, digits, '_', '.' and '-', the first one a letter or digit",
        .0.escape_debug()
    )]
    Tag(String),
    #[error(transparent)]
    Digest(#[from] InvalidDigest),
    #[error(
        "'{}': {transport}: is no transport: there are docker-daemon:, docker://, oci:, oci-archive: and docker-archive:",
        .text.escape_debug()
    )]
    Transport { text: String, transport: String },
}

/// Docker Hub, under the name that references have.
pub const DOCKER_HUB: &str = "docker.io";

/// The tag that is meant where none is given.
pub const LATEST: &str = "latest";

/// Transports of other tools, which a name would otherwise be made of.
const FOREIGN: [&str; 7] = [
    "dir",
    "containers-storage",
    "docker",
    "sif",
    "ostree",
    "tarball",
    "atomic",
];

impl Reference {
    /// Whether `text` begins with one of our transports.
    pub fn has_transport(text: &str) -> bool {
        let starts = [
            "docker-daemon:",
            "docker://",
            "oci:",
            "oci-archive:",
            "docker-archive:",
        ];
        starts.iter().any(|start| text.starts_with(start))
    }

    /// The reference with `tag` instead of its own tag and digest.
    #[must_use]
    pub fn with_tag(&self, tag: &str) -> Self {
        let mut this = self.clone();
        match &mut this {
            Self::Layout { tag: old, .. } | Self::OciArchive { tag: old, .. } => {
                *old = Some(tag.to_owned());
            }
            Self::Engine(name) | Self::Registry(name) | Self::Bare(name) => name.set_tag(tag),
            Self::DockerArchive { name, .. } => {
                if let Some(name) = name {
                    name.set_tag(tag);
                }
            }
        }
        this
    }

    /// The tag that this names, where it names one by itself.
    pub fn tag(&self) -> Option<&str> {
        match self {
            Self::Layout { tag, .. } | Self::OciArchive { tag, .. } => tag.as_deref(),
            Self::Engine(name) | Self::Registry(name) | Self::Bare(name) => name.tag_or_latest(),
            Self::DockerArchive { name, .. } => name.as_ref()?.tag_or_latest(),
        }
    }

    /// What is printed of an image that now has `digest`: `NAME@DIGEST` for a
    /// registry, which every other tool takes, and elsewhere what can be typed
    /// again, followed by the digest.
    pub fn line(&self, digest: &Digest) -> String {
        match self {
            Self::Registry(name) => format!("{}/{}@{digest}", name.host, name.repository),
            other => format!("{other} {digest}"),
        }
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        if let Some(name) = text.strip_prefix("docker-daemon:") {
            return Ok(Self::Engine(name.parse()?));
        }
        if let Some(name) = text.strip_prefix("docker://") {
            return Ok(Self::Registry(name.parse()?));
        }
        let split = |rest: &str, transport| {
            let (path, tag) = match rest.split_once(':') {
                Some((path, tag)) => (path, Some(tag.to_owned())),
                None => (rest, None),
            };
            if path.is_empty() {
                return Err(InvalidReference::NoPath {
                    text: text.to_owned(),
                    transport,
                });
            }
            Ok((PathBuf::from(path), tag))
        };
        if let Some(rest) = text.strip_prefix("oci:") {
            let (path, tag) = split(rest, "oci")?;
            let tag = tag.map(checked_reference_name).transpose()?;
            return Ok(Self::Layout { path, tag });
        }
        if let Some(rest) = text.strip_prefix("oci-archive:") {
            let (path, tag) = split(rest, "oci-archive")?;
            let tag = tag.map(checked_reference_name).transpose()?;
            return Ok(Self::OciArchive { path, tag });
        }
        if let Some(rest) = text.strip_prefix("docker-archive:") {
            let (path, name) = split(rest, "docker-archive")?;
            let name = name.map(|name| name.parse()).transpose()?;
            return Ok(Self::DockerArchive { path, name });
        }
        if let Some((transport, rest)) = text.split_once(':')
            && (rest.starts_with("//") || FOREIGN.contains(&transport) && rest.starts_with('/'))
        {
            return Err(InvalidReference::Transport {
                text: text.to_owned(),
                transport: transport.to_owned(),
            });
        }
        Ok(Self::Bare(text.parse()?))
    }
}

/// The annotation `org.opencontainers.image.ref.name` in its grammar, which takes
/// more than a tag does.
fn checked_reference_name(name: String) -> Result<String, InvalidReference> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:@/+".contains(&byte);
    let starts_well = name
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphanumeric());
    if starts_well && name.bytes().all(is_allowed) && name.len() <= 255 {
        Ok(name)
    } else {
        Err(InvalidReference::Tag(name))
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = |f: &mut fmt::Formatter<'_>, transport, path: &PathBuf| {
            write!(f, "{transport}:{}", path.display())
        };
        let tag = |f: &mut fmt::Formatter<'_>, tag: &Option<String>| match tag {
            Some(tag) => write!(f, ":{tag}"),
            None => Ok(()),
        };
        match self {
            Self::Engine(name) => write!(f, "docker-daemon:{}", name.familiar()),
            Self::Registry(name) => write!(f, "docker://{name}"),
            Self::Layout { path: at, tag: one } => {
                path(f, "oci", at)?;
                tag(f, one)
            }
            Self::OciArchive { path: at, tag: one } => {
                path(f, "oci-archive", at)?;
                tag(f, one)
            }
            Self::DockerArchive { path: at, name } => {
                path(f, "docker-archive", at)?;
                tag(f, &name.as_ref().map(Name::familiar))
            }
            Self::Bare(name) => f.write_str(&name.familiar()),
        }
    }
}

impl Name {
    /// The tag; `latest` where neither a tag nor a digest is given.
    pub fn tag_or_latest(&self) -> Option<&str> {
        match (&self.tag, &self.digest) {
            (None, None) => Some(LATEST),
            (tag, _) => tag.as_deref(),
        }
    }

    fn set_tag(&mut self, tag: &str) {
        self.tag = Some(tag.to_owned());
        self.digest = None;
    }

    /// The name as people write it: without Docker Hub's host, and without
    /// `library/` there.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        let Some(rest) = full.strip_prefix("docker.io/") else {
            return full;
        };
        let short = rest.strip_prefix("library/");
        // What follows must not be taken for a host, nor for a library again.
        let short = short.filter(|short| !short.contains('/'));
        let rest = short.unwrap_or(rest);
        rest.to_owned()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Name {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let wrong = || InvalidReference::Name(text.to_owned());
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse()?)),
            None => (text, None),
        };
        // A colon before the last slash is a port's.
        let slash = rest.rfind('/').map_or(0, |place| place + 1);
        let (path, tag) = match rest[slash..].find(':') {
            Some(colon) => {
                let (path, tag) = rest.split_at(slash + colon);
                (path, Some(&tag[1..]))
            }
            None => (rest, None),
        };
        if let Some(tag) = tag
            && !is_tag(tag)
        {
            return Err(InvalidReference::Tag(tag.to_owned()));
        }
        let (host, repository) = match path.split_once('/') {
            Some((first, rest)) if is_host(first) => (first, rest),
            _ => (DOCKER_HUB, path),
        };
        let host = match host {
            "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB,
            host => host,
        };
        let repository = if host == DOCKER_HUB && !repository.contains('/') {
            format!("library/{repository}")
        } else {
            repository.to_owned()
        };
        let is_sound = repository.split('/').all(is_component) && repository.len() <= 255;
        if !is_sound || !is_host_name(host) {
            return Err(wrong());
        }
        Ok(Self {
            host: host.to_owned(),
            repository,
            tag: tag.map(str::to_owned),
            digest,
        })
    }
}

/// Whether the first part of a name is a host: Docker's rule.
fn is_host(part: &str) -> bool {
    part == "localhost"
        || part.contains(['.', ':'])
        || part.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn is_host_name(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (host, None),
    };
    let is_port = |port: &str| port.parse::<u16>().is_ok();
    let bracketed = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    let is_name = match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => name.split('.').all(|label| {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            !label.is_empty() && label.bytes().all(allowed)
        }),
    };
    is_name && port.is_none_or(is_port)
}

/// One part of a repository's path: small letters and digits, with single
/// separators between them.
fn is_component(part: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = part.as_bytes();
    let ends_well = |byte: Option<&u8>| byte.is_some_and(|&byte| is_letter(byte));
    let separators = part.split(|c: char| c.is_ascii() && is_letter(c as u8));
    let is_separator =
        |text: &str| matches!(text, "" | "." | "_" | "__") || text.bytes().all(|byte| byte == b'-');
    ends_well(bytes.first()) && ends_well(bytes.last()) && separators.into_iter().all(is_separator)
}

fn is_tag(tag: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = tag.as_bytes();
    bytes.len() <= 128
        && bytes.first().is_some_and(|&byte| is_word(byte))
        && bytes
            .iter()
            .all(|&byte| is_word(byte) || byte == b'.' || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_can_be_typed_again() {
        let digest = Digest::of(b"");
        for (text, shown) in [
            ("redis", "redis"),
            ("redis:7", "redis:7"),
            ("docker.io/library/redis:7", "redis:7"),
            ("docker.io/library/a/b", "library/a/b"),
            ("me/app", "me/app"),
            ("localhost:5000/app:x", "localhost:5000/app:x"),
            ("docker-daemon:redis:test", "docker-daemon:redis:test"),
            ("docker://redis", "docker://docker.io/library/redis"),
            ("docker://[::1]:5000/a/b:c", "docker://[::1]:5000/a/b:c"),
            ("oci:/a/dir", "oci:/a/dir"),
            ("oci:dir:my/app:1.0", "oci:dir:my/app:1.0"),
            ("oci-archive:a.tar:1", "oci-archive:a.tar:1"),
            ("docker-archive:a.tar", "docker-archive:a.tar"),
            (
                "docker-archive:a.tar:docker.io/library/redis:7",
                "docker-archive:a.tar:redis:7",
            ),
        ] {
            let parsed: Reference = text.parse().expect(text);
            assert_eq!(parsed.to_string(), shown);
            assert_eq!(shown.parse(), Ok(parsed), "{shown}");
        }
        let pinned = format!("docker://ghcr.io/a/b:1@{digest}");
        let parsed: Reference = pinned.parse().expect("a reference");
        assert_eq!(parsed.to_string(), pinned);
        assert_eq!(parsed.line(&digest), format!("ghcr.io/a/b@{digest}"));
        assert_eq!(
            parsed.with_tag("2").to_string(),
            "docker://ghcr.io/a/b:2".to_owned()
        );
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        for text in [
            "",
            "Redis",
            "redis:",
            "redis:-x",
            "a b",
            "a//b",
            "a/../b",
            "_a",
            "a___b",
            "docker://",
            "docker://host:99999/a",
            "docker-daemon:",
            "oci:",
            "oci::tag",
            "oci:dir:",
            "oci:dir:-tag",
            "oci-archive:",
            "docker-archive:a.tar:Redis",
            "redis@sha256:12",
            "dir:/tmp/x",
            "http://host/a",
            "containers-storage:/x",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }
}
