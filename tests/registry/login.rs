//! Logins: where they are found, what is bought with them.

use std::ffi::OsString;
use std::path::Path;

use reuseport::image::descriptor::media_type;
use reuseport::image::registry::credentials::{Login, Places};
use reuseport::image::registry::{Client, Options};
use tempfile::TempDir;

use crate::image::{Image, client, says};
use crate::server::{Asked, Reply, Server};
use crate::support::executable;

/// A registry that takes the token `t0ken`, which is had from `/token` in it by
/// whom `admits` lets in.
fn token_registry(admits: impl Fn(&Asked) -> bool + Send + Sync + 'static) -> Server {
    let image = Image::new(1);
    Server::start(move |asked| {
        if asked.target.starts_with("/token") {
            return if admits(asked) {
                Reply::new(200).body(r#"{"access_token": "t0ken", "expires_in": 300}"#)
            } else {
                Reply::new(401)
            };
        }
        if asked.header("authorization") != Some("Bearer t0ken") {
            let host = asked.header("host").expect("a host");
            let challenge = format!(
                "Bearer realm=\"http://{host}/token?x=1\",service=\"reg istry\",\
                 scope=\"repository:app:pull\""
            );
            return Reply::new(401).with("WWW-Authenticate", challenge);
        }
        match asked.method.as_str() {
            "POST" => Reply::new(201),
            _ => Reply::new(200)
                .with("Content-Type", media_type::OCI_MANIFEST)
                .body(&image.manifest.bytes),
        }
    })
}

fn places(directory: &Path, variables: &'static [(&'static str, &'static str)]) -> Places {
    let directory = directory.to_owned();
    Places::new(0, move |name| {
        let (_, value) = variables.iter().find(|(key, _)| *key == name)?;
        if name == "PATH" {
            return Some(format!("{}:/usr/bin:/bin", directory.join(value).display()).into());
        }
        Some(directory.join(value).into())
    })
}

fn with_file(json: &str) -> (TempDir, Client) {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("auth.json"), json).expect("the file");
    let client = client(Options {
        logins: places(directory.path(), &[("REGISTRY_AUTH_FILE", "auth.json")]),
        ..Options::default()
    });
    (directory, client)
}

#[test]
fn a_token_is_bought_once_for_a_repository() {
    let server = token_registry(|asked| asked.header("authorization").is_none());
    let app = client(Options::default());
    let app = app.repository(&server.host(), "app").expect("a repository");
    app.manifest("v1").expect("the manifest");
    app.manifest("v1").expect("the manifest");
    let token = "GET /token?x=1&service=reg%20istry&scope=repository%3Aapp%3Apull";
    let get = "GET /v2/app/manifests/v1";
    assert_eq!(server.lines(), [get, token, get, get]);
}

#[test]
fn a_password_buys_a_token_and_goes_nowhere_else() {
    let basic = "Basic dTpwYTU1"; // u:pa55
    let server = token_registry(move |asked| asked.header("authorization") == Some(basic));
    let json = format!(
        r#"{{"auths": {{"{}/app": {{"auth": "dTpwYTU1"}}}}}}"#,
        server.host()
    );
    let (_kept, client) = with_file(&json);
    let app = client
        .repository(&server.host(), "app")
        .expect("a repository");
    app.manifest("v1").expect("the manifest");
    for asked in server.asked() {
        let shown = asked.header("authorization") == Some(basic);
        assert_eq!(shown, asked.target.starts_with("/token"), "{asked:?}");
    }
    // The login is that repository's alone.
    let other = client
        .repository(&server.host(), "other")
        .expect("a repository");
    says(other.manifest("v1"), &["none was found"]);
}

#[test]
fn an_identity_token_buys_tokens_by_post() {
    let server = token_registry(|asked| {
        let body = String::from_utf8_lossy(&asked.body);
        asked.method == "POST"
            && asked.header("authorization").is_none()
            && body.contains("grant_type=refresh_token&")
            && body.contains("&service=reg%20istry&")
            && body.contains("&scope=repository%3Aapp%3Apull&")
            && body.ends_with("&refresh_token=id%2Ft0ken%3D")
    });
    let json = format!(
        r#"{{"auths": {{"{}": {{"auth": "dTo=", "identitytoken": "id/t0ken="}}}}}}"#,
        server.host()
    );
    let (_kept, client) = with_file(&json);
    let app = client
        .repository(&server.host(), "app")
        .expect("a repository");
    app.manifest("v1").expect("the manifest");
    assert!(
        server
            .asked()
            .iter()
            .all(|asked| !asked.target.contains("id%2Ft0ken"))
    );
}

