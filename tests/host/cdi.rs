//! Devices of the Container Device Interface.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{command, free_port, is_root, output, reuseport, run, skip};
use crate::{await_listeners, root_with};

/// Podman with a storage of its own.
struct Podman(TempDir);

impl Podman {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn call(&self) -> Command {
        let mut call = command("podman");
        call.arg("--root").arg(self.0.path().join("root"));
        call.arg("--runroot").arg(self.0.path().join("run"));
        call.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"]);
        call.args(["--runtime", "runc"]);
        call.stdin(Stdio::null());
        call
    }

    /// Runs `image` on this machine's network; `flags` come before it.
    fn run(&self, flags: &[&str], image: &str) -> Command {
        let mut call = self.call();
        // The limits that Podman would set may be above this machine's.
        call.args(["run", "--network", "host"]);
        call.args([
            "--ulimit",
            "nofile=20000:20000",
            "--ulimit",
            "nproc=4096:4096",
        ]);
        call.args(flags).arg(image);
        call
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.call().args(["rm", "--force", "--all"]).output();
        let _ = self.call().args(["rmi", "--force", "--all"]).output();
    }
}

/// The specification where Podman looks for it, for the time of a test.
struct Installed(PathBuf);

impl Installed {
    // Podman 4 looks into /etc/cdi and /var/run/cdi alone.
    const SPECS: &str = "/var/run/cdi";

    fn call(&self, flag: &str) -> Command {
        let mut call = reuseport();
        call.args(["cdi", flag, "--spec-dir", Self::SPECS, "--shim-path"]);
        call.arg(&self.0);
        call
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        let _ = self.call("--uninstall").output();
    }
}

#[test]
fn podman_runs_any_image_under_the_shim() {
    const NAME: &str = "podman_runs_any_image_under_the_shim";
    if !is_root() {
        return skip(NAME, "only root may write where Podman looks for devices");
    }
    if Path::new(Installed::SPECS).join("reuseport.json").exists() {
        return skip(NAME, "there is a specification already");
    }
    let directory = tempfile::Builder::new()
        .tempdir_in("/var/lib")
        .expect("a directory");
    let shim = directory.path().join("libreuseport.so");
    let cdi = Installed(shim.clone());
    let root = directory.path().join("root");
    root_with(&root, "/usr/bin/redis-server");
    let archive = directory.path().join("root.tar");
    output(
        command("tar")
            .arg("-C")
            .arg(&root)
            .arg("-cf")
            .arg(&archive)
            .arg("."),
    );
    let port = free_port();
    let podman = Podman::new();
    let change = format!(r#"CMD ["redis-server","--port","{port}","--save",""]"#);
    let import = run(podman
        .call()
        .args(["import", "--change", &change])
        .arg(&archive)
        .arg("redis:test"));
    assert_eq!(import.status, Some(0), "{}", import.stderr);

    output(&mut cdi.call("--install"));
    let device = ["--detach", "--device", "reuseport.dev/shim=all"];
    for _ in 0..2 {
        let outcome = run(&mut podman.run(&device, "redis:test"));
        assert_eq!(outcome.status, Some(0), "{}", outcome.stderr);
    }
    await_listeners(port, 2);
    let outcome = run(&mut podman.run(&["--rm"], "redis:test"));
    assert_ne!(outcome.status, Some(0), "it found the port in use");
    assert!(
        outcome.stdout.contains("Address already in use"),
        "{}",
        outcome.stdout
    );
    drop(podman);
    output(&mut cdi.call("--uninstall"));
    assert!(!Path::new(Installed::SPECS).join("reuseport.json").exists());
    assert!(!shim.exists());
}

#[test]
fn devices_have_their_rules() {
    let printed = output(reuseport().args(["cdi", "--device", "dns=--port 53 --proto udp"]));
    let spec: Value = serde_json::from_str(&printed).expect("JSON");
    assert_eq!(spec["cdiVersion"], "0.3.0");
    let names = spec["devices"].as_array().expect("devices").iter();
    let names: Vec<_> = names.filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(names, ["all", "dns"]);
    let env = &spec["devices"][1]["containerEdits"]["env"];
    assert_eq!(env[1], "LIBREUSEPORT_PORT=53");
    assert_eq!(env[2], "LIBREUSEPORT_PROTO=udp");
}

#[test]
fn devices_that_cannot_be_are_refused() {
    for (flags, word) in [
        (&["--device", "a b=--port 1"][..], "letters"),
        (&["--device", "all=--port 1"], "no rules"),
        (&["--device", "a=--prt 1"], "--prt"),
        (&["--device", "a=--port x"], "'x'"),
        (&["--device", "a=", "--device", "a=--port 1"], "twice"),
    ] {
        let outcome = run(reuseport().arg("cdi").args(flags));
        assert_eq!(
            (outcome.status, outcome.stdout.as_str()),
            (Some(2), ""),
            "{flags:?}"
        );
        assert!(
            outcome.stderr.contains(word),
            "{flags:?}: {}",
            outcome.stderr
        );
    }
}

#[test]
fn one_form_takes_the_place_of_the_other() {
    let directory = tempfile::tempdir().expect("a directory");
    let specs = directory.path().join("cdi");
    let install = |flags: &[&str]| {
        let mut call = reuseport();
        call.args(["cdi", "--install", "--spec-dir"]).arg(&specs);
        call.arg("--shim-path")
            .arg(directory.path().join("shim/libreuseport.so"));
        output(call.args(flags))
    };
    let names = || {
        let entries = fs::read_dir(&specs).expect("it").flatten();
        let names = entries.map(|entry| entry.file_name().into_string().expect("UTF-8"));
        names.collect::<Vec<_>>()
    };
    install(&[]);
    assert_eq!(names(), ["reuseport.json"]);
    install(&["--yaml"]);
    assert_eq!(names(), ["reuseport.yaml"]);
}

#[test]
fn check_of_an_image_says_what_a_device_does_to_its_preload() {
    let directory = tempfile::tempdir().expect("a directory");
    let layout = directory.path().join("layout");
    let layout = layout.to_str().expect("UTF-8");
    let image = format!("{layout}:x");
    for arguments in [
        &["init", "--layout", layout][..],
        &["new", "--image", &image],
        &[
            "config",
            "--image",
            &image,
            "--config.env",
            "LD_PRELOAD=/jemalloc.so",
            "--config.cmd",
            "/a",
        ],
    ] {
        let outcome = run(command("umoci").args(arguments));
        assert_eq!(outcome.status, Some(0), "{}", outcome.stderr);
    }
    let outcome = run(reuseport().args(["check", &format!("oci:{image}")]));
    let lines: Vec<_> = outcome.stdout.lines().collect();
    let note = lines
        .iter()
        .position(|line| line.contains("note: preload-already-set"));
    let hint = lines[note.expect("a note") + 1];
    assert!(
        hint.contains("a CDI device's LD_PRELOAD takes their place"),
        "{}",
        outcome.stdout
    );
}
