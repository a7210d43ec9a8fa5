//! Archives, layers and configs that mean harm: a clear refusal, in bounded memory
//! and time, and nothing written.

use std::fs;
use std::path::Path;

use flate2::write::GzEncoder;
use reuseport::image::descriptor::media_type;
use reuseport::image::tar;
use serde_json::{Value, json};

use crate::build::{Image, Layer, attempt, blob, inject, name, oci, server};
use crate::support::{Outcome, command, run};

/// Runs a subcommand with 96 MB of address space for all that is not the program
/// itself, and 60 seconds.
fn bounded(arguments: &[&str]) -> Outcome {
    let program = env!("CARGO_BIN_EXE_reuseport");
    let script = "ulimit -v 196608; exec timeout 60 \"$0\" \"$@\"";
    run(command("/bin/sh")
        .args(["-c", script, program])
        .args(arguments))
}

/// The refusal of the archive, which must say `expected`.
fn refused(path: &Path, archive: &[u8], expected: &str) {
    fs::write(path, archive).expect("written");
    let target = format!("docker-archive:{}", path.display());
    let out = path.with_extension("out");
    let destination = format!("oci:{}:x", out.display());
    let outcome = bounded(&["inject", "--no-check", &target, "-t", &destination]);
    assert_eq!(
        (outcome.status, outcome.stdout.as_str()),
        (Some(2), ""),
        "{outcome:?}"
    );
    assert!(outcome.stderr.contains(expected), "{expected}: {outcome:?}");
    assert!(
        outcome.stderr.contains(&path.display().to_string()),
        "{outcome:?}"
    );
    assert!(!out.exists());
}

#[test]
fn archives_that_lead_out_or_lie_are_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("x.tar");
    let outside = Layer::default().file("../evil", 0o644, "x").archive();
    refused(&path, &outside, "leads out of the archive");
    let absolute = Layer::default().file("/etc/passwd", 0o644, "x").archive();
    refused(&path, &absolute, "leads out of the archive");
    let link = Layer::default()
        .link("layer.tar", "../../etc/passwd")
        .archive();
    refused(&path, &link, "leads out of the archive");
    let hard = Layer::default()
        .hard_link("layer.tar", "/etc/passwd")
        .archive();
    refused(&path, &hard, "leads out of the archive");
    let mut huge = tar::header("manifest.json", tar::Kind::File, 0o644, 0, 0);
    huge[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0]);
    refused(&path, &Layer::default().raw(&huge).archive(), "absurd");
    let large = tar::header("manifest.json", tar::Kind::File, 0o644, 1 << 40, 0);
    refused(
        &path,
        &Layer::default().raw(&large).archive(),
        "ends within",
    );
    let mut long = tar::header("x", tar::Kind::File, 0o644, 1 << 40, 0);
    long[156] = b'L';
    refused(
        &path,
        &Layer::default().raw(&long).archive(),
        "more than a megabyte",
    );
    refused(
        &path,
        b"no archive at all, and longer than it looks",
        "damaged tar archive",
    );
    refused(&path, &[b'x'; 4096], "no tar archive");
    refused(&path, b"", "an empty file");
    refused(
        &path,
        &Layer::default().archive(),
        "it has no manifest.json",
    );
    let list = Layer::default().file("manifest.json", 0o644, "{");
    refused(&path, &list.archive(), "malformed");
    let list = r#"[{"Config":"../../etc/passwd","RepoTags":null,"Layers":[]}]"#;
    let list = Layer::default().file("manifest.json", 0o644, list);
    refused(&path, &list.archive(), "malformed");
    let list = r#"[{"Config":"c","RepoTags":null,"Layers":["gone"]}]"#;
    let list = Layer::default().file("manifest.json", 0o644, list);
    refused(&path, &list.file("c", 0o644, "{}").archive(), "incomplete");
}

/// An image of one packed layer.
fn packed(layout: &Path, tag: &str, layer: &[u8]) {
    let layer = blob(layout, "application/vnd.oci.image.layer.v1.tar+gzip", layer);
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["/a"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", "0".repeat(64))]},
    });
    let config = blob(
        layout,
        media_type::OCI_CONFIG,
        config.to_string().as_bytes(),
    );
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]});
    let manifest = blob(
        layout,
        media_type::OCI_MANIFEST,
        manifest.to_string().as_bytes(),
    );
    name(layout, tag, manifest);
}

fn gzip(content: &[u8]) -> Vec<u8> {
    use std::io::Write;

    let mut packed = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(content).expect("packed");
    packed.finish().expect("packed")
}

/// Zeros behind a header that announces them, packed: ten gigabytes in ten
/// megabytes.
fn bomb(start: &[u8]) -> Vec<u8> {
    // One megabyte of zeros, packed once; members that follow one another are
    // one stream.
    let one = gzip(&vec![0; 1 << 20]);
    let mut all = gzip(start);
    for _ in 0..10 * 1024 {
        all.extend(&one);
    }
    all
}

