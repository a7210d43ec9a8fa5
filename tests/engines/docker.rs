//! Docker's daemon.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use reuseport::image::engine::{
    Address, Base, Change, Committed, Engine, Inspected, Kind, Loaded, candidates,
};
use reuseport::image::transform::Request;
use reuseport::image::{Compression, Digest, Family, layer};
use reuseport::rules::Variable;
use reuseport::shim;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::port::Port;
use crate::{daemon, fixture, serve, support};

/// Puts the shim into the image `from`, as `to`, for the ports `ports`.
fn inject(engine: &Engine, from: &str, to: &str, ports: &str) -> Committed {
    let image = engine.image(from).expect("the image");
    let mut request = Request::default();
    if !ports.is_empty() {
        request.rules.set(Variable::Port, ports.into());
    }
    let made = engine.inject(&image, &request, &[]).expect("a commit");
    let made = made.expect("no archive is needed");
    engine.name(made, to).expect("a name")
}

fn environment(image: &Inspected) -> Value {
    image.config()["Env"].clone()
}

#[test]
fn docker_commits_a_layer_and_a_config() {
    let Some(docker) = daemon::docker("docker_commits_a_layer_and_a_config") else {
        return;
    };
    let engine = docker.engine();
    assert_eq!(engine.kind(), Kind::Docker);
    fixture::load(&docker, "redis:plain", fixture::config());
    let before = docker.rest();
    let port = Port::free();
    serve::assert_not_shared(&docker, "redis:plain", port.number);

    let made = inject(&engine, "redis:plain", "redis:shared", "");
    serve::assert_shared(&docker, "redis:shared", port.number);
    let base = engine.image("redis:plain").expect("the base");
    assert_eq!(
        engine.base(&made.image).expect("the base"),
        Base::Here(base.clone())
    );
    assert_eq!(made.image.tags(), ["redis:shared"]);

    // What is not lost: author, health check, shell and the rest of what Docker
    // knows. What it does not know it does not show either.
    let shown: Vec<String> = made.losses.iter().map(ToString::to_string).collect();
    assert_eq!(shown, Vec::<String>::new());
    let (mut was, mut is) = (base.config().clone(), made.image.config().clone());
    for field in [
        "Healthcheck",
        "Shell",
        "OnBuild",
        "Volumes",
        "Labels",
        "ArgsEscaped",
    ] {
        assert_ne!(was[field], Value::Null, "{field}");
        assert_eq!(was[field], is[field], "{field}");
    }
    was["Env"].take();
    is["Env"].take();
    assert_eq!(was, is);

    // Once more takes the place of the first, which is gone: one layer, the new
    // rules, and nothing of the old ones.
    let again = inject(&engine, "redis:shared", "redis:shared", "1,2");
    let first = made.image.id.to_string();
    assert_eq!(engine.inspect(&first).expect("an answer"), None);
    let third = inject(&engine, "redis:shared", "redis:shared", "");
    assert_eq!(third.image.layers().len(), base.layers().len() + 1);
    assert_eq!(environment(&third.image), environment(&made.image));
    assert_ne!(environment(&third.image), environment(&again.image));
    assert_eq!(
        engine.base(&third.image).expect("the base"),
        Base::Here(base.clone())
    );

    // What was there before comes back, and what was made is gone.
    let back = engine
        .eject(&third.image, "redis:shared")
        .expect("an answer");
    assert_eq!(back, Some(base.clone()));
    let back = engine.image("redis:shared").expect("the image");
    assert_eq!(back.id, base.id);
    serve::assert_not_shared(&docker, "redis:shared", port.number);
    assert_eq!(docker.rest(), before);
}

