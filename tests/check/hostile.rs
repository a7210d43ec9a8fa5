//! Roots and files that mean harm: a finding, in bounded time and memory, and
//! nothing outside the root is ever looked at.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use crate::support::{Outcome, compile, is_root, output, reuseport, run, skip};

/// `check --json` of `target` in `root`, with 512 MB of memory and 20 seconds.
fn check(root: &Path, target: &str) -> Outcome {
    let program = env!("CARGO_BIN_EXE_reuseport");
    let script = "ulimit -v 524288; exec timeout 20 \"$0\" check --json --root \"$1\" \"$2\"";
    let mut shell = crate::support::command("/bin/sh");
    run(shell.args(["-c", script, program]).arg(root).arg(target))
}

fn put(root: &Path, path: &str, content: impl AsRef<[u8]>) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("a parent")).expect("made");
    fs::write(&path, content).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
}

fn link(root: &Path, path: &str, target: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("a parent")).expect("made");
    symlink(target, path).expect("a link");
}

/// The code of the first finding, and the exit status.
fn found(root: &Path, target: &str) -> (String, i32) {
    let outcome = check(root, target);
    let answer: serde_json::Value =
        serde_json::from_str(&outcome.stdout).unwrap_or_else(|_| panic!("{outcome:?}"));
    let code = answer[0]["findings"][0]["code"].as_str().unwrap_or("none");
    (code.to_owned(), outcome.status.unwrap_or(-1))
}

fn not_found() -> (String, i32) {
    ("not-found".into(), 2)
}

#[test]
fn links_never_lead_out_of_the_root() {
    let directory = tempfile::tempdir().expect("a directory");
    let (root, outside) = (
        directory.path().join("root"),
        directory.path().join("outside"),
    );
    fs::create_dir_all(&outside).expect("made");
    put(&root, "bin/true", fs::read("/bin/true").expect("readable"));
    fs::copy("/bin/true", outside.join("secret")).expect("a copy");
    link(&root, "bin/absolute", "/bin/true");
    link(&root, "bin/up", "../../../../../../../bin/true");
    link(
        &root,
        "bin/out",
        outside.join("secret").to_str().expect("UTF-8"),
    );
    link(&root, "bin/up-and-out", "../../outside/secret");
    link(&root, "folder", "/bin");
    link(&root, "bin/loop", "loop");
    link(&root, "a/one", "../b/two");
    link(&root, "b/two", "../a/one");
    link(&root, "host", "/proc/self/root");
    // Its loader is not in this root: the program itself was found.
    for target in [
        "/bin/true",
        "/bin/absolute",
        "/bin/up",
        "/folder/true",
        "/bin/../bin/true",
        "true",
    ] {
        assert_eq!(
            found(&root, target),
            ("missing-interpreter".into(), 1),
            "{target}"
        );
    }
    for target in [
        "/bin/out",
        "/bin/up-and-out",
        "/../outside/secret",
        "/bin/loop",
        "/a/one",
        "/host/bin/true",
    ] {
        assert_eq!(found(&root, target), not_found(), "{target}");
    }
}

#[test]
fn what_is_no_regular_file_is_not_opened() {
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path();
    put(root, "bin/empty", "");
    output(
        std::process::Command::new("mkfifo")
            .arg("-m")
            .arg("755")
            .arg(root.join("bin/fifo")),
    );
    fs::create_dir(root.join("bin/folder")).expect("made");
    let listener = std::os::unix::net::UnixListener::bind(root.join("bin/socket"));
    assert_eq!(found(root, "/bin/fifo"), ("not-a-file".into(), 2));
    assert_eq!(found(root, "/bin/folder"), ("not-a-file".into(), 2));
    assert_eq!(found(root, "/bin/socket"), ("not-a-file".into(), 2));
    assert_eq!(found(root, "/bin/empty"), ("not-elf".into(), 2));
    drop(listener);
    // A script may name them, and a loader be one.
    put(root, "bin/script", "#!/bin/fifo\n");
    let (code, _) = found(root, "/bin/script");
    assert_eq!(code, "not-a-file");
}

