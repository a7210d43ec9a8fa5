//! Verdicts, findings and output on programs made for it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::Value;

use crate::support::{command, compile, executable, output, reuseport, run};

/// The object of a check of one target or command line.
fn check(arguments: &[&str]) -> Value {
    let outcome = run(reuseport().args(["check", "--json"]).args(arguments));
    let answer: Value =
        serde_json::from_str(&outcome.stdout).unwrap_or_else(|_| panic!("{outcome:?}"));
    answer[0].clone()
}

fn verdict(arguments: &[&str]) -> String {
    check(arguments)["verdict"]
        .as_str()
        .expect("a verdict")
        .to_owned()
}

fn codes(answer: &Value) -> Vec<&str> {
    let findings = answer["findings"].as_array().expect("findings");
    findings
        .iter()
        .map(|one| one["code"].as_str().expect("a code"))
        .collect()
}

#[test]
fn a_server_works_and_its_object_says_what_it_is() {
    let server = compile("gcc", "probe/probe.c", &["-pthread"]);
    let server = server.to_str().expect("UTF-8");
    let expected = serde_json::json!({
        "target": server,
        "verdict": "works",
        "program": {
            "path": server,
            "kind": "dynamic",
            "arch": "x86_64",
            "libc": "glibc",
            "interpreter": "/lib64/ld-linux-x86-64.so.2",
        },
        "chain": [server],
        "findings": [],
    });
    assert_eq!(check(&[server]), expected);
    let musl = compile("musl-gcc", "probe/probe.c", &["-pthread"]);
    assert_eq!(
        check(&[musl.to_str().expect("UTF-8")])["program"]["libc"],
        "musl"
    );
    assert_eq!(verdict(&[musl.to_str().expect("UTF-8")]), "works");
}

#[test]
fn kinds_of_programs_that_fail() {
    let main = "probe/early_main.c";
    let symbol = "-Wl,--defsym=early_reuseport=0";
    for (flags, kind, code) in [
        (&[symbol, "-static"][..], "static", "static"),
        (&[symbol, "-static-pie"], "static-pie", "static"),
        (&["-shared", "-fPIC"], "library", "not-executable"),
        (&["-c"], "other", "not-executable"),
    ] {
        let program = compile("gcc", main, flags);
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("executable");
        let answer = check(&[program.to_str().expect("UTF-8")]);
        assert_eq!(answer["verdict"], "fails");
        assert_eq!(answer["program"]["kind"], kind);
        assert_eq!(codes(&answer), [code]);
    }
    let loader = compile(
        "gcc",
        main,
        &[symbol, "-Wl,--dynamic-linker=/no/such/ld.so"],
    );
    let answer = check(&[loader.to_str().expect("UTF-8")]);
    assert_eq!(answer["verdict"], "fails");
    assert_eq!(codes(&answer)[0], "missing-interpreter");
}

#[test]
fn programs_that_do_not_bind_are_uncertain() {
    let quiet = compile(
        "gcc",
        "probe/early_main.c",
        &["-Wl,--defsym=early_reuseport=0"],
    );
    let quiet = quiet.to_str().expect("UTF-8");
    let answer = check(&[quiet]);
    assert_eq!(answer["verdict"], "uncertain");
    assert_eq!(codes(&answer), ["no-bind"]);
    let status = |flags: &[&str]| run(reuseport().arg("check").args(flags).arg(quiet)).status;
    assert_eq!((status(&[]), status(&["--strict"])), (Some(0), Some(1)));
    // A shell loads libraries at run time.
    assert_eq!(codes(&check(&["/bin/bash"])), ["runtime-libraries"]);
}

