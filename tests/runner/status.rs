//! What `status` shows: members, shares, warnings, again and again.

use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::supervised::{Plain, Runner, local, threaded};
use crate::support::{Outcome, free_port, is_root, reuseport, run, skip, wait_for};

fn status(directory: &Path, words: &[&str]) -> Outcome {
    let mut command = reuseport();
    command.env("XDG_RUNTIME_DIR", directory);
    run(command.arg("status").args(words))
}

fn parsed(outcome: &Outcome) -> Value {
    assert_eq!(
        (outcome.status, outcome.stderr.as_str()),
        (Some(0), ""),
        "{outcome:?}"
    );
    serde_json::from_str(&outcome.stdout).expect("JSON")
}

/// The groups, as the user of `runner` sees them.
pub(crate) fn look_in(runner: &Runner, words: &[&str]) -> Value {
    parsed(&status(
        runner.directory.path(),
        &[words, &["--json"]].concat(),
    ))
}

/// The groups of a user without runners at `port`.
fn look_at(port: u16) -> Value {
    parsed(&status(
        Path::new("/nowhere"),
        &[&port.to_string(), "--json"],
    ))
}

fn codes(group: &Value) -> Vec<&str> {
    let warnings = group["warnings"].as_array().expect("warnings");
    warnings
        .iter()
        .map(|one| one["code"].as_str().expect("a code"))
        .collect()
}

#[test]
fn status_shows_the_copies_of_a_group_and_who_does_not_belong() {
    let port = free_port();
    let text = port.to_string();
    let command = threaded(port);
    let runner = Runner::start(&["-n", "2"], &command);
    let look = |words: &[&str]| look_in(&runner, words)[0].clone();
    for words in [&[text.as_str()][..], &[&runner.name]] {
        let group = look(words);
        assert_eq!(group["port"], port);
        let members = group["members"].as_array().expect("members");
        let mut slots: Vec<_> = members.iter().map(|one| one["slot"].as_u64()).collect();
        slots.sort_unstable();
        assert_eq!(slots, [Some(0), Some(1)], "{group:#}");
        assert!(members.iter().all(|one| one["state"] == "serving"));
        // The server alone, and not the runner that holds its socket.
        let pids = members.iter().map(|one| one["pids"].as_array());
        assert!(pids.flatten().all(|pids| pids.len() == 1), "{group:#}");
        assert_eq!(group["warnings"], serde_json::json!([]));
    }
    let stranger = crate::supervised::Plain::start(&command);
    let group = wait_for("the stranger joins", || {
        let group = look(&[&text]);
        let count = group["members"].as_array().expect("members").len();
        (count == 3).then_some(group)
    });
    assert_eq!(codes(&group), ["stranger"], "{group:#}");
    // It is not steered then, and says so.
    runner.restart();
    runner.await_line("one of its sockets is not a copy's");
    drop(stranger);
    assert_eq!(runner.stop(), Some(0));
}

#[test]
fn the_sockets_of_datagram_servers_are_shown() {
    let port = free_port();
    let script = format!(
        "import socket,time\n\
         s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.bind(('127.0.0.1',{port}))\n\
         time.sleep(1000)"
    );
    let runner = Runner::start(&["-n", "2"], &["python3", "-c", &script]);
    for words in [port.to_string(), runner.name.clone()] {
        let all = look_in(&runner, &[&words]);
        assert_eq!(
            (&all[0]["protocol"], &all[0]["port"]),
            (&"udp".into(), &port.into())
        );
        let members = all[0]["members"].as_array().expect("members");
        let slots: Vec<_> = members.iter().map(|one| &one["slot"]).collect();
        assert_eq!(slots, [0, 1], "{all:#}");
        assert_eq!(all[0]["warnings"], serde_json::json!([]));
    }
    assert_eq!(runner.stop(), Some(0));
}

/// A server that does nothing but listen, as `before` says, on `address`.
fn listener(before: &str, family: &str, address: &str, port: u16) -> Plain {
    let script = format!(
        "import os,socket,time\n\
         s=socket.socket(socket.{family})\n\
         s.bind(('{address}',{port})); s.listen(1)\n\
         {before}\n\
         time.sleep(1000)"
    );
    Plain::start(&["python3", "-c", &script])
}

