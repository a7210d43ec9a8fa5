//! What is given to others: the static program and the two images, built by the
//! very Dockerfile; the stage that compiles is replaced by this machine's work.

#[allow(dead_code, reason = "Docker's part of it is used here")]
#[path = "../engines/daemon.rs"]
mod daemon;
#[path = "../servers/port.rs"]
mod port;
#[allow(dead_code, reason = "two containers on one port are used here")]
#[path = "../engines/serve.rs"]
mod serve;
#[allow(dead_code, reason = "the port's part of it is used here")]
#[path = "../servers/sockets.rs"]
mod sockets;
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use port::Port;
use support::{command, is_root, output, run, skip};

/// The directory with what the stage `build` of the Dockerfile leaves in `/out`.
static BUILT: LazyLock<PathBuf> = LazyLock::new(|| {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("static");
    let outcome = run(Command::new(source("docker/build"))
        .arg(std::env::consts::ARCH)
        .arg(directory.join("out")));
    assert_eq!(outcome.status, Some(0), "{}", outcome.stderr);
    directory
});

fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn program() -> PathBuf {
    BUILT.join("out/reuseport")
}

/// buildah and Podman, with a storage of their own.
struct Engine(TempDir);

impl Engine {
    /// With both images: `localhost/own:shim` and `localhost/own:cli`.
    fn new() -> Self {
        let this = Self(tempfile::tempdir().expect("a directory"));
        for stage in ["shim", "cli"] {
            let context = format!("build={}", BUILT.display());
            let mut build = this.call("buildah");
            build.args([
                "build",
                "--isolation",
                "chroot",
                "--build-context",
                &context,
            ]);
            build.args([
                "--target",
                stage,
                "--tag",
                &format!("own:{stage}"),
                "--file",
            ]);
            build.arg(source("docker/Dockerfile")).arg(source("docker"));
            let outcome = run(&mut build);
            assert_eq!(outcome.status, Some(0), "{stage}: {}", outcome.stderr);
        }
        this
    }

    fn call(&self, program: &str) -> Command {
        let mut call = command(program);
        call.arg("--root").arg(self.0.path().join("root"));
        call.arg("--runroot").arg(self.0.path().join("run"));
        call.args(["--storage-driver", "vfs"]).stdin(Stdio::null());
        call
    }

    /// A container on this machine's network, with `flags` before the image.
    fn run(&self, flags: &[&str]) -> Command {
        let mut call = self.call("podman");
        call.args(["--cgroup-manager", "cgroupfs", "--runtime", "runc"]);
        call.args(["run", "--network", "host"]);
        // The limits that Podman would set may be above this machine's.
        call.args([
            "--ulimit",
            "nofile=20000:20000",
            "--ulimit",
            "nproc=4096:4096",
        ]);
        call.args(flags);
        call
    }

    /// The bytes of an image's layers, as they travel.
    fn size(&self, image: &str) -> u64 {
        let layout = self.0.path().join("layout");
        let destination = format!("oci:{}:x", layout.display());
        let outcome = run(self.call("buildah").args(["push", image, &destination]));
        assert_eq!(outcome.status, Some(0), "{}", outcome.stderr);
        let read = |digest: &str| -> Value {
            let path = layout
                .join("blobs/sha256")
                .join(digest.trim_start_matches("sha256:"));
            serde_json::from_slice(&fs::read(path).expect("a blob")).expect("JSON")
        };
        let index: Value =
            serde_json::from_slice(&fs::read(layout.join("index.json")).expect("it"))
                .expect("JSON");
        let manifest = read(index["manifests"][0]["digest"].as_str().expect("a digest"));
        let layers = manifest["layers"].as_array().expect("layers").iter();
        let size = layers.filter_map(|layer| layer["size"].as_u64()).sum();
        fs::remove_dir_all(layout).expect("removed");
        size
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self
            .call("podman")
            .args(["rm", "--force", "--all"])
            .output();
        let _ = self
            .call("podman")
            .args(["rmi", "--force", "--all"])
            .output();
    }
}

/// What puts the shim into another image.
const COPIED: &str = "\
COPY --from=own:shim /libreuseport.so /.reuseport/
ENV LD_PRELOAD=/.reuseport/libreuseport.so";