#[test]
fn libraries_are_found_where_the_loader_finds_them() {
    let directory = tempfile::tempdir().expect("a directory");
    let library = compile(
        "gcc",
        "probe/early.c",
        &["-shared", "-fPIC", "-Wl,-soname,libearly.so"],
    );
    let hidden = directory.path().join("lib");
    fs::create_dir(&hidden).expect("made");
    fs::copy(&library, hidden.join("libearly.so")).expect("a copy");
    let library = library.to_str().expect("UTF-8");
    for (name, flags, found) in [
        ("none", vec![], false),
        (
            "runpath",
            vec!["-Wl,--enable-new-dtags,-rpath,$ORIGIN/lib"],
            true,
        ),
        (
            "rpath",
            vec!["-Wl,--disable-new-dtags,-rpath,${ORIGIN}/lib"],
            true,
        ),
        ("elsewhere", vec!["-Wl,-rpath,/no/such/folder"], false),
    ] {
        let flags: Vec<&str> = [library].into_iter().chain(flags).collect();
        let program = directory.path().join(name);
        fs::copy(compile("gcc", "probe/early_main.c", &flags), &program).expect("a copy");
        let link = directory.path().join("lib").join(name);
        symlink(&program, &link).expect("a link");
        for path in [&program, &link] {
            let answer = check(&[path.to_str().expect("UTF-8")]);
            let expected = if found {
                "library-binds"
            } else {
                "missing-library"
            };
            assert_eq!(codes(&answer)[0], expected, "{name} {answer}");
        }
        let variable = run(reuseport()
            .env("LD_LIBRARY_PATH", &hidden)
            .args(["check", "--json"])
            .arg(&program));
        assert!(variable.stdout.contains("library-binds"), "{variable:?}");
    }
}

#[test]
fn scripts_and_wrappers_lead_to_the_program() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    let server = compile("gcc", "probe/probe.c", &["-pthread"]);
    let server = server.to_str().expect("UTF-8");
    let fixed = compile(
        "gcc",
        "probe/early_main.c",
        &["-Wl,--defsym=early_reuseport=0", "-static"],
    );
    let fixed = fixed.to_str().expect("UTF-8");
    let launcher = executable(
        path,
        "launcher",
        &format!("#!/bin/sh\nset -e\nexec {server} \"$@\"\n"),
    );
    let entry = executable(path, "entry", "#!/bin/sh -e\n# an image's\nexec \"$@\"\n");
    let open = executable(path, "open", &format!("#!/bin/sh\n{server} &\nwait\n"));
    let python = executable(
        path,
        "python",
        "#!/usr/bin/env -S python3 -u\nimport socket\n",
    );
    let [launcher, entry, open, python] =
        [&launcher, &entry, &open, &python].map(|path| path.to_str().expect("UTF-8"));

    let answer = check(&[launcher]);
    assert_eq!(
        (
            answer["verdict"].as_str(),
            answer["program"]["kind"].as_str()
        ),
        (Some("works"), Some("script"))
    );
    assert_eq!(answer["program"]["interpreter"], "/bin/sh");
    let chain: Vec<&str> = answer["chain"]
        .as_array()
        .expect("a chain")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(chain, [launcher, "/bin/sh", server]);

    assert_eq!(verdict(&[python]), "works");
    let answer = check(&[open]);
    assert_eq!(answer["verdict"], "uncertain");
    assert!(codes(&answer).contains(&"script-interpreter"), "{answer}");

    for (line, expected) in [
        (vec!["--", entry, server, "bind"], "works"),
        (vec!["--", entry, fixed], "fails"),
        (vec!["--", "sh", "-c", &format!("exec {server} x")], "works"),
        (vec!["--", "sh", entry, server], "works"),
        (vec!["--", "nice", "-n", "5", "env", "A=b", server], "works"),
        (vec!["--", "env", "-i", server], "uncertain"),
        (vec!["--", "nohup", fixed], "fails"),
    ] {
        assert_eq!(verdict(&line), expected, "{line:?}");
    }
}

