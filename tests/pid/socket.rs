//! What is said of sockets.

use std::process::Command;

use crate::server::{Answer, Place, Server, fixture, look, look_by, read};
use crate::support::{command, compile, free_port, output, reuseport, run};

fn python(mut command: Command, port: u16, address: &str) -> Server {
    let server = command.args(["-m", "http.server", "--bind", address, &port.to_string()]);
    Server::on_port(server, port)
}

fn sole(
    protocol: &str,
    address: &str,
    port: u16,
    option: bool,
) -> Vec<(String, String, u64, Option<bool>)> {
    vec![(protocol.into(), address.into(), port.into(), Some(option))]
}

#[test]
fn a_server_works_under_the_shim_and_fails_without() {
    let place = Place::new();
    let [with, without] = [free_port(), free_port()];
    let server = python(place.under_shim("python3"), with, "0.0.0.0");
    let answer = look(server.pid());
    assert_eq!(answer.verdict(), ("works", Some(0)), "{answer:#?}");
    assert_eq!(answer.json["findings"], serde_json::json!([]));
    assert_eq!(answer.sockets(), sole("tcp", "0.0.0.0", with, true));
    let shim = place.shim();
    assert_eq!(answer.process("shim"), shim.to_str().expect("UTF-8"));
    assert_eq!(answer.process("preload"), shim.to_str().expect("UTF-8"));
    assert_eq!(answer.process("secure"), false);
    assert_eq!(answer.process("pid"), server.pid());
    let program = &answer.json["program"];
    assert_eq!(program["kind"], "dynamic");
    assert_eq!(program["arch"], std::env::consts::ARCH);
    assert_eq!(program["libc"], "glibc");
    assert_eq!(answer.json["chain"], serde_json::json!([program["path"]]));

    let server = python(command("python3"), without, "127.0.0.1");
    let answer = look(server.pid());
    assert_eq!(answer.verdict(), ("fails", Some(1)), "{answer:#?}");
    assert_eq!(answer.codes("error"), ["not-mapped", "option-not-set"]);
    assert_eq!(answer.sockets(), sole("tcp", "127.0.0.1", without, false));
    assert!(answer.process("shim").is_null() && answer.process("preload").is_null());
    assert!(
        answer
            .message("not-mapped")
            .contains("started without LD_PRELOAD")
    );
}

#[test]
fn what_people_read() {
    let place = Place::new();
    let port = free_port();
    let server = python(place.under_shim("python3"), port, "0.0.0.0");
    let pid = server.pid();
    let path = look(pid).json["program"]["path"]
        .as_str()
        .expect("a path")
        .to_owned();
    let outcome = read(pid);
    assert_eq!((outcome.status, outcome.stderr.as_str()), (Some(0), ""));
    assert_eq!(
        outcome.stdout,
        format!(
            "pid:{pid}: works: {path}\n\
             \x20 PROTOCOL  ADDRESS        SO_REUSEPORT  USER\n\
             \x20 tcp       0.0.0.0:{port}  yes           {}\n",
            rustix::process::geteuid().as_raw()
        )
    );
    let quiet = run(reuseport().args(["check", "--quiet", "--pid", &pid.to_string()]));
    assert_eq!(
        (quiet.status, quiet.stdout, quiet.stderr),
        (Some(0), String::new(), String::new())
    );
}

#[test]
fn copies_that_share_name_one_another() {
    let place = Place::new();
    let port = free_port();
    let directory = tempfile::tempdir().expect("a directory");
    let start = || {
        let mut redis = place.under_shim("redis-server");
        let redis = redis.current_dir(directory.path());
        let redis = redis.args([
            "--save",
            "",
            "--bind",
            "127.0.0.1",
            "--port",
            &port.to_string(),
        ]);
        Server::on_port(redis, port)
    };
    let [first, second] = [start(), start()];
    for (one, other) in [(&first, &second), (&second, &first)] {
        let answer = look(one.pid());
        assert_eq!(answer.verdict(), ("works", Some(0)), "{answer:#?}");
        assert_eq!(answer.sockets(), sole("tcp", "127.0.0.1", port, true));
        let message = answer.message("shared");
        assert!(
            message.contains(&format!("({} redis-server)", other.pid())),
            "{message}"
        );
    }
}

#[test]
fn udp_and_ipv6() {
    let place = Place::new();
    let dns = free_port();
    let mut dnsmasq = place.under_shim("dnsmasq");
    let dnsmasq = dnsmasq.args([
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--pid-file",
        "--no-resolv",
        "--no-hosts",
        "--bind-interfaces",
        "--listen-address=127.0.0.1",
        "--user=",
        "--group=",
        &format!("--port={dns}"),
    ]);
    let server = Server::on_port(dnsmasq, dns);
    let answer = look(server.pid());
    assert_eq!(answer.verdict(), ("works", Some(0)), "{answer:#?}");
    for protocol in ["tcp", "udp"] {
        let [socket] = &sole(protocol, "127.0.0.1", dns, true)[..] else {
            unreachable!("there is one");
        };
        assert!(answer.sockets().contains(socket), "{answer:#?}");
    }

    let port = free_port();
    let server = python(place.under_shim("python3"), port, "::1");
    let answer = look(server.pid());
    assert_eq!(answer.verdict(), ("works", Some(0)), "{answer:#?}");
    assert_eq!(answer.sockets(), sole("tcp", "::1", port, true));
}

