//! Servers to look at, and the look.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Outcome, command, compile, reuseport, run, shim};

/// A directory that every user can enter, with a shim of its own.
pub struct Place(TempDir);

impl Place {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(directory.path(), mode).expect("open to all");
        let this = Self(directory);
        fs::copy(shim(), this.shim()).expect("a copy");
        this
    }

    pub fn shim(&self) -> PathBuf {
        self.0.path().join("libreuseport.so")
    }

    /// A copy of the program at `program`, under the name `name`.
    pub fn copy(&self, program: &Path, name: &str) -> PathBuf {
        let path = self.0.path().join(name);
        crate::support::copy(program, &path);
        path
    }

    /// A command of `program` under the shim.
    pub fn under_shim(&self, program: impl AsRef<Path>) -> Command {
        let mut command = command(program);
        command.env("LD_PRELOAD", self.shim());
        command
    }
}

/// `server.c`.
pub fn fixture() -> PathBuf {
    compile("cc", "pid/server.c", &["-pthread"])
}

/// A process that ends with the test.
pub struct Server(Child);

impl Server {
    /// Starts `command`.
    pub fn start(command: &mut Command) -> Self {
        let silent = command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = silent.stderr(Stdio::null()).spawn();
        Self(child.unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    /// Starts `command`, and waits until it takes what comes to `port`.
    pub fn on_port(command: &mut Command, port: u16) -> Self {
        let mut server = Self::start(command);
        let pid = server.pid();
        server.wait(|| is_open(pid, port), command);
        server
    }

    /// Starts `command`, and waits until it executes the program `name`.
    pub fn named(command: &mut Command, name: &str) -> Self {
        let mut server = Self::start(command);
        let comm = format!("/proc/{}/comm", server.pid());
        let is_named = || fs::read_to_string(&comm).is_ok_and(|text| text.trim_end() == name);
        server.wait(is_named, command);
        server
    }

    fn wait(&mut self, is_ready: impl Fn() -> bool, command: &Command) {
        let end = Instant::now() + Duration::from_secs(20);
        while !is_ready() {
            let ended = self.0.try_wait().expect("a status");
            assert!(ended.is_none(), "{command:?} has ended: {ended:?}");
            assert!(Instant::now() < end, "{command:?} is not ready");
            sleep(Duration::from_millis(5));
        }
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Ends it, and leaves its exit status unread.
    pub fn end(&mut self) {
        self.0.kill().expect("killed");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether a socket of the process's own takes what comes to `port` in its
/// network namespace.
fn is_open(pid: u32, port: u16) -> bool {
    let target = |entry: std::io::Result<fs::DirEntry>| fs::read_link(entry.ok()?.path()).ok();
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    let own: Vec<_> = descriptors.filter_map(target).collect();
    let port = format!(":{port:04X}");
    ["tcp", "tcp6", "udp", "udp6"].iter().any(|table| {
        let text = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        text.lines().any(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            fields[1].ends_with(&port)
                && matches!(fields[3], "0A" | "07")
                && own.contains(&format!("socket:[{}]", fields[9]).into())
        })
    })
}

/// What `check --pid` says of one process.
#[derive(Debug)]
pub struct Answer {
    pub status: Option<i32>,
    pub json: Value,
}

/// Looks at `pid`, with `command` being the program under test.
pub fn look_by(command: &mut Command, pid: u32) -> Answer {
    let outcome = run(command.args(["check", "--json", "--pid", &pid.to_string()]));
    assert_eq!(outcome.stderr, "", "{command:?}");
    let mut all: Vec<Value> = serde_json::from_str(&outcome.stdout).expect("an array");
    assert_eq!(all.len(), 1);
    let json = all.remove(0);
    assert_eq!(json["target"], format!("pid:{pid}"));
    Answer {
        status: outcome.status,
        json,
    }
}

pub fn look(pid: u32) -> Answer {
    look_by(&mut reuseport(), pid)
}

/// What people are told of `pid`.
pub fn read(pid: u32) -> Outcome {
    run(reuseport().args(["check", "--pid", &pid.to_string()]))
}

impl Answer {
    pub fn verdict(&self) -> (&str, Option<i32>) {
        (self.json["verdict"].as_str().expect("a word"), self.status)
    }

    /// The codes of the errors, or of the warnings or notes.
    pub fn codes(&self, severity: &str) -> Vec<&str> {
        let findings = self.json["findings"].as_array().expect("an array");
        let meant = findings.iter().filter(|one| one["severity"] == severity);
        meant
            .map(|one| one["code"].as_str().expect("a word"))
            .collect()
    }

    /// The message of the finding `code`, and its hint.
    pub fn message(&self, code: &str) -> String {
        let findings = self.json["findings"].as_array().expect("an array");
        let finding = findings.iter().find(|one| one["code"] == code);
        let finding = finding.unwrap_or_else(|| panic!("{code}: {self:#?}"));
        let hint = finding["hint"].as_str().unwrap_or_default();
        format!("{} {hint}", finding["message"].as_str().expect("a text"))
    }

    /// The sockets: protocol, address, port and whether they have the option.
    pub fn sockets(&self) -> Vec<(String, String, u64, Option<bool>)> {
        let sockets = self.json["process"]["sockets"]
            .as_array()
            .expect("an array");
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let socket = |one: &Value| {
            let port = one["port"].as_u64().expect("a number");
            (
                text(&one["protocol"]),
                text(&one["address"]),
                port,
                one["reuseport"].as_bool(),
            )
        };
        sockets.iter().map(socket).collect()
    }

    pub fn process(&self, field: &str) -> &Value {
        &self.json["process"][field]
    }
}
