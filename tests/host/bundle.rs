//! OCI runtime bundles.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Outcome, command, compile, free_port, is_root, output, reuseport, run, skip};
use crate::{await_listeners, root_with, shim_in};

/// A bundle that umoci has made of an image with redis-server.
pub fn unpacked(directory: &Path, port: u16) -> PathBuf {
    let layout = directory.join("layout");
    let image = format!("{}:redis", layout.display());
    let umoci = |arguments: &[&str]| {
        let outcome = run(command("umoci").args(arguments));
        assert_eq!(
            outcome.status,
            Some(0),
            "umoci {arguments:?}: {}",
            outcome.stderr
        );
    };
    umoci(&["init", "--layout", layout.to_str().expect("UTF-8")]);
    umoci(&["new", "--image", &image]);
    let root = directory.join("root");
    root_with(&root, "/usr/bin/redis-server");
    umoci(&[
        "insert",
        "--image",
        &image,
        root.to_str().expect("UTF-8"),
        "/",
    ]);
    let port = port.to_string();
    let arguments = ["redis-server", "--port", &port, "--save", ""];
    let mut call = vec!["config", "--image", &image, "--config.env", "PATH=/usr/bin"];
    for argument in &arguments {
        call.extend(["--config.cmd", argument]);
    }
    umoci(&call);
    let bundle = directory.join("bundle");
    umoci(&["unpack", "--image", &image, bundle.to_str().expect("UTF-8")]);
    // It is to use the network of this machine, and no terminal.
    edit(&bundle, |config| {
        config["process"]["terminal"] = false.into();
        let namespaces = config["linux"]["namespaces"].as_array_mut();
        namespaces
            .expect("a list")
            .retain(|one| one["type"] != "network");
        config["linux"]
            .as_object_mut()
            .expect("it")
            .shift_remove("resources");
        let mounts = config["mounts"].as_array_mut().expect("a list");
        mounts.retain(|one| one["type"] != "cgroup");
    });
    bundle
}

pub fn edit(bundle: &Path, change: impl FnOnce(&mut Value)) {
    let path = bundle.join("config.json");
    let text = fs::read(&path).expect("config.json");
    let mut config = serde_json::from_slice(&text).expect("JSON");
    change(&mut config);
    fs::write(&path, format!("{config:#}")).expect("written");
}

/// Containers that end with the test.
pub struct Containers {
    runtime: &'static str,
    state: TempDir,
    names: Vec<String>,
}

impl Containers {
    pub fn new(runtime: &'static str) -> Self {
        Self {
            runtime,
            state: tempfile::tempdir().expect("a directory"),
            names: Vec::new(),
        }
    }

    fn call(&self, arguments: &[&str]) -> Command {
        let mut call = command(self.runtime);
        call.arg("--root").arg(self.state.path()).args(arguments);
        call.stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        call
    }

    pub fn start(&mut self, bundle: &Path) -> bool {
        let name = format!("reuseport-{}-{}", std::process::id(), self.names.len());
        let mut call = self.call(&["run", "--detach", "--bundle"]);
        let status = call.arg(bundle).arg(&name).status().expect("the runtime");
        self.names.push(name);
        status.success()
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = self.call(&["delete", "--force", name]).status();
        }
    }
}

fn two_containers_share(runtime: &'static str) {
    let directory = tempfile::tempdir().expect("a directory");
    let shim = shim_in(directory.path());
    let port = free_port();
    let bundle = unpacked(directory.path(), port);
    let path = bundle.join("config.json");
    let original = fs::read(&path).expect("config.json");
    let printed = output(
        reuseport()
            .args([
                "inject",
                "--in-place",
                "--port",
                &port.to_string(),
                "--shim-path",
            ])
            .arg(&shim)
            .arg(&bundle),
    );
    assert_eq!(printed.trim_end(), path.to_str().expect("UTF-8"));
    let mut containers = Containers::new(runtime);
    for _ in 0..2 {
        assert!(containers.start(&bundle), "{runtime}");
    }
    await_listeners(port, 2);
    drop(containers);
    output(reuseport().args(["eject", "--in-place"]).arg(&bundle));
    assert_eq!(fs::read(&path).expect("config.json"), original);
}

#[test]
fn two_containers_of_runc_share_a_port() {
    if !is_root() {
        return skip("two_containers_of_runc_share_a_port", "runc needs root");
    }
    two_containers_share("runc");
}

