//! Images for several platforms.

use std::path::Path;

use reuseport::image::descriptor::{Family, media_type};
use serde_json::{Value, json};

use crate::build::{
    Image, Layer, attempt, blob, digest, image, index, inject, name, oci, read, validate,
};

fn child(layout: &Path, architecture: &str) -> Value {
    let layer = Layer::default().file("a", 0o644, architecture);
    Image::new(layer)
        .platform("linux", architecture)
        .put(layout)
}

/// What BuildKit puts beside an image.
fn attestation(layout: &Path, of: &Value) -> Value {
    let statement = blob(layout, "application/vnd.in-toto+json", b"{}");
    let config = blob(
        layout,
        media_type::OCI_CONFIG,
        b"{\"architecture\":\"unknown\"}",
    );
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": config,
        "layers": [statement],
    });
    let mut descriptor = blob(
        layout,
        media_type::OCI_MANIFEST,
        manifest.to_string().as_bytes(),
    );
    descriptor["annotations"] = json!({
        "vnd.docker.reference.digest": of["digest"],
        "vnd.docker.reference.type": "attestation-manifest",
    });
    descriptor
}

#[test]
fn every_platform_gets_its_own_shim_and_comes_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let layout = directory.path();
    let [amd, arm] = ["amd64", "arm64"].map(|one| child(layout, one));
    let note = attestation(layout, &amd);
    let top = index(
        layout,
        &[
            (amd, "linux/amd64"),
            (arm, "linux/arm64"),
            (note, "unknown/unknown"),
        ],
    );
    let original = name(layout, "v1", top);
    let outcome = attempt(&["inject", "--no-check", &oci(layout, "v1")]);
    assert_eq!(outcome.status, Some(0), "{outcome:?}");
    assert!(outcome.stderr.contains("attestation"), "{outcome:?}");
    validate(&oci(layout, "v1-reuseport"));
    let (_, new) = outcome
        .stdout
        .trim_end()
        .rsplit_once(' ')
        .expect("a digest");
    let new = read(layout, new);
    assert_eq!(
        new["annotations"]["org.opencontainers.image.base.digest"],
        original
    );
    let manifests = new["manifests"].as_array().expect("a list");
    let platforms: Vec<_> = manifests
        .iter()
        .map(|one| &one["platform"]["architecture"])
        .collect();
    assert_eq!(platforms, ["amd64", "arm64"]);
    let layers: Vec<Value> = manifests
        .iter()
        .map(|one| image(layout, one["digest"].as_str().expect("a digest")).0["layers"][1].clone())
        .collect();
    assert_ne!(layers[0]["digest"], layers[1]["digest"]);
    // The attestation comes back, since its index is still there.
    assert_eq!(digest(&["eject", &oci(layout, "v1-reuseport")]), original);
    assert_eq!(
        inject(&oci(layout, "v1-reuseport"), &[]),
        inject(&oci(layout, "v1"), &[])
    );
    // With no base to look at, all but the attestation does.
    let other = directory.path().join("other");
    let target = oci(&other, "x");
    inject(&oci(layout, "v1"), &["-t", &target]);
    let outcome = attempt(&["eject", &target, "--in-place"]);
    assert!(outcome.stderr.contains("is not there"), "{outcome:?}");
    validate(&target);
}

#[test]
fn a_list_of_dockers_comes_back_though_it_records_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let layout = directory.path();
    let children = ["amd64", "arm64"].map(|architecture| {
        let layer = Layer::default().file("a", 0o644, architecture);
        let mut image = Image::new(layer).platform("linux", architecture);
        image.family = Family::Docker;
        let mut child = image.put(layout);
        child["platform"] = json!({"architecture": architecture, "os": "linux"});
        child
    });
    let list = media_type::DOCKER_INDEX;
    let top = json!({"schemaVersion": 2, "mediaType": list, "manifests": children});
    let top = blob(layout, list, top.to_string().as_bytes());
    let original = name(layout, "v1", top);
    let new = read(layout, &inject(&oci(layout, "v1"), &[]));
    assert_eq!(new["mediaType"], list);
    assert_eq!(new["annotations"], Value::Null);
    let outcome = attempt(&["eject", &oci(layout, "v1-reuseport")]);
    assert_eq!(outcome.status, Some(0), "{outcome:?}");
    assert!(outcome.stdout.contains(&original), "{outcome:?}");
    assert!(outcome.stderr.contains("a list of Docker's"), "{outcome:?}");
}

