//! Images in layouts: what changes, what does not, and the way back.

use std::fs;

use reuseport::image::descriptor::{Compression, Family};
use serde_json::{Value, json};

use crate::build::{Image, Layer, attempt, digest, image, inject, oci, validate};
use crate::support::{output, reuseport};

fn small() -> Layer {
    Layer::default().file("a", 0o644, "a")
}

/// Every shape of one image.
fn shapes() -> Vec<(&'static str, Image)> {
    let plain = Image::new(small());
    let mut shapes = vec![("plain", plain.clone())];
    for (name, family, compression) in [
        ("gzip", Family::Oci, Compression::Gzip),
        ("zstd", Family::Oci, Compression::Zstd),
        ("docker", Family::Docker, Compression::Gzip),
        ("docker-plain", Family::Docker, Compression::Plain),
    ] {
        let mut one = plain.clone();
        one.family = family;
        one.layers[0].1 = compression;
        shapes.push((name, one));
    }
    let mut add = |name, change: &dyn Fn(&mut Image)| {
        let mut one = plain.clone();
        change(&mut one);
        shapes.push((name, one));
    };
    add("shared-diff-ids", &|one| {
        one.layers.push(one.layers[0].clone());
        one.config["history"] = json!([{"created_by": "a"}, {"created_by": "b"}]);
    });
    add("empty-layers", &|one| {
        one.config["history"] = json!([
            {"empty_layer": true, "created_by": "ENV"},
            {"created_by": "COPY", "author": "x"},
            {"empty_layer": true, "created_by": "CMD"},
        ]);
    });
    add("no-history", &|one| {
        one.config
            .as_object_mut()
            .expect("a config")
            .shift_remove("history");
    });
    add("no-config", &|one| {
        one.config
            .as_object_mut()
            .expect("a config")
            .shift_remove("config");
    });
    add("null-config", &|one| one.config["config"] = Value::Null);
    add("no-layers", &|one| {
        one.layers.clear();
        one.config["history"] = json!([{"created_by": "FROM scratch", "empty_layer": true}]);
    });
    add("annotated", &|one| {
        one.annotations = Some(json!({
            "org.opencontainers.image.base.name": "docker.io/library/debian:12",
            "org.opencontainers.image.base.digest": format!("sha256:{}", "1".repeat(64)),
            "z": "y",
        }));
    });
    add("made-up", &|one| {
        one.config["config"] = json!({
            "Env": ["PATH=/bin", "LD_PRELOAD=/usr/lib/libjemalloc.so.2"],
            "Cmd": ["/srv/server"],
            "Healthcheck": {"Test": ["CMD-SHELL", "a && b"], "Interval": 30_000_000_000_u64},
            "Shell": ["/bin/bash", "-c"],
            "OnBuild": ["RUN x"],
            "ArgsEscaped": true,
            "x-made-up": {"z": [1, 2.50], "a": null},
        });
        one.config["x-top"] = json!([{"q": "<&>"}]);
    });
    shapes
}

#[test]
fn every_shape_comes_back_with_its_own_digest() {
    let directory = tempfile::tempdir().expect("a directory");
    for (name, shape) in shapes() {
        let layout = directory.path().join(name);
        let original = shape.tag(&layout, "v1");
        let source = oci(&layout, "v1");
        let result = oci(&layout, "v1-reuseport");
        let once = inject(&source, &["--port", "80"]);
        validate(&result);
        let again = inject(&result, &["--port", "443"]);
        assert_ne!(once, again, "{name}: other rules, another image");
        assert_eq!(
            inject(&result, &["--port", "80"]),
            once,
            "{name}: twice is once"
        );
        assert_eq!(
            inject(&source, &["--port", "80"]),
            once,
            "{name}: the same again"
        );
        assert_eq!(digest(&["eject", &result]), original, "{name}");
        assert_eq!(
            digest(&["eject", &result, "-t", "other"]),
            original,
            "{name}"
        );
        validate(&oci(&layout, "other"));

        // Where the base is gone, it is made again.
        let elsewhere = oci(&directory.path().join(format!("{name}-2")), "x");
        assert_eq!(
            inject(&source, &["--port", "80", "-t", &elsewhere]),
            once,
            "{name}"
        );
        validate(&elsewhere);
        assert_eq!(
            digest(&["eject", &elsewhere, "--in-place"]),
            original,
            "{name}"
        );
    }
}

