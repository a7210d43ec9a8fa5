//! An image for two platforms in a real registry, taken from there by other tools
//! and run.

use std::fs;
use std::path::Path;

use reuseport::image::{Compression, Family};
use serde_json::Value;

use crate::build::{Image, Layer, index, name, oci, server, validate};
use crate::distribution::Distribution;
use crate::support::{command, compile, output, reuseport, run};

/// The server for arm64, and all that it needs.
fn arm_server() -> Layer {
    let read = |path: &Path| fs::read(path).expect("readable");
    let program = compile("aarch64-linux-gnu-gcc", "probe/probe.c", &["-pthread"]);
    let libraries = Path::new("/usr/aarch64-linux-gnu/lib");
    Layer::default()
        .file("srv/server", 0o755, read(&program))
        .file(
            "lib/ld-linux-aarch64.so.1",
            0o755,
            read(&libraries.join("ld-linux-aarch64.so.1")),
        )
        .file(
            "lib/aarch64-linux-gnu/libc.so.6",
            0o755,
            read(&libraries.join("libc.so.6")),
        )
}

fn shape(layer: Layer, compression: Compression, architecture: &str) -> Image {
    let mut image = Image::new(layer).platform("linux", architecture);
    image.layers[0].1 = compression;
    image
}

/// What the server of the image that umoci has unpacked into `bundle` says of a
/// bind, under qemu for `machine`, with the variables of ours that it is to have.
fn bind(bundle: &Path, machine: &str, variables: &[&str]) -> String {
    let root = bundle.join("rootfs");
    let mut run = command(format!("qemu-{machine}-static"));
    run.arg("-L").arg(&root);
    for variable in variables {
        run.args(["-E", variable]);
    }
    output(
        run.arg(root.join("srv/server"))
            .args(["bind", "tcp", "127.0.0.1", "0"]),
    )
}

/// The variables of the bundle that are ours.
fn ours(bundle: &Path) -> Vec<String> {
    let config = fs::read_to_string(bundle.join("config.json")).expect("a config");
    let config: Value = serde_json::from_str(&config).expect("JSON");
    let all = config["process"]["env"].as_array().expect("a list").iter();
    let all = all.filter_map(Value::as_str).map(str::to_owned);
    all.filter(|one| one.contains("REUSEPORT") || one.contains("LD_PRELOAD"))
        .collect()
}

#[test]
fn two_platforms_are_pulled_unpacked_and_run() {
    let registry = Distribution::open();
    let host = registry.host();
    let layout = registry.place("layout");
    let amd = shape(server(), Compression::Zstd, "amd64").put(&layout);
    let arm = shape(arm_server(), Compression::Gzip, "arm64").put(&layout);
    let top = index(&layout, &[(amd, "linux/amd64"), (arm, "linux/arm64")]);
    let original = name(&layout, "v1", top);

    // There as it is: in goes the shim, and out.
    let [up, base, new] = ["up", "v1", "new"].map(|tag| format!("docker://{host}/app:{tag}"));
    let printed = |arguments: &[&str]| {
        let outcome = run(reuseport().args(arguments));
        assert_eq!(outcome.status, Some(0), "{arguments:?}: {outcome:?}");
        outcome
    };
    printed(&["inject", &oci(&layout, "v1"), "-t", &up, "--port", "0"]);
    let back = printed(&["eject", &up, "-t", &base]);
    assert_eq!(back.stdout, format!("{host}/app@{original}\n"));
    let made = printed(&["inject", &base, "-t", &new, "--port", "0"]);
    for platform in ["linux/amd64", "linux/arm64"] {
        let works = format!("{base} ({platform}): works");
        assert!(made.stderr.contains(&works), "{}", made.stderr);
    }
    validate(&new);

    let pulled = registry.place("pulled");
    for (architecture, machine) in [("amd64", "x86_64"), ("arm64", "aarch64")] {
        // umoci knows no zstd: skopeo unpacks it.
        let files = format!("dir:{}", registry.place(architecture).display());
        let layout = oci(&pulled, architecture);
        let skopeo = |more: &[&str], from: &str, to: &str| {
            let outcome = run(command("skopeo")
                .args(["--insecure-policy", "--override-arch", architecture, "copy"])
                .args(["--quiet", "--src-tls-verify=false", from, to])
                .args(more));
            assert_eq!(outcome.status, Some(0), "{}", outcome.stderr);
        };
        skopeo(&["--dest-decompress"], &new, &files);
        skopeo(&[], &files, &layout);
        let bundle = registry.place(&format!("bundle-{architecture}"));
        let image = format!("{}:{architecture}", pulled.display());
        let umoci = run(command("umoci")
            .args(["unpack", "--rootless", "--image", &image])
            .arg(&bundle));
        assert_eq!(umoci.status, Some(0), "{}", umoci.stderr);

        // qemu has no answer about the device.
        let plain = bind(&bundle, machine, &[]);
        assert!(plain.starts_with("ok reuseport=0 reuseaddr=0 "), "{plain}");
        let ours = ours(&bundle);
        let set = [
            "LD_PRELOAD=/.reuseport/libreuseport.so",
            "LIBREUSEPORT_PORT=0",
        ];
        assert_eq!(ours, set);
        let shared = bind(&bundle, machine, &set);
        assert!(
            shared.starts_with("ok reuseport=1 reuseaddr=0 "),
            "{shared}"
        );
    }
}

#[test]
fn a_compressed_docker_archive_goes_into_a_registry() {
    let registry = Distribution::open();
    let host = registry.host();
    let layout = registry.place("layout");
    let mut image = shape(server(), Compression::Gzip, "amd64");
    image.family = Family::Docker;
    image.tag(&layout, "v1");
    let archive = registry.place("app.tar");
    let saved = format!("docker-archive:{}:app:v1", archive.display());
    let made = run(reuseport().args(["inject", &oci(&layout, "v1"), "-t", &saved]));
    assert_eq!(made.status, Some(0), "{}", made.stderr);
    output(command("gzip").arg(&archive));
    let packed = format!("docker-archive:{}.gz:app:v1", archive.display());
    let target = format!("docker://{host}/app:v1");
    let pushed = run(reuseport().args(["inject", &packed, "-t", &target]));
    assert_eq!(pushed.status, Some(0), "{}", pushed.stderr);
    validate(&target);
    let pulled = oci(&registry.place("pulled"), "x");
    let skopeo = run(command("skopeo").args([
        "--insecure-policy",
        "copy",
        "--quiet",
        "--src-tls-verify=false",
        &target,
        &pulled,
    ]));
    assert_eq!(skopeo.status, Some(0), "{}", skopeo.stderr);
}
