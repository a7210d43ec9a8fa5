//! Which engine is meant: the first of `DOCKER_HOST`, the current Docker context,
//! `CONTAINER_HOST` that is set, as in the engines' own clients; else the sockets
//! where engines listen by default, in order, until one answers.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;
use thiserror::Error;

use super::address::{Address, BadAddress};
use super::tls::Tls;
use crate::image::digest::Digest;

/// An engine that may be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Where it listens.
    pub address: Address,
    /// What named it.
    pub origin: Origin,
}

/// What named an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A variable of the environment.
    Variable(&'static str),
    /// A context of Docker's command-line client, by its name.
    Context(String),
    /// It is where such engines listen by default.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => formatter.write_str(name),
            Self::Context(name) => write!(formatter, "the Docker context {name}"),
            Self::Default => formatter.write_str("the default"),
        }
    }
}

/// The engine that was named cannot be looked for.
#[derive(Debug, Error)]
pub enum BadSetting {
    /// Its address is of no use.
    #[error("{origin}: {address}: {error}")]
    Address {
        /// What named it.
        origin: Origin,
        /// The address as it was given.
        address: String,
        /// What is wrong.
        error: BadAddress,
    },
    /// The context that was named does not exist.
    #[error("there is no Docker context {0}; docker context ls lists those that are there")]
    NoContext(String),
    /// A file of Docker's client cannot be read.
    #[error("{path}: {error}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file of Docker's client is not what it should be.
    #[error("{path}: {problem}", path = path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// The engines to try, best first, by the variables that `variable` knows. One that
/// was chosen on purpose is the only one.
///
/// # Errors
/// What was chosen cannot be used.
pub fn candidates(variable: impl Fn(&str) -> Option<String>) -> Result<Vec<Candidate>, BadSetting> {
    // To Docker's client, too, an empty variable is one that is not set.
    let set = |name| variable(name).filter(|value| !value.is_empty());
    let configuration = set("DOCKER_CONFIG")
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(&set("HOME")?).join(".docker")));
    let verify = set("DOCKER_TLS_VERIFY").is_some();
    let certificates = set("DOCKER_CERT_PATH").map(PathBuf::from);
    let tls = certificates
        .or_else(|| configuration.clone())
        .filter(|_| verify || set("DOCKER_TLS").is_some())
        .map(|certificates| Tls {
            certificates,
            verify,
        });
    let named = |name| set(name).map(|text| chosen(Origin::Variable(name), text, tls.clone()));
    if let Some(only) = named("DOCKER_HOST") {
        return Ok(vec![only?]);
    }
    if let Some(directory) = configuration
        && let Some(only) = context(&directory, set("DOCKER_CONTEXT"))?
    {
        return Ok(vec![only]);
    }
    if let Some(only) = named("CONTAINER_HOST") {
        return Ok(vec![only?]);
    }
    let runtime = set("XDG_RUNTIME_DIR").map(PathBuf::from);
    let below = |path: &str| runtime.as_ref().map(|directory| directory.join(path));
    let sockets = [
        Some("/var/run/docker.sock".into()),
        below("docker.sock"),
        below("podman/podman.sock"),
        Some("/run/podman/podman.sock".into()),
    ];
    let candidate = |path| Candidate {
        address: Address::Unix(path),
        origin: Origin::Default,
    };
    Ok(sockets.into_iter().flatten().map(candidate).collect())
}

fn chosen(origin: Origin, address: String, tls: Option<Tls>) -> Result<Candidate, BadSetting> {
    match Address::parse(&address, tls) {
        Ok(address) => Ok(Candidate { address, origin }),
        Err(error) => Err(BadSetting::Address {
            origin,
            address,
            error,
        }),
    }
}

