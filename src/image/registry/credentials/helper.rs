//! Credential helpers: programs that keep logins elsewhere
//! (docker/docker-credential-helpers, "Development").

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use serde_json::Value;
use thiserror::Error;

use super::{Login, Secret};

/// Why a helper gave no answer. What it printed is not shown: it may hold the
/// secret.
#[derive(Debug, Error)]
pub enum Failure {
    #[error("no program of that name in PATH")]
    Missing,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it failed ({0})")]
    Failed(ExitStatus),
    #[error("it printed no login")]
    NoAnswer,
}

/// No answer is longer.
const MAX_ANSWER: u64 = 1 << 20;

/// Asks `program`, looked up in `path`, for the login at `server`, which it
/// reads from standard input. None where it keeps none.
pub(super) fn get(
    program: &str,
    path: Option<&OsStr>,
    server: &str,
) -> Result<Option<Login>, Failure> {
    // A name with a slash would be a path, and not one of a helper.
    if program.contains('/') {
        return Err(Failure::Missing);
    }
    let found = which::which_in(program, path, Path::new("/")).map_err(|_| Failure::Missing)?;
    let mut child = Command::new(found)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // One that does not read is judged by what it answers.
        let _ = input.write_all(server.as_bytes());
    }
    let mut answer = Vec::new();
    if let Some(output) = child.stdout.take() {
        output.take(MAX_ANSWER).read_to_end(&mut answer)?;
    }
    let status = child.wait()?;
    if !status.success() {
        let text = String::from_utf8_lossy(&answer);
        // The words by which every helper says so, and Docker knows it.
        return if text.trim() == "credentials not found in native keychain" {
            Ok(None)
        } else {
            Err(Failure::Failed(status))
        };
    }
    let answer: Value = serde_json::from_slice(&answer).map_err(|_| Failure::NoAnswer)?;
    let text = |name| answer.get(name).and_then(Value::as_str);
    let (Some(username), Some(secret)) = (text("Username"), text("Secret")) else {
        return Err(Failure::NoAnswer);
    };
    let secret = Secret::new(secret.to_owned());
    Ok(match username {
        "" => None,
        "<token>" => Some(Login::IdentityToken(secret)),
        username => Some(Login::Password {
            username: username.to_owned(),
            password: secret,
        }),
    })
}
