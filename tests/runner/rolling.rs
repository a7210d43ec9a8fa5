//! Rolling restarts under load, at `tcp_migrate_req=0`.

use std::ffi::OsStr;
use std::fmt::Debug;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use crate::load::{Load, Talk, Tally, ask};
use crate::supervised::{Plain, Runner, local, threaded};
use crate::support::{free_port, is_root, skip, wait_for};

const CLIENTS: usize = 64;

/// Runs this test again in a network namespace of its own, where that is permitted:
/// with a setting of its own, and no strangers. Whether this is the place to be.
pub fn is_apart(test: &str) -> bool {
    is_apart_with(test, "0")
}

/// The same with this value of `net.ipv4.tcp_migrate_req`.
pub fn is_apart_with(test: &str, migrate: &str) -> bool {
    const MARK: &str = "REUSEPORT_TEST_APART";
    if std::env::var_os(MARK).is_some() {
        let _ = fs::write("/proc/sys/net/ipv4/tcp_migrate_req", migrate);
        return true;
    }
    if !is_root() {
        skip(test, "a network namespace of its own needs root");
        return migrate == "0";
    }
    let script = "ip link set lo up 2>/dev/null || ifconfig lo up; exec \"$@\"";
    let own = std::env::current_exe().expect("this test");
    let outcome = Command::new("unshare")
        .args(["--net", "--", "sh", "-c", script, "sh"])
        .arg(own)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(MARK, "1")
        .output()
        .expect("unshare");
    let said = [outcome.stdout, outcome.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    println!("{said}");
    assert!(
        outcome.status.success() && said.contains("1 passed"),
        "{said}"
    );
    false
}

/// Replaces all copies of `command` `times` times under load.
fn roll(
    flags: &[&str],
    command: &[impl AsRef<OsStr> + Debug],
    port: u16,
    talk: Talk,
    times: usize,
) -> Tally {
    // How often a longer run does the same, see benches/rolling-restarts.
    let factor = std::env::var("REUSEPORT_RESTARTS").ok();
    let times = factor.and_then(|text| text.parse().ok()).unwrap_or(times);
    let runner = Runner::start(flags, command);
    let load = Load::start(CLIENTS, local(port), talk);
    sleep(Duration::from_millis(300));
    for _ in 0..times {
        runner.restart();
    }
    let tally = load.end();
    println!("{command:?}: {times} restarts: {tally:?}");
    if tally.failed() > 0 {
        println!("{:#?}", runner.said());
    }
    assert_eq!(runner.stop(), Some(0));
    tally
}

/// The same with what one would do by hand: start a new one, then stop the old.
fn plain(
    copies: usize,
    command: &[impl AsRef<OsStr> + Debug],
    port: u16,
    talk: Talk,
    times: usize,
) -> Tally {
    let start = || {
        let new = Plain::start(command);
        let is_there = || holds_port(new.0.id(), port);
        wait_for("a copy listens", || is_there().then_some(()));
        new
    };
    let mut all: Vec<Plain> = (0..copies).map(|_| start()).collect();
    let load = Load::start(CLIENTS, local(port), talk);
    sleep(Duration::from_millis(300));
    for _ in 0..times * copies {
        all.push(start());
        all.remove(0).terminate();
    }
    let tally = load.end();
    println!("{command:?}: start new, stop old: {tally:?}");
    tally
}

fn holds_port(pid: u32, port: u16) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    let own: Vec<_> = descriptors
        .filter_map(|one| fs::read_link(one.ok()?.path()).ok())
        .collect();
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap_or_default();
    table.lines().any(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        fields[1].ends_with(&format!(":{port:04X}"))
            && fields[3] == "0A"
            && own.contains(&format!("socket:[{}]", fields[9]).into())
    })
}