/// Each of these was taken for one that works, or for one that fails.
#[test]
fn what_a_script_or_wrapper_may_have_changed_is_uncertain() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = compile("gcc", "probe/probe.c", &["-pthread"]);
    let server = server.to_str().expect("UTF-8");
    let script = |name: &str, body: &str| {
        let text = format!("#!/bin/sh\n{body}\n");
        let path = executable(directory.path(), name, &text);
        path.to_str().expect("UTF-8").to_owned()
    };
    let unset = script("unset", &format!("unset LD_PRELOAD\nexec {server}"));
    let comment = script("comment", &format!("# LD_PRELOAD is kept\nexec {server}"));
    let moved = script("moved", "cd /opt\nexec ./server");
    let path = script("path", "PATH=/opt/bin:$PATH\nexec a-server");
    let relative = "./server";
    for (line, expected) in [
        (vec!["--", unset.as_str()], "uncertain"),
        (vec!["--", &comment], "works"),
        (vec!["--", &moved], "uncertain"),
        (vec!["--", &path], "uncertain"),
        (vec!["--", "env", "-C", "/opt", relative], "uncertain"),
        (vec!["--", "env", relative], "fails"),
        (vec!["--", "runuser", "nobody", "-c", server], "uncertain"),
        (
            vec!["--", "flock", "lock", "-c", &format!("exec {server}")],
            "works",
        ),
        (vec!["--", "flock", "lock", "-c", server], "uncertain"),
        (vec!["--", "sh", "-c", server], "uncertain"),
    ] {
        assert_eq!(verdict(&line), expected, "{line:?}");
    }
}

#[test]
fn several_targets_get_an_answer_each_and_the_worst_status() {
    let server = compile("gcc", "probe/probe.c", &["-pthread"]);
    let server = server.to_str().expect("UTF-8");
    let fixed = compile(
        "gcc",
        "probe/early_main.c",
        &["-Wl,--defsym=early_reuseport=0", "-static"],
    );
    let fixed = fixed.to_str().expect("UTF-8");
    let status = |targets: &[&str]| run(reuseport().args(["check", "--quiet"]).args(targets));
    for (targets, expected) in [
        (&[server][..], 0),
        (&[server, fixed], 1),
        (&[fixed, "/no/such/file", server], 2),
        (&["/etc"], 2),
    ] {
        let outcome = status(targets);
        assert_eq!(outcome.status, Some(expected), "{targets:?}");
        assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("", ""));
    }
    let text = run(reuseport().args(["check", server, fixed])).stdout;
    assert_eq!(
        text,
        format!(
            "{server}: works\n\
             {fixed}: fails\n  \
             error: static: statically linked: no dynamic loader reads LD_PRELOAD\n    \
             use a dynamically linked build of it\n"
        )
    );
}

#[test]
fn a_name_that_is_not_found_gets_near_ones() {
    let directory = tempfile::tempdir().expect("a directory");
    executable(directory.path(), "my-server", "#!/bin/sh\n");
    let outcome = run(reuseport()
        .env("PATH", directory.path())
        .args(["check", "my-servr"]));
    assert_eq!(outcome.status, Some(2));
    assert!(
        outcome.stdout.contains("did you mean: my-server\n"),
        "{outcome:?}"
    );
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let terminal = |variable: &str| {
        let line = format!("{} check /bin/true", env!("CARGO_BIN_EXE_reuseport"));
        let mut script = command("script");
        let script = script.env("TERM", "xterm").env(variable, "1");
        run(script.args(["-qec", &line, "/dev/null"])).stdout
    };
    assert!(terminal("A").contains("\x1b[33m"), "{}", terminal("A"));
    assert!(!terminal("NO_COLOR").contains('\x1b'));
    assert!(!output(reuseport().args(["check", "/bin/true"])).contains('\x1b'));
}

#[test]
fn names_cannot_reach_the_terminal() {
    let directory = tempfile::tempdir().expect("a directory");
    let evil = executable(directory.path(), "a\x1b[2Jb", "#!/bin/sh\n");
    let text = run(reuseport().arg("check").arg(evil)).stdout;
    assert!(!text.contains('\x1b'), "{text:?}");
}
