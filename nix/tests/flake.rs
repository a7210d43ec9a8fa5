//! `nix flake show`, `check` and `lock`, `nix build`, and `nix run` with a server.

use std::collections::HashSet;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use object::{Object, ObjectSection};

use crate::lab::{Nix, SYSTEM, lab, root};
use crate::support::{output, run};

/// Processes that do not outlive the test.
struct Copies(Vec<Child>);

impl Drop for Copies {
    fn drop(&mut self) {
        for copy in &mut self.0 {
            let _ = copy.kill();
            let _ = copy.wait();
        }
    }
}

#[test]
fn shows_what_it_gives() {
    let Some(lab) = lab("shows_what_it_gives") else {
        return;
    };
    for nix in &lab.every {
        let outcome = run(&mut nix.flake(&["flake", "show", "--json"]));
        assert_eq!(outcome.status, Some(0), "{}", outcome.stderr);
        let shown: serde_json::Value = serde_json::from_str(&outcome.stdout).expect("JSON");
        for path in [
            format!("/apps/{SYSTEM}/default"),
            format!("/checks/{SYSTEM}/module"),
            format!("/devShells/{SYSTEM}/default"),
            "/devShells/x86_64-darwin/default".into(),
            format!("/formatter/{SYSTEM}"),
            format!("/packages/{SYSTEM}/default"),
            format!("/packages/{SYSTEM}/reuseport"),
            format!("/packages/{SYSTEM}/reuseport-static"),
            format!("/packages/{SYSTEM}/shim"),
            "/packages/aarch64-linux/default".into(),
            "/packages/riscv64-linux/default".into(),
            "/packages/x86_64-linux/default".into(),
            "/nixosModules/default".into(),
            "/overlays/default".into(),
            "/lib".into(),
        ] {
            assert!(shown.pointer(&path).is_some(), "{path}: {shown:#}");
        }
    }
}

#[test]
fn passes_its_own_checks() {
    let Some(lab) = lab("passes_its_own_checks") else {
        return;
    };
    for nix in &lab.every {
        let outcome = run(&mut nix.flake(&["flake", "check", "--print-build-logs"]));
        assert_eq!(outcome.status, Some(0), "{}", outcome.stderr);
    }
}

#[test]
fn its_lock_fits_it() {
    let Some(lab) = lab("its_lock_fits_it") else {
        return;
    };
    for nix in &lab.every {
        let outcome = run(&mut nix.command(&["flake", "lock", "--no-update-lock-file"]));
        assert_eq!(outcome.status, Some(0), "{}", outcome.stderr);
    }
}

/// Who answers on `port`: the ids of the processes, once there are two.
fn two_answers(port: u16) -> HashSet<String> {
    let limit = Instant::now() + Duration::from_secs(60);
    let mut answers = HashSet::new();
    while answers.len() < 2 && Instant::now() < limit {
        let mut answer = String::new();
        let asked = TcpStream::connect(("127.0.0.1", port))
            .and_then(|mut connection| connection.read_to_string(&mut answer));
        if asked.is_ok() {
            answers.insert(answer.trim().to_owned());
        } else {
            sleep(Duration::from_millis(50));
        }
    }
    answers
}

/// The names of a program's sections.
fn sections(program: &Path) -> Vec<String> {
    let bytes = std::fs::read(program).expect("readable");
    let file = object::File::parse(&*bytes).expect("an ELF file");
    file.sections()
        .filter_map(|section| Some(section.name().ok()?.to_owned()))
        .collect()
}

fn runs_twice(nix: &Nix, installable: &str) {
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("its address").port()
    };
    let start = |_| {
        let mut command = nix.flake(&["run", installable]);
        let port = port.to_string();
        command.args(["--", "perl", "docs/pid.pl", &port]);
        let command = command.stdin(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("Nix runs")
    };
    let copies = Copies((0..2).map(start).collect());
    let expected = copies.0.iter().map(|copy| copy.id().to_string());
    assert_eq!(two_answers(port), expected.collect(), "{installable}");
}

#[test]
fn builds_and_runs_a_server_twice_on_one_port() {
    let Some(lab) = lab("builds_and_runs_a_server_twice_on_one_port") else {
        return;
    };
    for nix in &lab.every {
        let (_directory, link) = nix.build("reuseport");
        assert!(link.join("bin/reuseport").exists());
        assert!(
            !sections(&link.join("bin/reuseport"))
                .iter()
                .any(|name| name.starts_with(".debug_")),
            "it is stripped"
        );
        let shim = link.join("lib/libreuseport.so");
        let shim = shim.canonicalize().expect("the shim");
        assert!(
            shim.to_string_lossy().contains("-lib/lib/"),
            "{}",
            shim.display()
        );
        let mut closure = nix.command(&["path-info", "--recursive"]);
        let closure = output(closure.arg(&shim));
        assert_eq!(closure.lines().count(), 1, "the shim needs: {closure}");
        runs_twice(nix, ".#reuseport");
        runs_twice(nix, ".");
    }
}

#[test]
fn systems_without_a_shim_are_refused_with_the_reason() {
    let Some(lab) = lab("systems_without_a_shim_are_refused_with_the_reason") else {
        return;
    };
    for nix in &lab.every {
        for (system, why) in [
            ("aarch64-darwin", "in Linux alone"),
            ("i686-linux", "no assembly for 32-bit processors"),
            ("riscv64-linux", "no assembly for it yet"),
            ("x86_64-freebsd", "in Linux alone"),
        ] {
            let reason = format!("reuseport has no shim for {system}: ");
            for arguments in [
                ["run", "--system", system, "."],
                ["run", "--system", system, ".#reuseport"],
            ] {
                let outcome = run(&mut nix.flake(&arguments));
                assert_eq!(outcome.status, Some(1), "{}", outcome.stderr);
                assert!(outcome.stderr.contains(&reason), "{}", outcome.stderr);
                assert!(outcome.stderr.contains(why), "{}", outcome.stderr);
            }
            // Old versions of Nix see at most that nobody can build it.
            let name = format!("reuseport-has-no-shim-for-{system}");
            for arguments in [
                vec!["build", "--system", system, ".#shim"],
                vec!["develop", "--system", system],
            ] {
                let outcome = run(&mut nix.flake(&arguments));
                assert_ne!(outcome.status, Some(0));
                assert!(
                    outcome.stderr.contains(&reason) || outcome.stderr.contains(&name),
                    "{arguments:?}: {}",
                    outcome.stderr
                );
            }
        }
    }
}

#[test]
fn its_wiring_is_short() {
    let flake = std::fs::read_to_string(root().join("flake.nix")).expect("readable");
    assert!(flake.lines().count() < 80);
}