#[test]
fn a_mount_asks_for_both_repositories_and_is_content_with_one() {
    let both = "scope=repository%3Aapp%3Apull%2Cpush&scope=repository%3Abase%3Apull";
    for lenient in [true, false] {
        let server = token_registry(move |asked| lenient || !asked.target.contains(both));
        let client = client(Options::default());
        let app = client
            .repository(&server.host(), "app")
            .expect("a repository");
        let base = client
            .repository(&server.host(), "base")
            .expect("a repository");
        let digest = reuseport::image::Digest::of(b"");
        app.mount(&digest, &base).expect("an answer");
        let lines = server.lines();
        assert!(lines[1].contains(both), "{lines:?}");
        assert_eq!(lines.len(), if lenient { 3 } else { 4 }, "{lines:?}");
    }
    let server = token_registry(|_| true);
    let app = client(Options::default()).repository(&server.host(), "app");
    let app = app.expect("a repository");
    let digest = reuseport::image::Digest::of(b"");
    app.mount(&digest, &app).expect("an answer");
    let lines = server.lines();
    assert_eq!(lines[1].matches("scope=").count(), 1, "{lines:?}");
}

#[test]
fn a_token_that_is_turned_down_is_bought_anew_once() {
    let server = Server::start(|asked| {
        if asked.target.starts_with("/token") {
            return Reply::new(200).body(r#"{"token": "t0ken", "expires_in": 300}"#);
        }
        let host = asked.header("host").expect("a host");
        Reply::new(401)
            .with(
                "WWW-Authenticate",
                format!("Bearer realm=\"http://{host}/token\""),
            )
            .body(r#"{"errors": [{"code": "UNAUTHORIZED", "message": "go away"}]}"#)
    });
    let app = client(Options::default());
    let app = app.repository(&server.host(), "app").expect("a repository");
    let message = says(app.manifest("v1"), &["go away", "podman login"]);
    assert!(!message.contains("t0ken"), "{message}");
    assert_eq!(server.asked().len(), 3);
}

#[test]
fn a_token_server_that_makes_no_sense_is_named() {
    for (reply, words) in [
        (Reply::new(200).body("<html>"), "no JSON"),
        (Reply::new(200).body("{}"), "holds none"),
        (Reply::new(200).body(r#"{"token": "a\nb"}"#), "characters"),
        (Reply::new(404), "404"),
        (Reply::new(503), "try again later"),
        // It would see the password of whoever follows.
        (
            Reply::new(302).with("Location", "http://127.0.0.1:1/"),
            "302",
        ),
    ] {
        let server = Server::start(move |asked| {
            if asked.target.starts_with("/token") {
                return reply.clone();
            }
            let host = asked.header("host").expect("a host");
            let challenge = format!("Bearer realm=\"http://{host}/token\"");
            Reply::new(401).with("WWW-Authenticate", challenge)
        });
        let app = client(Options::default());
        let app = app.repository(&server.host(), "app").expect("a repository");
        says(app.manifest("v1"), &["no token", words]);
    }
}

/// Whose login is found in a directory with these files.
fn found(
    files: &[(&str, &str)],
    variables: &'static [(&'static str, &'static str)],
) -> (Option<String>, Vec<String>) {
    let directory = tempfile::tempdir().expect("a directory");
    for (name, content) in files {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        if name.contains("docker-credential-") {
            let parent = path.parent().expect("a parent");
            let name = path.file_name().and_then(|name| name.to_str());
            executable(parent, name.expect("a name"), content);
        } else {
            std::fs::write(path, content).expect("a file");
        }
    }
    let search = places(directory.path(), variables).find("reg.example", "team/app");
    let user = search.credential.as_ref().map(|found| match &found.login {
        Login::Password { username, .. } => username.clone(),
        Login::IdentityToken(token) | Login::RegistryToken(token) => token.reveal().to_owned(),
    });
    let obstacles = search.obstacles.iter().map(ToString::to_string).collect();
    let shown = format!("{search:?}");
    assert!(!shown.contains("s3cret"), "{shown}");
    (user, obstacles)
}

const HOMES: &[(&str, &str)] = &[
    ("REGISTRY_AUTH_FILE", "named"),
    ("XDG_RUNTIME_DIR", "run"),
    ("XDG_CONFIG_HOME", "config"),
    ("HOME", "home"),
    ("DOCKER_CONFIG", "docker"),
    ("PATH", "bin"),
];

fn entry(user: &str) -> String {
    format!(r#"{{"auths": {{"reg.example": {{"username": "{user}", "password": "s3cret"}}}}}}"#)
}

#[test]
fn logins_are_looked_for_in_order() {
    let places = [
        "named",
        "run/containers/auth.json",
        "config/containers/auth.json",
        "docker/config.json",
    ];
    for first in 0..places.len() {
        let contents: Vec<String> = places.iter().map(|place| entry(place)).collect();
        let mut files: Vec<(&str, &str)> = Vec::new();
        for (place, content) in places.iter().zip(&contents).skip(first) {
            files.push((place, content));
        }
        let (user, obstacles) = found(&files, HOMES);
        assert_eq!(user.as_deref(), Some(places[first]));
        // The file that was named should be there.
        assert_eq!(obstacles.len(), usize::from(first > 0), "{obstacles:?}");
    }
    let home = [("HOME", "home")];
    let home: &'static [(&str, &str)] = Box::leak(Box::new(home));
    let docker = entry("docker");
    let (user, _) = found(&[("home/.docker/config.json", &docker)], home);
    assert_eq!(user.as_deref(), Some("docker"));
    let (user, _) = found(&[("home/.config/containers/auth.json", &docker)], home);
    assert_eq!(user.as_deref(), Some("docker"));
    let (user, obstacles) = found(&[], home);
    assert_eq!((user, obstacles.len()), (None, 0));
}

/// Says what it was asked for, by name.
const HELPER: &str = "#!/bin/sh
[ \"$1\" = get ] || exit 2
read -r server
printf '{\"ServerURL\": \"%s\", \"Username\": \"helped at %s\", \"Secret\": \"s3cret\"}' \
  \"$server\" \"$server\"
";

#[test]
fn helpers_are_asked_over_standard_input() {
    let helper = ("bin/docker-credential-test", HELPER);
    let own = r#"{"credHelpers": {"reg.example": "test"},
        "auths": {"reg.example": {"auth": "YTpi"}}}"#;
    let (user, obstacles) = found(&[("docker/config.json", own), helper], &HOMES[1..]);
    assert_eq!(user.as_deref(), Some("helped at reg.example"));
    assert_eq!(obstacles, Vec::<String>::new());
    let store = r#"{"credsStore": "test", "auths": {"reg.example": {}}}"#;
    let (user, _) = found(&[("docker/config.json", store), helper], &HOMES[1..]);
    assert_eq!(user.as_deref(), Some("helped at reg.example"));
    let token = "#!/bin/sh\nprintf '{\"Username\": \"<token>\", \"Secret\": \"s3cr-et\"}'\n";
    let token = ("bin/docker-credential-test", token);
    let (user, _) = found(&[("docker/config.json", store), token], &HOMES[1..]);
    assert_eq!(user.as_deref(), Some("s3cr-et"));
}

#[test]
fn a_helper_that_fails_is_named_and_passed_by() {
    let config = r#"{"credsStore": "test"}"#;
    let missing = "#!/bin/sh\necho credentials not found in native keychain; exit 1\n";
    let broken = "#!/bin/sh\necho s3cret; exit 3\n";
    let garbled = "#!/bin/sh\necho s3cret\n";
    for (script, word) in [
        (Some(missing), None),
        (Some(broken), Some("exit status: 3")),
        (Some(garbled), Some("printed no login")),
        (None, Some("no program of that name")),
    ] {
        let mut files = vec![("docker/config.json", config)];
        files.extend(script.map(|script| ("bin/docker-credential-test", script)));
        let (user, obstacles) = found(&files, &HOMES[1..]);
        assert_eq!(user, None);
        let said = obstacles.join("");
        assert!(!said.contains("s3cret"), "{said}");
        match word {
            None => assert_eq!(said, ""),
            Some(word) => assert!(
                said.contains(word) && said.contains("docker-credential-test"),
                "{said}"
            ),
        }
    }
    let path = r#"{"credsStore": "../../bin/sh"}"#;
    let (user, obstacles) = found(&[("docker/config.json", path)], &HOMES[1..]);
    assert_eq!((user, obstacles.len()), (None, 1));
}

#[test]
fn a_file_that_cannot_be_read_is_named_without_its_content() {
    for (content, words) in [
        ("{\"auths\": s3cret", "no JSON (line 1)"),
        (
            r#"{"auths": {"reg.example": {"auth": "s3cret!"}}}"#,
            "the entry reg.example",
        ),
    ] {
        let (user, obstacles) = found(&[("docker/config.json", content)], &HOMES[1..]);
        assert_eq!((user, obstacles.len()), (None, 1));
        let said = &obstacles[0];
        assert!(
            said.contains(words) && said.contains("config.json"),
            "{said}"
        );
        assert!(!said.contains("s3cret"), "{said}");
    }
    // `podman logout` may leave it empty.
    let (user, obstacles) = found(&[("docker/config.json", "")], &HOMES[1..]);
    assert_eq!((user, obstacles.len()), (None, 0));
}

#[test]
fn an_environment_without_a_home_has_no_logins() {
    let search = Places::new(4_000_000_000, |_| None::<OsString>).find("reg.example", "x");
    assert!(search.credential.is_none() && search.obstacles.is_empty());
}
