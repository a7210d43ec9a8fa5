//! Every variable, with values that parse and values that do not: the options
//! are read back from the bound socket. The same table is run three times: on
//! glibc, on musl, and through the command line's flags.

use crate::support::{command, compile, hold_ports, output, reuseport, run, shim};

/// What a bind is to look like afterwards: SO_REUSEPORT, SO_REUSEADDR.
type Options = (i32, i32);

const LEFT: Options = (0, 0);
const REUSEPORT: Options = (1, 0);
const REUSEADDR: Options = (0, 1);
const BOTH: Options = (1, 1);

struct Row {
    variables: &'static [(&'static str, &'static str)],
    /// The kind of socket, the address and the port.
    bind: [&'static str; 3],
    expected: Options,
    device: &'static str,
}

const TCP: [&str; 3] = ["tcp", "127.0.0.1", "18080"];

const fn row(
    variables: &'static [(&'static str, &'static str)],
    bind: [&'static str; 3],
    expected: Options,
) -> Row {
    Row {
        variables,
        bind,
        expected,
        device: "",
    }
}

const VALID: &[Row] = &[
    row(&[], TCP, REUSEPORT),
    row(&[], ["udp", "127.0.0.1", "18080"], REUSEPORT),
    row(&[], ["mptcp", "127.0.0.1", "18080"], REUSEPORT),
    row(&[], ["tcp", "::1", "18080"], REUSEPORT),
    row(&[], ["tcp", "::ffff:127.0.0.1", "18080"], REUSEPORT),
    row(&[], ["tcp", "0.0.0.0", "0"], LEFT),
    row(&[], ["udp", "::", "0"], LEFT),
    row(&[("LIBREUSEPORT_ADDR", "127.0.0.1")], TCP, REUSEPORT),
    row(
        &[("LIBREUSEPORT_ADDR", "127.0.0.1")],
        ["tcp", "127.0.0.2", "18080"],
        LEFT,
    ),
    row(
        &[("LIBREUSEPORT_ADDR", "127.0.0.1")],
        ["tcp", "0.0.0.0", "18080"],
        LEFT,
    ),
    row(
        &[("LIBREUSEPORT_ADDR", "127.0.0.1")],
        ["tcp", "::ffff:127.0.0.1", "18080"],
        REUSEPORT,
    ),
    row(
        &[("LIBREUSEPORT_ADDR", "10.0.0.0/8, 127.0.0.0/8")],
        TCP,
        REUSEPORT,
    ),
    row(&[("LIBREUSEPORT_ADDR", "::/0")], TCP, LEFT),
    row(
        &[("LIBREUSEPORT_ADDR", "::/0")],
        ["tcp", "::1", "18080"],
        REUSEPORT,
    ),
    row(
        &[("LIBREUSEPORT_ADDR", "0.0.0.0")],
        ["tcp", "0.0.0.0", "18080"],
        REUSEPORT,
    ),
    row(&[("LIBREUSEPORT_PORT", "18080")], TCP, REUSEPORT),
    row(&[("LIBREUSEPORT_PORT", "18081")], TCP, LEFT),
    row(&[("LIBREUSEPORT_PORT", "80,18000-18099")], TCP, REUSEPORT),
    row(&[("LIBREUSEPORT_PORT", "18081 , 18080")], TCP, REUSEPORT),
    row(
        &[("LIBREUSEPORT_PORT", "0")],
        ["udp", "127.0.0.1", "0"],
        REUSEPORT,
    ),
    row(&[("LIBREUSEPORT_PORT", "0")], TCP, LEFT),
    row(&[("LIBREUSEPORT_OP", "1")], TCP, REUSEPORT),
    row(&[("LIBREUSEPORT_OP", "2")], TCP, REUSEADDR),
    row(&[("LIBREUSEPORT_OP", "3")], TCP, BOTH),
    row(&[("LIBREUSEPORT_PROTO", "tcp")], TCP, REUSEPORT),
    row(
        &[("LIBREUSEPORT_PROTO", "tcp")],
        ["mptcp", "127.0.0.1", "18080"],
        REUSEPORT,
    ),
    row(
        &[("LIBREUSEPORT_PROTO", "tcp")],
        ["udp", "127.0.0.1", "18080"],
        LEFT,
    ),
    row(
        &[("LIBREUSEPORT_PROTO", "udp")],
        ["udp", "127.0.0.1", "18080"],
        REUSEPORT,
    ),
    row(&[("LIBREUSEPORT_PROTO", "udp")], TCP, LEFT),
    row(
        &[("LIBREUSEPORT_PROTO", "tcp,udp")],
        ["udp", "::1", "18080"],
        REUSEPORT,
    ),
    row(&[("LIBREUSEPORT_PROGRAM", "*probe*")], TCP, REUSEPORT),
    row(
        &[("LIBREUSEPORT_PROGRAM", "nginx,*-probe-[a-q]*")],
        TCP,
        REUSEPORT,
    ),
    row(&[("LIBREUSEPORT_PROGRAM", "probe")], TCP, LEFT),
    Row {
        variables: &[("LIBREUSEPORT_INTERFACE", "lo")],
        bind: TCP,
        expected: REUSEPORT,
        device: "lo",
    },
    row(
        &[("LIBREUSEPORT_INTERFACE", "lo"), ("LIBREUSEPORT_PORT", "1")],
        TCP,
        LEFT,
    ),
];

/// Only the C library's variables; the command line has no flags for these.
const LATER_SPELLINGS: &[Row] = &[
    row(&[("SO_REUSEPORT", "1")], TCP, REUSEPORT),
    // A flag refuses to be empty.
    row(&[("LIBREUSEPORT_ADDR", "")], TCP, REUSEPORT),
    row(&[("SO_REUSEPORT", "0")], TCP, LEFT),
    row(&[("SO_REUSEPORT", "-1")], TCP, LEFT),
    row(
        &[("SO_REUSEPORT", "-1"), ("SO_REUSEADDR", "1")],
        TCP,
        REUSEADDR,
    ),
    row(&[("SO_REUSEADDR", "1")], TCP, BOTH),
    row(
        &[("SO_REUSEADDR", "1"), ("LIBREUSEPORT_OP", "1")],
        TCP,
        REUSEPORT,
    ),
    Row {
        variables: &[("SO_BINDTODEVICE", "lo")],
        bind: TCP,
        expected: REUSEPORT,
        device: "lo",
    },
];

/// Values that do not parse. The shim stands down; the command line refuses.
const INVALID: &[(&str, &str)] = &[
    ("LIBREUSEPORT_ADDR", "localhost"),
    ("LIBREUSEPORT_ADDR", "127.0.0.1,"),
    ("LIBREUSEPORT_ADDR", "127.0.0.1/33"),
    ("LIBREUSEPORT_PORT", "abc"),
    ("LIBREUSEPORT_PORT", "18080,abc"),
    ("LIBREUSEPORT_PORT", "65536"),
    ("LIBREUSEPORT_PORT", "2-1"),
    ("LIBREUSEPORT_PORT", ","),
    ("LIBREUSEPORT_OP", "4"),
    ("LIBREUSEPORT_PROTO", "sctp"),
    ("LIBREUSEPORT_PROGRAM", "a/b"),
];

/// How a probe's line for a bind that succeeded reads.
fn line((reuseport, reuseaddr): Options, device: &str) -> String {
    format!("ok reuseport={reuseport} reuseaddr={reuseaddr} device={device}\n")
}

fn through_the_environment(compiler: &str) {
    let _ports = hold_ports();
    let probe = compile(compiler, "probe/probe.c", &["-pthread"]);
    for by in ["bind", "syscall"] {
        for row in VALID.iter().chain(LATER_SPELLINGS) {
            let printed = output(
                command(&probe)
                    .env("LD_PRELOAD", shim())
                    .envs(row.variables.iter().copied())
                    .arg(by)
                    .args(row.bind),
            );
            assert_eq!(
                printed,
                line(row.expected, row.device),
                "{by} {:?}",
                row.variables
            );
        }
    }
    for &(name, value) in INVALID {
        let mut probe = command(&probe);
        let probe = probe
            .env("LD_PRELOAD", shim())
            .env(name, value)
            .arg("bind")
            .args(TCP);
        assert_eq!(output(probe), line(LEFT, ""), "{name}={value}");
    }
}

#[test]
fn on_glibc() {
    through_the_environment("gcc");
}

#[test]
fn on_musl() {
    through_the_environment("musl-gcc");
}

/// The flag for a variable of ours.
fn flag(variable: &str) -> String {
    let name = variable
        .strip_prefix("LIBREUSEPORT_")
        .expect("a variable of ours");
    format!("--{}", name.to_lowercase())
}

#[test]
fn through_the_flags() {
    let _ports = hold_ports();
    let probe = compile("gcc", "probe/probe.c", &["-pthread"]);
    for row in VALID {
        let flags = row
            .variables
            .iter()
            .flat_map(|(name, value)| [flag(name), (*value).into()]);
        let printed = output(
            reuseport()
                .arg("run")
                .args(flags)
                .arg("--")
                .arg(&probe)
                .arg("bind")
                .args(row.bind),
        );
        assert_eq!(
            printed,
            line(row.expected, row.device),
            "{:?}",
            row.variables
        );
    }
}

#[test]
fn flags_refuse_what_the_shim_would_stand_down_for() {
    let _ports = hold_ports();
    for &(name, value) in INVALID.iter().chain(&[("LIBREUSEPORT_INTERFACE", "a/b")]) {
        let flag = flag(name);
        let outcome = run(reuseport().args(["run", &flag, value, "--", "true"]));
        assert_eq!(outcome.status, Some(125), "{flag} {value}");
        assert!(
            outcome.stderr.contains(&format!("{flag} <")),
            "{}",
            outcome.stderr
        );
        assert!(
            outcome.stderr.contains(&format!("'{value}'")),
            "{}",
            outcome.stderr
        );
        assert!(outcome.stderr.contains("; give "), "{}", outcome.stderr);

        let outcome = run(reuseport().env(name, value).args(["run", "--", "true"]));
        assert_eq!(outcome.status, Some(125), "{name}={value}");
        assert!(
            outcome.stderr.starts_with(&format!("reuseport: {name}: ")),
            "{}",
            outcome.stderr
        );
    }
}

#[test]
fn a_flag_is_not_empty() {
    let outcome = run(reuseport().args(["--port", "", "true"]));
    assert_eq!(outcome.status, Some(125));
    assert!(
        outcome.stderr.contains("leave the flag out"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn a_flag_takes_the_place_of_the_variable() {
    let _ports = hold_ports();
    let probe = compile("gcc", "probe/probe.c", &["-pthread"]);
    let mut command = reuseport();
    command
        .env("LIBREUSEPORT_PORT", "abc")
        .args(["--port", "18080"])
        .arg(&probe);
    assert_eq!(output(command.arg("bind").args(TCP)), line(REUSEPORT, ""));
}

#[test]
fn an_interface_that_cannot_be_set_makes_bind_fail() {
    let _ports = hold_ports();
    let probe = compile("gcc", "probe/probe.c", &["-pthread"]);
    for (name, error) in [
        ("not-there", "ENODEV"),
        ("a/b", "EINVAL"),
        ("sixteen-letters-", "EINVAL"),
    ] {
        for by in ["bind", "syscall"] {
            let mut command = command(&probe);
            command
                .env("LD_PRELOAD", shim())
                .env("LIBREUSEPORT_INTERFACE", name);
            let printed = output(command.arg(by).args(TCP));
            assert_eq!(
                printed,
                format!("{error} reuseport=0 reuseaddr=0 device=\n"),
                "{name}"
            );
        }
    }
}

#[test]
fn whatever_the_environment_holds_the_program_runs() {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    let _ports = hold_ports();
    let probe = compile("gcc", "probe/probe.c", &["-pthread"]);
    // One string of an environment may have 128 KiB, all of it a quarter of the
    // stack's limit.
    let commas = ",".repeat(120_000);
    let ones = "1,".repeat(60_000);
    for (name, value) in [
        ("LIBREUSEPORT_ADDR", OsString::from(&commas)),
        ("LIBREUSEPORT_ADDR", OsString::from_vec(vec![0xff; 1000])),
        ("LIBREUSEPORT_PORT", OsString::from(&ones)),
        ("LIBREUSEPORT_PORT", OsString::from("9".repeat(1000))),
        ("LIBREUSEPORT_PROTO", OsString::from_vec(vec![0x80, b','])),
        ("LIBREUSEPORT_PROGRAM", OsString::from("*a".repeat(1000))),
        (
            "LIBREUSEPORT_PROGRAM",
            OsString::from_vec(vec![b'['; 100_000]),
        ),
        ("SO_REUSEPORT", OsString::from(&commas)),
    ] {
        let mut command = command(&probe);
        for number in 0..7 {
            command.env(format!("LIBREUSEPORT_{number}"), &commas);
        }
        let command = command.env("LD_PRELOAD", shim()).env(name, value);
        assert_eq!(
            output(command.arg("bind").args(TCP)),
            line(LEFT, ""),
            "{name}"
        );
    }
}
