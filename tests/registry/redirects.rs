//! Where a registry sends us, and what goes along: the request, never a login.

use reuseport::image::registry::{Options, credentials::Places};

use crate::image::{Image, client, read, repository, says};
use crate::server::{Reply, Server};

/// Logins for `host` in a file that stays as long as the first result.
fn logins(host: &str) -> (tempfile::TempDir, Options) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("auth.json");
    let json = format!(r#"{{"auths": {{"{host}": {{"username": "u", "password": "s3cret"}}}}}}"#);
    std::fs::write(&file, json).expect("the file");
    let logins = Places::new(0, |name| {
        (name == "REGISTRY_AUTH_FILE").then(|| file.clone().into())
    });
    let options = Options {
        logins,
        ..Options::default()
    };
    (directory, options)
}

#[test]
fn no_login_goes_to_another_host() {
    let image = Image::new(1);
    let (blob, bytes) = image.layers[1].clone();
    let content = bytes.clone();
    let cdn = Server::start(move |_| Reply::new(200).body(&content));
    let to = format!("http://{}/data?X-Signature=abc%2Fd", cdn.host());
    let server = Server::start(move |asked| {
        if asked.header("authorization").is_none() {
            return Reply::new(401).with("WWW-Authenticate", "Basic realm=\"x\"");
        }
        Reply::new(307).with("Location", &to)
    });
    let (_kept, options) = logins(&server.host());
    let app = client(options)
        .repository(&server.host(), "app")
        .expect("a repository");
    assert!(read(&app, &blob).expect("the blob") == bytes);
    assert!(server.asked()[1].header("authorization").is_some());
    let asked = cdn.asked();
    assert_eq!(cdn.lines(), ["GET /data?X-Signature=abc%2Fd"]);
    assert_eq!(asked[0].header("authorization"), None);
    assert!(!format!("{asked:?}").contains("s3cret"));
}

#[test]
fn another_host_that_asks_for_a_login_gets_none() {
    let image = Image::new(1);
    let (blob, _) = &image.layers[1];
    let cdn = Server::start(|_| Reply::new(401).with("WWW-Authenticate", "Basic realm=\"x\""));
    let to = format!("http://{}/data", cdn.host());
    let server = Server::start(move |_| Reply::new(302).with("Location", &to));
    let (_kept, options) = logins(&server.host());
    let app = client(options)
        .repository(&server.host(), "app")
        .expect("a repository");
    says(app.blob(blob.digest(), blob.size()), &["401"]);
    assert!(
        cdn.asked()
            .iter()
            .all(|asked| asked.header("authorization").is_none())
    );
}

#[test]
fn a_redirect_in_the_registry_keeps_the_login() {
    let image = Image::new(1);
    let (blob, bytes) = image.layers[1].clone();
    let content = bytes.clone();
    let server = Server::start(move |asked| {
        if asked.header("authorization").is_none() {
            return Reply::new(401).with("WWW-Authenticate", "Basic realm=\"x\"");
        }
        if asked.target == "/data" {
            return Reply::new(200).body(&content);
        }
        Reply::new(307).with("Location", "/data")
    });
    let (_kept, options) = logins(&server.host());
    let app = client(options)
        .repository(&server.host(), "app")
        .expect("a repository");
    assert!(read(&app, &blob).expect("the blob") == bytes);
}

#[test]
fn an_upload_to_another_host_goes_without_a_login() {
    let image = Image::new(1);
    let (blob, bytes) = &image.layers[0];
    let elsewhere = Server::start(|_| Reply::new(201));
    let to = format!("http://{}/up", elsewhere.host());
    let server = Server::start(move |asked| {
        if asked.header("authorization").is_none() {
            return Reply::new(401).with("WWW-Authenticate", "Basic realm=\"x\"");
        }
        Reply::new(202).with("Location", &to)
    });
    let (_kept, options) = logins(&server.host());
    let app = client(options)
        .repository(&server.host(), "app")
        .expect("a repository");
    let pushed = app.push(blob, &mut bytes.as_slice(), None);
    pushed.expect("it is sent");
    assert_eq!(elsewhere.asked()[0].header("authorization"), None);
}

#[test]
fn what_leads_nowhere_ends() {
    let endless = Server::start(|_| Reply::new(307).with("Location", "/again"));
    let app = repository(&endless.host(), "app");
    says(app.manifest("v1"), &["leads on and on"]);
    assert_eq!(endless.asked().len(), 11);
    // What is written is not sent anywhere else unasked.
    says(
        app.put_manifest("v1", &Image::new(1).manifest),
        &["sends a manifest to 127.0.0.1"],
    );
    for location in ["", "ftp://x/", "http://user:word@x/"] {
        let nowhere = Server::start(move |_| Reply::new(307).with("Location", location));
        let app = repository(&nowhere.host(), "app");
        says(app.manifest("v1"), &["makes no sense", "leads nowhere"]);
    }
}