#[test]
fn only_what_was_meant_has_changed() {
    let directory = tempfile::tempdir().expect("a directory");
    let layout = directory.path();
    let (_, shape) = shapes().pop().expect("made-up");
    let original = shape.tag(layout, "v1");
    let new = inject(&oci(layout, "v1"), &["--port", "80", "--debug"]);
    let (old_manifest, mut old) = image(layout, &original);
    let (manifest, config) = image(layout, &new);
    old["config"]["Env"] = json!([
        "PATH=/bin",
        "LD_PRELOAD=/usr/lib/libjemalloc.so.2:/.reuseport/libreuseport.so",
        "LIBREUSEPORT_PORT=80",
        "LIBREUSEPORT_DEBUG=1",
    ]);
    let diff_id = config["rootfs"]["diff_ids"][1].clone();
    old["rootfs"]["diff_ids"]
        .as_array_mut()
        .expect("a list")
        .push(diff_id);
    old["history"].as_array_mut().expect("a list").push(json!({
        "created": "1970-01-01T00:00:00Z",
        "created_by": "reuseport inject",
        "comment": format!("reuseport base={original}"),
    }));
    assert_eq!(config.to_string(), old.to_string(), "and the order stays");
    assert_eq!(manifest["layers"][0], old_manifest["layers"][0]);
    assert_eq!(
        manifest["annotations"],
        json!({"org.opencontainers.image.base.digest": original})
    );
}

#[test]
fn an_image_built_on_one_with_the_shim_keeps_its_own_layers() {
    let directory = tempfile::tempdir().expect("a directory");
    let layout = directory.path();
    Image::new(small()).tag(layout, "base");
    let with_shim = inject(&oci(layout, "base"), &["--port", "80"]);
    let (mut manifest, mut config) = image(layout, &with_shim);
    // As a builder does it: one layer more, its own variables, no annotations.
    let top = Layer::default().file("own", 0o644, "own").archive();
    let kind = "application/vnd.oci.image.layer.v1.tar";
    let own = crate::build::blob(layout, kind, &top);
    manifest["layers"]
        .as_array_mut()
        .expect("a list")
        .push(own.clone());
    manifest
        .as_object_mut()
        .expect("a manifest")
        .shift_remove("annotations");
    let ids = config["rootfs"]["diff_ids"].as_array_mut();
    ids.expect("a list").push(own["digest"].clone());
    let history = config["history"].as_array_mut();
    history
        .expect("a list")
        .push(json!({"created_by": "COPY own"}));
    config["config"]["Env"]
        .as_array_mut()
        .expect("a list")
        .push(json!("OWN=1"));
    let kind = "application/vnd.oci.image.config.v1+json";
    manifest["config"] = crate::build::blob(layout, kind, config.to_string().as_bytes());
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let derived = crate::build::blob(layout, kind, manifest.to_string().as_bytes());
    crate::build::name(layout, "derived", derived);

    let ejected = digest(&["eject", &oci(layout, "derived"), "-t", "clean"]);
    validate(&oci(layout, "clean"));
    let (manifest, config) = image(layout, &ejected);
    let layers = manifest["layers"].as_array().expect("a list");
    assert_eq!((layers.len(), &layers[1]), (2, &own));
    assert_eq!(config["config"]["Env"], json!(["OWN=1"]));
    let history: Vec<_> = config["history"]
        .as_array()
        .expect("a list")
        .iter()
        .collect();
    assert_eq!(history.len(), 2);
    assert_eq!(history[1]["created_by"], "COPY own");
}