#[test]
fn two_rootless_containers_share_a_port() {
    use std::os::unix::fs::{PermissionsExt, chown};

    const NAME: &str = "two_rootless_containers_share_a_port";
    if !is_root() {
        return skip(NAME, "root becomes the user here");
    }
    // Where the user can enter.
    let directory = tempfile::Builder::new()
        .tempdir_in("/var/tmp")
        .expect("a directory");
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(directory.path(), mode).expect("open to all");
    chown(directory.path(), Some(65534), Some(65534)).expect("the user's");
    let others = tempfile::Builder::new()
        .tempdir_in("/var/lib")
        .expect("a directory");
    fs::set_permissions(others.path(), fs::Permissions::from_mode(0o755)).expect("open to all");
    let shim = shim_in(others.path());
    let port = free_port();
    root_with(&directory.path().join("rootfs"), "/usr/bin/redis-server");
    for entry in ["rootfs", "rootfs/proc", "rootfs/dev", "rootfs/tmp"] {
        chown(directory.path().join(entry), Some(65534), Some(65534)).expect("the user's");
    }
    let as_user = |program: &str| {
        let mut call = command("setpriv");
        call.args(["--reuid=65534", "--regid=65534", "--clear-groups", program]);
        call.current_dir(directory.path())
            .env("XDG_RUNTIME_DIR", directory.path());
        call.stdin(Stdio::null());
        call
    };
    output(as_user("runc").args(["spec", "--rootless"]));
    let words = format!("redis-server --port {port} --save /");
    edit(directory.path(), |config| {
        let words: Vec<&str> = words
            .split(' ')
            .map(|word| word.trim_matches('/'))
            .collect();
        config["process"]["args"] = words.into();
        config["process"]["terminal"] = false.into();
        config["linux"]
            .as_object_mut()
            .expect("it")
            .shift_remove("resources");
        let namespaces = config["linux"]["namespaces"].as_array_mut();
        namespaces
            .expect("a list")
            .retain(|one| one["type"] != "network");
        let mounts = config["mounts"].as_array_mut().expect("a list");
        mounts.retain(|one| one["type"] != "cgroup" && one["destination"] != "/sys");
    });
    let mut inject = reuseport();
    inject
        .args(["inject", "--in-place", "--shim-path"])
        .arg(&shim);
    output(inject.arg(directory.path()));
    let runc = |arguments: &[&str]| {
        let mut call = as_user("runc");
        call.args(["--root", "state"]).args(arguments);
        call.stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("runc")
    };
    let started = ["one", "two"].map(|name| runc(&["run", "--detach", name]).success());
    let both = started == [true; 2];
    if both {
        await_listeners(port, 2);
    }
    for name in ["one", "two"] {
        runc(&["delete", "--force", name]);
    }
    assert!(both, "{started:?}");
}

#[test]
fn two_containers_of_crun_share_a_port() {
    const NAME: &str = "two_containers_of_crun_share_a_port";
    if !is_root() {
        return skip(NAME, "crun needs root");
    }
    // It wants one version of cgroups, and not both.
    let is_hybrid = Path::new("/sys/fs/cgroup/unified").exists();
    if is_hybrid || !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        return skip(NAME, "crun takes version 2 of cgroups alone");
    }
    two_containers_share("crun");
}

/// A bundle with one program, which is not started.
fn bundle_of(program: &Path, process: &Value) -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path().join("rootfs");
    fs::create_dir_all(root.join("bin")).expect("made");
    crate::support::copy(program, &root.join("bin/server"));
    let config = json!({
        "ociVersion": "1.0.2",
        "process": process,
        "root": {"path": "rootfs"},
    });
    fs::write(directory.path().join("config.json"), config.to_string()).expect("written");
    directory
}

fn inject(bundle: &Path, shim: &Path, flags: &[&str]) -> Outcome {
    let mut call = reuseport();
    call.arg("inject").args(flags).arg("--shim-path").arg(shim);
    run(call.arg(bundle))
}

#[test]
fn a_bundle_with_a_static_program_is_refused() {
    let program = compile("cc", "live/server.c", &["-static"]);
    let bundle = bundle_of(&program, &json!({"args": ["/bin/server"], "cwd": "/"}));
    let shim = shim_in(bundle.path());
    let before = fs::read(bundle.path().join("config.json")).expect("it");
    let outcome = inject(bundle.path(), &shim, &["--in-place"]);
    assert_eq!((outcome.status, outcome.stdout.as_str()), (Some(1), ""));
    assert!(
        outcome.stderr.contains("error: static: "),
        "{}",
        outcome.stderr
    );
    assert_eq!(
        fs::read(bundle.path().join("config.json")).expect("it"),
        before
    );
    let outcome = inject(bundle.path(), &shim, &["--force"]);
    assert_eq!(outcome.status, Some(0), "{}", outcome.stderr);
    let outcome = inject(bundle.path(), &shim, &["--no-check"]);
    assert_eq!((outcome.status, outcome.stderr.as_str()), (Some(0), ""));
}

#[test]
fn a_program_that_is_not_there_is_a_failed_check() {
    let program = compile("cc", "live/server.c", &[]);
    let bundle = bundle_of(&program, &json!({"args": ["other"], "env": ["PATH=/bin"]}));
    let shim = shim_in(bundle.path());
    let outcome = inject(bundle.path(), &shim, &[]);
    assert_eq!(outcome.status, Some(1), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("not-found"), "{}", outcome.stderr);
}