#[test]
fn a_socket_of_a_more_exact_address_takes_its_part() {
    let place = Place::new();
    let port = free_port();
    let exact = python(place.under_shim("python3"), port, "127.0.0.1");
    let any = python(place.under_shim("python3"), port, "0.0.0.0");
    let dual = python(place.under_shim("python3"), port, "::");
    assert_eq!(look(exact.pid()).codes("warning"), [""; 0]);
    for (server, takers) in [(&any, &[&exact][..]), (&dual, &[&exact, &any])] {
        let answer = look(server.pid());
        assert_eq!(answer.verdict(), ("works", Some(0)), "{answer:#?}");
        let message = answer.message("partly-taken");
        for taker in takers {
            assert!(
                message.contains(&format!("({} python3)", taker.pid())),
                "{message}"
            );
        }
    }
}

#[test]
fn the_rules_say_what_is_left_out() {
    let place = Place::new();
    let [dns, other] = [free_port(), free_port()];
    let left_out = |variable: &str, value: &str| {
        let mut server = place.under_shim("python3");
        server.env(variable, value);
        let server = python(server, other, "127.0.0.1");
        look(server.pid())
    };
    for (variable, value) in [
        ("LIBREUSEPORT_PORT", "1,2"),
        ("LIBREUSEPORT_ADDR", "10.0.0.0/8"),
        ("LIBREUSEPORT_PROTO", "udp"),
        ("LIBREUSEPORT_OP", "2"),
        ("LIBREUSEPORT_PROGRAM", "nginx"),
        ("SO_REUSEPORT", "-1"),
    ] {
        let answer = left_out(variable, value);
        assert_eq!(answer.verdict(), ("fails", Some(1)), "{answer:#?}");
        assert_eq!(answer.codes("error"), ["not-selected"]);
        let message = answer.message("not-selected");
        assert!(
            message.contains(&format!("{variable}={value} ")),
            "{message}"
        );
    }
    let answer = left_out("LIBREUSEPORT_PORT", "http");
    assert_eq!(
        answer.codes("error"),
        ["option-not-set", "rules-do-not-parse"]
    );

    // One that is meant to be left out beside one that is not.
    let mut dnsmasq = place.under_shim("dnsmasq");
    dnsmasq.env("LIBREUSEPORT_PROTO", "udp");
    let arguments = "--keep-in-foreground --conf-file=/dev/null --pid-file --no-resolv --no-hosts \
                     --bind-interfaces --listen-address=127.0.0.1 --user= --group=";
    let dnsmasq = dnsmasq.args(arguments.split_whitespace());
    let server = Server::on_port(dnsmasq.arg(format!("--port={dns}")), dns);
    let answer = look(server.pid());
    assert_eq!(answer.verdict(), ("works", Some(0)), "{answer:#?}");
    assert_eq!(answer.codes("note"), ["not-selected"]);
}

#[test]
fn ports_that_the_kernel_chose_prove_nothing() {
    let place = Place::new();
    let script = "import socket, time\n\
                  s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('127.0.0.1', 0))\n\
                  t = socket.socket(); t.bind(('127.0.0.1', 0)); t.listen()\n\
                  open('/proc/self/comm', 'w').write('ready'); time.sleep(99)";
    let server = Server::named(place.under_shim("python3").args(["-c", script]), "ready");
    let answer = look(server.pid());
    assert_eq!(answer.verdict(), ("uncertain", Some(0)), "{answer:#?}");
    assert_eq!(answer.codes("warning"), ["ephemeral-port"]);
    assert_eq!(answer.sockets().len(), 2);
    let strict = run(reuseport().args([
        "check",
        "--quiet",
        "--strict",
        "--pid",
        &server.pid().to_string(),
    ]));
    assert_eq!(strict.status, Some(1));
    // Without the shim, a server that listens there cannot share.
    let server = Server::named(command("python3").args(["-c", script]), "ready");
    assert_eq!(
        look(server.pid()).codes("error"),
        ["not-mapped", "option-not-set"]
    );
}

#[test]
fn a_program_that_sets_the_option_itself_works() {
    let port = free_port();
    let script = format!(
        "import socket, time\n\
         s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)\n\
         s.bind(('127.0.0.1', {port})); s.listen(); time.sleep(99)"
    );
    let server = Server::on_port(command("python3").args(["-c", &script]), port);
    let answer = look(server.pid());
    assert_eq!(answer.verdict(), ("works", Some(0)), "{answer:#?}");
    assert_eq!(answer.codes("note"), ["not-mapped"]);
}

