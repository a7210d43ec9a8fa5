//! What is said of processes that are not as most are.

use std::fs;

use crate::server::{Place, Server, fixture, look, read};
use crate::support::{command, compile, free_port, reuseport, run, wait_for};

#[test]
fn ids_of_nothing_are_named() {
    for pid in [0, 4_194_304, 2_147_483_648, u32::MAX] {
        let answer = look(pid);
        assert_eq!(answer.verdict(), ("fails", Some(2)), "{answer:#?}");
        assert_eq!(answer.codes("error"), ["not-found"]);
        assert!(answer.json["program"].is_null() && answer.json["process"].is_null());
        let outcome = read(pid);
        assert_eq!((outcome.status, outcome.stdout.as_str()), (Some(2), ""));
        let expected = format!("reuseport: pid:{pid}: no process has the id {pid}\n");
        assert_eq!(outcome.stderr, expected);
    }
    for text in ["99999999999999999999", "-1", "x", ""] {
        assert_eq!(
            run(reuseport().args(["check", "--pid", text])).status,
            Some(2)
        );
    }
}

#[test]
fn a_process_that_has_ended_is_no_process() {
    let mut server = Server::named(command("sleep").arg("99"), "sleep");
    let pid = server.pid();
    server.end();
    let answer = loop {
        // The signal may still be on its way.
        let answer = look(pid);
        if answer.status != Some(0) {
            break answer;
        }
    };
    assert_eq!(answer.verdict(), ("fails", Some(2)), "{answer:#?}");
    assert_eq!(
        answer.message("not-found"),
        format!("the process {pid} has ended ")
    );
    drop(server);
    assert_eq!(
        look(pid).message("not-found"),
        format!("no process has the id {pid} ")
    );
}

#[test]
fn processes_that_end_meanwhile() {
    for milliseconds in 0..60 {
        let duration = format!("0.0{milliseconds:02}");
        let server = Server::start(command("sleep").arg(duration));
        // Ours or sleep's, it is a process or has ended.
        let outcome = read(server.pid());
        assert!(matches!(outcome.status, Some(0 | 2)), "{outcome:?}");
        assert!(!outcome.stderr.contains("panic"), "{outcome:?}");
    }
}

#[test]
fn a_thread_stands_for_its_process() {
    let place = Place::new();
    let port = free_port();
    let mut redis = place.under_shim("redis-server");
    let directory = tempfile::tempdir().expect("a directory");
    let redis = redis.current_dir(directory.path());
    let redis = redis.args([
        "--save",
        "",
        "--bind",
        "127.0.0.1",
        "--port",
        &port.to_string(),
    ]);
    let server = Server::on_port(redis, port);
    let id = |entry: fs::DirEntry| entry.file_name().to_str()?.parse::<u32>().ok();
    // It makes them after it listens.
    let thread = wait_for("it has a second thread", || {
        let threads = fs::read_dir(format!("/proc/{}/task", server.pid())).expect("threads");
        let mut ids = threads.filter_map(|entry| id(entry.expect("an entry")));
        ids.find(|id| *id != server.pid())
    });
    let answer = look(thread);
    assert_eq!(answer.verdict(), ("works", Some(0)), "{answer:#?}");
    assert_eq!(answer.process("pid"), server.pid());
    assert!(answer.message("thread").contains(&server.pid().to_string()));
}

#[test]
fn a_process_lives_on_without_its_first_thread() {
    let place = Place::new();
    let port = free_port();
    let mut fixture = place.under_shim(fixture());
    let server = Server::start(fixture.args(["leaderless", &port.to_string()]));
    let stat = format!("/proc/{}/stat", server.pid());
    let end = std::time::Instant::now() + std::time::Duration::from_secs(9);
    while !fs::read_to_string(&stat)
        .expect("a process")
        .contains(") Z ")
    {
        assert!(std::time::Instant::now() < end);
    }
    let answer = look(server.pid());
    assert!(!answer.process("shim").is_null(), "{answer:#?}");
    assert_eq!(answer.sockets().len(), 1, "{answer:#?}");
    // pidfd_open(2) has known threads since Linux 6.9.
    match answer.sockets()[0].3 {
        Some(true) => assert_eq!(answer.verdict(), ("works", Some(0))),
        _ => assert_eq!(answer.verdict(), ("uncertain", Some(0))),
    }
}

