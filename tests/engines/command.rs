//! The command, on images of both engines.

use crate::daemon::{self, Daemon};
use crate::port::Port;
use crate::support::{Outcome, run};
use crate::{fixture, serve};

fn reuseport(daemon: &Daemon, arguments: &[&str]) -> Outcome {
    run(daemon.reuseport().args(arguments))
}

fn id(daemon: &Daemon, name: &str) -> String {
    let image = daemon.engine().image(name).expect("the image");
    image.id.to_string()
}

/// From an image of the machine's own Redis to two containers on one port, and
/// back.
fn there_and_back(daemon: &Daemon) {
    fixture::load(daemon, "there:test", fixture::config());
    let before = daemon.rest();
    let names = daemon.engine().names();
    let port = Port::free();
    serve::assert_not_shared(daemon, "there:test", port.number);

    let dry = reuseport(daemon, &["inject", "--dry-run", "docker-daemon:there:test"]);
    assert_eq!(dry.status, Some(0), "{}", dry.stderr);
    let added = "+      \"LD_PRELOAD=/.reuseport/libreuseport.so\"";
    assert!(dry.stdout.contains(added), "{}", dry.stdout);
    assert_eq!(daemon.engine().names().ok(), names.ok());

    let made = reuseport(daemon, &["inject", "docker-daemon:there:test"]);
    let shared = id(daemon, "there:test-reuseport");
    assert_eq!(
        made,
        Outcome {
            status: Some(0),
            stdout: format!("docker-daemon:there:test-reuseport {shared}\n"),
            stderr: "docker-daemon:there:test: works\n".to_owned(),
        }
    );
    serve::assert_shared(daemon, "there:test-reuseport", port.number);

    let base = id(daemon, "there:test");
    let back = reuseport(daemon, &["eject", "docker-daemon:there:test-reuseport"]);
    assert_eq!(
        back,
        Outcome {
            status: Some(0),
            stdout: format!("docker-daemon:there:test {base}\n"),
            stderr: "reuseport: note: docker-daemon:there:test: \
                     the image that the shim was put into has the name\n"
                .to_owned(),
        }
    );
    assert_eq!(id(daemon, "there:test"), base);
    serve::assert_not_shared(daemon, "there:test", port.number);

    let nothing = reuseport(daemon, &["eject", "docker-daemon:there:test", "-t", "x:y"]);
    assert_eq!(nothing.status, Some(1), "{}", nothing.stderr);
    let id = format!("docker-daemon:{base}");
    for more in [&[][..], &["--in-place"]] {
        let unnamed = reuseport(daemon, &[&["inject", &id], more].concat());
        assert_eq!(unnamed.status, Some(2), "{}", unnamed.stdout);
        assert!(unnamed.stderr.contains("-t DEST"), "{}", unnamed.stderr);
    }
    let nowhere = reuseport(daemon, &["inject", "docker-daemon:there:none"]);
    assert_eq!(nowhere.status, Some(2));
    assert!(nowhere.stderr.contains("there:test"), "{}", nowhere.stderr);
    let out = ["inject", "--in-place", "docker-daemon:there:test-reuseport"];
    assert_eq!(reuseport(daemon, &out).status, Some(0));
    assert_eq!(daemon.rest(), before);
}

#[test]
fn docker_there_and_back() {
    if let Some(docker) = daemon::docker("docker_there_and_back") {
        there_and_back(&docker);
    }
}

#[test]
fn podman_there_and_back() {
    if let Some(podman) = daemon::podman("podman_there_and_back") {
        there_and_back(&podman);
    }
}

/// Out of the engine, where nothing is lost, and into it again.
fn to_a_layout_and_back(daemon: &Daemon) {
    fixture::load(daemon, "away:test", fixture::config());
    let before = daemon.rest();
    let directory = tempfile::tempdir().expect("a folder");
    let layout = format!("oci:{}:x", directory.path().join("layout").display());
    let out = reuseport(
        daemon,
        &["inject", "docker-daemon:away:test", "-t", &layout],
    );
    assert_eq!(out.status, Some(0), "{}", out.stderr);
    let back = reuseport(daemon, &["eject", &layout, "-t", "docker-daemon:away:back"]);
    assert_eq!(back.status, Some(0), "{}", back.stderr);
    assert_eq!(id(daemon, "away:back"), id(daemon, "away:test"));
    assert_eq!(daemon.rest(), before);
}

#[test]
fn docker_to_a_layout_and_back() {
    if let Some(docker) = daemon::docker("docker_to_a_layout_and_back") {
        to_a_layout_and_back(&docker);
    }
}

#[test]
fn podman_to_a_layout_and_back() {
    if let Some(podman) = daemon::podman("podman_to_a_layout_and_back") {
        to_a_layout_and_back(&podman);
    }
}

/// Libraries lie behind links in most images.
fn follows_libraries(daemon: &Daemon) {
    fixture::import_linked(daemon);
    let before = daemon.rest();
    let linked = reuseport(daemon, &["check", "docker-daemon:linked:test"]);
    let works = Outcome {
        status: Some(0),
        stdout: "docker-daemon:linked:test: works\n".to_owned(),
        stderr: String::new(),
    };
    assert_eq!(linked, works);
    let lacking = reuseport(daemon, &["check", "docker-daemon:lacking:test"]);
    assert_eq!(lacking.status, Some(0), "{}", lacking.stderr);
    let missing = "were not found: libm.so.6\n";
    assert!(lacking.stdout.contains(missing), "{}", lacking.stdout);
    assert_eq!(daemon.rest(), before);
}