#[test]
fn an_option_that_was_cleared_and_a_socket_that_does_not_listen() {
    let place = Place::new();
    let port = free_port().to_string();
    let number = port.parse().expect("a port");
    let server = Server::on_port(place.under_shim(fixture()).args(["cleared", &port]), number);
    let answer = look(server.pid());
    assert_eq!(answer.verdict(), ("fails", Some(1)), "{answer:#?}");
    assert_eq!(answer.codes("error"), ["option-not-set"]);
    drop(server);

    // The kernel lists no such socket.
    let found = |mut command: Command| {
        let server = Server::start(command.args(["bound", &port]));
        let end = std::time::Instant::now() + std::time::Duration::from_secs(9);
        loop {
            let answer = look(server.pid());
            if answer.json["process"]["sockets"] != serde_json::json!([]) {
                return answer;
            }
            assert!(std::time::Instant::now() < end, "{answer:#?}");
        }
    };
    let answer = found(place.under_shim(fixture()));
    assert_eq!(answer.verdict(), ("works", Some(0)), "{answer:#?}");
    assert_eq!(answer.sockets(), sole("tcp", "127.0.0.1", number, true));
    let answer = found(command(fixture()));
    assert_eq!(answer.verdict(), ("fails", Some(1)), "{answer:#?}");
    assert!(answer.message("not-listening").contains("not listening"));
}

#[test]
fn a_socket_that_another_process_bound() {
    let place = Place::new();
    let inherited = |environment: &str| -> Answer {
        let port = free_port();
        let script = format!(
            "import os, socket, time\n\
             s = socket.socket(); s.bind(('127.0.0.1', {port})); s.listen(); s.set_inheritable(True)\n\
             if s.fileno() != 3: os.dup2(s.fileno(), 3)\n\
             if {environment}:\n\
             \x20   os.execve('/bin/sleep', ['sleep', '99'], dict(LD_PRELOAD='{shim}', **{environment}))\n\
             if os.fork() == 0:\n\
             \x20   os.execve('/bin/sleep', ['sleep', '9'], dict(LD_PRELOAD='{shim}'))\n\
             time.sleep(9)",
            shim = place.shim().display()
        );
        let server = Server::on_port(command("python3").args(["-c", &script]), port);
        let children = format!("/proc/{0}/task/{0}/children", server.pid());
        let end = std::time::Instant::now() + std::time::Duration::from_secs(9);
        loop {
            let children = std::fs::read_to_string(&children).unwrap_or_default();
            let child = children.trim().parse();
            let answer = look(child.unwrap_or(server.pid()));
            if !answer.process("shim").is_null() {
                return answer;
            }
            assert!(std::time::Instant::now() < end, "{answer:#?}");
        }
    };
    let answer = inherited("dict(LISTEN_FDS='1')");
    assert_eq!(answer.verdict(), ("fails", Some(1)), "{answer:#?}");
    assert!(answer.message("inherited").contains("ReusePort=yes"));
    let answer = inherited("dict()");
    assert_eq!(answer.verdict(), ("fails", Some(1)), "{answer:#?}");
    assert!(
        answer
            .message("inherited")
            .contains("start the parent under the shim")
    );
}

#[test]
fn a_forbidden_call_is_named() {
    let place = Place::new();
    let filter = compile("cc", "pid/filter.c", &[]);
    let [with, without] = [free_port(), free_port()];
    let with = python(place.under_shim("python3"), with, "127.0.0.1");
    let without = python(command("python3"), without, "127.0.0.1");
    for (error, why) in [("1", "seccomp filter forbids"), ("38", "older than 5.6")] {
        let look = |pid| {
            let mut filtered = command(&filter);
            look_by(
                filtered.arg(error).arg(env!("CARGO_BIN_EXE_reuseport")),
                pid,
            )
        };
        let answer = look(with.pid());
        assert_eq!(answer.verdict(), ("uncertain", Some(0)), "{answer:#?}");
        assert_eq!(answer.codes("warning"), ["option-unreadable"]);
        let socket = &answer.process("sockets")[0];
        assert!(socket["reuseport"].is_null());
        assert!(
            socket["why"].as_str().expect("a reason").contains(why),
            "{socket}"
        );
        let answer = look(without.pid());
        assert_eq!(answer.verdict(), ("fails", Some(1)), "{answer:#?}");
        assert_eq!(answer.codes("error"), ["not-mapped"]);
    }
}

#[test]
fn a_program_that_binds_nothing_is_uncertain() {
    let place = Place::new();
    let script = "import time; open('/proc/self/comm', 'w').write('ready'); time.sleep(99)";
    let server = Server::named(place.under_shim("python3").args(["-c", script]), "ready");
    let answer = look(server.pid());
    assert_eq!(answer.verdict(), ("uncertain", Some(0)), "{answer:#?}");
    assert_eq!(answer.codes("warning"), ["no-bind"]);
    let both = ["check", "--json", "--pid", &server.pid().to_string(), "0"];
    let outcome = run(reuseport().args(both));
    assert_eq!((outcome.status, outcome.stderr.as_str()), (Some(2), ""));
    let all: Vec<serde_json::Value> = serde_json::from_str(&outcome.stdout).expect("an array");
    assert_eq!(all[1]["findings"][0]["code"], "not-found");
    assert_eq!(
        output(reuseport().args(["check", "--quiet", "--pid", &server.pid().to_string()])),
        ""
    );
}
