//! Pushing to a real registry, pulling from it, and what skopeo says of that.

use std::fs;

use reuseport::image::registry::{
    Mount, Options, RegistryDestination, RegistrySource, credentials,
};
use reuseport::image::{Destination, Error, Name, Reference, Source, StoreId};
use serde_json::Value;

use crate::distribution::{Distribution, PASSWORD};
use crate::image::{Image, client, read, repository, says};
use crate::support::{command, output, run};

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

#[test]
fn what_is_pushed_comes_back_and_skopeo_takes_it() {
    let registry = Distribution::open();
    let image = Image::new(1);
    let app = repository(&registry.host(), "team/app");
    image.push(&app, "v1");

    let by_tag = app.manifest("v1").expect("the manifest");
    assert_eq!(by_tag, image.manifest);
    let digest = image.manifest.descriptor.digest();
    assert_eq!(
        app.manifest(&digest.to_string()).expect("by digest"),
        image.manifest
    );
    assert_eq!(app.resolve("v1").expect("an answer").as_ref(), Some(digest));
    assert_eq!(app.resolve("v2").expect("an answer"), None);
    for (blob, bytes) in image.blobs() {
        assert!(app.has_blob(blob.digest()).expect("an answer"));
        assert!(read(&app, blob).expect("the blob") == *bytes);
    }

    let source = format!("docker://{}/team/app:v1", registry.host());
    let target = registry.place("pulled");
    let skopeo = run(command("skopeo")
        .args([
            "--insecure-policy",
            "copy",
            "--preserve-digests",
            "--src-tls-verify=false",
        ])
        .arg(&source)
        .arg(format!("oci:{}:v1", target.display())));
    assert_eq!(skopeo.status, Some(0), "{}", skopeo.stderr);
    for (blob, bytes) in image.blobs() {
        let path = target.join("blobs/sha256").join(blob.digest().hex());
        assert!(fs::read(path).expect("skopeo's copy") == *bytes);
    }
    let inspected = output(command("skopeo").args(["inspect", "--tls-verify=false", &source]));
    let inspected: Value = serde_json::from_str(&inspected).expect("JSON");
    assert_eq!(inspected["Digest"], digest.to_string());
}

#[test]
fn a_store_reads_and_writes_what_a_reference_names() {
    let registry = Distribution::open();
    let host = registry.host();
    let client = client(Options::default());
    let image = Image::new(2);
    image.push(&repository(&host, "base"), "v1");

    let base = name(&format!("{host}/base:v1"));
    let mut source = RegistrySource::open(&client, &base).expect("a source");
    assert_eq!(source.name(), Some(format!("{host}/base:v1")));
    let top = source.top().expect("the manifest");
    let wanted = Reference::Registry(name(&format!("{host}/other/app:v2")));
    let Reference::Registry(target) = &wanted else {
        unreachable!("it was just made");
    };
    let mut destination = RegistryDestination::open(&client, target).expect("a destination");
    assert_eq!(destination.current().expect("an answer"), None);
    let from = source.id();
    for (blob, _) in image.blobs() {
        assert!(
            destination.reuse(blob, Some(&from)).expect("a mount"),
            "{blob:?}"
        );
    }
    // What lies elsewhere is there or not.
    let elsewhere = StoreId::Layout("/x".into());
    let other = Image::new(3);
    let (missing, bytes) = &other.layers[0];
    assert!(
        !destination
            .reuse(missing, Some(&elsewhere))
            .expect("an answer")
    );
    destination
        .put(missing, &mut bytes.as_slice())
        .expect("it is sent");
    destination.put_manifest(&top).expect("by its digest");
    let digest = top.descriptor.digest().clone();
    let reference = Box::new(destination).finish(&top).expect("the end");
    assert_eq!(reference, wanted);
    let mut again = RegistryDestination::open(&client, target).expect("a destination");
    assert_eq!(again.current().expect("an answer"), Some(digest.clone()));
    for (blob, _) in image.blobs().chain([&other.layers[0]]) {
        let there = again.reuse(blob, Some(&elsewhere));
        assert!(there.expect("an answer"), "{blob:?}");
    }
    assert_eq!(source.find(&digest).expect("an answer"), Some(top));
    assert_eq!(source.find(missing.digest()).expect("an answer"), None);

    let gone = name(&format!("{host}/base:v9"));
    let error = RegistrySource::open(&client, &gone)
        .expect("a source")
        .top();
    let Err(Error::NoSuchTag { present, .. }) = error else {
        panic!("{error:?}");
    };
    assert_eq!(present, ["v1"]);
    let fixed = name(&format!("{host}/base@{digest}"));
    assert!(
        RegistrySource::open(&client, &fixed)
            .expect("a source")
            .top()
            .is_ok()
    );
    assert!(RegistryDestination::open(&client, &fixed).is_err());
}