#[test]
fn docker_follows_libraries() {
    if let Some(docker) = daemon::docker("docker_follows_libraries") {
        follows_libraries(&docker);
    }
}

#[test]
fn podman_follows_libraries() {
    if let Some(podman) = daemon::podman("podman_follows_libraries") {
        follows_libraries(&podman);
    }
}

/// An image whose program is not there is refused, and nothing is left of the look.
#[test]
fn docker_refuses_what_would_not_work() {
    let Some(docker) = daemon::docker("docker_refuses_what_would_not_work") else {
        return;
    };
    let mut config = fixture::config();
    config["config"]["Entrypoint"] = serde_json::json!(["missing"]);
    fixture::load(&docker, "refused:test", config);
    let before = docker.rest();
    let names = docker.engine().names();
    let refused = reuseport(&docker, &["inject", "docker-daemon:refused:test"]);
    assert_eq!(refused.status, Some(1), "{}", refused.stderr);
    assert_eq!(refused.stdout, "");
    assert_eq!(docker.rest(), before);
    assert_eq!(docker.engine().names().ok(), names.ok());
    let forced = ["inject", "--force", "docker-daemon:refused:test"];
    assert_eq!(reuseport(&docker, &forced).status, Some(0));
}

/// An archive of ours is one for Docker's own client too.
#[test]
fn docker_loads_an_archive_of_ours_and_runs_it() {
    let Some(docker) = daemon::docker("docker_loads_an_archive_of_ours_and_runs_it") else {
        return;
    };
    fixture::load(&docker, "archive:test", fixture::config());
    let directory = tempfile::tempdir().expect("a folder");
    let file = directory.path().join("image.tar");
    let archive = format!("docker-archive:{}:archive:shared", file.display());
    let made = reuseport(
        &docker,
        &["inject", "docker-daemon:archive:test", "-t", &archive],
    );
    assert_eq!(made.status, Some(0), "{}", made.stderr);
    docker.ask(&["load", "--input", file.to_str().expect("UTF-8")]);
    let port = Port::free();
    serve::assert_shared(&docker, "archive:shared", port.number);
    // As an image of the engine it gives its base back.
    let back = reuseport(
        &docker,
        &[
            "eject",
            "docker-daemon:archive:shared",
            "-t",
            "archive:back",
        ],
    );
    assert_eq!(back.status, Some(0), "{}", back.stderr);
    assert_eq!(id(&docker, "archive:back"), id(&docker, "archive:test"));
}

/// With --json, what the check has found is printed where it says no.
#[test]
fn docker_says_in_json_why_not() {
    let Some(docker) = daemon::docker("docker_says_in_json_why_not") else {
        return;
    };
    let mut config = fixture::config();
    config["config"]["Entrypoint"] = serde_json::json!(["missing"]);
    fixture::load(&docker, "json:test", config);
    let file = tempfile::tempdir().expect("a folder");
    let file = file.path().join("digest");
    let path = file.to_str().expect("UTF-8");
    let refused = reuseport(
        &docker,
        &[
            "inject",
            "--json",
            "--digest-file",
            path,
            "docker-daemon:json:test",
        ],
    );
    assert_eq!(refused.status, Some(1), "{}", refused.stderr);
    let answer: serde_json::Value = serde_json::from_str(&refused.stdout).expect("JSON");
    assert_eq!(answer["checks"][0]["verdict"], "fails");
    assert_eq!(answer["checks"][0]["findings"][0]["code"], "not-found");
    assert!(!file.exists());
    let dry = [
        "inject",
        "--json",
        "--dry-run",
        "--force",
        "docker-daemon:json:test",
    ];
    let dry = reuseport(&docker, &dry);
    let answer: serde_json::Value = serde_json::from_str(&dry.stdout).expect("JSON");
    assert_eq!(answer["reference"], "docker-daemon:json:test-reuseport");
}

/// The image of a manifest, which the engine has, is looked into, and nothing is
/// left of the look.
#[test]
fn docker_shows_the_images_of_manifests() {
    let Some(docker) = daemon::docker("docker_shows_the_images_of_manifests") else {
        return;
    };
    let mut config = fixture::config();
    config["config"]["Env"] = serde_json::json!(["PATH=/usr/bin", "LD_PRELOAD=/a.so"]);
    fixture::load(&docker, "manifest:test", config);
    let before = docker.rest();
    let directory = tempfile::tempdir().expect("a folder");
    let check = |more: &str| {
        let file = directory.path().join("pod.yaml");
        let text = format!(
            "kind: Pod\nmetadata: {{name: p}}\nspec:\n  containers:\n  - name: web\n    image: manifest:test\n{more}"
        );
        std::fs::write(&file, text).expect("written");
        let file = file.to_str().expect("UTF-8");
        let flags = ["inject", "--check", "--configmap", "shim", "-f", file];
        reuseport(&docker, &flags)
    };
    let made = check("");
    assert_eq!(made.status, Some(0), "{}", made.stderr);
    let joined = "value: \"/a.so:/.reuseport/libreuseport.so\"";
    assert!(made.stdout.contains(joined), "{}", made.stdout);
    let refused = check("    command: [missing]\n");
    assert_eq!((refused.status, refused.stdout.as_str()), (Some(1), ""));
    let found = "error: not-found: manifest:test: ";
    assert!(refused.stderr.contains(found), "{}", refused.stderr);
    assert_eq!(docker.rest(), before);
}
