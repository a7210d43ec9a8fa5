//! The lines of LIBREUSEPORT_DEBUG, word for word but for the process id.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crate::support::{command, compile, copy, hold_ports, run, shim};

/// A probe whose name in the lines is short.
fn probe() -> Command {
    let probe = compile("gcc", "probe/probe.c", &["-pthread"]);
    let named = probe.with_file_name("dbg-probe");
    if !named.exists() {
        let own = named.with_extension(std::process::id().to_string());
        copy(&probe, &own);
        std::fs::rename(&own, &named).expect("moved");
    }
    let mut command = command(named);
    command
        .env("LD_PRELOAD", shim())
        .env("LIBREUSEPORT_DEBUG", "1");
    command
}

/// What a probe says on standard error, without the process id.
fn lines(variables: &[(&str, &str)], arguments: &[&str]) -> String {
    let outcome = run(probe().envs(variables.iter().copied()).args(arguments));
    assert_eq!(outcome.status, Some(0), "{}", outcome.stderr);
    let mut text = String::new();
    for line in outcome.stderr.lines() {
        let (process, rest) = line
            .strip_prefix("reuseport: dbg-probe[")
            .and_then(|line| line.split_once(']'))
            .unwrap_or_else(|| panic!("{line}"));
        assert!(process.parse::<u32>().is_ok(), "{line}");
        text += rest;
        text.push('\n');
    }
    text
}

const TCP: [&str; 4] = ["bind", "tcp", "127.0.0.1", "18080"];

#[test]
fn what_was_set() {
    let _ports = hold_ports();
    assert_eq!(
        lines(&[], &TCP),
        ": bind 127.0.0.1:18080: SO_REUSEPORT set\n"
    );
    assert_eq!(
        lines(&[], &["bind", "udp", "2001:db8::1", "18080"]),
        ": bind [2001:db8::1]:18080: SO_REUSEPORT set; bind failed: EADDRNOTAVAIL\n"
    );
    assert_eq!(
        lines(
            &[("LIBREUSEPORT_OP", "3")],
            &["bind", "tcp", "::ffff:127.0.0.1", "18080"]
        ),
        ": bind 127.0.0.1:18080: SO_REUSEPORT set, SO_REUSEADDR set\n"
    );
    assert_eq!(
        lines(&[("SO_REUSEPORT", "0"), ("SO_BINDTODEVICE", "lo")], &TCP),
        ": bind 127.0.0.1:18080: SO_BINDTODEVICE lo, SO_REUSEPORT cleared\n"
    );
    assert_eq!(
        lines(&[("LIBREUSEPORT_INTERFACE", "not-there")], &TCP),
        ": bind 127.0.0.1:18080: SO_BINDTODEVICE failed: ENODEV; bind failed: ENODEV\n"
    );
}

#[test]
fn why_nothing_was_set() {
    let _ports = hold_ports();
    let reason = |variables: &[(&str, &str)], arguments: &[&str]| {
        let lines = lines(variables, arguments);
        let (_, reason) = lines
            .split_once(": nothing set: ")
            .unwrap_or_else(|| panic!("{lines}"));
        reason.trim_end().to_owned()
    };
    let zero = ["bind", "tcp", "127.0.0.1", "0"];
    assert_eq!(reason(&[], &zero), "ephemeral-port");
    assert_eq!(
        reason(&[("LIBREUSEPORT_PORT", "80")], &zero),
        "ephemeral-port"
    );
    assert_eq!(
        reason(&[("LIBREUSEPORT_PORT", "80")], &TCP),
        "port-not-listed"
    );
    assert_eq!(
        reason(&[("LIBREUSEPORT_ADDR", "::1")], &TCP),
        "address-not-listed"
    );
    assert_eq!(
        reason(&[("LIBREUSEPORT_PROTO", "udp")], &TCP),
        "protocol-not-listed"
    );
    assert_eq!(
        reason(&[("LIBREUSEPORT_PROGRAM", "nginx")], &TCP),
        "program-not-listed"
    );
    assert_eq!(reason(&[("SO_REUSEPORT", "-1")], &TCP), "nothing-asked");

    let odd = lines(&[], &["odd"]);
    for (place, expected) in [
        (0, "no-address; bind failed: EINVAL"),
        (1, "no-address; bind failed: EFAULT"),
        (2, "short-address; bind failed: EINVAL"),
        (3, "short-address; bind failed: EINVAL"),
        (12, "not-inet"),
    ] {
        let line = odd.lines().nth(place).unwrap_or_default();
        let (start, reason) = line.split_once(": nothing set: ").unwrap_or_default();
        assert_eq!(reason, expected, "{line}");
        assert!(start.starts_with(": bind fd "), "{line}");
    }
    let closed = lines(&[("LIBREUSEPORT_PROTO", "udp")], &["odd"]);
    let closed = closed.lines().last().unwrap_or_default();
    let expected = ": nothing set: protocol-unknown: EBADF; bind failed: EBADF";
    assert!(closed.ends_with(expected), "{closed}");
}

#[test]
fn a_value_that_does_not_parse_gets_one_line_at_the_start() {
    let _ports = hold_ports();
    let first = |name: &str, value: &str| {
        let lines = lines(&[(name, value)], &TCP);
        lines.lines().next().unwrap_or_default().to_owned()
    };
    assert_eq!(
        first("LIBREUSEPORT_PORT", "80, abc"),
        ": LIBREUSEPORT_PORT does not parse: \"abc\": not a port from 0 to 65535; standing down"
    );
    assert_eq!(
        first("LIBREUSEPORT_OP", "\x1b[31m"),
        ": LIBREUSEPORT_OP does not parse: \"?[31m\": not 1, 2 or 3; standing down"
    );
    let long = "a".repeat(1000);
    assert_eq!(
        first("LIBREUSEPORT_ADDR", &long),
        format!(
            ": LIBREUSEPORT_ADDR does not parse: \"{}\": not an IPv4 or IPv6 address; standing down",
            "a".repeat(40)
        )
    );
    assert_eq!(
        first("LIBREUSEPORT_INTERFACE", "a/b"),
        ": LIBREUSEPORT_INTERFACE does not parse: \"a/b\": not the name of an interface; \
         binds that match fail with EINVAL"
    );
}

/// A probe that holds a port until it is dropped.
struct Holder(Child);

impl Holder {
    fn start(command: &mut Command) -> Self {
        let command = command.args(["hold", "tcp", "127.0.0.1", "18080"]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a probe");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        assert!(line.starts_with("ok"), "{line}");
        Self(child)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[test]
fn a_taken_port_says_what_usually_is_the_cause() {
    let _ports = hold_ports();
    let expected = ": bind 127.0.0.1:18080: SO_REUSEPORT set; bind failed: EADDRINUSE (usually: \
                    whoever bound the port first did so without SO_REUSEPORT, or under another \
                    effective user ID)\n";
    let holder =
        Holder::start(command(compile("gcc", "probe/probe.c", &["-pthread"])).env("A", ""));
    assert_eq!(lines(&[], &TCP), expected);
    drop(holder);
    let _sharing = Holder::start(probe().stderr(Stdio::null()));
    assert_eq!(
        lines(&[], &TCP),
        ": bind 127.0.0.1:18080: SO_REUSEPORT set\n"
    );
}

#[test]
fn zero_and_nothing_are_off() {
    let _ports = hold_ports();
    for value in ["", "0"] {
        let outcome = run(probe().env("LIBREUSEPORT_DEBUG", value).args(TCP));
        assert_eq!(outcome.stderr, "");
    }
}
