//! Compose: what `inject -f` makes of a file, read and run by Docker's own Compose.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::daemon::{self, Daemon};
use crate::port::Port;
use crate::support::{self, output, reuseport, run};
use crate::{fixture, serve};

/// Docker's Compose 2: this machine's, or Debian 13's where that is not to be had:
/// Debian 12 has the first one, which knows no `create_host_path`.
fn program(test: &str) -> Option<PathBuf> {
    for name in [
        "/usr/libexec/docker/cli-plugins/docker-compose",
        "/usr/bin/docker-compose",
    ] {
        let version = Path::new(name)
            .exists()
            .then(|| run(support::command(name).arg("version")).stdout);
        if version.is_some_and(|version| version.contains(" v2") || version.contains("version 2")) {
            return Some(name.into());
        }
    }
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("debian13-compose");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/debian13");
    let unpacked = run(Command::new(script)
        .arg(&directory)
        .args(["--alone", "docker-compose"]));
    if unpacked.status != Some(0) {
        support::skip(test, unpacked.stderr.trim());
        return None;
    }
    Some(directory.join("root/usr/libexec/docker/cli-plugins/docker-compose"))
}

/// A file with two services, as somebody writes it who knows nothing of ports that
/// are shared.
fn file(port: u16) -> String {
    format!(
        "# The cache.\nx-limits: &limits\n  ulimits: {{nofile: 1024, nproc: 4096}}\nservices:\n  redis:\n    \
         <<: *limits\n    image: redis:composed\n    container_name: redis   # one\n    ports:\n      - \"{port}:{port}\"\n    \
         command: [--port, \"{port}\"]\n    environment:\n      - A=${{HOME:-b}}\n  idle:\n    image: redis:composed\n    \
         profiles: [none]\n    environment: {{LD_PRELOAD: ''}}\n"
    )
}

/// Takes a project down when it is dropped.
struct Project<'a> {
    daemon: &'a Daemon,
    program: PathBuf,
    path: PathBuf,
}

impl Project<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = support::command(&self.program);
        command
            .env(
                "DOCKER_HOST",
                format!("unix://{}", self.daemon.socket.display()),
            )
            .env("HOME", "/nowhere")
            .args(["--project-name", "reuseport-test", "--file"])
            .arg(&self.path)
            .args(arguments);
        command
    }
}

impl Drop for Project<'_> {
    fn drop(&mut self) {
        run(&mut self.command(&["down", "--timeout", "1"]));
    }
}

#[test]
fn compose_scales_a_service_that_shares_its_port() {
    let test = "compose_scales_a_service_that_shares_its_port";
    let Some(docker) = daemon::docker(test) else {
        return;
    };
    let Some(program) = program(test) else {
        return;
    };
    fixture::load(&docker, "redis:composed", fixture::config());
    let port = Port::free();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("compose.yaml");
    let before = file(port.number);
    fs::write(&path, &before).expect("written");
    let shim = support::shim();
    let host = format!("host={}", shim.parent().expect("a directory").display());
    let inject = |more: &[&str]| {
        let mut command = reuseport();
        command
            .args(["inject", "--in-place", "--delivery", &host, "-f"])
            .arg(&path)
            .args(more);
        let outcome = run(&mut command);
        assert_eq!(outcome.status, Some(0), "{}", outcome.stderr);
    };
    inject(&["--scale-ready", "--service", "redis"]);
    inject(&["--service", "idle"]);
    let project = Project {
        daemon: &docker,
        program,
        path: path.clone(),
    };

    let config = output(&mut project.command(&["--profile", "none", "config", "--format", "json"]));
    let config: Value = serde_json::from_str(&config).expect("JSON");
    for service in ["redis", "idle"] {
        let service = &config["services"][service];
        assert_eq!(
            service["environment"]["LD_PRELOAD"], "/.reuseport/libreuseport.so",
            "{service:#}"
        );
        let mount = &service["volumes"][0];
        assert_eq!(
            (&mount["target"], &mount["read_only"]),
            (&"/.reuseport".into(), &true.into())
        );
        assert_ne!(mount["bind"]["create_host_path"], true);
    }
    assert_eq!(config["services"]["redis"]["network_mode"], "host");

    let up = run(&mut project.command(&["up", "--detach", "--scale", "redis=2"]));
    assert_eq!(up.status, Some(0), "{}", up.stderr);
    let listed = output(&mut project.command(&["ps", "--quiet"]));
    assert_eq!(listed.lines().count(), 2, "{listed}");
    serve::wait_for_runs(port.number, 2);
    drop(project);

    let mut eject = reuseport();
    assert_eq!(
        output(eject.args(["eject", "--in-place", "-f"]).arg(&path)),
        ""
    );
    assert_eq!(fs::read_to_string(&path).expect("readable"), before);
}