#[test]
fn a_threaded_server_that_dies_on_term_loses_nothing() {
    if !is_apart("rolling::a_threaded_server_that_dies_on_term_loses_nothing") {
        return;
    }
    let port = free_port();
    let command = threaded(port);
    let compared = plain(2, &command, port, Talk::Http, 3);
    let tally = roll(&["-n", "2"], &command, port, Talk::Http, 3);
    assert_eq!(tally.failed(), 0, "{tally:?}");
    assert!(tally.good > 500, "{tally:?}");
    assert!(compared.failed() > 0, "{compared:?}");
}

#[test]
fn one_copy_is_enough() {
    if !is_apart("rolling::one_copy_is_enough") {
        return;
    }
    let port = free_port();
    let command = threaded(port);
    let tally = roll(&["-n", "1"], &command, port, Talk::Http, 3);
    assert_eq!(tally.failed(), 0, "{tally:?}");
}

/// redis-server at `port`.
fn redis(port: u16) -> Vec<String> {
    let command = format!("redis-server --port {port} --bind 127.0.0.1 --save");
    let words = command.split(' ').map(str::to_owned);
    words.chain([String::new()]).collect()
}

/// A configuration of nginx in `directory`, which listens at `port`.
fn nginx(directory: &Path, port: u16) -> Vec<String> {
    let path = directory.display();
    let text = format!(
        "daemon off; pid {path}/pid; error_log /dev/null; worker_processes 2;\n\
         events {{}}\n\
         http {{ access_log off; client_body_temp_path {path}/b; proxy_temp_path {path}/p;\n\
         fastcgi_temp_path {path}/f; uwsgi_temp_path {path}/u; scgi_temp_path {path}/s;\n\
         server {{ listen 127.0.0.1:{port}; location / {{ return 200 'well'; }} }} }}\n"
    );
    fs::write(directory.join("nginx.conf"), text).expect("a file");
    // Each copy writes the same pid file, which nobody reads.
    let command = format!("nginx -e {path}/errors -c {path}/nginx.conf -p {path}");
    command.split(' ').map(str::to_owned).collect()
}

#[test]
fn nginx_loses_nothing() {
    if !is_apart("rolling::nginx_loses_nothing") {
        return;
    }
    let port = free_port();
    let directory = tempfile::tempdir().expect("a directory");
    let command = nginx(directory.path(), port);
    let compared = plain(2, &command, port, Talk::Http, 3);
    let tally = roll(&["-n", "2"], &command, port, Talk::Http, 5);
    assert_eq!(tally.failed(), 0, "{tally:?}");
    println!("compared: {} failed", compared.failed());
}

#[test]
fn connections_that_are_kept_are_closed_while_idle_at_worst() {
    if !is_apart("rolling::connections_that_are_kept_are_closed_while_idle_at_worst") {
        return;
    }
    let port = free_port();
    let directory = tempfile::tempdir().expect("a directory");
    let command = nginx(directory.path(), port);
    // nginx finishes what it has on QUIT.
    let flags = [
        "-n",
        "2",
        "--stop-signal",
        "QUIT",
        "--drain-timeout",
        "300ms",
    ];
    let tally = roll(&flags, &command, port, Talk::KeepAlive, 3);
    println!("kept connections: {} closed while idle", tally.closed_idle);
    assert_eq!(tally.failed(), 0, "{tally:?}");
    assert!(tally.good > 1000, "{tally:?}");
}

#[test]
fn java_loses_nothing() {
    if !is_apart("rolling::java_loses_nothing") {
        return;
    }
    let port = free_port();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/runner/Server.java");
    let text = port.to_string();
    let command = [
        "java",
        "-XX:TieredStopAtLevel=1",
        "-Xmx64m",
        source.to_str().expect("UTF-8"),
        &text,
    ];
    let tally = roll(&["-n", "2"], &command, port, Talk::Http, 1);
    assert_eq!(tally.failed(), 0, "{tally:?}");
}