/// Waits until the groups at `port` have the warnings `expected`, each group's.
fn await_codes(port: u16, expected: &[&[&str]]) {
    wait_for(&format!("{expected:?}"), || {
        let all = look_at(port);
        let all = all.as_array().expect("groups");
        let found: Vec<Vec<&str>> = all.iter().map(codes).collect();
        (found == expected).then_some(())
    });
}

#[test]
fn one_that_could_share_and_is_alone_is_noted() {
    let port = free_port();
    let server = listener("pass", "AF_INET", "127.0.0.1", port);
    await_codes(port, &[&["alone"]]);
    drop(server);
    // One that could not share is not.
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    await_codes(socket.local_addr().expect("an address").port(), &[&[]]);
}

#[test]
fn several_processes_behind_one_socket_are_noted() {
    let port = free_port();
    let _server = listener(
        "[os.fork() or time.sleep(1000) for _ in range(3)]",
        "AF_INET",
        "127.0.0.1",
        port,
    );
    await_codes(port, &[&["one-socket"]]);
    let all = look_at(port);
    let message = all[0]["warnings"][0]["message"].as_str();
    // The parent only looks after them.
    let words = "3 processes have this one socket";
    assert!(message.is_some_and(|text| text.contains(words)), "{all:#}");
}

#[test]
fn addresses_that_starve_others_are_noted() {
    let port = free_port();
    let _any = listener("pass", "AF_INET", "0.0.0.0", port);
    let one = listener("pass", "AF_INET", "127.0.0.1", port);
    await_codes(port, &[&["alone"], &["starves-wildcard", "alone"]]);
    drop(one);
    let six = listener(
        "pass",
        "AF_INET6); s.setsockopt(socket.IPPROTO_IPV6,socket.IPV6_V6ONLY,0",
        "::",
        port,
    );
    await_codes(port, &[&["alone"], &["starved-of-ipv4", "alone"]]);
    drop(six);
    let _mapped = listener("pass", "AF_INET6", "::ffff:0.0.0.0", port);
    await_codes(port, &[&["alone"], &["starved-of-ipv4", "alone"]]);
}

#[test]
fn full_queues_strangers_and_a_skew_are_noted() {
    let port = free_port();
    let _server = listener("pass", "AF_INET", "127.0.0.1", port);
    await_codes(port, &[&["alone"]]);
    let connect = || TcpStream::connect_timeout(&local(port), std::time::Duration::from_secs(5));
    let _waiting: Vec<TcpStream> = (0..2).map(|_| connect().expect("connects")).collect();
    await_codes(port, &[&["full-queue", "alone"]]);

    let port = free_port();
    let accept = "a=[s.accept() for _ in range(40)]";
    let _first = listener(accept, "AF_INET", "127.0.0.1", port);
    await_codes(port, &[&["alone"]]);
    let connect = || TcpStream::connect(local(port)).expect("connects");
    let _all: Vec<TcpStream> = (0..40).map(|_| connect()).collect();
    let script = format!(
        "use Socket; socket(S, PF_INET, SOCK_STREAM, 0); \
         bind(S, sockaddr_in({port}, inet_aton('127.0.0.1'))) or die; listen(S, 5); sleep 1000"
    );
    let _second = Plain::start(&["perl", "-e", &script]);
    await_codes(port, &[&["mixed", "skew"]]);
    let all = look_at(port);
    assert_eq!(all[0]["members"][0]["established"], 40, "{all:#}");
    assert_eq!(all[0]["members"][0]["share"], 1.0, "{all:#}");
    assert_eq!(all[0]["members"][0]["accept_rate"], Value::Null);
}