#[test]
fn what_is_not_there_is_named() {
    let registry = Distribution::open();
    let host = registry.host();
    let image = Image::new(4);
    let app = repository(&host, "app");
    image.push(&app, "b");
    image.push(&app, "a");
    says(
        app.manifest("c"),
        &[&format!("{host}/app:c: "), "no such tag", "a, b"],
    );
    let missing = repository(&host, "none");
    says(
        missing.manifest("c"),
        &[&format!("{host}/none:c: "), "no such repository"],
    );
    let digest = Image::new(5).config.0.digest().to_string();
    says(
        app.manifest(&digest),
        &[&format!("app@{digest}"), "no manifest"],
    );
    let (blob, _) = Image::new(5).config;
    says(
        app.blob(blob.digest(), blob.size()),
        &[&digest, "is not there"],
    );
    assert_eq!(
        app.tags().expect("the tags"),
        Some((vec!["a".into(), "b".into()], false))
    );
    assert_eq!(missing.tags().expect("an answer"), None);
}

#[test]
fn content_that_is_not_what_its_digest_says_is_not_taken() {
    let registry = Distribution::open();
    let app = repository(&registry.host(), "app");
    let image = Image::new(6);
    for (blob, bytes) in image.blobs() {
        let mut wrong = bytes.clone();
        wrong[5] ^= 1;
        let pushed = app.push(blob, &mut wrong.as_slice(), None);
        says(pushed, &["400", &blob.digest().to_string(), "digest"]);
        let pushed = app.push(blob, &mut &bytes[1..], None);
        says(pushed, &["reading what is to be pushed"]);
        assert!(!app.has_blob(blob.digest()).expect("an answer"));
    }
}

#[test]
fn a_password_opens_the_registry_and_shows_nowhere() {
    let registry = Distribution::for_maya();
    let host = registry.host();
    let image = Image::new(7);

    let anonymous = repository(&host, "app");
    let (blob, bytes) = &image.layers[1];
    let refused = anonymous.push(blob, &mut bytes.as_slice(), None);
    says(
        refused,
        &["none was found", &format!("podman login {host}")],
    );

    let logins = |password: &str| {
        let file = registry.place(&format!("auth-{}.json", password.len()));
        let json = format!(
            r#"{{"auths": {{"{host}": {{"username": "maya", "password": "{password}"}}}}}}"#
        );
        fs::write(&file, json).expect("the file");
        credentials::Places::new(0, |name| {
            (name == "REGISTRY_AUTH_FILE").then(|| file.clone().into())
        })
    };
    let with = |password| {
        client(Options {
            logins: logins(password),
            ..Options::default()
        })
    };
    let wrong = with("wr0ng")
        .repository(&host, "app")
        .expect("a repository");
    let message = says(
        wrong.manifest("v1"),
        &["was turned down", &format!("{host}/app:v1")],
    );
    assert!(
        !message.contains("maya") && !message.contains("bWF5Y"),
        "{message}"
    );

    let maya = with(PASSWORD);
    let app = maya.repository(&host, "app").expect("a repository");
    image.push(&app, "v1");
    assert_eq!(app.manifest("v1").expect("the manifest"), image.manifest);
    let other = maya.repository(&host, "other").expect("a repository");
    let mounted = other.mount(blob.digest(), &app).expect("an answer");
    assert!(matches!(mounted, Mount::Done), "{mounted:?}");
    let shown = format!("{maya:?} {app:?}");
    assert!(!shown.contains(PASSWORD), "{shown}");
}