/// The context `named`, else the one that Docker's configuration in `directory`
/// makes current; none where that is the default one.
fn context(directory: &Path, named: Option<String>) -> Result<Option<Candidate>, BadSetting> {
    let name = match named {
        Some(name) => Some(name),
        None => current(&directory.join("config.json"))?,
    };
    let Some(name) = name.filter(|name| name != "default") else {
        return Ok(None);
    };
    // Docker's client keeps each context in a folder called by its name's digest.
    let digest = Digest::of(name.as_bytes());
    let path = directory
        .join("contexts/meta")
        .join(digest.hex())
        .join("meta.json");
    let Some(meta) = read(&path)? else {
        return Err(BadSetting::NoContext(name));
    };
    let endpoint = &meta["Endpoints"]["docker"];
    let Some(address) = endpoint["Host"].as_str() else {
        let problem = "no Endpoints.docker.Host".to_owned();
        return Err(BadSetting::Content { path, problem });
    };
    let certificates = directory
        .join("contexts/tls")
        .join(digest.hex())
        .join("docker");
    let tls = certificates.exists().then(|| Tls {
        certificates,
        verify: endpoint["SkipTLSVerify"] != true,
    });
    chosen(Origin::Context(name), address.to_owned(), tls).map(Some)
}

fn current(path: &Path) -> Result<Option<String>, BadSetting> {
    let configuration = read(path)?.unwrap_or_default();
    let name = configuration["currentContext"].as_str().unwrap_or_default();
    Ok((!name.is_empty()).then(|| name.to_owned()))
}

/// The JSON in the file at `path`; none where there is no such file.
fn read(path: &Path) -> Result<Option<Value>, BadSetting> {
    let path = path.to_owned();
    match fs::read(&path) {
        // No message of a parser: it could show what the file holds, and Docker's
        // holds passwords.
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| {
            let problem = format!("no JSON, at line {}", error.line());
            BadSetting::Content { path, problem }
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(BadSetting::Read { path, error }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(variables: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(other, _)| *other == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let shown = |one: &Candidate| format!("{} by {}", one.address, one.origin);
        match candidates(variable) {
            Ok(all) => Ok(all.iter().map(shown).collect()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn the_default_sockets_are_tried_in_order() {
        assert_eq!(
            found(&[("XDG_RUNTIME_DIR", "/run/user/1"), ("DOCKER_HOST", "")]),
            Ok(vec![
                "/var/run/docker.sock by the default".to_owned(),
                "/run/user/1/docker.sock by the default".to_owned(),
                "/run/user/1/podman/podman.sock by the default".to_owned(),
                "/run/podman/podman.sock by the default".to_owned(),
            ])
        );
    }

    #[test]
    fn what_was_chosen_is_the_only_one() {
        let podman = ("CONTAINER_HOST", "unix:///p.sock");
        let docker = ("DOCKER_HOST", "tcp://build");
        assert_eq!(
            found(&[podman]),
            Ok(vec!["/p.sock by CONTAINER_HOST".to_owned()])
        );
        assert_eq!(
            found(&[podman, docker]),
            Ok(vec!["tcp://build:2375 by DOCKER_HOST".to_owned()])
        );
        let ssh = found(&[("DOCKER_HOST", "ssh://build")]).expect_err("no ssh");
        assert!(ssh.starts_with("DOCKER_HOST: ssh://build: "), "{ssh}");
    }

    #[test]
    fn the_current_context_comes_before_the_default() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |path: &str| directory.path().join(path);
        let home = directory.path().to_str().expect("UTF-8");
        // As `printf far | sha256sum` prints it.
        let meta =
            at("contexts/meta/512eea46ceb3921dff4363c7069d89d4964d1d9fccaa0f411851a7aa60a5c868");
        fs::create_dir_all(&meta).expect("a folder");
        let endpoint = r#"{"Name":"far","Endpoints":{"docker":{"Host":"unix:///far.sock"}}}"#;
        fs::write(meta.join("meta.json"), endpoint).expect("a context");
        fs::write(at("config.json"), r#"{"currentContext":"far"}"#).expect("a file");
        let config = ("DOCKER_CONFIG", home);
        assert_eq!(
            found(&[config]),
            Ok(vec!["/far.sock by the Docker context far".to_owned()])
        );
        assert_eq!(
            found(&[config, ("DOCKER_CONTEXT", "default")])
                .expect("the default sockets")
                .len(),
            2
        );
        let missing = found(&[config, ("DOCKER_CONTEXT", "near")]).expect_err("no such context");
        assert!(missing.starts_with("there is no Docker context near"));
        fs::write(at("config.json"), "{\"auths\": secret").expect("a file");
        let broken = found(&[config]).expect_err("no JSON");
        assert!(broken.ends_with("config.json: no JSON, at line 1"));
    }
}