#[test]
fn one_platform_is_selected_by_name() {
    let directory = tempfile::tempdir().expect("a directory");
    let layout = directory.path();
    let [amd, arm] = ["amd64", "arm64"].map(|one| child(layout, one));
    let digest_of_arm = arm["digest"].as_str().expect("a digest").to_owned();
    let top = index(layout, &[(amd, "linux/amd64"), (arm, "linux/arm64")]);
    name(layout, "v1", top);
    let source = oci(layout, "v1");
    let new = inject(&source, &["--platform", "linux/arm64", "-t", "arm"]);
    let (_, config) = image(layout, &new);
    assert_eq!(config["architecture"], "arm64");
    assert_eq!(
        digest(&["eject", &oci(layout, "arm"), "-t", "old"]),
        digest_of_arm
    );
    let both = inject(&source, &["--platform", "linux/arm64,linux/amd64"]);
    assert_eq!(
        read(layout, &both)["manifests"].as_array().map(Vec::len),
        Some(2)
    );
    let outcome = attempt(&["inject", &source, "--platform", "linux/s390x"]);
    assert_eq!(outcome.status, Some(2));
    assert!(
        outcome.stderr.contains("linux/amd64, linux/arm64"),
        "{outcome:?}"
    );
    let archive = format!("docker-archive:{}/x.tar:x:y", layout.display());
    let outcome = attempt(&["inject", "--no-check", &source, "-t", &archive]);
    assert_eq!(outcome.status, Some(2));
    assert!(outcome.stderr.contains("--platform"), "{outcome:?}");
}

#[test]
fn a_platform_without_a_shim_stops_all_or_is_kept() {
    let directory = tempfile::tempdir().expect("a directory");
    let layout = directory.path();
    let [amd, other] = ["amd64", "s390x"].map(|one| child(layout, one));
    let kept = other["digest"].clone();
    let top = index(layout, &[(amd, "linux/amd64"), (other, "linux/s390x")]);
    let original = name(layout, "v1", top);
    let source = oci(layout, "v1");
    let outcome = attempt(&["inject", &source]);
    assert_eq!((outcome.status, outcome.stdout.as_str()), (Some(2), ""));
    assert!(outcome.stderr.contains("linux/s390x"), "{outcome:?}");
    let new = inject(&source, &["--skip-unsupported"]);
    assert_eq!(read(layout, &new)["manifests"][1]["digest"], kept);
    assert_eq!(digest(&["eject", &oci(layout, "v1-reuseport")]), original);
    let windows = Image::new(Layer::default()).platform("windows", "amd64");
    windows.tag(layout, "windows");
    let outcome = attempt(&["inject", &oci(layout, "windows")]);
    assert_eq!(outcome.status, Some(2));
    assert!(outcome.stderr.contains("windows/amd64"), "{outcome:?}");
}

#[test]
fn an_index_in_an_index_is_followed() {
    let directory = tempfile::tempdir().expect("a directory");
    let layout = directory.path();
    let inner = index(layout, &[(child(layout, "amd64"), "linux/amd64")]);
    let outer = index(
        layout,
        &[(inner, ""), (child(layout, "arm64"), "linux/arm64")],
    );
    let original = name(layout, "v1", outer);
    let source = oci(layout, "v1");
    inject(&source, &["--port", "80"]);
    let result = oci(layout, "v1-reuseport");
    validate(&result);
    assert_eq!(digest(&["eject", &result]), original);
    let one = inject(&source, &["--platform", "linux/amd64", "-t", "one"]);
    assert_eq!(image(layout, &one).1["architecture"], "amd64");
}
