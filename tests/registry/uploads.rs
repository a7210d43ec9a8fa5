//! Mounts that are refused, uploads that are led elsewhere or fail.

use std::sync::atomic::{AtomicUsize, Ordering};

use reuseport::image::registry::{Mount, Options, RegistryDestination};
use reuseport::image::{Descriptor, Destination, StoreId};

use crate::image::{Image, client, repository, says};
use crate::server::{Reply, Server};

#[test]
fn a_mount_names_its_source_and_a_refused_one_is_an_upload() {
    let image = Image::new(1);
    let (blob, bytes) = &image.layers[0];
    for (refusal, session) in [
        (
            Reply::new(202).with("Location", "/v2/app/blobs/uploads/one?_state=a%3D"),
            true,
        ),
        (Reply::new(202), false),
        (Reply::new(404), false),
        (Reply::new(405), false),
        (Reply::new(403), false),
    ] {
        let shown = format!("{refusal:?}");
        let server = Server::start(move |asked| match asked.method.as_str() {
            "POST" if asked.target.contains("mount=") => refusal.clone(),
            "POST" => Reply::new(202).with("Location", "two"),
            _ => Reply::new(201),
        });
        let client = client(Options::default());
        let app = client
            .repository(&server.host(), "app")
            .expect("a repository");
        let base = client
            .repository(&server.host(), "team/base")
            .expect("a repository");
        let mount = app.mount(blob.digest(), &base).expect("an answer");
        let Mount::Refused(begun) = mount else {
            panic!("{shown}");
        };
        assert_eq!(begun.is_some(), session, "{shown}");
        let pushed = app.push(blob, &mut bytes.as_slice(), begun);
        pushed.expect("it is sent");
        let digest = blob.digest().to_string().replace(':', "%3A");
        let mut expected = vec![format!(
            "POST /v2/app/blobs/uploads/?mount={digest}&from=team%2Fbase"
        )];
        if session {
            expected.push(format!(
                "PUT /v2/app/blobs/uploads/one?_state=a%3D&digest={digest}"
            ));
        } else {
            expected.push("POST /v2/app/blobs/uploads/".to_owned());
            expected.push(format!("PUT /v2/app/blobs/uploads/two?digest={digest}"));
        }
        assert_eq!(server.lines(), expected, "{shown}");
        let asked = server.asked();
        let sent = asked.last().expect("a request");
        assert!(sent.body == *bytes, "{shown}");
        assert_eq!(
            sent.header("content-type"),
            Some("application/octet-stream")
        );
    }
}