#[test]
fn an_environment_that_is_gone_is_no_evidence() {
    let place = Place::new();
    let port = free_port();
    let mut title = place.under_shim(fixture());
    let title = title.args(["title", &port.to_string()]);
    let server = Server::on_port(title, port);
    let answer = look(server.pid());
    assert_eq!(answer.verdict(), ("works", Some(0)), "{answer:#?}");
    assert!(answer.process("preload").is_null());
    assert_eq!(answer.codes("note"), ["environment-overwritten"]);
    drop(server);

    let mut title = command(fixture());
    let server = Server::on_port(title.args(["title", &port.to_string()]), port);
    let message = look(server.pid()).message("not-mapped");
    assert!(message.contains("cannot be known"), "{message}");
}

#[test]
fn a_shim_that_was_deleted_or_replaced_still_counts() {
    let port = free_port();
    let place = Place::new();
    let mut server = place.under_shim("python3");
    let server = server.args([
        "-m",
        "http.server",
        "--bind",
        "127.0.0.1",
        &port.to_string(),
    ]);
    let server = Server::on_port(server, port);
    fs::remove_file(place.shim()).expect("removed");
    for _ in 0..2 {
        let answer = look(server.pid());
        assert_eq!(answer.verdict(), ("works", Some(0)), "{answer:#?}");
        assert_eq!(
            answer.process("shim"),
            place.shim().to_str().expect("UTF-8")
        );
        assert_eq!(answer.codes("warning"), ["shim-deleted"]);
        fs::write(place.shim(), "another").expect("written");
    }
}

#[test]
fn a_shim_that_is_not_there_and_a_file_of_its_name() {
    let [missing, foreign] = [free_port(), free_port()];
    let place = Place::new();
    let start = |port: u16| {
        let mut server = place.under_shim("python3");
        let server = server.args([
            "-m",
            "http.server",
            "--bind",
            "127.0.0.1",
            &port.to_string(),
        ]);
        Server::on_port(server, port)
    };
    fs::remove_file(place.shim()).expect("removed");
    let server = start(missing);
    let answer = look(server.pid());
    assert_eq!(answer.verdict(), ("fails", Some(1)), "{answer:#?}");
    assert!(answer.message("not-mapped").contains("which is not there"));

    // The C library has that name too.
    let library = compile("cc", "probe/second.c", &["-shared", "-fPIC"]);
    place.copy(&library, "libreuseport.so");
    let server = start(foreign);
    let answer = look(server.pid());
    assert_eq!(answer.verdict(), ("fails", Some(1)), "{answer:#?}");
    assert!(answer.process("shim").is_null());
}

#[test]
fn a_static_program_cannot_have_it() {
    let place = Place::new();
    let path = place.copy(
        &compile("cc", "pid/server.c", &["-pthread", "-static"]),
        "static",
    );
    let port = free_port();
    let server = Server::on_port(
        place.under_shim(path).args(["plain", &port.to_string()]),
        port,
    );
    let answer = look(server.pid());
    assert_eq!(answer.verdict(), ("fails", Some(1)), "{answer:#?}");
    assert_eq!(
        answer.codes("error"),
        ["not-mapped", "static", "option-not-set"]
    );
    assert_eq!(answer.json["program"]["kind"], "static");
}

#[test]
fn names_cannot_command_the_terminal() {
    let place = Place::new();
    let port = free_port();
    let name = "a\x1b[31m\n\u{202e}b";
    let program = place.copy(&fixture(), name);
    let mut server = command(program);
    let server = server
        .env("LD_PRELOAD", "/\x1b[2J")
        .args(["plain", &port.to_string()]);
    let server = Server::on_port(server, port);
    let answer = look(server.pid());
    let path = answer.json["program"]["path"].as_str().expect("a path");
    assert!(path.ends_with(name), "{path:?}");
    let pid = server.pid().to_string();
    let json = run(reuseport().args(["check", "--json", "--pid", &pid])).stdout;
    assert!(!json.contains(['\x1b', '\u{202e}']), "{json}");
    let outcome = read(server.pid());
    assert!(
        !outcome.stdout.contains(['\x1b', '\u{202e}']),
        "{outcome:?}"
    );
    assert!(
        outcome.stdout.contains(r"/a\u{1b}[31m\n\u{202e}b"),
        "{outcome:?}"
    );
}