#[test]
fn redis_loses_nothing() {
    if !is_apart("rolling::redis_loses_nothing") {
        return;
    }
    let port = free_port();
    let command = redis(port);
    let tally = roll(&["-n", "3"], &command, port, Talk::Redis, 3);
    assert_eq!(tally.failed(), 0, "{tally:?}");
}

#[test]
fn node_loses_nothing() {
    if !is_apart("rolling::node_loses_nothing") {
        return;
    }
    let port = free_port();
    let script = format!(
        "require('http').createServer((q, r) => {{ r.setHeader('Content-Length', 4); r.end('well') }})\
         .listen({port}, '127.0.0.1')"
    );
    let command = ["node", "-e", &script];
    let tally = roll(&["-n", "2"], &command, port, Talk::Http, 2);
    assert_eq!(tally.failed(), 0, "{tally:?}");
}

#[test]
fn haproxy_loses_nothing() {
    if !is_apart("rolling::haproxy_loses_nothing") {
        return;
    }
    let port = free_port();
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("haproxy.cfg");
    let text = format!(
        "defaults\n mode http\n timeout client 5s\n timeout server 5s\n timeout connect 5s\n\
         frontend f\n bind 127.0.0.1:{port}\n\
         http-request return status 200 content-type text/plain string well\n"
    );
    fs::write(&file, text).expect("a file");
    let command = ["haproxy", "-db", "-f", file.to_str().expect("UTF-8")];
    let tally = roll(&["-n", "2"], &command, port, Talk::Http, 2);
    assert_eq!(tally.failed(), 0, "{tally:?}");
}

#[test]
fn scaling_up_and_down_loses_nothing() {
    if !is_apart("rolling::scaling_up_and_down_loses_nothing") {
        return;
    }
    let port = free_port();
    let command = threaded(port);
    let runner = Runner::start(&["-n", "1"], &command);
    let load = Load::start(CLIENTS, local(port), Talk::Http);
    for count in ["8", "3", "1"] {
        let outcome = runner.tell(&["scale", count]);
        assert_eq!(outcome.status, Some(0), "{outcome:?} {:#?}", runner.said());
        // All of them get something.
        sleep(Duration::from_millis(500));
    }
    let tally = load.end();
    assert_eq!(tally.failed(), 0, "{tally:?}");
    println!("{tally:?}");
    assert_eq!(tally.answers.len(), 8, "{tally:?}");
    assert_eq!(runner.stop(), Some(0));
}

#[test]
fn connections_are_spread_evenly() {
    const COPIES: u32 = 4;
    // benches/rolling-restarts makes 20,000.
    let connections = std::env::var("REUSEPORT_CONNECTIONS").ok();
    let connections = connections.and_then(|text| text.parse().ok());
    let connections: usize = connections.unwrap_or(4000);
    for steer in ["hash", "random"] {
        let port = free_port();
        let command = redis(port);
        let runner = Runner::start(&["-n", "4", "--steer", steer], &command);
        // A restart, so that the order is no longer that of the start.
        runner.restart();
        let before = counts(port);
        for _ in 0..connections {
            ask(local(port), Talk::Redis).expect("an answer");
        }
        let after = counts(port);
        let counts: Vec<f64> = after
            .iter()
            .zip(before)
            .map(|(a, b)| f64::from(a - b))
            .collect();
        let expected = counts.iter().sum::<f64>() / f64::from(COPIES);
        let chi: f64 = counts
            .iter()
            .map(|count| (count - expected).powi(2) / expected)
            .sum();
        println!("{steer}: {counts:?}, chi-squared {chi:.1}");
        // p = 0.0001 with three degrees of freedom: a test that runs often.
        assert!(chi < 21.1, "{steer}: {counts:?}");
        assert_eq!(runner.stop(), Some(0));
    }
}

