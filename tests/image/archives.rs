//! Images in archives, of skopeo's kinds and Docker's, old and new.

use std::fs;
use std::path::Path;

use reuseport::image::Digest;
use reuseport::image::descriptor::Compression;
use serde_json::{Value, json};

use crate::build::{Image, Layer, attempt, digest, inject, oci, pack, validate};
use crate::support::{command, output};

fn small(text: &str) -> Image {
    Image::new(Layer::default().file("a", 0o644, text))
}

/// What `docker save` wrote before version 25, with a link for a layer that two
/// images share.
fn old_archive(path: &Path, images: &[(&str, &[&str])]) {
    let mut archive = Layer::default();
    let mut list = Vec::new();
    let mut known: Vec<(Vec<u8>, String)> = Vec::new();
    for (index, (tag, contents)) in images.iter().enumerate() {
        let mut names = Vec::new();
        let mut diff_ids = Vec::new();
        for (place, content) in contents.iter().enumerate() {
            let layer = Layer::default().file("a", 0o644, content).archive();
            let name = format!("{index}-{place}/layer.tar");
            diff_ids.push(Digest::of(&layer).to_string());
            archive = match known.iter().find(|(one, _)| *one == layer) {
                Some((_, first)) => archive.link(&name, &format!("../{first}")),
                None => archive.file(&name, 0o644, &layer),
            };
            known.push((layer, name.clone()));
            names.push(name);
        }
        let config = json!({
            "architecture": "amd64",
            "config": {"Cmd": ["/a"]},
            "history": vec![json!({"created_by": "x"}); contents.len()],
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = config.to_string();
        let name = format!("{}.json", Digest::of(config.as_bytes()).hex());
        archive = archive.file(&name, 0o644, &config);
        list.push(json!({"Config": name, "RepoTags": [tag], "Layers": names}));
    }
    let list = Value::from(list).to_string();
    let archive = archive.file("manifest.json", 0o644, list).archive();
    fs::write(path, archive).expect("written");
}

fn config_of(reference: &str) -> Digest {
    Digest::of(
        output(command("skopeo").args(["inspect", "--raw", "--config", reference])).as_bytes(),
    )
}

#[test]
fn an_old_docker_archive_goes_there_and_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let [old, new] = ["old.tar", "new.tar"].map(|name| directory.path().join(name));
    old_archive(&old, &[("app:1", &["a", "b"]), ("app:2", &["a", "c"])]);
    let source = format!("docker-archive:{}:app:2", old.display());
    validate(&source);
    let target = format!("docker-archive:{}:app:2-reuseport", new.display());
    let once = inject(&source, &["--port", "80", "-t", &target]);
    validate(&target);
    assert_eq!(inject(&target, &["--port", "80", "--in-place"]), once);
    let back = digest(&["eject", &target]);
    let restored = format!("docker-archive:{}:app:2", new.display());
    validate(&restored);
    assert_eq!(
        config_of(&restored),
        config_of(&source),
        "Docker's image id"
    );
    let outcome = attempt(&["eject", &restored, "-t", "app:3"]);
    assert_eq!(outcome.status, Some(1), "{outcome:?}");
    assert!(back.starts_with("sha256:"));
    // In the archive itself: both images of before are still there.
    let in_place = inject(&source, &["--port", "80", "--in-place"]);
    assert_eq!(in_place, once);
    for tag in ["app:1", "app:2"] {
        validate(&format!("docker-archive:{}:{tag}", old.display()));
    }
    let outcome = attempt(&["validate", &format!("docker-archive:{}", old.display())]);
    assert_eq!(outcome.status, Some(2));
    assert!(outcome.stderr.contains("app:1, app:2"), "{outcome:?}");
}

#[test]
fn a_name_in_a_docker_archive_always_has_a_tag() {
    let directory = tempfile::tempdir().expect("a directory");
    let archive = directory.path().join("x.tar");
    old_archive(&archive, &[("app:1", &["a"])]);
    let source = format!("docker-archive:{}:app:1", archive.display());
    let printed = attempt(&["inject", "--no-check", &source, "-t", "new"]);
    let latest = format!("docker-archive:{}:new:latest ", archive.display());
    assert!(printed.stdout.starts_with(&latest), "{printed:?}");
    let list = output(
        command("tar")
            .args(["--extract", "--to-stdout", "--file"])
            .arg(&archive)
            .arg("manifest.json"),
    );
    let list: Value = serde_json::from_str(&list).expect("JSON");
    // docker load stops at a name without one.
    assert_eq!(list[1]["RepoTags"], json!(["new:latest"]));
    let before = fs::read(&archive).expect("readable");
    let digest = format!("new@{}", Digest::of(b""));
    let outcome = attempt(&["inject", "--no-check", &source, "-t", &digest]);
    assert_eq!(outcome.status, Some(2), "{outcome:?}");
    assert!(outcome.stderr.contains("give a tag instead"), "{outcome:?}");
    assert!(fs::read(&archive).expect("readable") == before);
}

#[test]
fn an_archive_that_is_packed_as_a_whole_is_read() {
    let directory = tempfile::tempdir().expect("a directory");
    let plain = directory.path().join("plain.tar");
    old_archive(&plain, &[("app:1", &["a", "b"])]);
    let bytes = fs::read(&plain).expect("readable");
    let of = |path: &Path| {
        let source = format!("docker-archive:{}", path.display());
        let target = format!("oci:{}:x", directory.path().join("out").display());
        inject(&source, &["-t", &target])
    };
    let expected = of(&plain);
    for compression in [Compression::Gzip, Compression::Zstd] {
        let packed = directory.path().join(format!("{compression:?}"));
        fs::write(&packed, pack(&bytes, compression)).expect("written");
        assert_eq!(of(&packed), expected, "{compression:?}");
    }
}

#[test]
fn a_store_of_any_kind_takes_an_image_of_any_other() {
    let directory = tempfile::tempdir().expect("a directory");
    let layout = directory.path().join("layout");
    let original = small("a").tag(&layout, "v1");
    let place = |kind: &str, name: &str, tag: &str| {
        format!("{kind}:{}:{tag}", directory.path().join(name).display())
    };
    let stores = [
        oci(&layout, "x"),
        place("oci-archive", "a.tar", "x"),
        place("docker-archive", "b.tar", "app:x"),
        place("oci", "second", "x"),
    ];
    let once = inject(&oci(&layout, "v1"), &["-t", &stores[0]]);
    for pair in stores.windows(2) {
        let [from, to] = pair else { unreachable!() };
        assert_eq!(inject(from, &["-t", to]), once, "{from} to {to}");
        validate(to);
    }
    for store in &stores[1..] {
        assert_eq!(digest(&["eject", store, "--in-place"]), original, "{store}");
        validate(store);
    }
    // A second image beside the first.
    inject(
        &oci(&layout, "v1"),
        &["-t", &place("oci-archive", "a.tar", "y")],
    );
    validate(&place("oci-archive", "a.tar", "x"));
    validate(&place("oci-archive", "a.tar", "y"));
    let outcome = attempt(&["inject", "--no-check", &place("oci-archive", "a.tar", "y")]);
    assert_eq!(
        outcome.status,
        Some(2),
        "archives must be given a name: {outcome:?}"
    );
}
