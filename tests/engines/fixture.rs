//! An image of the machine's own Redis, with its libraries: what `docker save` would
//! write of it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::daemon::Daemon;
use crate::support::{output, run};
use reuseport::image::Digest;

/// The layer: the server, its libraries, a shell, a link.
const MAKE_ROOT: &str = r#"
set -e
cd "$1"
mkdir -p usr/bin data tmp
cp --parents --dereference /usr/bin/redis-server .
for library in $(ldd /usr/bin/redis-server /bin/sh | grep -o '/[^ :]*\.so[^ :]*'); do
    cp --parents --dereference "$library" .
done
cp --dereference /bin/sh usr/bin/sh
ln -s usr/bin bin
ln -s ../usr/bin/redis-server data/server
tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --create --file "$2" .
"#;

fn root() -> PathBuf {
    use std::sync::OnceLock;
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let root = tempfile::tempdir_in(directory).expect("a folder");
        let layer = directory.join(format!("redis-{}.tar", std::process::id()));
        let script = ["-c", MAKE_ROOT, "sh"];
        let mut make = crate::support::command("sh");
        output(make.args(script).arg(root.path()).arg(&layer));
        layer
    })
    .clone()
}

/// As [`MAKE_ROOT`] has made it, but for one library: it lies behind a link, and the
/// second time not even there.
const MAKE_LINKED: &str = r#"
set -e
tar --extract --file "$1" --directory "$2"
cd "$2"
library=$(find . -name libm.so.6)
mv "$library" "$library.0"
ln -s libm.so.6.0 "$library"
tar --create --file linked.tar --exclude "*.tar" .
rm "$library.0"
tar --create --file lacking.tar --exclude "*.tar" .
"#;

/// Imports two images of Redis: of `linked:test` a library lies behind a link, of
/// `lacking:test` that link leads nowhere.
pub fn import_linked(daemon: &Daemon) {
    let directory = tempfile::tempdir().expect("a folder");
    let script = ["-c", MAKE_LINKED, "sh"];
    let mut make = crate::support::command("sh");
    output(make.args(script).arg(root()).arg(directory.path()));
    for name in ["linked", "lacking"] {
        let archive = directory.path().join(format!("{name}.tar"));
        let archive = archive.to_str().expect("UTF-8");
        let command = "CMD [\"/usr/bin/redis-server\"]";
        let name = format!("{name}:test");
        daemon.ask(&["import", "--change", command, archive, &name]);
    }
}

/// A config with what commits and other tools are known to lose. It runs Redis, as
/// a user would have it run: no shim, no option for sharing.
pub fn config() -> Value {
    json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "created": "2024-01-02T03:04:05Z",
        "author": "Someone <someone@example.org>",
        "made.up": {"kept": true},
        "config": {
            "Env": ["PATH=/usr/bin:/bin", "A=b"],
            "Entrypoint": ["redis-server", "--save", "", "--bind", "127.0.0.1"],
            "Cmd": ["--port", "6379"],
            "Volumes": {"/data": {}},
            "WorkingDir": "/data",
            "Labels": {"org.example": "x"},
            "StopSignal": "SIGINT",
            "Healthcheck": {"Test": ["CMD", "true"], "Interval": 30_000_000_000_u64},
            "Shell": ["/bin/sh", "-eu", "-c"],
            "OnBuild": ["RUN exit 1"],
            "ArgsEscaped": true,
            "MadeUp": [1, 2],
        },
        "history": [
            {"created": "2024-01-02T03:04:05Z", "created_by": "COPY . /", "comment": "by hand"},
            {"created": "2024-01-02T03:04:05Z", "created_by": "CMD", "empty_layer": true},
        ],
    })
}

/// Loads an image with `config` as `name` into the engine, by the engine's own
/// client.
pub fn load(daemon: &Daemon, name: &str, mut config: Value) {
    let layer = root();
    let diff_id = Digest::of(&fs::read(&layer).expect("the layer"));
    // Another image under each name: what one test removes is no other's.
    config["config"]["Labels"]["org.example.name"] = name.into();
    config["rootfs"] = json!({"type": "layers", "diff_ids": [diff_id.to_string()]});
    let config = config.to_string();
    let id = Digest::of(config.as_bytes());
    let directory = tempfile::tempdir().expect("a folder");
    let at = |name: &str| directory.path().join(name);
    let manifest = json!([{
        "Config": format!("{}.json", id.hex()),
        "RepoTags": [name],
        "Layers": ["layer.tar"],
    }]);
    fs::write(at(&format!("{}.json", id.hex())), config).expect("the config");
    fs::write(at("manifest.json"), manifest.to_string()).expect("the manifest");
    fs::copy(layer, at("layer.tar")).expect("the layer");
    let archive = at("image.tar");
    let mut tar = crate::support::command("tar");
    tar.arg("--create").arg("--file").arg(&archive);
    tar.arg("--directory").arg(directory.path());
    output(tar.args(["manifest.json", "layer.tar", &format!("{}.json", id.hex())]));
    let archive = archive.to_str().expect("UTF-8");
    let outcome = run(&mut daemon.command(&["load", "--input", archive]));
    assert_eq!(outcome.status, Some(0), "{}", outcome.stderr);
}
