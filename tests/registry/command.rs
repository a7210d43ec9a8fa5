//! The command on images in a registry.

use std::fs;
use std::path::Path;

use reuseport::image::{Descriptor, Digest, Item};
use serde_json::Value;

use crate::distribution::Distribution;
use crate::image::{Image, repository};
use crate::support::{command, output, reuseport, run};

/// The image in the registry, and what `reference` in it names afterwards.
fn inject(registry: &Distribution, image: &Image, arguments: &[&str]) -> (String, Item) {
    let host = registry.host();
    let base = repository(&host, "base");
    image.push(&base, "v1");
    let source = format!("docker://{host}/base:v1");
    let printed = output(
        reuseport()
            .args(["inject", "--no-check", &source])
            .args(arguments),
    );
    let line = printed.trim_end().to_owned();
    let (name, digest) = line.split_once('@').expect("NAME@DIGEST");
    let name = name.strip_prefix(&format!("{host}/")).expect("its host");
    let item = repository(&host, name).manifest(digest);
    (line.clone(), item.expect("the new manifest"))
}

#[test]
fn an_image_gets_the_shim_and_gives_it_back() {
    let registry = Distribution::open();
    let host = registry.host();
    let image = Image::new(1);
    // Beside it, and in another repository of the registry.
    for target in ["base:v1-reuseport", "team/other:v1-reuseport"] {
        let target = format!("{host}/{target}");
        let (line, new) = inject(&registry, &image, &["-t", &target]);
        let digest = new.descriptor.digest();
        assert_eq!(
            line,
            format!("{}@{digest}", target.rsplit_once(':').expect("a tag").0)
        );
        let skopeo = run(command("skopeo").args([
            "--insecure-policy",
            "copy",
            "--preserve-digests",
            "--src-tls-verify=false",
            &format!("docker://{target}"),
            &format!("oci:{}:x", registry.place("copied").display()),
        ]));
        assert_eq!(skopeo.status, Some(0), "{}", skopeo.stderr);
        let config = output(command("skopeo").args([
            "inspect",
            "--config",
            "--tls-verify=false",
            &format!("docker://{target}"),
        ]));
        assert!(config.contains("/.reuseport/libreuseport.so"), "{config}");

        // No program is in it, and its layer is none: the check says which.
        let checked = run(reuseport().args(["check", &format!("docker://{target}")]));
        assert_ne!(checked.status, Some(0), "{}", checked.stdout);

        // The original, to the byte.
        let back = format!("{host}/base:back");
        let printed =
            output(reuseport().args(["eject", "-t", &back, &format!("docker://{target}")]));
        let old = image.manifest.descriptor.digest();
        assert_eq!(printed, format!("{host}/base@{old}\n"));
    }
}

#[test]
fn a_directory_goes_into_a_registry_and_a_registry_into_a_directory() {
    let registry = Distribution::open();
    let host = registry.host();
    let image = Image::new(2);
    let directory = format!("oci:{}:v1", registry.place("layout").display());
    let (_, new) = inject(&registry, &image, &["-t", &format!("{host}/base:new")]);
    let from = format!("docker://{host}/base:new");
    let printed = output(reuseport().args(["inject", "--no-check", "-t", &directory, &from]));
    assert_eq!(
        printed,
        format!("{directory} {}\n", new.descriptor.digest())
    );
    let up = format!("docker://{host}/up:v1");
    let printed = output(reuseport().args(["inject", "--no-check", "-t", &up, &directory]));
    assert_eq!(printed, format!("{host}/up@{}\n", new.descriptor.digest()));
}

