//! Registries that fail: what passes is waited for, what lasts is named.

use std::sync::atomic::{AtomicUsize, Ordering};

use reuseport::image::Digest;
use reuseport::image::descriptor::media_type;
use reuseport::image::registry::Fault;

use crate::image::{Image, read, repository, says};
use crate::server::{Asked, Reply, Server};

fn manifest(image: &Image) -> Reply {
    Reply::new(200)
        .with("Content-Type", media_type::OCI_MANIFEST)
        .with(
            "Docker-Content-Digest",
            image.manifest.descriptor.digest().to_string(),
        )
        .body(&image.manifest.bytes)
}

/// A server that gives `first` so many times, and then what `then` makes.
fn after(
    times: usize,
    first: Reply,
    then: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
) -> Server {
    let count = AtomicUsize::new(0);
    Server::start(move |asked| {
        if count.fetch_add(1, Ordering::SeqCst) < times {
            first.clone()
        } else {
            then(asked)
        }
    })
}

#[test]
fn one_request_fetches_a_manifest_and_one_a_blob() {
    let image = Image::new(1);
    let (blob, bytes) = image.layers[1].clone();
    let reply = manifest(&image);
    let server = Server::start(move |asked| {
        if asked.target.contains("/blobs/") {
            Reply::new(200).body(&bytes)
        } else {
            reply.clone()
        }
    });
    let app = repository(&server.host(), "team/app");
    assert_eq!(app.manifest("v1").expect("the manifest"), image.manifest);
    read(&app, &blob).expect("the blob");
    let expected = [
        "GET /v2/team/app/manifests/v1".to_owned(),
        format!("GET /v2/team/app/blobs/{}", blob.digest()),
    ];
    assert_eq!(server.lines(), expected);
    let accept = server.asked()[0]
        .header("accept")
        .expect("Accept")
        .to_owned();
    assert!(
        media_type::MANIFESTS.iter().all(|one| accept.contains(one)),
        "{accept}"
    );
}

#[test]
fn what_passes_is_tried_again() {
    let image = Image::new(1);
    let passing = [
        Reply::new(500),
        Reply::new(503).with("Retry-After", "0"),
        Reply::new(429).with("Retry-After", "1"),
        // The connection ends before the answer does.
        manifest(&image).cut(10),
    ];
    for reply in passing {
        let then = manifest(&image);
        let server = after(1, reply.clone(), move |_| then.clone());
        let got = repository(&server.host(), "app").manifest("v1");
        assert_eq!(got.expect("the manifest"), image.manifest, "{reply:?}");
        assert_eq!(server.asked().len(), 2, "{reply:?}");
    }
}

#[test]
fn what_lasts_is_named_after_a_few_tries() {
    let body = r#"{"errors": [{"code": "X", "message": "the disk\u001b[31m\nis full"}]}"#;
    let server = Server::start(move |_| Reply::new(500).body(body));
    let app = repository(&server.host(), "app");
    let place = format!("{}/app:v1: ", server.host());
    let words = [&place, "500", "the disk", "try again later"];
    let message = says(app.manifest("v1"), &words);
    assert!(!message.contains(['\u{1b}', '\n']), "{message:?}");
    assert_eq!(server.asked().len(), 4);

    let cut = manifest(&Image::new(1)).cut(10);
    let server = Server::start(move |_| cut.clone());
    let app = repository(&server.host(), "app");
    says(app.manifest("v1"), &["cut off", "try again"]);
    assert_eq!(server.asked().len(), 4);

    // Longer than we are ready to wait: at once, with the time.
    let server = Server::start(|_| Reply::new(429).with("Retry-After", "3600"));
    let app = repository(&server.host(), "app");
    says(app.manifest("v1"), &["too many requests", "3600 seconds"]);
    assert_eq!(server.asked().len(), 1);

    let server = Server::start(|_| Reply::new(403));
    let app = repository(&server.host(), "app");
    says(app.manifest("v1"), &["access denied", "pull"]);
    says(
        app.put_manifest("v1", &Image::new(1).manifest),
        &["access denied", "push"],
    );
    assert_eq!(server.asked().len(), 2);

    let server = Server::start(|_| Reply::new(401).with("WWW-Authenticate", "Negotiate"));
    let app = repository(&server.host(), "app");
    says(
        app.manifest("v1"),
        &["a kind that is not known", "Negotiate"],
    );
}

#[test]
fn a_host_that_does_not_answer_is_named() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let host = free.local_addr().expect("an address").to_string();
    drop(free);
    let message = says(repository(&host, "app").manifest("v1"), &[&host, "refused"]);
    assert!(
        message.starts_with(&format!("{host}/app:v1: ")),
        "{message}"
    );
    says(
        repository("registry.invalid", "app").manifest("v1"),
        &["no such host"],
    );
}