#[test]
fn a_shim_that_is_not_there_is_an_error_with_its_cure() {
    let program = compile("cc", "live/server.c", &[]);
    let bundle = bundle_of(&program, &json!({"args": ["/bin/server", "plain", "1"]}));
    let shim = bundle.path().join("none/libreuseport.so");
    let outcome = inject(bundle.path(), &shim, &["--no-check"]);
    assert_eq!((outcome.status, outcome.stdout.as_str()), (Some(2), ""));
    let cure = format!("reuseport install {}", bundle.path().join("none").display());
    assert!(outcome.stderr.contains(&cure), "{}", outcome.stderr);
}

#[test]
fn what_is_no_bundle_of_a_container_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("config.json");
    let mounts = json!({"process": {}, "root": {"path": "x"}, "mounts": vec![json!({}); 5000]});
    let mounts = mounts.to_string();
    for (text, reason) in [
        ("{", "no JSON"),
        ("[]", "no JSON object"),
        (r#"{"root": {"path": "x"}}"#, "it has no process"),
        (r#"{"process": {}}"#, "it has no root.path"),
        (r#"{"windows": {}, "process": {}}"#, "Windows"),
        (r#"{"vm": {}, "process": {}}"#, "virtual machine"),
        (&mounts, "more mounts"),
        (
            r#"{"process": {"env": "x"}, "root": {"path": "x"}}"#,
            "process.env",
        ),
    ] {
        fs::write(&path, text).expect("written");
        for command in ["inject", "eject"] {
            let outcome = run(reuseport()
                .args([command, "--in-place"])
                .arg(directory.path()));
            assert_eq!(
                (outcome.status, outcome.stdout.as_str()),
                (Some(2), ""),
                "{text}"
            );
            assert!(
                outcome.stderr.contains(reason),
                "{text}: {}",
                outcome.stderr
            );
            assert!(outcome.stderr.contains("config.json"), "{}", outcome.stderr);
        }
        assert_eq!(fs::read_to_string(&path).expect("it"), text);
    }
}

#[test]
fn a_bundle_without_the_shim_has_nothing_to_eject() {
    let program = compile("cc", "live/server.c", &[]);
    let bundle = bundle_of(&program, &json!({"args": ["/bin/server"]}));
    let outcome = run(reuseport().arg("eject").arg(bundle.path()));
    assert_eq!(outcome.status, Some(1));
    assert!(
        outcome.stderr.contains("nothing to eject"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn the_user_of_the_process_decides_about_set_id_programs() {
    use std::os::unix::fs::PermissionsExt;

    let program = compile("cc", "live/server.c", &[]);
    for (user, privileges, status) in [(0, false, 0), (1000, false, 1), (1000, true, 0)] {
        if !is_root() && user == 0 {
            continue;
        }
        let process = json!({
            "args": ["/bin/server"],
            "user": {"uid": user, "gid": user},
            "noNewPrivileges": privileges,
        });
        let bundle = bundle_of(&program, &process);
        let copy = bundle.path().join("rootfs/bin/server");
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o4755)).expect("a mode");
        let outcome = run(reuseport().args(["check", "--strict"]).arg(bundle.path()));
        let is_setuid = outcome.stdout.contains("error: setuid");
        assert_eq!(
            is_setuid,
            status == 1,
            "{user} {privileges}: {}",
            outcome.stdout
        );
    }
}

#[test]
fn the_program_is_looked_for_under_the_mounts() {
    let program = compile("cc", "live/server.c", &[]);
    let source = program.parent().expect("a directory");
    let name = program
        .file_name()
        .and_then(|name| name.to_str())
        .expect("UTF-8");
    let mounted = json!({"args": [format!("/srv/{name}"), "plain", "1"], "cwd": "/"});
    let own = json!({"args": ["/bin/server", "plain", "1"], "cwd": "/"});
    for (process, mount, status, word) in [
        (
            &mounted,
            json!({"destination": "/srv", "type": "bind", "source": source}),
            0,
            "works",
        ),
        (
            &mounted,
            json!({"destination": "/srv", "type": "ext4", "source": "/dev/x"}),
            1,
            "unknown-mount",
        ),
        (
            &mounted,
            json!({"destination": "/mnt", "type": "tmpfs"}),
            2,
            "not-found",
        ),
        (
            &own,
            json!({"destination": "/mnt", "type": "tmpfs"}),
            0,
            "works",
        ),
        (
            &own,
            json!({"destination": "/bin", "type": "tmpfs"}),
            2,
            "not-found",
        ),
    ] {
        let bundle = bundle_of(&program, process);
        root_with(&bundle.path().join("rootfs"), "/usr/bin/env");
        edit(bundle.path(), |config| config["mounts"] = json!([&mount]));
        let outcome = run(reuseport().args(["check", "--strict"]).arg(bundle.path()));
        assert_eq!(outcome.status, Some(status), "{mount}: {}", outcome.stdout);
        assert!(outcome.stdout.contains(word), "{mount}: {}", outcome.stdout);
    }
}