/// Writes the build of an image of redis-server, with `lines` of its own.
fn containerfile(directory: &Path, lines: &str) -> PathBuf {
    let path = directory.join("Containerfile");
    let file = format!(
        "FROM scratch\nCOPY redis /\nENV PATH=/usr/bin\n{lines}\nENTRYPOINT [\"redis-server\", \"--save\", \"\"]\n"
    );
    fs::write(&path, file).expect("written");
    path
}

/// redis-server with all that it needs, and the sources for an image of it.
fn redis(directory: &Path) -> PathBuf {
    let root = directory.join("redis");
    let listed = output(Command::new("ldd").arg("/usr/bin/redis-server"));
    let words = listed.split_whitespace();
    let libraries = words.filter(|word| word.starts_with('/'));
    for file in libraries.chain(["/usr/bin/redis-server"]) {
        let copy = root.join(file.trim_start_matches('/'));
        fs::create_dir_all(copy.parent().expect("a directory")).expect("made");
        support::copy(fs::canonicalize(file).expect("a file"), &copy);
    }
    root
}

fn await_two_listeners(port: u16) {
    let limit = Instant::now() + Duration::from_secs(20);
    let count = || {
        let table = fs::read_to_string("/proc/net/tcp").expect("the table");
        let address = format!(":{port:04X} 00000000:0000 0A");
        table.lines().filter(|line| line.contains(&address)).count()
    };
    while count() != 2 {
        assert!(Instant::now() < limit, "{} listen", count());
        sleep(Duration::from_millis(20));
    }
    TcpStream::connect(("127.0.0.1", port)).expect("a connection");
}

#[test]
fn the_static_program_needs_nothing_of_the_machine() {
    let program = program();
    let headers = output(command("readelf").arg("-lW").arg(&program));
    assert!(!headers.contains("INTERP"), "{headers}");
    assert!(fs::metadata(&program).expect("it").len() < 12 << 20);
    let shims = BUILT.join("shims");
    let printed = output(command(&program).args(["install", "--all"]).arg(&shims));
    assert_eq!(printed.lines().count(), 2, "both shims: {printed}");
    let checked = run(command(&program).args(["check", "redis-server"]));
    assert_eq!(checked.stdout, "redis-server: works\n");
    if !is_root() {
        return skip(
            "a root file system with nothing in it",
            "chroot(2) needs root",
        );
    }
    let root = tempfile::tempdir().expect("a directory");
    support::copy(&program, &root.path().join("reuseport"));
    let inside = |words: &[&str]| {
        let mut chroot = command("chroot");
        chroot.arg(root.path()).args(words);
        chroot
    };
    let printed = output(&mut inside(&["/reuseport", "install", "/shim"]));
    assert_eq!(printed, "/shim/libreuseport.so\n");

    // With musl's C library alone beside it: a server that binds twice.
    let twice = support::compile("musl-gcc", "../nix/twice.c", &[]);
    support::copy(&twice, &root.path().join("twice"));
    let loader = format!("/lib/ld-musl-{}.so.1", std::env::consts::ARCH);
    fs::create_dir(root.path().join("lib")).expect("made");
    let real = fs::canonicalize(&loader).expect("musl's loader");
    support::copy(real, &root.path().join(&loader[1..]));
    let alone = run(&mut inside(&["/twice"]));
    assert_eq!(alone.status, Some(2), "{}", alone.stderr);
    let checked = output(&mut inside(&["/reuseport", "check", "/twice"]));
    assert_eq!(checked, "/twice: works\n");
    output(&mut inside(&[
        "/reuseport",
        "--port",
        "0-65535",
        "--",
        "/twice",
    ]));
}

