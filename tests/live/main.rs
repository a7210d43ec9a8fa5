//! `reuseport check --live`: servers that are tried, and what is left of that.
//!
//! Each trial has a network of its own, so that all may use the same port.

#[path = "../support/mod.rs"]
mod support;

mod apart;
mod verdicts;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use support::{Outcome, command, compile, is_root, reuseport, run};
use tempfile::TempDir;

/// `server.c`.
fn fixture() -> String {
    let path = compile("cc", "live/server.c", &[]);
    path.to_str().expect("UTF-8").to_owned()
}

/// Tries `command` with the flags `flags`, and gives what JSON says.
fn tried(flags: &[&str], command: &[&str]) -> (Option<i32>, Value) {
    tried_by(&mut reuseport(), flags, command)
}

fn tried_by(reuseport: &mut Command, flags: &[&str], command: &[&str]) -> (Option<i32>, Value) {
    let call = reuseport.args(["check", "--live", "--json"]);
    let Outcome {
        status,
        stdout,
        stderr,
    } = run(call.args(flags).arg("--").args(command));
    assert_eq!(stderr, "", "{command:?}");
    let mut answers: Value = serde_json::from_str(&stdout).expect("JSON");
    (status, answers[0].take())
}

/// Someone who is not root.
struct User(TempDir);

impl User {
    fn new() -> Self {
        let mut builder = tempfile::Builder::new();
        let directory = builder.prefix("reuseport-live-").tempdir_in("/var/tmp");
        let directory = directory.expect("a directory");
        let mode = fs::Permissions::from_mode(0o777);
        fs::set_permissions(directory.path(), mode).expect("open to all");
        if is_root() {
            chown(directory.path(), Some(65534), Some(65534)).expect("the user's");
        }
        Self(directory)
    }

    /// A directory of the user's own.
    fn directory(&self) -> &Path {
        self.0.path()
    }

    /// The command, to be run as this user.
    fn command(&self) -> Command {
        if !is_root() {
            return reuseport();
        }
        let program = self.directory().join("reuseport");
        support::copy(env!("CARGO_BIN_EXE_reuseport"), &program);
        let mut user = command("setpriv");
        user.args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(program);
        user
    }
}

/// The codes of an answer's findings that are no notes.
fn codes(answer: &Value) -> Vec<&str> {
    let findings = answer["findings"].as_array().expect("findings");
    let weighty = findings.iter().filter(|one| one["severity"] != "note");
    weighty.filter_map(|one| one["code"].as_str()).collect()
}

/// To how many addresses there was traffic, of which both copies got a part. How
/// much of the 200 is sent depends on how busy the machine is.
fn reached(answer: &Value) -> usize {
    let traffic = answer["live"]["traffic"].as_array().expect("traffic");
    for one in traffic {
        let counts = one["counts"].as_array().expect("counts");
        let counts: Vec<u64> = counts.iter().filter_map(Value::as_u64).collect();
        let sum: u64 = counts.iter().sum();
        assert!(counts.iter().all(|count| *count > 0), "{one}");
        assert!((30..=200).contains(&sum), "{one}");
    }
    traffic.len()
}