#[test]
fn a_manifest_is_what_its_digest_says() {
    let (image, other) = (Image::new(1), Image::new(2));
    let wrong = manifest(&image).body(&other.manifest.bytes);
    let server = Server::start(move |_| wrong.clone());
    let app = repository(&server.host(), "app");
    let (wanted, got) = (
        image.manifest.descriptor.digest().to_string(),
        other.manifest.descriptor.digest().to_string(),
    );
    for reference in ["v1", &wanted] {
        says(app.manifest(reference), &["wrong digest", &wanted, &got]);
    }
}

#[test]
fn what_is_no_image_is_refused() {
    let schema1 = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    let large = Reply::new(200)
        .with("Content-Type", media_type::OCI_MANIFEST)
        .with("Content-Length", "9223372036854775807")
        .cut(0);
    for (reply, words) in [
        (
            Reply::new(200).with("Content-Type", schema1).body("{}"),
            "schema 1",
        ),
        (
            Reply::new(200)
                .with("Content-Type", "text/html")
                .body("<html>"),
            "no image but text/html",
        ),
        (large, "larger than 4194304 bytes"),
    ] {
        let server = Server::start(move |_| reply.clone());
        says(repository(&server.host(), "app").manifest("v1"), &[words]);
    }
}

#[test]
fn a_blob_that_breaks_off_is_taken_up_again() {
    let image = Image::new(1);
    let (blob, bytes) = image.layers[1].clone();
    // With ranges, and from the beginning where the server knows none.
    for ranges in [true, false] {
        let (whole, first) = (bytes.clone(), Reply::new(200).body(&bytes).cut(1 << 20));
        let server = after(1, first, move |asked| {
            let from = asked.header("range").expect("a range").to_owned();
            let from = from
                .strip_prefix("bytes=")
                .and_then(|from| from.strip_suffix('-'));
            let from: usize = from.and_then(|from| from.parse().ok()).expect("a number");
            if !ranges {
                return Reply::new(200).body(&whole);
            }
            let range = format!("bytes {from}-{}/{}", whole.len() - 1, whole.len());
            Reply::new(206)
                .with("Content-Range", range)
                .body(&whole[from..])
        });
        let got = read(&repository(&server.host(), "app"), &blob).expect("the blob");
        assert!(got == bytes, "ranges: {ranges}");
        assert_eq!(server.asked().len(), 2);
    }
}

#[test]
fn a_blob_that_is_wrong_is_an_error() {
    let image = Image::new(1);
    let (blob, bytes) = image.layers[1].clone();
    let digest = blob.digest().to_string();
    let fails = |reply: Reply, words: &[&str]| {
        let server = Server::start(move |_| reply.clone());
        let got = read(&repository(&server.host(), "app"), &blob);
        let message = got.expect_err("an error").to_string();
        for word in words {
            assert!(message.contains(word), "no '{word}' in: {message}");
        }
        server.asked().len()
    };
    let cut = Reply::new(200).body(&bytes).cut(100);
    assert_eq!(fails(cut, &["cut off after", &digest]), 4);
    let short = Reply::new(200).body(&bytes[1..]);
    assert_eq!(fails(short, &["wrong size", &digest]), 1);
    // Without a length, one byte too many is seen at the end.
    let mut long = format!("{:x}\r\n", bytes.len() + 1).into_bytes();
    long.extend(&bytes);
    long.extend(b"x\r\n0\r\n\r\n");
    let long = Reply::new(200)
        .with("Transfer-Encoding", "chunked")
        .body(long);
    fails(long, &["wrong size", &digest]);
}

#[test]
fn tags_come_in_pages_and_are_bounded() {
    let server = Server::start(|asked| {
        let page: usize = asked
            .target
            .split("page=")
            .nth(1)
            .map_or(0, |page| page.parse().unwrap_or(0));
        let tags: Vec<String> = (0..40)
            .map(|tag| format!("\"t{}\"", page * 40 + tag))
            .collect();
        Reply::new(200)
            .with(
                "Link",
                format!("</v2/app/tags/list?page={}>; rel=\"next\"", page + 1),
            )
            .body(format!("{{\"tags\": [{}, \"a\\u001bb\"]}}", tags.join(",")))
    });
    let app = repository(&server.host(), "app");
    let (tags, more) = app.tags().expect("the tags").expect("a repository");
    assert_eq!((tags.len(), more, server.asked().len()), (100, true, 3));
    assert!(tags.iter().all(|tag| tag.starts_with('t')));
}

#[test]
fn a_fault_holds_what_went_wrong() {
    let server = Server::start(|_| Reply::new(404));
    let app = repository(&server.host(), "app");
    let digest = Digest::of(b"x");
    let error = app.blob(&digest, 1).expect_err("an error");
    assert!(matches!(*error.fault, Fault::NoBlob(_)));
    assert_eq!(error.place.reference, digest.to_string());
}