#[test]
fn a_bomb_is_refused_before_it_is_large() {
    let directory = tempfile::tempdir().expect("a directory");
    let header = tar::header("a", tar::Kind::File, 0o755, 10 << 30, 0);
    let bomb = bomb(&header);
    refused(&directory.path().join("bomb.tar"), &bomb, "times its size");
    let layout = directory.path().join("layout");
    packed(&layout, "bomb", &bomb);
    let outcome = bounded(&["inject", &oci(&layout, "bomb")]);
    assert_eq!(
        (outcome.status, outcome.stdout.as_str()),
        (Some(2), ""),
        "{outcome:?}"
    );
    assert!(outcome.stderr.contains("times its size"), "{outcome:?}");
}

#[test]
fn layers_of_many_things_take_little_memory() {
    let directory = tempfile::tempdir().expect("a directory");
    let layout = directory.path();
    // A shell script of a megabyte, again and again.
    let script = gzip(&[b"#!".as_slice(), &vec![b'x'; (1 << 20) - 2]].concat());
    let mut scripts = Vec::new();
    for number in 0..240 {
        let name = number.to_string();
        let header = tar::header(&name, tar::Kind::File, 0o755, 1 << 20, 0);
        scripts.extend(gzip(&header));
        scripts.extend(&script);
    }
    packed(layout, "scripts", &scripts);
    let check = |tag: &str, expected: &str| {
        let outcome = bounded(&["check", &oci(layout, tag)]);
        assert_eq!(outcome.status, Some(2), "{outcome:?}");
        let said = outcome.stdout + &outcome.stderr;
        assert!(said.contains(expected), "{said}");
    };
    check("scripts", "/a: no such file");
    // Links, and directories that no entry is for.
    let mut link = tar::header("a", tar::Kind::File, 0o777, 0, 0);
    link[156] = b'2';
    link[157..257].fill(b'x');
    packed(
        layout,
        "links",
        &gzip(&crate::build::seal(link).repeat(260_000)),
    );
    check("links", "more files and links");
    let deep = "a/".repeat(500_000);
    let mut long = tar::header("x", tar::Kind::File, 0o644, deep.len() as u64, 0);
    long[156] = b'L';
    let file = Layer::default().file("a", 0o644, "");
    let deep = [
        crate::build::seal(long).as_slice(),
        deep.as_bytes(),
        tar::padding(deep.len() as u64),
        &file.archive(),
    ]
    .concat();
    packed(layout, "deep", &gzip(&deep));
    check("deep", "/a: no such file");
}

#[test]
fn content_that_is_not_what_its_digest_says_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let layout = directory.path();
    let digest = Image::new(server()).tag(layout, "v1");
    let (manifest, _) = crate::build::image(layout, &digest);
    let damage = |digest: &Value| {
        let hex = digest.as_str().and_then(|one| one.strip_prefix("sha256:"));
        let path = layout.join("blobs/sha256").join(hex.expect("sha256"));
        let sound = fs::read(&path).expect("readable");
        let mut wrong = sound.clone();
        *wrong.last_mut().expect("a byte") ^= 1;
        fs::write(&path, wrong).expect("written");
        (path, sound)
    };
    for (what, digest) in [
        ("layer", &manifest["layers"][0]["digest"]),
        ("config", &manifest["config"]["digest"]),
        ("manifest", &Value::from(digest.clone())),
    ] {
        let (path, sound) = damage(digest);
        let outcome = attempt(&["inject", &oci(layout, "v1")]);
        assert_eq!(
            (outcome.status, outcome.stdout.as_str()),
            (Some(2), ""),
            "{what}"
        );
        assert!(
            outcome.stderr.contains("has the digest"),
            "{what}: {outcome:?}"
        );
        let outcome = attempt(&["validate", &oci(layout, "v1")]);
        assert_ne!(outcome.status, Some(0), "{what}: {outcome:?}");
        let archive = format!("oci-archive:{}:x", layout.join("x.tar").display());
        let outcome = attempt(&["inject", "--no-check", &oci(layout, "v1"), "-t", &archive]);
        assert_eq!(outcome.status, Some(2), "{what}: {outcome:?}");
        assert!(!layout.join("x.tar").exists(), "{what}");
        fs::write(path, sound).expect("written");
    }
    inject(&oci(layout, "v1"), &[]);
}

