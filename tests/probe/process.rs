//! The shim in processes that do something out of the ordinary.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{command, compile, hold_ports, output, reuseport, run, shim};

/// Each C library has its compiler.
const COMPILERS: [&str; 2] = ["gcc", "musl-gcc"];

fn probe(compiler: &str) -> PathBuf {
    compile(compiler, "probe/probe.c", &["-pthread"])
}

fn shimmed(program: &Path) -> Command {
    let mut command = command(program);
    command.env("LD_PRELOAD", shim());
    command
}

#[test]
fn what_is_no_address_to_act_on_gets_the_kernels_own_answer() {
    let _ports = hold_ports();
    for compiler in COMPILERS {
        let without = output(command(probe(compiler)).arg("odd"));
        let with = output(shimmed(&probe(compiler)).arg("odd"));
        let plain = |text: &str| text.replace("reuseport=1", "reuseport=0");
        assert_eq!(plain(&without), plain(&with));
        // Where there is no address of ours, nothing is touched either.
        for (without, with) in without.lines().zip(with.lines()) {
            let acted = [
                "overlong",
                "more than",
                "negative",
                "without scope",
                "no family",
            ];
            let may_differ = acted.iter().any(|name| with.contains(name));
            assert!(may_differ || without == with, "{with}");
        }
        for name in ["overlong inet", "inet6 without scope", "no family"] {
            assert!(with.contains(&format!("{name}: ok reuseport=1")), "{with}");
        }
        assert!(with.contains("closed: -1 EBADF"), "{with}");
    }
}

#[test]
fn a_rewritten_environment_does_not_change_the_rules() {
    let _ports = hold_ports();
    for compiler in COMPILERS {
        for (port, expected) in [("18080", 1), ("18081", 0)] {
            let mut command = shimmed(&probe(compiler));
            command
                .env("LIBREUSEPORT_PORT", port)
                .env("LIBREUSEPORT_PROGRAM", "*probe*");
            let printed = output(command.args(["overwrite", "tcp", "127.0.0.1", "18080"]));
            assert_eq!(
                printed,
                format!("ok reuseport={expected} reuseaddr=0 device=\n")
            );
        }
    }
}

#[test]
fn a_bind_after_vfork() {
    let _ports = hold_ports();
    for compiler in COMPILERS {
        let printed = output(shimmed(&probe(compiler)).args(["vfork", "tcp", "::1", "18080"]));
        assert_eq!(printed, "ok reuseport=1 reuseaddr=0 device=\n");
    }
}

#[test]
fn other_system_calls_pass_through_the_hook_of_syscall() {
    for compiler in COMPILERS {
        let printed = output(shimmed(&probe(compiler)).arg("syscalls"));
        assert_eq!(printed, "fork=7 close=-1 EBADF mmap=1\n");
    }
}

#[test]
fn eight_threads_that_bind_at_once() {
    let _ports = hold_ports();
    for compiler in COMPILERS {
        for _ in 0..20 {
            let printed = output(shimmed(&probe(compiler)).args(["threads", "18080"]));
            assert_eq!(printed, "8 listening\n");
        }
    }
}

#[test]
fn a_library_that_binds_in_its_constructor_before_ours() {
    let _ports = hold_ports();
    for compiler in COMPILERS {
        let library = compile(compiler, "probe/early.c", &["-shared", "-fPIC"]);
        let main = library.to_str().expect("UTF-8");
        let program = compile(compiler, "probe/early_main.c", &[main]);
        assert_eq!(output(&mut shimmed(&program)), "constructor: reuseport=1\n");
        let mut command = shimmed(&program);
        command.env("LIBREUSEPORT_PORT", "18182");
        assert_eq!(output(&mut command), "constructor: reuseport=0\n");
    }
}