#[test]
fn docker_gives_no_base_back_that_something_was_built_on() {
    let test = "docker_gives_no_base_back_that_something_was_built_on";
    let Some(docker) = daemon::docker(test) else {
        return;
    };
    let engine = docker.engine();
    fixture::load(&docker, "built:plain", fixture::config());
    inject(&engine, "built:plain", "built:shared", "");
    docker.ask(&["create", "--name", "built", "built:shared"]);
    docker.ask(&["commit", "--change", "ENV B=c", "built", "built:on"]);
    docker.ask(&[
        "commit",
        "--message",
        "reuseport base=x",
        "built",
        "built:lie",
    ]);
    docker.ask(&["rm", "--volumes", "built"]);
    for name in ["built:plain", "built:on", "built:lie"] {
        let image = engine.image(name).expect("the image");
        assert_eq!(engine.eject(&image, "built:back").expect("an answer"), None);
        assert_eq!(engine.inspect("built:back").expect("an answer"), None);
    }
    // The shim is in it, and cannot be taken out by a commit.
    let image = engine.image("built:on").expect("the image");
    let request = Request::default();
    let made = engine.inject(&image, &request, &[]);
    assert!(made.expect("an answer").is_none());
    let made = engine.inject_by_archive("built:on", &image, &request, &[], "built:twice");
    let twice = made.expect("it is made");
    assert_eq!(twice.layers().len(), image.layers().len());
    // Out of it comes what was built, without the shim.
    let out = engine.eject_by_archive("built:on", &image, "built:out");
    let out = out.expect("an answer").expect("a shim");
    let plain = engine.image("built:plain").expect("the image");
    assert_eq!(out.layers()[..plain.layers().len()], plain.layers()[..]);
    let mut list = environment(&plain);
    list.as_array_mut().expect("a list").push(json!("B=c"));
    assert_eq!(environment(&out), list);
}

#[test]
fn docker_keeps_the_layer_below_a_volume() {
    let Some(docker) = daemon::docker("docker_keeps_the_layer_below_a_volume") else {
        return;
    };
    let mut config = fixture::config();
    config["config"]["Volumes"] = json!({"/.reuseport": {}, "/data": {}});
    fixture::load(&docker, "redis:volume", config);
    let before = docker.rest();
    let volumes = docker.ask(&["volume", "ls", "--quiet"]);
    let made = inject(&docker.engine(), "redis:volume", "redis:volume-shared", "");
    assert_eq!(made.losses, []);
    let files = docker.engine();
    let files = files.files(&made.image).expect("a container");
    let stat = files.stat("/.reuseport/libreuseport.so").expect("a stat");
    let shim = fs::metadata(support::shim()).expect("the shim");
    assert_eq!(stat.map(|stat| stat.size), Some(shim.len()));
    files.remove().expect("it goes");
    assert_eq!(docker.ask(&["volume", "ls", "--quiet"]), volumes);
    assert_eq!(docker.rest(), before);
}