#[test]
fn what_is_no_image_of_ours_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let layout = directory.path();
    let put = |tag: &str, media_type: &str, manifest: &Value| {
        let manifest = blob(layout, media_type, manifest.to_string().as_bytes());
        name(layout, tag, manifest);
        let outcome = attempt(&["inject", "--no-check", &oci(layout, tag)]);
        assert_eq!(
            (outcome.status, outcome.stdout.as_str()),
            (Some(2), ""),
            "{outcome:?}"
        );
        outcome.stderr
    };
    let schema1 = "application/vnd.docker.distribution.manifest.v1+json";
    let said = put("schema1", schema1, &json!({"schemaVersion": 1}));
    assert!(said.contains("schema 1"), "{said}");
    let config = json!({
        "os": "linux", "architecture": "amd64",
        "rootfs": {"diff_ids": [format!("sha256:{}", "0".repeat(64))]},
    });
    let config = blob(
        layout,
        media_type::OCI_CONFIG,
        config.to_string().as_bytes(),
    );
    let layer = |media_type: &str| blob(layout, media_type, b"x");
    let encrypted = layer("application/vnd.oci.image.layer.v1.tar+gzip+encrypted");
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": [encrypted]});
    let said = put("encrypted", media_type::OCI_MANIFEST, &manifest);
    assert!(said.contains("encrypted"), "{said}");
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": []});
    let said = put("uneven", media_type::OCI_MANIFEST, &manifest);
    assert!(said.contains("1 diff_ids for 0 layers"), "{said}");
    let mut huge = config.clone();
    huge["size"] = json!(1_u64 << 40);
    let manifest = json!({"schemaVersion": 2, "config": huge, "layers": []});
    let said = put("huge", media_type::OCI_MANIFEST, &manifest);
    assert!(said.contains("claims 1099511627776 bytes"), "{said}");
    let mut itself = json!({"schemaVersion": 2, "manifests": []});
    for _ in 0..12 {
        let inner = blob(layout, media_type::OCI_INDEX, itself.to_string().as_bytes());
        itself["manifests"] = json!([inner]);
    }
    let said = put("deep", media_type::OCI_INDEX, &itself);
    assert!(said.contains("too deeply"), "{said}");
    // Few bytes, and a thousand times a thousand times a thousand manifests.
    let mut wide = json!({"schemaVersion": 2, "manifests": []});
    for _ in 0..4 {
        let inner = blob(layout, media_type::OCI_INDEX, wide.to_string().as_bytes());
        wide["manifests"] = vec![inner; 1000].into();
    }
    let said = put("wide", media_type::OCI_INDEX, &wide);
    assert!(said.contains("more than 1024"), "{said}");
    let windows = Image::new(server()).platform("windows", "amd64");
    name(layout, "windows", windows.put(layout));
    let outcome = attempt(&["inject", &oci(layout, "windows")]);
    assert_eq!(outcome.status, Some(2), "{outcome:?}");
    assert!(outcome.stderr.contains("windows/amd64"), "{outcome:?}");
    let outcome = attempt(&["check", &oci(layout, "windows")]);
    assert_eq!(outcome.status, Some(2), "{outcome:?}");
    assert!(outcome.stderr.contains("windows/amd64"), "{outcome:?}");
}

#[test]
fn a_small_layer_that_is_none_stops_nothing_that_needs_it_not() {
    let directory = tempfile::tempdir().expect("a directory");
    let layout = directory.path();
    let gzip = "application/vnd.oci.image.layer.v1.tar+gzip";
    let digest = Image::new(server()).tag(layout, "v1");
    inject(&oci(layout, "v1"), &[]);
    // Below the shim and a server, a layer that no one can unpack.
    let (mut manifest, mut config) = crate::build::image(layout, &digest);
    let damaged = blob(layout, gzip, b"\x1f\x8b\x08 and nothing more of it");
    let layers = manifest["layers"].as_array_mut().expect("layers");
    layers.insert(0, damaged);
    let diff_ids = config["rootfs"]["diff_ids"].as_array_mut();
    let zeros = format!("sha256:{}", "0".repeat(64));
    diff_ids.expect("diff_ids").insert(0, zeros.into());
    let history = config["history"].as_array_mut().expect("a history");
    history.insert(0, json!({"created_by": "?"}));
    let text = config.to_string();
    manifest["config"] = blob(layout, media_type::OCI_CONFIG, text.as_bytes());
    let text = manifest.to_string();
    let descriptor = blob(layout, media_type::OCI_MANIFEST, text.as_bytes());
    let original = name(layout, "damaged", descriptor);
    let target = oci(layout, "damaged");
    let outcome = attempt(&["inject", &target]);
    assert_eq!(outcome.status, Some(0), "{outcome:?}");
    let again = attempt(&["inject", &format!("{target}-reuseport"), "--in-place"]);
    assert_eq!(again.status, Some(0), "{again:?}");
    assert_eq!(again.stdout, outcome.stdout);
    let back = attempt(&["eject", &format!("{target}-reuseport")]);
    assert!(back.stdout.contains(&original), "{back:?}");
    // Where it is needed it is an error.
    let outcome = attempt(&["validate", &target]);
    assert_ne!(outcome.status, Some(0), "{outcome:?}");
}