#[test]
fn a_second_preloaded_bind_acts_too_before_and_after_ours() {
    let _ports = hold_ports();
    for compiler in COMPILERS {
        let second = compile(compiler, "probe/second.c", &["-shared", "-fPIC", "-ldl"]);
        let (second, ours) = (second.display(), shim());
        for list in [
            format!("{second}:{}", ours.display()),
            format!("{}:{second}", ours.display()),
        ] {
            let mut command = command(probe(compiler));
            let command = command
                .env("LD_PRELOAD", list)
                .args(["bind", "udp", "::1", "18080"]);
            assert_eq!(
                output(command),
                "second: ok reuseport=1 reuseaddr=0 device=\n"
            );
        }
    }
}

#[test]
fn a_process_without_dlsym_environ_and_errno() {
    let _ports = hold_ports();
    let flags = [
        "-nostdlib",
        "-nostartfiles",
        "-fPIE",
        "-pie",
        "-fno-stack-protector",
    ];
    let bare = compile("gcc", "probe/bare.c", &flags);
    let status = |command: &mut Command| run(command).status;
    assert_eq!(status(&mut shimmed(&bare)), Some(11));
    assert_eq!(
        status(shimmed(&bare).env("LIBREUSEPORT_PORT", "18181")),
        Some(11)
    );
    assert_eq!(
        status(shimmed(&bare).env("LIBREUSEPORT_PORT", "18182")),
        Some(10)
    );
    // The auxiliary vector is read without getauxval.
    assert_eq!(
        status(shimmed(&bare).env("LIBREUSEPORT_PROGRAM", "*bare-c")),
        Some(11)
    );
    assert_eq!(
        status(shimmed(&bare).env("LIBREUSEPORT_PROGRAM", "other")),
        Some(10)
    );
    assert_eq!(
        status(shimmed(&bare).env("LIBREUSEPORT_PORT", "abc")),
        Some(10)
    );
}

#[test]
fn address_sanitizer_starts_and_binds() {
    let _ports = hold_ports();
    let probe = compile("gcc", "probe/probe.c", &["-pthread", "-fsanitize=address"]);
    let mut command = reuseport();
    command
        .arg("--")
        .arg(&probe)
        .args(["bind", "tcp", "127.0.0.1", "18080"]);
    assert_eq!(output(&mut command), "ok reuseport=1 reuseaddr=0 device=\n");
    // What `run` spares the user.
    let mut alone = shimmed(&probe);
    let outcome = run(alone.args(["bind", "tcp", "127.0.0.1", "18080"]));
    assert!(
        outcome.stderr.contains("ASan runtime does not come first"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn ephemeral_ports_stay_distinct() {
    let _ports = hold_ports();
    for compiler in COMPILERS {
        let probe = probe(compiler);
        assert_eq!(
            output(shimmed(&probe).args(["ephemeral", "20000"])),
            "20000\n"
        );
        assert_eq!(
            output(command(&probe).args(["ephemeral", "20000"])),
            "20000\n"
        );
    }
}

#[test]
fn a_program_is_known_by_its_file_and_by_the_name_it_was_run_by() {
    let _ports = hold_ports();
    let directory = tempfile::tempdir().expect("a directory");
    let probe = probe("gcc");
    let link = directory.path().join("applet");
    symlink(&probe, &link).expect("a link");
    let script = directory.path().join("server.sh");
    fs::write(&script, "#!/bin/sh\nexec \"$PROBE\" \"$@\"\n").expect("a script");

    let acted = |program: &Path, glob: &str| {
        let mut command = shimmed(program);
        command
            .env("LIBREUSEPORT_PROGRAM", glob)
            .args(["bind", "tcp", "127.0.0.1", "18080"]);
        output(&mut command).contains("reuseport=1")
    };
    let file = probe
        .file_name()
        .and_then(|name| name.to_str())
        .expect("a name");
    assert!(acted(&link, "applet"));
    assert!(acted(&link, file));
    assert!(!acted(&link, "other"));
    assert!(!acted(&probe, "applet"));
}