/// How many connections each copy has had, by redis's own count: whoever answers is
/// asked until all have.
fn counts(port: u16) -> Vec<u32> {
    use std::io::{Read, Write};
    let mut found = std::collections::BTreeMap::new();
    wait_for("every copy answers", || {
        let mut stream = std::net::TcpStream::connect(local(port)).ok()?;
        stream.write_all(b"INFO\r\nQUIT\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let field = |name: &str| -> Option<u32> {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().parse().ok()
        };
        found.insert(field("process_id:")?, field("total_connections_received:")?);
        (found.len() == 4).then_some(())
    });
    found.into_values().collect()
}

#[test]
fn datagram_sockets_go_with_their_copy() {
    let port = free_port();
    let script = format!(
        "import os,socket\n\
         s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.bind(('127.0.0.1',{port}))\n\
         while True:\n  d,a=s.recvfrom(100); s.sendto(os.environ['REUSEPORT_SLOT'].encode(),a)"
    );
    let runner = Runner::start(&["-n", "2"], &["python3", "-c", &script]);
    runner.await_line("datagrams are not steered");
    for _ in 0..2 {
        let mut slots = std::collections::BTreeSet::new();
        for _ in 0..40 {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
            let limit = Some(Duration::from_secs(5));
            socket.set_read_timeout(limit).expect("a timeout");
            socket.send_to(b"who", local(port)).expect("sent");
            let mut buffer = [0; 8];
            let length = socket
                .recv(&mut buffer)
                .expect("no socket that nobody reads");
            slots.insert(buffer[..length].to_vec());
        }
        assert_eq!(slots.len(), 2);
        runner.restart();
    }
    assert_eq!(runner.stop(), Some(0));
}

#[test]
fn datagram_sockets_that_come_and_go_are_not_expected_of_others() {
    let port = free_port();
    // As a resolver, it asks others from ports by chance, from its start.
    let script = format!(
        "import random,socket,time\n\
         def open(port=0):\n\
         \x20s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\n\
         \x20try: s.bind(('127.0.0.1',port or random.randrange(20000,30000)))\n\
         \x20except OSError: pass\n\
         \x20return s\n\
         s=open({port})\n\
         while True:\n\
         \x20t=[open() for _ in range(4)]\n\
         \x20time.sleep(0.03)"
    );
    let runner = Runner::start(&["-n", "1"], &["python3", "-c", &script]);
    for _ in 0..2 {
        runner.restart();
    }
    let sockets = || runner.state()["copies"][0]["sockets"].clone();
    let mut seen = std::collections::BTreeSet::new();
    wait_for("many have come", || {
        let now = sockets();
        let now = now.as_array().expect("sockets");
        assert!(now.len() < 20, "{}", now.len());
        seen.extend(now.iter().filter_map(|one| one["inode"].as_u64()));
        (seen.len() > 50).then_some(())
    });
    assert_eq!(runner.stop(), Some(0));
}

#[test]
fn connections_of_processes_that_do_not_show_them_are_waited_for() {
    if !is_root() {
        let test = "rolling::connections_of_processes_that_do_not_show_them_are_waited_for";
        skip(test, "a server of another user needs root");
        return;
    }
    // As in a container by default.
    let over = ["setpriv", "--bounding-set=-sys_ptrace"];
    let port = free_port();
    let variables = ["BECOME=65534", "PAUSE=0.4"];
    let runner = Runner::begin_under(&over, &variables, &["-n", "2"], &threaded(port));
    runner.await_line("2 copies serve");
    for pid in runner.servers() {
        wait_for("it becomes another user", || {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it");
            status.contains("Uid:\t65534").then_some(())
        });
    }
    let load = Load::start(8, local(port), Talk::Http);
    runner.restart();
    let tally = load.end();
    assert_eq!(tally.failed(), 0, "{tally:?}");
    assert!(tally.good > 0, "{tally:?}");
    assert_eq!(runner.count("after --drain-timeout"), 0);
    assert_eq!(runner.stop(), Some(0));
}
