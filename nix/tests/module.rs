//! The module beyond what it makes of services, which module.nix says and `nix
//! flake check` shows: its units before systemd, and options that are set wrongly.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::lab::{SYSTEM, lab, root};
use crate::support::{output, reuseport, run};

#[test]
fn systemd_accepts_its_units() {
    let Some(lab) = lab("systemd_accepts_its_units") else {
        return;
    };
    let (_directory, link) = lab.installed().build(&format!("checks.{SYSTEM}.module"));
    for name in ["web.service", "dns.service"] {
        let unit = link.join(name);
        let text = fs::read_to_string(&unit).expect("a unit");
        assert!(text.contains("Environment=\"LD_PRELOAD="), "{text}");
        let outcome = run(Command::new("systemd-analyze").arg("verify").arg(&unit));
        assert_eq!(outcome.status, Some(0), "{}", outcome.stderr);
        assert!(!outcome.stderr.contains(name), "{}", outcome.stderr);
    }
}

/// A specification with each device's variables in one order.
fn sorted(specification: &str) -> Value {
    let mut specification: Value = serde_json::from_str(specification).expect("JSON");
    for device in specification["devices"].as_array_mut().expect("devices") {
        let variables = device["containerEdits"]["env"].as_array_mut();
        let variables = variables.expect("variables");
        variables.sort_by_key(ToString::to_string);
    }
    specification
}

#[test]
fn its_devices_are_those_of_the_command_line() {
    let Some(lab) = lab("its_devices_are_those_of_the_command_line") else {
        return;
    };
    let (_directory, link) = lab.installed().build(&format!("checks.{SYSTEM}.module"));
    let specification = fs::read_to_string(link.join("cdi.json")).expect("a specification");
    let specification = sorted(&specification);
    let directory = &specification["devices"][0]["containerEdits"]["mounts"][0]["hostPath"];
    let shim = format!("{}/libreuseport.so", directory.as_str().expect("a path"));
    assert!(fs::exists(&shim).expect("readable"), "{shim}");
    let printed = output(
        reuseport()
            .args(["cdi", "--shim-path", &shim, "--device"])
            .arg(
                "a.b:c_d=--addr=127.0.0.1,10.0.0.0/8,::1 --port=80,8000-8099 --op=both \
                 --proto=tcp,udp --interface=lo --program=nginx,python3* --debug",
            )
            .args(["--device", "dns=--port=53 --proto=udp"]),
    );
    assert_eq!(specification, sorted(&printed));
}

#[test]
fn a_wrong_option_is_refused_by_name() {
    let Some(lab) = lab("a_wrong_option_is_refused_by_name") else {
        return;
    };
    let file = root().join("nix/tests/refused.nix");
    for (case, option, allowed) in [
        ("addr", "addr", "IPv4 or IPv6 address or prefix"),
        ("port", "port", "integer between 0 and 65535"),
        ("port-range", "port", "range of ports (\"8000-8099\")"),
        (
            "ports",
            "port",
            "65 items, of which the shim takes up to 64",
        ),
        ("ports-of-two", "port", "80 items"),
        ("op", "op", "\"reuseport\", \"reuseaddr\", \"both\""),
        ("proto", "proto", "\"tcp\", \"udp\""),
        ("interface", "interface", "name of a network interface"),
        ("program", "program", "glob on a program's file name"),
        ("programs-of-two", "program", "18 items"),
        ("debug", "debug", "boolean"),
        ("package", "package", "package"),
        ("unknown", "ports", "does not exist"),
    ] {
        let outcome = lab.installed().evaluate(&format!(
            "(import {} {{ inherit evaluate package; }}).{case}",
            file.display()
        ));
        assert_eq!(outcome.status, Some(1), "{case}: {}", outcome.stdout);
        let stderr = &outcome.stderr;
        let name = format!("systemd.services.web.reuseport.{option}");
        assert!(stderr.contains(&name), "{case}: {stderr}");
        assert!(stderr.contains(allowed), "{case}: {stderr}");
    }
}

/// Each rule, with values that parse and values that do not.
const VALUES: &[(&str, &[&str])] = &[
    (
        "addr",
        &[
            "127.0.0.1",
            "0.0.0.0",
            "10.0.0.0/8",
            "10.0.0.1/0",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/08",
            "10.0.0",
            "10.0.0.0.0",
            "10.0.0.256",
            "10.0.0.01",
            "localhost",
            "::",
            "::1",
            "1::",
            "::/0",
            "fe80::/10",
            "fe80::/129",
            "1:2:3:4:5:6:7:8",
            "1:2:3:4:5:6:7",
            "1:2:3:4:5:6:7:8:9",
            "1:2:3:4:5:6:7::",
            "::2:3:4:5:6:7:8",
            "1:2:3:4::5:6:7:8",
            "1::2::3",
            ":::",
            ":1",
            "1:",
            ":",
            "12345::",
            "g::",
            "::ffff:10.0.0.1",
            "1:2:3:4:5:6:10.0.0.1",
            "1:2:3:4:5:6:7:10.0.0.1",
            "::10.0.0.1:1",
            "10.0.0.1::",
            "::ffff:10.0.0",
            "fe80::1%lo",
        ],
    ),
    (
        "port",
        &[
            "0",
            "80",
            "65535",
            "65536",
            "080",
            "8000-8099",
            "80-80",
            "2-1",
            "0-65535",
            "1-65536",
            "1-",
            "-1",
            "1-2-3",
            "http",
            "99999999999999999999",
        ],
    ),
    (
        "interface",
        &[
            "lo",
            "eth0.1",
            "fifteen-letters",
            "sixteen-letters-",
            "a/b",
            "a:b",
            "a b",
            ".",
            "..",
        ],
    ),
    (
        "program",
        &[
            "nginx", "python3*", "[a-z]*", "[!a]", "[]]", "[!]]", "[]", "[a", "a]", "\\*", "\\",
            "a/b", "[\\]", "a?b", "*", "[[]", "a%n",
        ],
    ),
];

#[test]
fn its_options_take_what_the_program_takes() {
    let Some(lab) = lab("its_options_take_what_the_program_takes") else {
        return;
    };
    let values: serde_json::Map<String, Value> = VALUES
        .iter()
        .map(|&(rule, values)| (rule.to_owned(), json!(values)))
        .collect();
    let values = Value::from(values).to_string();
    let directory = tempfile::tempdir().expect("a folder");
    let file = directory.path().join("values.json");
    fs::write(&file, values).expect("written");
    let taken = lab.installed().value(&format!(
        "import {}/nix/tests/accepted.nix {{
           inherit lib;
           values = builtins.fromJSON (builtins.readFile {});
         }}",
        root().display(),
        file.display()
    ));
    for &(rule, values) in VALUES {
        for (value, taken) in values.iter().zip(taken[rule].as_array().expect("a list")) {
            let flag = format!("--{rule}={value}");
            let outcome = run(reuseport().args(["run", "--no-check", &flag, "--", "true"]));
            assert_eq!(
                outcome.status == Some(0),
                *taken == true,
                "{flag}: {}",
                outcome.stderr
            );
        }
    }
}