#[test]
fn groups_of_other_network_namespaces_are_seen_by_root() {
    if !is_root() {
        skip(
            "status::groups_of_other_network_namespaces_are_seen_by_root",
            "a network namespace of its own needs root",
        );
        let outcome = status(Path::new("/nowhere"), &["--all-netns"]);
        assert_eq!(outcome.status, Some(2), "{outcome:?}");
        return;
    }
    let port = free_port();
    let script = format!(
        "import socket,time\n\
         for i in range(2):\n\
         \x20s=socket.socket(); s.bind(('127.0.0.1',{port})); s.listen(); globals()[i]=s\n\
         time.sleep(1000)"
    );
    let server = Plain::start(&["unshare", "--net", "python3", "-c", &script]);
    let pid = server.0.id();
    wait_for("it is shown", || {
        let words = [&port.to_string(), "--all-netns", "--json"];
        let all = parsed(&status(Path::new("/nowhere"), &words));
        let group = all.as_array().expect("groups").first()?.clone();
        let is_there = group["members"].as_array()?.len() == 2;
        let link = std::fs::read_link(format!("/proc/{pid}/ns/net")).expect("it runs");
        let id = format!("net:[{}]", group["namespace"]["id"]);
        assert_eq!(Path::new(&id), link, "{group:#}");
        assert_eq!(group["members"][0]["pids"], serde_json::json!([pid]));
        is_there.then_some(())
    });
    assert_eq!(look_at(port), serde_json::json!([]));
}

#[test]
fn it_looks_again_until_nobody_reads() {
    let port = free_port();
    let _server = listener("pass", "AF_INET", "127.0.0.1", port);
    await_codes(port, &[&["alone"]]);
    let mut child = reuseport()
        .args(["status", &port.to_string(), "--json", "--watch=100ms"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    for _ in 0..3 {
        let line = lines.next().expect("a line").expect("UTF-8");
        let all: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(all[0]["port"], port);
    }
    drop(lines);
    let ended = wait_for("it ends", || child.try_wait().expect("a child"));
    // By SIGPIPE, as other programs.
    assert!(matches!(ended.code(), None | Some(0)), "{ended:?}");
    let outcome = status(Path::new("/nowhere"), &["--watch=1ms"]);
    assert_eq!(outcome.status, Some(2), "{outcome:?}");
}

#[test]
fn on_a_terminal_it_is_a_live_view_until_q() {
    let port = free_port();
    let _server = listener("pass", "AF_INET", "127.0.0.1", port);
    await_codes(port, &[&["alone"]]);
    // A terminal of 100 columns; the screen before and after `q`.
    let script = "import fcntl,os,pty,struct,sys,termios,time\n\
         pid,fd=pty.fork()\n\
         if pid==0:\n time.sleep(0.2); os.execv(sys.argv[1],sys.argv[1:])\n\
         fcntl.ioctl(fd,termios.TIOCSWINSZ,struct.pack('HHHH',20,100,0,0))\n\
         text=b''\n\
         while b'q ends' not in text or b'queue' not in text: text+=os.read(fd,4096)\n\
         before=termios.tcgetattr(fd)[3]\n\
         os.write(fd,b'q')\n\
         try:\n\
         \x20while True: text+=os.read(fd,4096)\n\
         except OSError: pass\n\
         _,status=os.waitpid(pid,0)\n\
         raw=not before & termios.ICANON\n\
         print(os.waitstatus_to_exitcode(status),raw,b'?1049h' in text,b'?1049l' in text)";
    let mut child = crate::support::command("python3")
        .args(["-c", script, env!("CARGO_BIN_EXE_reuseport")])
        .args(["status", &port.to_string(), "--watch"])
        .env("TERM", "xterm")
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut text = String::new();
    let mut stdout = child.stdout.take().expect("a pipe");
    stdout.read_to_string(&mut text).expect("UTF-8");
    child.wait().expect("a child");
    assert_eq!(text, "0 True True True\n");
}

#[test]
fn a_runner_that_cannot_be_asked_is_not_taken_for_the_server() {
    let port = free_port();
    let runner = Runner::start(&["-n", "2"], &threaded(port));
    // As those of other users are not.
    std::fs::remove_file(runner.control()).expect("a socket");
    let groups = look_in(&runner, &[&port.to_string()]);
    let members = groups[0]["members"].as_array().expect("members");
    assert_eq!(members.len(), 2);
    let servers = runner.servers();
    for member in members {
        assert!(member["slot"].is_null(), "{member}");
        let pids = member["pids"].as_array().expect("processes");
        let is_server = |pid: &Value| servers.iter().any(|one| pid == one);
        assert!(pids.len() == 1 && pids.iter().all(is_server), "{member}");
    }
    assert_eq!(runner.stop(), Some(0));
}