#[test]
fn a_mount_that_is_done_sends_nothing() {
    let image = Image::new(1);
    let (blob, _) = &image.layers[1];
    let server = Server::start(|_| Reply::new(201));
    let client = client(Options::default());
    let app = client
        .repository(&server.host(), "app")
        .expect("a repository");
    let base = client
        .repository(&server.host(), "base")
        .expect("a repository");
    let mounted = app.mount(blob.digest(), &base).expect("an answer");
    assert!(matches!(mounted, Mount::Done));
    assert_eq!(server.asked().len(), 1);
    // Another registry's blob cannot be mounted, and nobody is asked.
    let far = client
        .repository("other.example", "base")
        .expect("a repository");
    let refused = app.mount(blob.digest(), &far).expect("an answer");
    assert!(matches!(refused, Mount::Refused(None)));
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn a_large_blob_is_streamed_with_its_length() {
    let image = Image::new(1);
    let (blob, bytes) = &image.layers[1];
    let server = Server::start(|asked| match asked.method.as_str() {
        "POST" => Reply::new(202).with("Location", "/u"),
        _ => Reply::new(201),
    });
    let app = repository(&server.host(), "app");
    let pushed = app.push(blob, &mut bytes.as_slice(), None);
    pushed.expect("it is sent");
    let asked = server.asked();
    assert_eq!(
        asked[1].header("content-length"),
        Some(&*bytes.len().to_string())
    );
    assert_eq!(asked[1].header("transfer-encoding"), None);
    assert!(asked[1].body == *bytes);
}

#[test]
fn a_small_blob_is_sent_again_in_a_new_session() {
    let image = Image::new(1);
    let (blob, bytes) = &image.layers[0];
    let count = AtomicUsize::new(0);
    let server = Server::start(move |asked| {
        if asked.method == "POST" {
            return Reply::new(202).with("Location", "/u");
        }
        // The first try is lost, and with it the session.
        match count.fetch_add(1, Ordering::SeqCst) {
            0 => Reply::new(502),
            1 => Reply::new(404),
            _ => Reply::new(201),
        }
    });
    let app = repository(&server.host(), "app");
    let pushed = app.push(blob, &mut bytes.as_slice(), None);
    pushed.expect("it is sent");
    let methods: Vec<String> = server
        .asked()
        .into_iter()
        .map(|asked| asked.method)
        .collect();
    assert_eq!(methods, ["POST", "PUT", "PUT", "POST", "PUT"]);
}

#[test]
fn an_upload_that_fails_is_named() {
    let image = Image::new(1);
    for (status, words) in [
        (500, ["500", "a blob"]),
        (413, ["413", "a blob"]),
        (403, ["access denied", "push"]),
    ] {
        for (blob, bytes) in &image.layers {
            let server = Server::start(move |asked| match asked.method.as_str() {
                "POST" => Reply::new(202).with("Location", "/u"),
                _ => Reply::new(status),
            });
            let app = repository(&server.host(), "app");
            let pushed = app.push(blob, &mut bytes.as_slice(), None);
            let message = says(pushed, &words);
            let place = format!("{}/app@{}", server.host(), blob.digest());
            assert!(message.starts_with(&place), "{message}");
        }
    }
    let server = Server::start(|_| Reply::new(202));
    let app = repository(&server.host(), "app");
    let (blob, bytes) = &image.layers[0];
    says(
        app.push(blob, &mut bytes.as_slice(), None),
        &["no Location"],
    );
}

#[test]
fn a_registry_that_stores_something_else_is_named() {
    let image = Image::new(1);
    let wrong = Image::new(2).manifest.descriptor.digest().to_string();
    let digest = wrong.clone();
    let server = Server::start(move |_| Reply::new(201).with("Docker-Content-Digest", &digest));
    let app = repository(&server.host(), "app");
    says(
        app.put_manifest("v1", &image.manifest),
        &["wrong digest", &wrong],
    );
}

#[test]
fn a_store_copies_what_cannot_be_mounted_before_it_names_the_image() {
    let image = Image::new(1);
    let blobs: Vec<_> = image.blobs().cloned().collect();
    let held = blobs.clone();
    let server = Server::start(move |asked| match asked.method.as_str() {
        "POST" => Reply::new(202).with("Location", "/v2/app/session"),
        "HEAD" => Reply::new(404),
        "GET" => {
            let mut held = held.iter();
            let found = held.find(|(blob, _)| asked.target.ends_with(&blob.digest().to_string()));
            Reply::new(200).body(&found.expect("a blob of the image").1)
        }
        _ => Reply::new(201),
    });
    let client = client(Options::default());
    let name = format!("{}/app:v1", server.host()).parse().expect("a name");
    let mut destination = RegistryDestination::open(&client, &name).expect("a destination");
    let from = StoreId::Registry {
        host: server.host(),
        repository: "base".to_owned(),
    };
    for (blob, _) in &blobs {
        assert!(
            destination
                .reuse(blob, Some(&from))
                .expect("it is on its way")
        );
    }
    let finished = Box::new(destination).finish(&image.manifest);
    finished.expect("the image is there");
    let asked = server.asked();
    for (blob, bytes) in &blobs {
        let digest = blob.digest().to_string().replace(':', "%3A");
        let mut sent = asked
            .iter()
            .filter(|one| one.method == "PUT" && one.target.ends_with(&digest));
        assert!(sent.next().is_some_and(|one| one.body == *bytes));
    }
    let last = asked.last().expect("a request");
    assert_eq!(last.line(), "PUT /v2/app/manifests/v1");
}

/// The requests by which a store puts a blob and the manifest that names it, but for
/// the question what the tag is; `first` answers to the first of them.
fn put_one(
    image: &Image,
    blob: &(Descriptor, Vec<u8>),
    is_tag_there: bool,
    first: Reply,
) -> Vec<String> {
    let digest = image.manifest.descriptor.digest().to_string();
    let server = Server::start(move |asked| match asked.method.as_str() {
        "HEAD" if asked.target.contains("/blobs/") => first.clone(),
        "HEAD" if is_tag_there => Reply::new(200).with("Docker-Content-Digest", &digest),
        "HEAD" => Reply::new(404),
        "POST" if asked.target.contains("mount=") => first.clone(),
        "POST" => Reply::new(202).with("Location", "one"),
        _ => Reply::new(201),
    });
    let client = client(Options::default());
    let name = format!("{}/app:v1", server.host()).parse().expect("a name");
    let mut destination = RegistryDestination::open(&client, &name).expect("a destination");
    let (descriptor, bytes) = blob;
    let put = destination.put(descriptor, &mut bytes.as_slice());
    put.expect("it is on its way");
    let finished = Box::new(destination).finish(&image.manifest);
    assert_eq!(finished.expect("the image is there").tag(), Some("v1"));
    let mut lines = server.lines();
    lines.retain(|line| line != "HEAD /v2/app/manifests/v1");
    lines
}

#[test]
fn a_store_sends_nothing_that_is_there() {
    let image = Image::new(1);
    let name = || "PUT /v2/app/manifests/v1".to_owned();
    let send = |digest: &str| format!("PUT /v2/app/blobs/uploads/one?digest={digest}");
    // A config that is not there is sent with no further question.
    let config = &image.config;
    let digest = config.0.digest().to_string().replace(':', "%3A");
    let ask = format!("POST /v2/app/blobs/uploads/?mount={digest}&from=app");
    let there = || Reply::new(201);
    let asked = [ask.clone(), name()];
    assert_eq!(put_one(&image, config, true, there()), asked[..1]);
    assert_eq!(put_one(&image, config, false, there()), asked);
    let begun = Reply::new(202).with("Location", "one");
    let all = [ask, send(&digest), name()];
    assert_eq!(put_one(&image, config, false, begun), all);
    // Of a layer that is there not even a link is written.
    let layer = &image.layers[0];
    let digest = layer.0.digest().to_string();
    let ask = format!("HEAD /v2/app/blobs/{digest}");
    let asked = [ask.clone(), name()];
    assert_eq!(put_one(&image, layer, true, Reply::new(200)), asked[..1]);
    assert_eq!(put_one(&image, layer, false, Reply::new(200)), asked);
    let start = "POST /v2/app/blobs/uploads/".to_owned();
    let all = [ask, start, send(&digest.replace(':', "%3A")), name()];
    assert_eq!(put_one(&image, layer, false, Reply::new(404)), all);
}

#[test]
fn a_store_names_no_image_whose_blobs_did_not_arrive() {
    let image = Image::new(1);
    let server = Server::start(|asked| match asked.method.as_str() {
        "HEAD" => Reply::new(404),
        _ => Reply::new(403),
    });
    let client = client(Options::default());
    let name = format!("{}/app:v1", server.host()).parse().expect("a name");
    let mut destination = RegistryDestination::open(&client, &name).expect("a destination");
    let (config, bytes) = &image.config;
    let put = destination.put(config, &mut bytes.as_slice());
    put.expect("it is on its way");
    let error = Box::new(destination).finish(&image.manifest);
    let message = error.expect_err("an error").to_string();
    assert!(message.contains("access denied"), "{message}");
    assert!(
        server
            .lines()
            .iter()
            .all(|line| !line.contains("PUT /v2/app/manifests"))
    );
}