#[test]
fn images_are_small_and_serve_in_other_builds_and_as_an_init_container() {
    const NAME: &str = "images_are_small_and_serve_in_other_builds_and_as_an_init_container";
    if !is_root() {
        return skip(NAME, "buildah and runc are started as root here");
    }
    let engine = Engine::new();
    let (shim, cli) = (
        engine.size("localhost/own:shim"),
        engine.size("localhost/own:cli"),
    );
    println!("the images: shim {shim} bytes, cli {cli} bytes");
    assert!(shim < 20_000 && cli < 12_000_000, "{shim} {cli}");

    // Neither has a shell, and the program runs as who is not root.
    let version = output(&mut engine.run(&["--rm", "localhost/own:cli", "--version"]));
    assert_eq!(
        version.trim_end(),
        concat!("reuseport ", env!("CARGO_PKG_VERSION"))
    );
    let user = run(engine.call("buildah").args([
        "inspect",
        "--format",
        "{{.OCIv1.Config.User}}",
        "own:cli",
    ]));
    assert_eq!(user.stdout.trim_end(), "65532:65532");

    // In a second build.
    let work = tempfile::tempdir().expect("a directory");
    redis(work.path());
    let port = Port::free();
    let number = port.number.to_string();
    let build = |name: &str, lines: &str| {
        containerfile(work.path(), lines);
        let outcome = run(engine
            .call("buildah")
            .args(["build", "--isolation", "chroot", "--tag", name])
            .arg(work.path()));
        assert_eq!(outcome.status, Some(0), "{}", outcome.stderr);
    };
    build("redis:copied", COPIED);
    let mut names = Vec::new();
    for _ in 0..2 {
        let flags = ["--detach", "localhost/redis:copied", "--port", &number];
        let started = run(&mut engine.run(&flags));
        assert_eq!(started.status, Some(0), "{}", started.stderr);
        names.push(started.stdout.trim_end().to_owned());
    }
    await_two_listeners(port.number);
    for name in names {
        run(engine
            .call("podman")
            .args(["rm", "--force", "--time", "0", &name]));
    }

    // As an init container, which leaves the shim in a directory for the next.
    build("redis:plain", "");
    let shared = work.path().join("shared");
    fs::create_dir(&shared).expect("made");
    let volume = format!("{}:/.reuseport", shared.display());
    let init = [
        "--rm",
        "--user",
        "0",
        "--volume",
        &volume,
        "localhost/own:cli",
        "install",
        "/.reuseport",
    ];
    assert_eq!(
        output(&mut engine.run(&init)),
        "/.reuseport/libreuseport.so\n"
    );
    // As manifests have it: `command`, which takes the entrypoint's place.
    let version = ["--rm", "--entrypoint", "reuseport", "localhost/own:cli"];
    let mut by_name = engine.run(&version);
    output(by_name.arg("--version"));
    let preload = "LD_PRELOAD=/.reuseport/libreuseport.so";
    for _ in 0..2 {
        let flags = [
            "--detach",
            "--volume",
            &volume,
            "--env",
            preload,
            "localhost/redis:plain",
            "--port",
            &number,
        ];
        let started = run(&mut engine.run(&flags));
        assert_eq!(started.status, Some(0), "{}", started.stderr);
    }
    await_two_listeners(port.number);
}

#[test]
fn docker_runs_both_images() {
    const NAME: &str = "docker_runs_both_images";
    let Some(docker) = daemon::docker(NAME) else {
        return;
    };
    let engine = Engine::new();
    let work = tempfile::tempdir().expect("a directory");
    for stage in ["shim", "cli"] {
        let archive = work.path().join(stage).display().to_string();
        let image = format!("own:{stage}");
        let destination = format!("docker-archive:{archive}:{image}");
        let pushed = run(engine.call("buildah").args(["push", &image, &destination]));
        assert_eq!(pushed.status, Some(0), "{}", pushed.stderr);
        docker.ask(&["load", "--quiet", "--input", &archive]);
    }
    let version = concat!("reuseport ", env!("CARGO_PKG_VERSION"));
    assert_eq!(
        docker.ask(&["run", "--rm", "own:cli", "--version"]),
        version
    );

    redis(work.path());
    let file = containerfile(work.path(), COPIED);
    let (file, context) = (file.to_str().expect("UTF-8"), work.path());
    let build = ["build", "--quiet", "--tag", "redis:copied", "--file", file];
    docker.ask(&[&build[..], &[context.to_str().expect("UTF-8")]].concat());
    serve::assert_shared(&docker, "redis:copied", Port::free().number);
}
