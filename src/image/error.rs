//! What can go wrong with images. Each message names the file or the reference,
//! the place in it, and the way out where there is one.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::descriptor::InvalidDescriptor;
use super::digest::Digest;
use super::platform::Platform;
use super::reference::Reference;

/// Why something could not be done with an image.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    #[error("{}: {source}", .path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{}: {what}", .path.display())]
    NoStore { path: PathBuf, what: &'static str },
    #[error("{wanted}: there is no such image; {}", there_are(.present))]
    NoSuchTag {
        wanted: Box<Reference>,
        /// The tags that are there.
        present: Vec<String>,
    },
    #[error("{wanted}: it holds several images: name one of {}", .present.join(", "))]
    SeveralImages {
        wanted: Box<Reference>,
        present: Vec<String>,
    },
    #[error("{store}: {digest} is not there: the image is incomplete")]
    NoSuchBlob { store: String, digest: Digest },
    #[error("{store}: {digest}: {source}")]
    Blob {
        store: String,
        digest: Digest,
        source: io::Error,
    },
    #[error("{store}: {digest}: {what}")]
    Malformed {
        store: String,
        digest: Digest,
        what: String,
    },
    #[error("{store}: {digest} claims {size} bytes; no manifest or config has more than {most}")]
    TooLarge {
        store: String,
        digest: Digest,
        size: u64,
        most: u64,
    },
    #[error("{0}")]
    Descriptor(#[from] InvalidDescriptor),
    #[error(
        "{digest}: a manifest of schema 1, which Docker gave up in 2016; pull and push it with a newer tool"
    )]
    Schema1 { digest: Digest },
    #[error("{digest}: the layer is encrypted; decrypt the image first")]
    Encrypted { digest: Digest },
    #[error(
        "{digest}: {platform}: reuseport has no shim for it; --platform selects others, --skip-unsupported keeps it as it is"
    )]
    NoShim { digest: Digest, platform: String },
    #[error("the image has no {wanted}: it has {}", listed(.present))]
    NoSuchPlatform {
        wanted: Platform,
        present: Vec<Platform>,
    },
    #[error("{reference}: takes one platform: select it with --platform, one of {}", listed(.present))]
    OnePlatform {
        reference: Box<Reference>,
        present: Vec<Platform>,
    },
    #[error("{reference}: {what}")]
    Unsupported {
        reference: Box<Reference>,
        what: &'static str,
    },
    /// Another store's own error.
    #[error("{store}: {source}")]
    Store {
        store: String,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

fn there_are(tags: &[String]) -> String {
    if tags.is_empty() {
        "it holds none".into()
    } else {
        format!("there are {}", tags.join(", "))
    }
}

fn listed(platforms: &[Platform]) -> String {
    let names: Vec<String> = platforms.iter().map(ToString::to_string).collect();
    names.join(", ")
}