#[test]
fn a_sparse_file_of_ten_gigabytes_takes_no_more_than_another() {
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path();
    let program = fs::read("/bin/true").expect("readable");
    put(root, "bin/sparse", &program);
    let file = File::options()
        .write(true)
        .open(root.join("bin/sparse"))
        .expect("open");
    file.set_len(10 << 30).expect("sparse");
    assert_eq!(
        found(root, "/bin/sparse"),
        ("missing-interpreter".into(), 1)
    );
    put(root, "bin/zeros", "\x7fELF");
    let file = File::options()
        .write(true)
        .open(root.join("bin/zeros"))
        .expect("open");
    file.set_len(10 << 30).expect("sparse");
    assert_eq!(found(root, "/bin/zeros"), ("damaged".into(), 2));
    put(root, "bin/script", "#!/bin/sh\n");
    put(root, "bin/sh", &program);
    let file = File::options()
        .write(true)
        .open(root.join("bin/script"))
        .expect("open");
    file.set_len(10 << 30).expect("sparse");
    assert_eq!(check(root, "/bin/script").status, Some(1));
}

#[test]
fn a_program_that_is_damaged_anywhere_is_answered() {
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path();
    let whole = fs::read(compile("gcc", "probe/probe.c", &["-pthread"])).expect("readable");
    let mut random = 12345_u64;
    for round in 0..150 {
        let mut program = whole.clone();
        if round % 2 == 0 {
            program.truncate(whole.len() * round / 150);
        } else {
            // In the headers and the dynamic section, where numbers are.
            for _ in 0..8 {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let place = usize::try_from(random >> 33).expect("small") % 1024.min(program.len());
                program[place] = random.to_le_bytes()[3];
            }
        }
        put(root, "bin/program", &program);
        let outcome = check(root, "/bin/program");
        assert!(
            matches!(outcome.status, Some(0..=2)),
            "{round}: {outcome:?}"
        );
    }
}

#[test]
fn scripts_and_wrappers_that_go_in_circles_end() {
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path();
    put(root, "bin/self", "#!/bin/self\n");
    put(root, "bin/ping", "#!/bin/pong\n");
    put(root, "bin/pong", "#!/bin/ping\n");
    put(root, "bin/sh", fs::read("/bin/dash").expect("readable"));
    put(root, "bin/again", "#!/bin/sh\nexec /bin/again\n");
    put(root, "bin/long", format!("#!/bin/{}\n", "x".repeat(10_000)));
    put(root, "bin/relative", "#!sh\n");
    for target in ["/bin/self", "/bin/ping", "/bin/again"] {
        assert_eq!(check(root, target).status, Some(1), "{target}");
    }
    assert_ne!(check(root, "/bin/long").status, Some(0));
    let nested = "env ".repeat(5000) + "nginx";
    let words: Vec<&str> = nested.split(' ').collect();
    assert!(matches!(
        run(reuseport().args(["check", "--"]).args(words)).status,
        Some(1 | 2)
    ));
}

#[test]
fn an_unreadable_folder_is_said_to_be_one() {
    if !is_root() {
        skip(
            "an_unreadable_folder_is_said_to_be_one",
            "only root can become another user",
        );
        return;
    }
    let home = tempfile::tempdir_in("/var/tmp").expect("a directory");
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).expect("open");
    let program = home.path().join("reuseport");
    crate::support::copy(env!("CARGO_BIN_EXE_reuseport"), &program);
    let root = home.path().join("root");
    put(
        &root,
        "closed/true",
        fs::read("/bin/true").expect("readable"),
    );
    put(
        &root,
        "bin/unreadable",
        fs::read("/bin/true").expect("readable"),
    );
    fs::set_permissions(root.join("closed"), fs::Permissions::from_mode(0o700)).expect("closed");
    fs::set_permissions(
        root.join("bin/unreadable"),
        fs::Permissions::from_mode(0o711),
    )
    .expect("closed");
    for target in ["/closed/true", "/bin/unreadable"] {
        let mut setpriv = crate::support::command("setpriv");
        setpriv
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&program);
        let outcome = run(setpriv.args(["check", "--root"]).arg(&root).arg(target));
        assert_eq!(outcome.status, Some(2), "{outcome:?}");
        assert!(
            outcome.stdout.contains("error: unreadable: "),
            "{outcome:?}"
        );
    }
}
