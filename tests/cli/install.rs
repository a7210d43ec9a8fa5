//! `reuseport install`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::{output, reuseport, run};

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory");
    let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    let mut names: Vec<_> = entries
        .map(|entry| name(entry.expect("an entry")))
        .collect();
    names.sort();
    names
}

#[test]
fn one_shim_is_written_where_it_is_said() {
    let directory = tempfile::tempdir().expect("a directory");
    let deep = directory.path().join("a/b");
    for _ in 0..2 {
        let printed = output(reuseport().arg("install").arg(&deep));
        assert_eq!(
            printed,
            format!("{}\n", deep.join("libreuseport.so").display())
        );
        assert_eq!(names(&deep), ["libreuseport.so"]);
        let metadata = deep.join("libreuseport.so").metadata().expect("a file");
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o755);
    }
}

#[test]
fn another_architecture_and_all_of_them() {
    let directory = tempfile::tempdir().expect("a directory");
    let [one, all] = ["one", "all"].map(|name| directory.path().join(name));
    output(reuseport().args(["install", "--arch", "aarch64"]).arg(&one));
    output(reuseport().args(["install", "--all"]).arg(&all));
    assert_eq!(names(&all), ["aarch64", "x86_64"]);
    let read = |path| fs::read(path).expect("readable");
    let arm = read(one.join("libreuseport.so"));
    assert!(arm == read(all.join("aarch64/libreuseport.so")));
    assert!(arm != read(all.join("x86_64/libreuseport.so")));
}

#[test]
fn an_old_file_is_replaced_and_not_written_into() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("libreuseport.so");
    fs::write(&path, "old").expect("written");
    let old = fs::File::open(&path).expect("open");
    output(reuseport().arg("install").arg(directory.path()));
    assert_eq!(std::io::read_to_string(old).expect("readable"), "old");
    assert_ne!(fs::read(&path).expect("readable"), b"old");
}

#[test]
fn what_cannot_be_done_changes_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let outcome = run(reuseport()
        .args(["install", "--arch", "sparc"])
        .arg(directory.path()));
    assert_eq!((outcome.status, outcome.stdout.as_str()), (Some(2), ""));
    let expected = "there is no shim for sparc: reuseport has shims for x86_64 and aarch64";
    assert!(outcome.stderr.contains(expected), "{}", outcome.stderr);
    assert_eq!(names(directory.path()), [""; 0]);

    let file = directory.path().join("file");
    fs::write(&file, "").expect("written");
    let outcome = run(reuseport().arg("install").arg(file.join("below")));
    assert_eq!((outcome.status, outcome.stdout.as_str()), (Some(2), ""));
    let path = file.join("below");
    assert!(
        outcome
            .stderr
            .starts_with(&format!("reuseport: {}: ", path.display()))
    );

    assert_eq!(run(reuseport().arg("install")).status, Some(2));
    assert_eq!(
        run(reuseport().args(["install", "--all", "--arch", "x86_64", "d"])).status,
        Some(2)
    );
}

#[test]
fn a_full_disk_leaves_the_old_file() {
    // The limit on a file's size stands for a disk that ends within the file.
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("libreuseport.so");
    fs::write(&path, "old").expect("written");
    let mut shell = crate::support::command("/bin/sh");
    let script = "trap '' XFSZ; ulimit -f 8; exec \"$0\" install \"$1\"";
    let program = env!("CARGO_BIN_EXE_reuseport");
    let outcome = run(shell.args(["-c", script, program]).arg(directory.path()));
    assert_eq!((outcome.status, outcome.stdout.as_str()), (Some(2), ""));
    assert!(
        outcome.stderr.contains("File too large"),
        "{}",
        outcome.stderr
    );
    assert_eq!(names(directory.path()), ["libreuseport.so"]);
    assert_eq!(fs::read(&path).expect("readable"), b"old");
}

#[test]
fn a_closed_standard_output_does_not_write_into_the_shim() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut shell = crate::support::command("/bin/sh");
    let script = "exec \"$0\" install \"$1\" <&- >&- 2>&-";
    let program = env!("CARGO_BIN_EXE_reuseport");
    run(shell.args(["-c", script, program]).arg(directory.path()));
    let written = fs::read(directory.path().join("libreuseport.so")).expect("a file");
    assert!(written == fs::read(crate::support::shim()).expect("readable"));
}

#[test]
fn of_all_or_none_none_is_left() {
    let directory = tempfile::tempdir().expect("a directory");
    let all = directory.path().join("all");
    fs::create_dir(&all).expect("made");
    // The second one cannot be written: a file stands where its folder would.
    fs::write(all.join("aarch64"), "").expect("written");
    let outcome = run(reuseport().args(["install", "--all"]).arg(&all));
    assert_eq!((outcome.status, outcome.stdout.as_str()), (Some(2), ""));
    assert_eq!(names(&all), ["aarch64"]);
}
