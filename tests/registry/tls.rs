//! Registries over TLS, with certificates of the test's own.

use std::path::{Path, PathBuf};

use reuseport::image::registry::Options;

use crate::distribution::Distribution;
use crate::image::{Image, client, repository, says};
use crate::support::{command, run};

/// A key and a certificate for 127.0.0.1 that signs itself.
fn certificate(directory: &Path, name: &str) -> (PathBuf, PathBuf) {
    let (key, file) = (directory.join("key.pem"), directory.join("cert.pem"));
    let made = run(command("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ])
        .args(["-nodes", "-days", "2", "-subj", &format!("/CN={name}")])
        .args(["-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args([Path::new("-keyout"), &key, Path::new("-out"), &file]));
    assert_eq!(made.status, Some(0), "{}", made.stderr);
    (key, file)
}

fn registry() -> Distribution {
    Distribution::start(|directory| {
        let (key, file) = certificate(directory, "registry");
        format!(
            "  tls: {{certificate: {}, key: {}}}\n",
            file.display(),
            key.display()
        )
    })
}

#[test]
fn a_certificate_of_ones_own_is_trusted_by_its_file() {
    let registry = registry();
    let host = registry.host();
    let trusting = client(Options {
        ca_file: Some(registry.place("cert.pem")),
        ..Options::default()
    });
    let app = trusting.repository(&host, "app").expect("a repository");
    let image = Image::new(1);
    image.push(&app, "v1");
    assert_eq!(app.manifest("v1").expect("the manifest"), image.manifest);

    // Another one's is not.
    let other = tempfile::tempdir().expect("a directory");
    let (_, file) = certificate(other.path(), "other");
    let wrong = client(Options {
        ca_file: Some(file),
        ..Options::default()
    });
    let app = wrong.repository(&host, "app").expect("a repository");
    says(app.manifest("v1"), &[&host, "--ca-file"]);
}

#[test]
fn a_scheme_that_is_not_the_registrys_is_named() {
    let tls = registry();
    says(
        repository(&tls.host(), "app").manifest("v1"),
        &["it speaks TLS"],
    );
    let clear = Distribution::open();
    let wrong = client(Options {
        ca_file: Some(tls.place("cert.pem")),
        ..Options::default()
    });
    let app = wrong
        .repository(&clear.host(), "app")
        .expect("a repository");
    says(app.manifest("v1"), &["plain HTTP", "--plain-http"]);
}

#[test]
fn a_file_without_certificates_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("ca.pem");
    std::fs::write(&file, "nothing").expect("a file");
    for (path, words) in [
        (file, "no certificate"),
        (directory.path().join("x"), "No such file"),
    ] {
        let client = client(Options {
            ca_file: Some(path.clone()),
            ..Options::default()
        });
        let app = client
            .repository("127.0.0.1:1", "app")
            .expect("a repository");
        says(app.manifest("v1"), &[&path.display().to_string(), words]);
    }
}