#[test]
fn docker_says_what_its_commit_has_lost() {
    let Some(docker) = daemon::docker("docker_says_what_its_commit_has_lost") else {
        return;
    };
    fixture::load(&docker, "redis:lossy", fixture::config());
    let engine = docker.engine();
    let base = engine.image("redis:lossy").expect("the base");
    let shim = shim::packed(shim::native().expect("known")).expect("built");
    let layer = layer::build(shim, Family::Docker, Compression::Plain, 0);
    let mut config = base.config().clone();
    config["MadeUp"] = json!({"a": 1});
    let change = Change {
        config: &config,
        layer: &layer.content,
        comment: "reuseport base=unknown",
    };
    let before = docker.rest();
    drop(engine.commit(&base, &change).expect("the commit"));
    assert_eq!(docker.rest(), before, "what has no name goes");
    let made = engine.commit(&base, &change).expect("the commit");
    let made = engine.name(made, "redis:lost").expect("a name");
    let shown: Vec<String> = made.losses.iter().map(ToString::to_string).collect();
    assert_eq!(shown, [r#"Config.MadeUp is lost: it was {"a":1}"#]);
    assert_eq!(engine.base(&made.image).expect("none"), Base::NotRecorded);
    assert!(!Engine::can_commit(&made.image, &json!({"Env": []})));
}

#[test]
fn docker_shows_single_files() {
    let Some(docker) = daemon::docker("docker_shows_single_files") else {
        return;
    };
    shows_single_files(&docker);
}

pub fn shows_single_files(daemon: &daemon::Daemon) {
    fixture::load(daemon, "redis:files", fixture::config());
    let before = daemon.rest();
    let engine = daemon.engine();
    let image = engine.image("redis:files").expect("the image");
    let files = engine.files(&image).expect("a container");
    let stat = |path: &str| files.stat(path).expect("a stat");
    let server = stat("/bin/redis-server").expect("it is there");
    assert_eq!((server.mode, server.link), (0o100_755, None));
    let host = fs::metadata("/usr/bin/redis-server").expect("the server");
    assert_eq!(server.size, host.len());
    let link = stat("/data/server").expect("it is there");
    assert_eq!(link.mode, 0o120_777);
    let target = link.link.expect("a link");
    assert_eq!(target.to_str(), Some("/usr/bin/redis-server"));
    assert_eq!(stat("/usr").map(|usr| usr.mode), Some(0o040_755));
    assert_eq!(stat("/missing/file"), None);
    assert!(files.read("/missing").expect("an answer").is_none());
    let mut archive = files.read("/usr/bin/sh").expect("an answer").expect("it");
    let mut tar = support::command("tar")
        .args(["--extract", "--to-stdout"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("tar");
    let mut input = tar.stdin.take().expect("a pipe");
    let feeder = std::thread::spawn(move || std::io::copy(&mut archive, &mut input));
    let read = tar.wait_with_output().expect("its output").stdout;
    feeder.join().expect("no panic").expect("all of it");
    assert!(read == fs::read("/bin/sh").expect("the shell"));
    drop(files);
    assert_eq!(daemon.rest(), before);
}

#[test]
fn docker_gives_and_takes_whole_images() {
    let Some(docker) = daemon::docker("docker_gives_and_takes_whole_images") else {
        return;
    };
    gives_and_takes_whole_images(&docker, "redis:whole");
}

/// An archive that cannot be read.
struct Broken;

impl std::io::Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(std::io::Error::other("the disk is on fire"))
    }
}

/// What is saved, removed and loaded is the same image, made-up fields included:
/// its name is the digest of its config.
pub fn gives_and_takes_whole_images(daemon: &daemon::Daemon, name: &str) {
    fixture::load(daemon, name, fixture::config());
    let engine = daemon.engine();
    let image = engine.image(name).expect("the image");
    let (_, mut archive) = engine.save(name, &image).expect("an archive");
    let mut file = tempfile::tempfile().expect("a file");
    std::io::copy(&mut archive, &mut file).expect("all of it");
    daemon.ask(&["rmi", name]);
    assert_eq!(engine.inspect(name).expect("an answer"), None);
    std::io::Seek::rewind(&mut file).expect("its start");
    let loaded = engine.load(&mut file).expect("it is loaded");
    let names = image.tags().into_iter().map(str::to_owned).collect();
    assert_eq!(
        loaded,
        Loaded {
            names,
            ids: Vec::new()
        }
    );
    let back = engine.image(name).expect("it is back");
    assert_eq!(back.id, image.id);

    let garbage = "no archive at all".repeat(1000);
    let error = engine
        .load(&mut garbage.as_bytes())
        .expect_err("no archive");
    assert!(error.to_string().contains("load"), "{error}");
    let error = engine.load(&mut Broken).expect_err("no archive");
    assert_eq!(error.to_string(), "the disk is on fire");
}

#[test]
fn docker_answers_over_tls() {
    let Some(docker) = daemon::docker("docker_answers_over_tls") else {
        return;
    };
    let (_, address) = docker.tls.as_ref().expect("it listens");
    let certificates = docker.socket.parent().and_then(Path::to_str);
    let certificates = certificates.expect("UTF-8");
    let connect = |variables: &[(&str, &str)]| {
        let variable = |name: &str| {
            let found = variables.iter().find(|(other, _)| *other == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Engine::first(candidates(variable).expect("an address"))
    };
    let host = ("DOCKER_HOST", address.as_str());
    let path = ("DOCKER_CERT_PATH", certificates);
    let verify = ("DOCKER_TLS_VERIFY", "1");
    let engine = connect(&[host, path, verify]).expect("it answers");
    assert_eq!(engine.kind(), Kind::Docker);

    let empty = tempfile::tempdir().expect("a folder");
    let nothing = empty.path().to_str().expect("UTF-8");
    let none = connect(&[host, ("DOCKER_CERT_PATH", nothing), verify]);
    let message = none.expect_err("no authority").to_string();
    assert!(message.contains("ca.pem: No such file"), "{message}");
    let clear = connect(&[host]).expect_err("it wants TLS").to_string();
    assert!(clear.contains("(DOCKER_HOST): 400: "), "{clear}");
    fs::copy(
        docker.socket.with_file_name("engine.key"),
        empty.path().join("ca.pem"),
    )
    .expect("a file");
    let none = connect(&[host, ("DOCKER_CERT_PATH", nothing), verify]);
    let message = none.expect_err("a key is no authority").to_string();
    assert!(
        message.contains("ca.pem: it holds no certificate"),
        "{message}"
    );
}

#[test]
fn docker_lists_what_is_near() {
    let Some(docker) = daemon::docker("docker_lists_what_is_near") else {
        return;
    };
    fixture::load(&docker, "near:6", fixture::config());
    let error = docker.engine().image("near:7").expect_err("not there");
    assert_eq!(
        error.to_string(),
        "Docker has no image near:7; it has near:6"
    );
}

#[test]
fn an_engine_that_is_not_there_is_named() {
    let missing = tempfile::tempdir().expect("a folder");
    let runtime = missing.path().to_str().expect("UTF-8").to_owned();
    let variable = |name: &str| (name == "XDG_RUNTIME_DIR").then(|| runtime.clone());
    let all = candidates(variable).expect("the default ones");
    let ours = all
        .into_iter()
        .filter(|one| one.address.to_string().starts_with(&runtime));
    let error = Engine::first(ours.collect()).expect_err("none is there");
    let at = |name: &str| format!("{runtime}/{name} (the default): No such file or directory");
    assert_eq!(
        error.to_string(),
        format!(
            "no container engine answers: {} (os error 2); {} (os error 2). \
             Start one, or name its socket in DOCKER_HOST",
            at("docker.sock"),
            at("podman/podman.sock"),
        )
    );
}

#[test]
fn docker_loses_what_the_dead_have_left() {
    let Some(docker) = daemon::docker("docker_loses_what_the_dead_have_left") else {
        return;
    };
    fixture::load(&docker, "redis:dead", fixture::config());
    let before = docker.rest();
    // Made by a run that another process could not take away.
    let engine = docker.engine();
    let image = engine.image("redis:dead").expect("the image");
    let files = engine.files(&image).expect("a container");
    let (names, _) = docker.rest();
    let mine = names.iter().find(|name| name.starts_with("reuseport-"));
    let mine = mine.expect("a name").clone();
    let process = std::process::id().to_string();
    let dead = mine.replace(&format!("-{process}-"), "-4194305-");
    assert_ne!(mine, dead);
    docker.ask(&["rename", &mine, &dead]);
    docker.ask(&["tag", "redis:dead", &format!("reuseport-pending:{dead}")]);
    drop(files);
    assert!(docker.rest().0.contains(&dead));
    engine
        .files(&image)
        .expect("another")
        .remove()
        .expect("it goes");
    assert_eq!(docker.rest(), before);
    let pending = docker.ask(&["images", "--quiet", "reuseport-pending"]);
    assert_eq!(pending, "");
    let still = engine.image("redis:dead").expect("the image");
    assert_eq!(still.id, image.id);
    assert_ne!(image.id, Digest::of(b""));
}

/// Names the socket of the engine in which the process that has it holds a
/// container, until it is killed.
const HOLD: &str = "REUSEPORT_TEST_HOLD";

/// Does nothing but where [`a_signal_takes_containers_away`] runs it.
#[test]
fn holds_a_container() {
    let Ok(socket) = std::env::var(HOLD) else {
        return;
    };
    let engine = Engine::connect(Address::Unix(socket.into())).expect("it answers");
    let image = engine.image("redis:held").expect("the image");
    let _files = engine.files(&image).expect("a container");
    println!("held");
    loop {
        std::thread::park();
    }
}

#[test]
fn a_signal_takes_containers_away() {
    let Some(docker) = daemon::docker("a_signal_takes_containers_away") else {
        return;
    };
    fixture::load(&docker, "redis:held", fixture::config());
    let before = docker.rest();
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::KILL] {
        // Whoever runs the tests may ignore signals: nohup(1).
        let mut holder = Command::new("env")
            .arg("--default-signal=HUP,INT,TERM")
            .arg(std::env::current_exe().expect("this program"))
            .args(["--exact", "docker::holds_a_container", "--nocapture"])
            .env(HOLD, &docker.socket)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let mut lines = BufReader::new(holder.stdout.take().expect("a pipe")).lines();
        let held = |line: Result<String, _>| line.is_ok_and(|line| line.ends_with("held"));
        assert!(lines.any(held), "it ended");
        assert_eq!(docker.rest().0.len(), before.0.len() + 1);
        kill_process(Pid::from_child(&holder), signal).expect("it is there");
        let status = holder.wait().expect("its status");
        assert_eq!(status.signal(), Some(signal.as_raw()));
        if signal == Signal::KILL {
            // Nothing can be done then: the next run does.
            assert_eq!(docker.rest().0.len(), before.0.len() + 1);
            let engine = docker.engine();
            let image = engine.image("redis:held").expect("the image");
            drop(engine.files(&image).expect("another"));
        }
        assert_eq!(docker.rest(), before, "{signal:?}");
    }
}
