//! The runner as process 1 of a container.

use std::time::{Duration, Instant};

use crate::port::Port;
use crate::{daemon, fixture, serve, support};

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn the_runner_is_process_1_of_a_container() {
    let Some(docker) = daemon::docker("the_runner_is_process_1_of_a_container") else {
        return;
    };
    fixture::load(&docker, "redis:runner", fixture::config());
    let port = Port::free();
    let number = port.number.to_string();
    let program = env!("CARGO_BIN_EXE_reuseport");
    let mount = format!("{program}:/usr/bin/reuseport:ro");
    let id = docker.ask(&[
        "run",
        "--detach",
        "--network",
        "host",
        "--ulimit",
        "nofile=1024:1024",
        "--ulimit",
        "nproc=4096:4096",
        "--volume",
        &mount,
        // What the program itself is linked to.
        "--volume",
        "/lib:/lib:ro",
        "--entrypoint",
        "reuseport",
        "redis:runner",
        "run",
        "-n",
        "2",
        "--name",
        "web",
        "--",
        "redis-server",
        "--save",
        "",
        "--bind",
        "127.0.0.1",
        "--port",
        &number,
    ]);
    let logs = || {
        let outcome = support::run(&mut docker.command(&["logs", &id]));
        outcome.stdout + &outcome.stderr
    };
    let wait_for = |what: &str, is_there: &dyn Fn() -> bool| {
        let start = Instant::now();
        while !is_there() {
            assert!(start.elapsed() < PATIENCE, "{what}: {}", logs());
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    wait_for("it serves", &|| logs().contains("2 copies serve"));
    assert_eq!(serve::runs(port.number).len(), 2);
    // Orphans of others in the container come to it, and are collected.
    let orphan = "((read a </dev/null; :) &) ; ((:; :) &)";
    docker.ask(&["exec", &id, "sh", "-c", orphan]);
    assert!(
        docker
            .ask(&["exec", &id, "reuseport", "restart", "web"])
            .contains("replaced 2 copies")
    );
    assert_eq!(serve::runs(port.number).len(), 2);
    std::thread::sleep(Duration::from_millis(500));
    let zombies = docker.ask(&["top", &id, "-eo", "pid,stat,comm"]);
    let is_zombie = |line: &str| {
        line.split_whitespace()
            .nth(1)
            .is_some_and(|one| one.starts_with('Z'))
    };
    assert!(!zombies.lines().any(is_zombie), "{zombies}");
    // docker stop sends the image's StopSignal, here SIGINT.
    docker.ask(&["stop", "--time", "20", &id]);
    assert_eq!(docker.ask(&["wait", &id]), "0", "{}", logs());
    assert!(logs().contains("ends its copies"), "{}", logs());
    docker.ask(&["rm", "--force", &id]);
}