#[test]
fn the_source_is_never_overwritten_unasked() {
    let directory = tempfile::tempdir().expect("a directory");
    let layout = directory.path();
    let one = Image::new(small()).tag(layout, "v1");
    Image::new(small()).layer(small()).tag(layout, "v2");
    let source = oci(layout, "v1");
    let before = fs::read(layout.join("index.json")).expect("an index");
    for arguments in [
        ["inject", source.as_str(), "-t", "v1"].as_slice(),
        &["inject", &source, "--tag", "docker://x/y"],
        &["inject", &source, "--dry-run", "--no-check"],
        &["eject", &source],
        &["inject", &oci(layout, "nothing")],
        &["inject", &format!("oci:{}", layout.display())],
        &["inject", &source, "--platform", "linux/s390x"],
    ] {
        attempt(arguments);
        let now = fs::read(layout.join("index.json")).expect("an index");
        assert_eq!(now, before, "{arguments:?}");
    }
    let outcome = attempt(&["inject", &oci(layout, "nothing")]);
    assert_eq!(outcome.status, Some(2));
    assert!(outcome.stderr.contains("there are v1, v2"), "{outcome:?}");
    let outcome = attempt(&["eject", &source]);
    assert_eq!((outcome.status, outcome.stdout.as_str()), (Some(1), ""));
    assert!(outcome.stderr.contains("nothing to eject"), "{outcome:?}");

    // Its own name is another image by now: eject asks.
    inject(&source, &[]);
    inject(&oci(layout, "v2"), &["-t", "v1"]);
    let outcome = attempt(&["eject", &oci(layout, "v1-reuseport")]);
    assert_eq!((outcome.status, outcome.stdout.as_str()), (Some(2), ""));
    assert!(outcome.stderr.contains("-t DEST"), "{outcome:?}");
    let back = digest(&["eject", &oci(layout, "v1-reuseport"), "-t", "v3"]);
    assert_eq!(back, one);
}

#[test]
fn the_result_is_said_in_one_line_in_json_and_in_a_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let layout = directory.path().join("layout");
    Image::new(small()).tag(&layout, "v1");
    let source = oci(&layout, "v1");
    let file = directory.path().join("digest");
    let mut command = reuseport();
    command.args(["inject", "--no-check", &source, "--digest-file"]);
    let line = output(command.arg(&file));
    let digest = fs::read_to_string(&file).expect("a digest");
    assert_eq!(line, format!("{source}-reuseport {digest}\n"));
    let json = output(reuseport().args(["inject", "--no-check", "--json", &source]));
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["digest"], digest);
    assert_eq!(json["images"][0]["platform"], "linux/amd64");
    let diff = output(reuseport().args(["inject", "--no-check", "--dry-run", &source]));
    assert!(
        diff.contains("+      \"LD_PRELOAD=/.reuseport/libreuseport.so\""),
        "{diff}"
    );
}

#[test]
fn a_failed_check_is_said_in_json_too() {
    let directory = tempfile::tempdir().expect("a directory");
    let layout = directory.path();
    Image::new(Layer::default()).tag(layout, "v1");
    let target = oci(layout, "v1");
    let file = layout.join("digest");
    let path = file.to_str().expect("UTF-8");
    let outcome = attempt(&["inject", "--json", "--digest-file", path, &target]);
    assert_eq!(outcome.status, Some(1), "{outcome:?}");
    let answer: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    assert_eq!(answer["source"], target.as_str());
    assert_eq!(answer["checks"][0]["verdict"], "fails");
    assert!(!file.exists());
    // A digest file that cannot be written stops what it is for.
    let gone = layout.join("none/digest");
    let gone = gone.to_str().expect("UTF-8");
    let outcome = attempt(&["inject", "--force", "--digest-file", gone, &target]);
    assert_eq!(outcome.status, Some(2), "{outcome:?}");
    let tagged = attempt(&["validate", &format!("{target}-reuseport")]);
    assert!(tagged.stderr.contains("no such image"), "{tagged:?}");
}
