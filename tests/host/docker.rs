//! CDI devices under Docker: that of Debian 13, which is the first of Debian's to
//! know them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::{command, free_port, is_root, output, reuseport, run, skip};
use crate::{await_listeners, root_with};

/// Runs the daemon until its standard input ends, which is when the process that
/// holds the other end does, ends its containers and it, and unmounts what it left.
const KEEPER: &str = r#"
trap '' INT TERM HUP
directory=$1 client=$2
shift 2
"$@" >"$directory/log" 2>&1 &
engine=$!
read -r _
$client ps --quiet | xargs -r $client kill >/dev/null 2>&1
kill "$engine"
wait "$engine"
awk -v "start=$directory/" 'index($2, start) == 1 { print $2 }' /proc/mounts | sort -r |
    while read -r mount; do umount "$mount"; done
"#;

/// A daemon with files of its own, which looks for devices in `cdi`.
struct Docker {
    directory: TempDir,
    client: Vec<String>,
    keeper: Child,
}

impl Docker {
    /// The engine whose packages lie below `packages`.
    fn start(packages: &Path) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let below = |name: &str| format!("{}/{name}", directory.path().display());
        let library = output(
            Command::new("sh")
                .args(["-c", "echo \"$0\"/usr/lib/*-linux-gnu"])
                .arg(packages),
        );
        let library = library.trim_end();
        let loader = output(
            Command::new("sh")
                .args(["-c", "echo \"$0\"/ld-linux-*"])
                .arg(library),
        );
        let program = |path: &str| {
            let path = packages.join(path).display().to_string();
            [loader.trim_end(), "--library-path", library, &path].map(str::to_owned)
        };
        let host = format!("unix://{}", below("sock"));
        let mut client = program("usr/bin/docker").to_vec();
        client.extend(["--host".to_owned(), host.clone()]);
        let settings = format!(
            r#"{{"features": {{"cdi": true}}, "cdi-spec-dirs": ["{}"]}}"#,
            below("cdi")
        );
        fs::write(below("daemon.json"), settings).expect("written");
        let keeper = command("sh")
            .args(["-c", KEEPER, "sh"])
            .arg(directory.path())
            .arg(client.join(" "))
            .args(program("usr/sbin/dockerd"))
            .args(["--host", &host, "--config-file", &below("daemon.json")])
            .args(["--data-root", &below("data"), "--exec-root", &below("exec")])
            .args([
                "--pidfile",
                &below("pid"),
                "--bridge=none",
                "--iptables=false",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh starts");
        let this = Self {
            directory,
            client,
            keeper,
        };
        let limit = Instant::now() + Duration::from_secs(60);
        while run(this.call().arg("info")).status != Some(0) {
            let log = fs::read_to_string(this.directory.path().join("log"));
            assert!(Instant::now() < limit, "{}", log.unwrap_or_default());
            sleep(Duration::from_millis(100));
        }
        this
    }

    fn call(&self) -> Command {
        let mut call = command(&self.client[0]);
        call.args(&self.client[1..])
            .env("HOME", self.directory.path());
        call
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

#[test]
fn docker_runs_any_image_under_the_shim() {
    const NAME: &str = "docker_runs_any_image_under_the_shim";
    if !is_root() {
        return skip(NAME, "only root can run a container engine");
    }
    let packages = Path::new(env!("CARGO_TARGET_TMPDIR")).join("debian13-docker");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/debian13");
    let mut unpack = Command::new(script);
    unpack
        .arg(&packages)
        .args(["docker.io", "docker-cli"])
        .stdin(Stdio::null());
    let unpacked = run(&mut unpack);
    if unpacked.status != Some(0) {
        return skip(NAME, unpacked.stderr.trim());
    }
    let docker = Docker::start(&packages.join("root"));
    let host = tempfile::Builder::new()
        .tempdir_in("/var/lib")
        .expect("a directory");
    let shim: PathBuf = host.path().join("libreuseport.so");
    let port = free_port();
    let rules = format!("one=--port {port}");
    let mut install = reuseport();
    install.args(["cdi", "--install", "--device", &rules, "--spec-dir"]);
    install.arg(docker.directory.path().join("cdi"));
    output(install.arg("--shim-path").arg(&shim));
    let root = host.path().join("root");
    root_with(&root, "/usr/bin/redis-server");
    let archive = host.path().join("root.tar");
    let mut tar = command("tar");
    output(tar.arg("-C").arg(&root).arg("-cf").arg(&archive).arg("."));
    let change = format!(r#"CMD ["redis-server","--port","{port}","--save",""]"#);
    let mut import = docker.call();
    import.args(["import", "--change", &change]);
    output(import.arg(&archive).arg("redis:test"));
    for device in ["all", "one"] {
        let device = format!("reuseport.dev/shim={device}");
        let mut call = docker.call();
        call.args([
            "run",
            "--detach",
            "--network",
            "host",
            "--device",
            &device,
            "redis:test",
        ]);
        let outcome = run(&mut call);
        assert_eq!(outcome.status, Some(0), "{}", outcome.stderr);
    }
    await_listeners(port, 2);
    let outcome = run(docker
        .call()
        .args(["run", "--rm", "--network", "host", "redis:test"]));
    assert_ne!(outcome.status, Some(0), "it found the port in use");
    let said = outcome.stdout + &outcome.stderr;
    assert!(said.contains("Address already in use"), "{said}");
}