/// What a registry takes no more, but still gives: a manifest of schema 1, put among
/// its files.
fn seed_schema1(registry: &Distribution, name: &str) {
    let manifest = r#"{"schemaVersion": 1, "name": "old", "tag": "v1", "fsLayers": [], "history": [],
   "signatures": [{"header": {"alg": "ES256"}, "signature": "x", "protected": "y"}]}"#;
    let digest = Digest::of(manifest.as_bytes());
    let (all, hex) = (registry.place("data/docker/registry/v2"), digest.hex());
    let manifests = all.join("repositories").join(name).join("_manifests");
    for (directory, file, content) in [
        (
            all.join("blobs/sha256").join(&hex[..2]).join(hex),
            "data",
            manifest,
        ),
        (
            manifests.join("revisions/sha256").join(hex),
            "link",
            &digest.to_string(),
        ),
        (
            manifests.join("tags/v1/current"),
            "link",
            &digest.to_string(),
        ),
    ] {
        fs::create_dir_all(&directory).expect("a folder");
        fs::write(directory.join(file), content).expect("a file");
    }
}

#[test]
fn images_that_are_not_for_us_are_named() {
    let registry = Distribution::open();
    let host = registry.host();
    seed_schema1(&registry, "old");
    let image = Image::new(3);
    let encrypted = repository(&host, "encrypted");
    image.push(&encrypted, "plain");
    let mut tree: Value = serde_json::from_slice(&image.manifest.bytes).expect("JSON");
    tree["layers"][1]["mediaType"] = "application/vnd.oci.image.layer.v1.tar+gzip+encrypted".into();
    let bytes = tree.to_string().into_bytes();
    let descriptor = Descriptor::of(image.manifest.descriptor.media_type(), &bytes);
    let put = encrypted.put_manifest("v1", &Item { descriptor, bytes });
    put.expect("the registry takes it");
    for (name, words) in [("old", "schema 1"), ("encrypted", "the layer is encrypted")] {
        let source = format!("docker://{host}/{name}:v1");
        for command in ["inject", "check"] {
            let mut reuseport = reuseport();
            reuseport.args([command, &source]);
            if command == "inject" {
                reuseport.args(["--no-check", "-t", "new"]);
            }
            let outcome = run(&mut reuseport);
            assert_eq!(outcome.status, Some(2), "{outcome:?}");
            let said = outcome.stderr + &outcome.stdout;
            assert!(said.contains(words), "{said}");
            assert!(said.contains(&format!("{host}/{name}:v1")), "{said}");
        }
        let new = repository(&host, name).resolve("new");
        assert_eq!(new.expect("an answer"), None);
    }
}

#[test]
fn a_word_is_a_tag_in_the_same_repository() {
    let registry = Distribution::open();
    let (_, new) = inject(&registry, &Image::new(4), &["-t", "new"]);
    let base = repository(&registry.host(), "base");
    assert_eq!(base.manifest("new").expect("the image"), new);
}

#[test]
fn bad_input_is_named_and_changes_nothing() {
    let registry = Distribution::for_maya();
    let host = registry.host();
    let source = format!("docker://{host}/app:v1");
    let refused = |command: &mut std::process::Command, words: &[&str]| {
        let outcome = run(command.args(["inject", "--no-check", "-t", "x:y", &source]));
        assert_eq!((outcome.status, outcome.stdout.as_str()), (Some(2), ""));
        for word in words {
            assert!(
                outcome.stderr.contains(word),
                "no '{word}' in: {}",
                outcome.stderr
            );
        }
        assert!(!outcome.stderr.contains("s3cret"), "{}", outcome.stderr);
    };
    let place = format!("{host}/app:v1");
    refused(
        &mut reuseport(),
        &[&place, "none was found", "podman login"],
    );
    let file = registry.place("auth.json");
    let login = |password: &str| {
        let json = format!(
            r#"{{"auths": {{"{host}": {{"username": "maya", "password": "{password}"}}}}}}"#
        );
        fs::write(&file, json).expect("the file");
    };
    let with = |file: &Path| {
        let mut command = reuseport();
        command.env("REGISTRY_AUTH_FILE", file);
        command
    };
    login("s3cret-wrong");
    refused(&mut with(&file), &[&place, "was turned down", "auth.json"]);
    login(crate::distribution::PASSWORD);
    refused(&mut with(&file), &[&place, "no such repository"]);
}
