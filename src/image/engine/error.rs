//! What can go wrong with an engine.

use std::fmt;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::address::Address;
use super::find::{BadSetting, Candidate};
use super::tls::BadCertificates;

/// A container engine did not do what was asked.
#[derive(Debug, Error)]
pub enum EngineError {
    /// What the caller's environment says of the engine is of no use.
    #[error(transparent)]
    Setting(#[from] BadSetting),
    /// The certificates for an engine are of no use.
    #[error(transparent)]
    Certificates(#[from] BadCertificates),
    /// No engine answers.
    #[error("no container engine answers: {}", Tried(.0))]
    NoEngine(Vec<Attempt>),
    /// A call did not reach the engine, or its answer did not arrive.
    #[error("the container engine at {address}: {call}: {error}")]
    Failed {
        /// The engine.
        address: Address,
        /// The method and path.
        call: String,
        /// What went wrong.
        error: Box<ureq::Error>,
    },
    /// The engine refused a call.
    #[error("the container engine at {address}: {call}: {status}: {reason}")]
    Refused {
        /// The engine.
        address: Address,
        /// The method and path.
        call: String,
        /// The status of HTTP.
        status: u16,
        /// What the engine says.
        reason: String,
    },
    /// An answer is not what the API promises.
    #[error(
        "the container engine at {address}: {call}: an answer that is not understood: {reason}"
    )]
    Garbled {
        /// The engine.
        address: Address,
        /// The method and path.
        call: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no such image.
    #[error("{engine} has no image {name}{}", Near(.near))]
    NoImage {
        /// Docker or Podman.
        engine: &'static str,
        /// The image that was asked for.
        name: String,
        /// Those with similar names.
        near: Vec<String>,
    },
    /// The engine took the layer and lost it on the way.
    #[error(
        "{engine} made an image that lacks the shim's layer; nothing was tagged. \
         Take the image through an archive: docker save {name}"
    )]
    LayerLost {
        /// Docker or Podman.
        engine: &'static str,
        /// The image that was to be changed.
        name: String,
    },
    /// The engine loaded something else than was given to it.
    #[error("{engine} has changed the config of {name} while it loaded it; nothing was tagged")]
    Altered {
        /// Docker or Podman.
        engine: &'static str,
        /// The name that it was to have.
        name: String,
    },
    /// What the engine has given could not be kept.
    #[error("{}: {error}", .path.display())]
    Copy {
        /// Where temporary files are kept.
        path: PathBuf,
        /// Or why it broke off.
        error: io::Error,
    },
    /// What was sent to be loaded could not be read.
    #[error("{0}")]
    Source(io::Error),
    /// The engine said while loading that it cannot.
    #[error("the container engine at {address} cannot load the image: {reason}")]
    NotLoaded {
        /// The engine.
        address: Address,
        /// What it says.
        reason: String,
    },
}

impl EngineError {
    /// Whether the engine says that what was asked for is not there.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }
}

/// An engine that was tried.
#[derive(Debug)]
pub struct Attempt {
    /// Where, and who named it.
    pub candidate: Candidate,
    /// Why it does not do.
    pub error: EngineError,
}

struct Tried<'a>(&'a [Attempt]);

impl fmt::Display for Tried<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Attempt { candidate, error }) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(formatter, "{separator}{} ", candidate.address)?;
            write!(formatter, "({}): ", candidate.origin)?;
            match error {
                // Which engine it was has just been said.
                EngineError::Failed { error, .. } => match &**error {
                    ureq::Error::Io(error) => write!(formatter, "{error}")?,
                    error => write!(formatter, "{error}")?,
                },
                EngineError::Refused { status, reason, .. } => {
                    write!(formatter, "{status}: {reason}")?;
                }
                EngineError::Garbled { .. } => {
                    formatter.write_str("this is no container engine")?;
                }
                other => write!(formatter, "{other}")?,
            }
        }
        formatter.write_str(". Start one, or name its socket in DOCKER_HOST")
    }
}

struct Near<'a>(&'a [String]);

impl fmt::Display for Near<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => Ok(()),
            near => write!(formatter, "; it has {}", near.join(", ")),
        }
    }
}
