//! Who we are to a registry: what `podman login` and `docker login` left behind.
//!
//! The files are read when a registry asks, and not before. Nothing here shows
//! a secret: not in a message, not under `{:?}`.

mod entry;
mod helper;

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;
use thiserror::Error;

/// A password or a token.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(secret: String) -> Self {
        Self(secret)
    }

    /// The secret itself, for the one who sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What is shown to a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    Password {
        username: String,
        password: Secret,
    },
    /// Buys tokens where the registry says (OAuth 2.0, `refresh_token`).
    IdentityToken(Secret),
    /// Shown as it is.
    RegistryToken(Secret),
}

/// A login, and where it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    pub login: Login,
    pub from: Origin,
}

/// Where a login was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    File(PathBuf),
    Helper { program: String, named_in: PathBuf },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Helper { program, named_in } => {
                write!(f, "{program} (named in {})", named_in.display())
            }
        }
    }
}

/// Why a place that could have held a login gave none. No reason to stop: the
/// registry may let in everyone.
#[derive(Debug, Error)]
pub enum Obstacle {
    #[error("{path}: {error}")]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("{path}: more than {MAX_FILE} bytes")]
    TooLarge { path: PathBuf },
    /// Without the parser's words, which may quote the file.
    #[error("{path}: no JSON (line {line})")]
    NoJson { path: PathBuf, line: usize },
    #[error("{path}: the entry {key} holds no user and password")]
    BadEntry { path: PathBuf, key: String },
    #[error("{program}: {why} (named in {named_in})")]
    Helper {
        program: String,
        why: helper::Failure,
        named_in: PathBuf,
    },
}

/// What a search gave.
#[derive(Debug, Default)]
pub struct Search {
    pub credential: Option<Credential>,
    pub obstacles: Vec<Obstacle>,
}

/// No file of logins is larger.
const MAX_FILE: u64 = 1 << 20;

/// The files that may hold logins, in the order in which they are asked, and
/// where helpers lie.
#[derive(Clone, Debug, Default)]
pub struct Places {
    files: Vec<Place>,
    path: Option<OsString>,
}

#[derive(Clone, Debug)]
struct Place {
    path: PathBuf,
    /// Whether someone named this very file, which then should be there.
    named: bool,
}

impl Places {
    /// The places of the user `user`, with the variables that `variable` knows:
    /// `REGISTRY_AUTH_FILE`, then auth.json as in containers-auth.json(5), then
    /// Docker's config.json.
    pub fn new(user: u32, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let set = |name| variable(name).filter(|value| !value.is_empty());
        let path = |name| set(name).map(PathBuf::from);
        let home = |below: &str| path("HOME").map(|home| home.join(below));
        let runtime = path("XDG_RUNTIME_DIR").map_or_else(
            || PathBuf::from(format!("/run/containers/{user}/auth.json")),
            |directory| directory.join("containers/auth.json"),
        );
        let config = path("XDG_CONFIG_HOME").or_else(|| home(".config"));
        let docker = path("DOCKER_CONFIG").or_else(|| home(".docker"));
        let default = [
            Some(runtime),
            config.map(|directory| directory.join("containers/auth.json")),
            docker.map(|directory| directory.join("config.json")),
        ];
        let named = path("REGISTRY_AUTH_FILE").map(|path| Place { path, named: true });
        let default = default.into_iter().flatten();
        let default = default.map(|path| Place { path, named: false });
        Self {
            files: named.into_iter().chain(default).collect(),
            path: set("PATH"),
        }
    }

    /// The login for `repository` at the registry `host`, both as in a
    /// reference: the entry that names most of it, in the first file that has
    /// one.
    pub fn find(&self, host: &str, repository: &str) -> Search {
        let mut search = Search::default();
        let keys = entry::keys(host, repository);
        for place in &self.files {
            let value = match read(&place.path) {
                Ok(value) => value,
                Err(Obstacle::Unreadable { error, .. })
                    if error.kind() == io::ErrorKind::NotFound && !place.named =>
                {
                    continue;
                }
                Err(obstacle) => {
                    search.obstacles.push(obstacle);
                    continue;
                }
            };
            search.credential = self.in_file(&place.path, &value, &keys, &mut search.obstacles);
            if search.credential.is_some() {
                break;
            }
        }
        search
    }

    /// A helper for this registry goes first, as Docker has it; one for all
    /// registries last, since an entry that is written out needs no helper.
    fn in_file(
        &self,
        path: &Path,
        value: &Value,
        keys: &[String],
        obstacles: &mut Vec<Obstacle>,
    ) -> Option<Credential> {
        let helpers = value.get("credHelpers").and_then(Value::as_object);
        let own = helpers.and_then(|helpers| entry::best(helpers, keys));
        if let Some((key, helper)) = own
            && let Some(found) = self.ask(path, helper.as_str(), key, obstacles)
        {
            return Some(found);
        }
        let entries = value.get("auths").and_then(Value::as_object);
        if let Some(entries) = entries {
            match entry::login(entries, keys) {
                Ok(Some(login)) => {
                    let from = Origin::File(path.to_owned());
                    return Some(Credential { login, from });
                }
                Ok(None) => {}
                Err(key) => obstacles.push(Obstacle::BadEntry {
                    path: path.to_owned(),
                    key,
                }),
            }
        }
        let store = value.get("credsStore").and_then(Value::as_str);
        let host = keys.last()?;
        self.ask(path, store, host, obstacles)
    }

    fn ask(
        &self,
        path: &Path,
        helper: Option<&str>,
        key: &str,
        obstacles: &mut Vec<Obstacle>,
    ) -> Option<Credential> {
        let helper = helper.filter(|helper| !helper.is_empty())?;
        let program = format!("docker-credential-{helper}");
        match helper::get(&program, self.path.as_deref(), entry::server(key)) {
            Ok(login) => Some(Credential {
                login: login?,
                from: Origin::Helper {
                    program,
                    named_in: path.to_owned(),
                },
            }),
            Err(why) => {
                obstacles.push(Obstacle::Helper {
                    program,
                    why,
                    named_in: path.to_owned(),
                });
                None
            }
        }
    }
}

fn read(path: &Path) -> Result<Value, Obstacle> {
    let unreadable = |error| Obstacle::Unreadable {
        path: path.to_owned(),
        error,
    };
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    let mut limited = file.take(MAX_FILE + 1);
    limited.read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(Obstacle::TooLarge {
            path: path.to_owned(),
        });
    }
    // `podman logout` may leave an empty file.
    if bytes.trim_ascii().is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&bytes).map_err(|error| Obstacle::NoJson {
        path: path.to_owned(),
        line: error.line(),
    })
}
