//! Container engines, through the API that Docker defined and Podman serves too:
//! <https://docs.docker.com/reference/api/engine/>.
//!
//! An engine shows its images, their configs and single files without running
//! anything; takes a small layer and a config at a cost that does not grow with the
//! image (Docker), or whole archives (both); and is left as it was found whatever
//! happens, but for the image that was asked for.

mod address;
mod archive;
mod client;
mod commit;
mod container;
mod error;
mod files;
mod find;
mod images;
mod inject;
mod leftover;
mod load;
mod socket;
mod tls;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use ureq::http::Method;

pub use address::{Address, BadAddress};
pub use commit::{Change, Committed, Loss, Unnamed};
pub use container::{Container, Stat};
pub use error::{Attempt, EngineError};
pub use files::EngineFiles;
pub use find::{BadSetting, Candidate, Origin, candidates};
pub use images::{Base, Inspected, spelt};
pub use inject::Plan;
pub use load::{Format, Loaded};
pub use tls::{BadCertificates, Tls};

use client::{Call, Client, Content};

use super::digest::Digest;
use super::progress::Progress;

/// The newest version of Docker's API that is spoken here. An older engine is
/// spoken to in its own.
const NEWEST: (u32, u32) = (1, 44);

/// A container engine that answers. A clone speaks to the same one.
#[derive(Clone, Debug)]
pub struct Engine {
    client: Client,
    kind: Kind,
    /// What paths of Docker's API start with: `/v1.41`.
    version: String,
    /// What paths of Podman's own start with.
    libpod: String,
    /// What it says of itself, for people.
    release: String,
    /// Who is told of long copies.
    progress: Progress,
    /// What was said of images, which stay what they are.
    histories: Arc<Mutex<HashMap<Digest, Vec<Value>>>>,
}

/// The makes of engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Docker Engine.
    Docker,
    /// Podman's service.
    Podman,
}

impl Kind {
    /// Its name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Docker => "Docker",
            Self::Podman => "Podman",
        }
    }
}

impl Engine {
    /// The engine that the caller's environment means: see [`candidates`].
    ///
    /// # Errors
    /// None answers, or the one that was chosen cannot be reached.
    pub fn find() -> Result<Self, EngineError> {
        Self::first(candidates(|name| std::env::var(name).ok())?)
    }

    /// The first of `candidates` that answers.
    ///
    /// # Errors
    /// None does; the error says why of each.
    pub fn first(candidates: Vec<Candidate>) -> Result<Self, EngineError> {
        let mut attempts = Vec::new();
        for candidate in candidates {
            match Self::connect(candidate.address.clone()) {
                Ok(engine) => return Ok(engine),
                Err(error) => attempts.push(Attempt { candidate, error }),
            }
        }
        Err(EngineError::NoEngine(attempts))
    }

    /// The engine at `address`: `GET /version` says what it is.
    ///
    /// # Errors
    /// It does not answer, or not as an engine does.
    pub fn connect(address: Address) -> Result<Self, EngineError> {
        let client = Client::new(address)?;
        let answer = client.version()?;
        let call = Call::new(Method::GET, "/version");
        let theirs = answer["ApiVersion"].as_str().and_then(parse_version);
        let theirs = theirs.ok_or_else(|| client.garbled(&call, "no ApiVersion"))?;
        let (major, minor) = theirs.min(NEWEST);
        let components = answer["Components"].as_array();
        let podman = components
            .into_iter()
            .flatten()
            .find(|component| component["Name"] == "Podman Engine");
        let release = answer["Version"].as_str().unwrap_or("of no known version");
        let kind = if podman.is_some() {
            Kind::Podman
        } else {
            Kind::Docker
        };
        // The oldest that Podman still speaks is the one that changes least.
        let libpod = podman.and_then(|podman| podman["Details"]["MinAPIVersion"].as_str());
        Ok(Self {
            client,
            kind,
            version: format!("/v{major}.{minor}"),
            libpod: format!("/v{}/libpod", libpod.unwrap_or("4.0.0")),
            release: release.to_owned(),
            progress: Progress::default(),
            histories: Arc::default(),
        })
    }

    /// The same engine: of whole images that it gives and takes, `progress` is told.
    #[must_use]
    pub fn watched_by(self, progress: Progress) -> Self {
        Self { progress, ..self }
    }

    /// Its make.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Where it listens.
    pub fn address(&self) -> &Address {
        self.client.address()
    }

    /// Its make and release, for people: `Docker 20.10.24`.
    pub fn release(&self) -> String {
        format!("{} {}", self.kind.name(), self.release)
    }

    /// The path of a call of Docker's API.
    fn path(&self, path: &str) -> String {
        format!("{}{path}", self.version)
    }

    /// A container of `image` that never runs, to read files from.
    ///
    /// # Errors
    /// The engine refuses.
    pub fn files(&self, image: &Inspected) -> Result<Container, EngineError> {
        Container::create(self, image)
    }

    /// Removes what dead runs of this program have left: `GET /containers/json` of
    /// those that were never started, `GET /images/json` of those that were never
    /// looked at. Whatever cannot be removed now stays for the next run.
    fn sweep(&self) {
        let path = self.path("/containers/json");
        let filters = r#"{"name":["reuseport-"],"status":["created"]}"#;
        let call = Call::new(Method::GET, path)
            .with("all", "1")
            .with("filters", filters);
        let now = now();
        let all = self.client.json(&call, Content::None).unwrap_or_default();
        for container in all.as_array().into_iter().flatten() {
            let age = now - container["Created"].as_i64().unwrap_or(now);
            let names = container["Names"].as_array().into_iter().flatten();
            for name in names.filter_map(|name| name.as_str()) {
                let name = name.trim_start_matches('/');
                if leftover::is_dead(name, age) {
                    drop(leftover::Leftover::container(
                        &self.client,
                        &self.version,
                        name,
                    ));
                }
            }
        }
        let path = self.path("/images/json");
        let filters = format!(r#"{{"reference":["{}:*"]}}"#, leftover::PENDING);
        let call = Call::new(Method::GET, path).with("filters", &filters);
        let all = self.client.json(&call, Content::None).unwrap_or_default();
        for image in all.as_array().into_iter().flatten() {
            let age = now - image["Created"].as_i64().unwrap_or(now);
            for name in images::strings(&image["RepoTags"]) {
                let owner = name.rsplit_once(':').map_or("", |(_, tag)| tag);
                if leftover::is_dead(owner, age) {
                    drop(leftover::Leftover::tag(&self.client, &self.version, name));
                }
            }
        }
    }
}

fn now() -> i64 {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
