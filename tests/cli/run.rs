//! `reuseport run` and its short forms: which program runs, as what, and with
//! which status.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{command, compile, copy, executable, is_root, output, reuseport, run, skip};

#[test]
fn all_ways_to_say_it_run_the_command() {
    for line in [
        &["run", "--", "echo", "-n", "x"][..],
        &["run", "echo", "-n", "x"],
        &["--", "echo", "-n", "x"],
        &["echo", "-n", "x"],
        &["--port", "80", "echo", "-n", "x"],
        &["--port=80", "--", "echo", "-n", "x"],
        &["--port", "80", "--op", "both", "--", "echo", "-n", "x"],
    ] {
        assert_eq!(output(reuseport().args(line)), "x", "{line:?}");
    }
    assert_eq!(
        output(reuseport().args(["echo", "--port", "80"])),
        "--port 80\n"
    );
    assert_eq!(output(reuseport().args(["echo", "--", "80"])), "-- 80\n");
}

#[test]
fn a_program_with_a_subcommands_name_comes_after_two_dashes() {
    let directory = tempfile::tempdir().expect("a directory");
    executable(
        directory.path(),
        "man",
        "#!/bin/sh\necho our own man \"$@\"\n",
    );
    let path = format!("{}:/usr/bin:/bin", directory.path().display());
    let mut own = reuseport();
    assert_eq!(
        output(own.env("PATH", &path).args(["--", "man", "x"])),
        "our own man x\n"
    );
    let mut own = reuseport();
    let own = own.env("PATH", &path).args(["--debug", "--", "man", "x"]);
    assert!(run(own).stdout.ends_with("our own man x\n"));
    // Whether flags before it are the subcommand's cannot be known.
    let outcome = run(reuseport()
        .env("PATH", &path)
        .args(["--port", "80", "man", "x"]));
    assert_eq!(outcome.status, Some(125));
    assert!(
        outcome.stderr.contains("reuseport ... -- man"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn the_variables_are_set_and_the_others_kept() {
    let mut command = reuseport();
    command
        .env_remove("XDG_DATA_HOME")
        .env("HOME", env!("CARGO_TARGET_TMPDIR"));
    command
        .env("A", "1")
        .env("LD_PRELOAD", "")
        .env("LIBREUSEPORT_PROTO", "udp")
        .env("Z", "2");
    let flags = [
        "--addr",
        "::1, 10.0.0.0/8",
        "--port",
        "1-2",
        "--op",
        "both",
        "--interface",
        "lo",
    ];
    let printed = output(command.args(flags).args(["--program", "x*", "env"]));
    let mut lines: Vec<&str> = printed.lines().collect();
    lines.retain(|line| !line.starts_with("HOME=") && !line.starts_with("PATH="));
    lines.sort_unstable();
    let preload = lines
        .iter()
        .position(|line| line.starts_with("LD_PRELOAD="))
        .expect("a list");
    let preload = lines.remove(preload);
    assert!(preload.starts_with("LD_PRELOAD=/"), "{preload}");
    assert_eq!(
        lines,
        [
            "A=1",
            "LIBREUSEPORT_ADDR=::1, 10.0.0.0/8",
            "LIBREUSEPORT_INTERFACE=lo",
            "LIBREUSEPORT_OP=3",
            "LIBREUSEPORT_PORT=1-2",
            "LIBREUSEPORT_PROGRAM=x*",
            "LIBREUSEPORT_PROTO=udp",
            "Z=2",
        ]
    );
}

#[test]
fn a_preload_list_is_kept_and_ours_is_there_once() {
    let second = compile("gcc", "probe/second.c", &["-shared", "-fPIC", "-ldl"]);
    let program = env!("CARGO_BIN_EXE_reuseport");
    let mut command = reuseport();
    command
        .env("LD_PRELOAD", &second)
        .args([program, program, "sh", "-c", "echo $LD_PRELOAD"]);
    let printed = output(&mut command);
    let entries: Vec<&str> = printed.trim_end().split(':').collect();
    assert_eq!(entries.len(), 2, "{printed}");
    assert_eq!(Path::new(entries[0]), second);
    assert!(entries[1].contains("libreuseport"), "{printed}");

    // An older copy of ours elsewhere makes way; the list has one of it.
    let elsewhere = tempfile::tempdir().expect("a directory");
    let old = elsewhere.path().join("old.so");
    fs::copy(crate::support::shim(), &old).expect("a copy");
    let mut command = reuseport();
    command
        .env("LD_PRELOAD", &old)
        .args(["sh", "-c", "echo $LD_PRELOAD"]);
    let printed = output(&mut command);
    assert!(
        !printed.contains("old.so") && printed.contains("libreuseport"),
        "{printed}"
    );
}

#[test]
fn the_process_stays_the_same_one() {
    let mut child = reuseport()
        .args(["sh", "-c", "echo $$"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let process = child.id();
    let mut printed = String::new();
    std::io::Read::read_to_string(child.stdout.as_mut().expect("a pipe"), &mut printed)
        .expect("text");
    assert_eq!(printed, format!("{process}\n"));
    assert!(child.wait().expect("an end").success());
}

#[test]
fn the_status_is_the_commands_own() {
    assert_eq!(
        run(reuseport().args(["sh", "-c", "exit 42"])).status,
        Some(42)
    );
    let killed = reuseport()
        .args(["sh", "-c", "kill -9 $$"])
        .status()
        .expect("an end");
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&killed),
        Some(9)
    );
}

/// What a process says of its own signals and descriptors.
const LOOK: &str = "grep -E '^Sig(Blk|Ign):' /proc/self/status; ls /proc/self/fd | tr '\\n' ' '";

#[test]
fn signals_and_descriptors_are_as_the_caller_left_them() {
    let program = env!("CARGO_BIN_EXE_reuseport");
    for setting in [
        "",
        "trap '' PIPE HUP;",
        "exec <&-;",
        "exec 5</dev/null <&- 2>&-;",
    ] {
        let look = |prefix: &str| {
            let script = format!("{setting} exec {prefix} /bin/sh -c \"$LOOK\"");
            output(
                command("/bin/sh")
                    .env("LOOK", LOOK)
                    .env("HOME", "/")
                    .args(["-c", &script]),
            )
        };
        let (with, without) = if is_root() {
            (look(program), look(""))
        } else {
            let data = format!(
                "env XDG_DATA_HOME={}/data {program}",
                env!("CARGO_TARGET_TMPDIR")
            );
            (look(&data), look("env"))
        };
        assert_eq!(with, without, "{setting}");
    }
}

#[test]
fn a_command_that_is_not_there_is_127() {
    let outcome = run(reuseport().arg("no-such-program"));
    assert_eq!(outcome.status, Some(127));
    assert_eq!(
        outcome.stderr,
        "reuseport: no-such-program: not found in PATH\n"
    );
    let outcome = run(reuseport().arg("/no/such/program"));
    assert_eq!(outcome.status, Some(127));
    assert_eq!(
        outcome.stderr,
        "reuseport: /no/such/program: no such file\n"
    );
    let outcome = run(reuseport().args(["instal", "/opt"]));
    assert_eq!(outcome.status, Some(127));
    let expected = "reuseport: instal: not found in PATH; did you mean: reuseport install\n";
    assert_eq!(outcome.stderr, expected);
    assert_eq!(run(reuseport().args(["--", ""])).status, Some(127));
}

#[test]
fn a_command_that_cannot_be_executed_is_126() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    let plain = path.join("plain");
    fs::write(&plain, "#!/bin/sh\n").expect("written");
    let empty = executable(path, "empty", "");
    let text = executable(path, "text", "echo hello\n");
    let no_interpreter = executable(path, "no-interpreter", "#!\n");
    let broken = executable(path, "broken", "#!/no/such/interpreter\n");
    let crlf = executable(path, "crlf", "#!/bin/sh\r\nexit\r\n");
    let truncated = executable(path, "truncated", "\x7fELF\x02\x01\x01");
    let looped = path.join("looped");
    executable(path, "looped", &format!("#!{}\n", looped.display()));
    let dangling = path.join("dangling");
    symlink("nowhere", &dangling).expect("a link");
    let unknown = "neither an ELF program nor a script that begins with #!";
    for (program, why) in [
        (path.to_owned(), "is a directory"),
        (plain.clone(), "not executable: chmod +x"),
        (empty, unknown),
        (text, unknown),
        (no_interpreter, "its first line names no interpreter"),
        (
            broken,
            "its interpreter '/no/such/interpreter' is not there",
        ),
        (crlf, "its interpreter '/bin/sh\\r' is not there"),
        (
            truncated,
            "the ELF file is damaged: it ends within its header",
        ),
        (looped, "more than 5 scripts interpret one another"),
    ] {
        let outcome = run(reuseport().arg(&program));
        assert_eq!(outcome.status, Some(126), "{}", outcome.stderr);
        let start = format!("reuseport: {}: ", program.display());
        assert!(outcome.stderr.starts_with(&start), "{}", outcome.stderr);
        assert!(outcome.stderr.contains(why), "{}", outcome.stderr);
    }
    assert_eq!(run(reuseport().arg(&dangling)).status, Some(127));
    // Found in PATH, and not executable there.
    let outcome = run(reuseport().env("PATH", path).arg("plain"));
    assert_eq!(outcome.status, Some(126), "{}", outcome.stderr);
}

#[test]
fn programs_that_are_certainly_out_of_reach_are_refused() {
    let source = "probe/early_main.c";
    let early = ["-Wl,--defsym=early_reuseport=0", "-static"];
    let fixed = compile("gcc", source, &early);
    let pie = compile(
        "gcc",
        source,
        &["-Wl,--defsym=early_reuseport=0", "-static-pie"],
    );
    for program in [fixed.clone(), pie] {
        let outcome = run(reuseport().arg(&program));
        assert_eq!(outcome.status, Some(125));
        assert_eq!(
            outcome.stderr,
            format!(
                "reuseport: {}: static: statically linked: no dynamic loader reads LD_PRELOAD; \
                 --no-check runs it all the same\n",
                program.display()
            )
        );
    }
    // It is run, whatever it does then.
    let status = run(reuseport().args(["run", "--no-check"]).arg(&fixed)).status;
    assert_ne!(status, Some(125));
    // A script is judged by its interpreter.
    let directory = tempfile::tempdir().expect("a directory");
    let script = format!("#!{}\n", fixed.display());
    let script = executable(directory.path(), "script", &script);
    let outcome = run(reuseport().arg(&script));
    assert_eq!(outcome.status, Some(125));
    let chain = format!("{} -> {}: static: ", script.display(), fixed.display());
    assert!(outcome.stderr.contains(&chain), "{}", outcome.stderr);
}

#[test]
fn a_program_of_another_machine_without_a_shim_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut program = fs::read("/bin/true").expect("readable");
    // e_machine: SPARC V9.
    program[18..20].copy_from_slice(&43_u16.to_le_bytes());
    let path = directory.path().join("sparc");
    fs::write(&path, program).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
    let outcome = run(reuseport().arg(&path));
    assert_eq!(outcome.status, Some(125));
    assert!(
        outcome.stderr.contains("no-shim-for-arch: "),
        "{}",
        outcome.stderr
    );
    assert!(
        outcome.stderr.contains("only for x86_64 and aarch64"),
        "{}",
        outcome.stderr
    );
}

/// Runs reuseport as the user 65534, who owns `home`. Root only.
fn as_nobody(home: &Path) -> Command {
    std::os::unix::fs::chown(home, Some(65534), Some(65534)).expect("given away");
    fs::set_permissions(home, fs::Permissions::from_mode(0o755)).expect("open");
    // The target folder may lie below root's own, closed to others.
    let program = home.join("reuseport");
    copy(env!("CARGO_BIN_EXE_reuseport"), &program);
    let mut command = command("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(program);
    command.current_dir("/").env("HOME", home);
    command
}

#[test]
fn set_id_programs_are_refused_where_the_loader_would_be_in_secure_mode() {
    if !is_root() {
        skip(
            "set_id_programs_are_refused",
            "only root can make set-id files of others",
        );
        return;
    }
    let home = tempfile::tempdir_in("/var/tmp").expect("a directory");
    let program = home.path().join("program");
    for (mode, owner, code) in [
        (0o4755, 0, Some("setuid")),
        (0o2755, 0, Some("setgid")),
        // The bit is set, but changes nothing or means something else.
        (0o4755, 65534, None),
        (0o2745, 0, None),
    ] {
        copy("/bin/true", &program);
        std::os::unix::fs::chown(&program, Some(owner), Some(owner)).expect("given away");
        fs::set_permissions(&program, fs::Permissions::from_mode(mode)).expect("a mode");
        let outcome = run(as_nobody(home.path()).arg(&program));
        let expected = if code.is_some() { 125 } else { 0 };
        assert_eq!(
            outcome.status,
            Some(expected),
            "{mode:o} {}",
            outcome.stderr
        );
        if let Some(code) = code {
            assert!(
                outcome.stderr.contains(&format!(": {code}: ")),
                "{}",
                outcome.stderr
            );
        }
        // For root, setuid to root changes nothing; to another user it does.
        let outcome = run(reuseport().arg(&program));
        let changes = owner != 0 && mode & 0o6010 == 0o4010;
        assert_eq!(
            outcome.status == Some(125),
            changes,
            "{mode:o} {}",
            outcome.stderr
        );
    }
    copy("/bin/true", &program);
    output(
        Command::new("/sbin/setcap")
            .arg("cap_net_bind_service=ep")
            .arg(&program),
    );
    let outcome = run(as_nobody(home.path()).arg(&program));
    assert_eq!(outcome.status, Some(125), "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains(": file-capabilities: "),
        "{}",
        outcome.stderr
    );
    assert_eq!(run(reuseport().arg(&program)).status, Some(0));
}

#[test]
fn a_program_that_may_be_executed_and_not_read_runs_unchecked() {
    if !is_root() {
        skip(
            "a_program_that_may_be_executed_and_not_read",
            "only root can make one for another",
        );
        return;
    }
    let home = tempfile::tempdir_in("/var/tmp").expect("a directory");
    let program = home.path().join("program");
    copy("/bin/true", &program);
    fs::set_permissions(&program, fs::Permissions::from_mode(0o711)).expect("a mode");
    let outcome = run(as_nobody(home.path()).arg(&program));
    assert_eq!(outcome.status, Some(0), "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("not readable, so not checked"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn a_user_finds_a_place_or_is_told_which_were_tried() {
    if !is_root() {
        skip("a_user_finds_a_place", "only root can become another user");
        return;
    }
    let home = tempfile::tempdir_in("/var/tmp").expect("a directory");
    let printed = output(as_nobody(home.path()).args(["sh", "-c", "echo $LD_PRELOAD"]));
    let data = home.path().join(".local/share/reuseport/");
    assert!(
        Path::new(printed.trim_end()).starts_with(&data),
        "{printed}"
    );
    assert!(Path::new(printed.trim_end()).is_file(), "{printed}");

    // Without a place of their own, users take the one that root has written.
    output(reuseport().arg("true"));
    let mut homeless = as_nobody(home.path());
    homeless
        .env_remove("HOME")
        .args(["sh", "-c", "echo $LD_PRELOAD"]);
    let printed = output(&mut homeless);
    assert!(printed.starts_with("/var/lib/reuseport/"), "{printed}");

    let program = home.path().join("reuseport");
    let without = |variables: &[(&str, &str)]| {
        let script = "mount -t tmpfs none /var/lib && \
                      exec setpriv --reuid=65534 --regid=65534 --clear-groups \"$0\" true";
        let mut unshare = command("unshare");
        unshare.args(["--mount", "sh", "-c", script]).arg(&program);
        run(unshare.envs(variables.iter().copied()))
    };
    let outcome = without(&[]);
    assert_eq!(outcome.status, Some(125), "{outcome:?}");
    assert!(
        outcome.stderr.contains("none of HOME, XDG_DATA_HOME,"),
        "{outcome:?}"
    );
    let outcome = without(&[("HOME", "/proc"), ("XDG_RUNTIME_DIR", "/etc")]);
    assert_eq!(outcome.status, Some(125), "{outcome:?}");
    for path in [
        "/proc/.local/share/reuseport",
        "/proc/.cache/reuseport",
        "/etc/reuseport",
    ] {
        assert!(
            outcome.stderr.contains(&format!("\n  {path}: ")),
            "{outcome:?}"
        );
    }
    assert!(
        outcome.stderr.contains("reuseport install DIR"),
        "{outcome:?}"
    );
}
