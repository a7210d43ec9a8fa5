//! Whoever is killed while writing, or finds the disk full, leaves the old file
//! or the new one.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::shim_in;
use crate::support::{command, is_root, output, reuseport, run, skip};

const CONFIG: &str = r#"{"process":{"args":["x"]},"root":{"path":"/"}}"#;
const UNIT: &str = "[Service]\nExecStart=/bin/true\n";

/// A directory with a bundle and a unit, and the commands that write there.
fn writers(directory: &Path, shim: &Path) -> Vec<Command> {
    fs::write(directory.join("config.json"), CONFIG).expect("written");
    let units = directory.join("root/etc/systemd/system");
    fs::create_dir_all(&units).expect("made");
    fs::write(units.join("a.service"), UNIT).expect("written");
    let command = |arguments: &[&str]| {
        let mut call = reuseport();
        call.args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        call
    };
    let mut bundle = command(&["inject", "--in-place", "--no-check", "--shim-path"]);
    bundle.arg(shim).arg(directory);
    let mut unit = command(&[
        "inject",
        "--in-place",
        "--no-check",
        "--unit",
        "a",
        "--root",
    ]);
    unit.arg(directory.join("root"));
    let mut cdi = command(&["cdi", "--install", "--spec-dir"]);
    cdi.arg(directory.join("cdi")).arg("--shim-path");
    cdi.arg(directory.join("cdi-shim/libreuseport.so"));
    vec![bundle, unit, cdi]
}

/// What the writers write, each file that is there.
fn files(directory: &Path) -> Vec<String> {
    let files = [
        "config.json",
        "root/etc/systemd/system/a.service.d/50-reuseport.conf",
        "cdi/reuseport.json",
    ];
    let read = |file: &&str| fs::read_to_string(directory.join(file)).unwrap_or_default();
    files.iter().map(read).collect()
}

#[test]
fn one_that_is_killed_leaves_the_old_or_the_new() {
    let directory = tempfile::tempdir().expect("a directory");
    let shim = shim_in(directory.path());
    let opt = directory.path().join("root/opt/reuseport");
    output(reuseport().arg("install").arg(&opt));
    let fresh = || {
        let _ = fs::remove_dir_all(directory.path().join("root/etc"));
        let _ = fs::remove_dir_all(directory.path().join("cdi"));
        let _ = fs::remove_dir_all(directory.path().join("cdi-shim"));
        writers(directory.path(), &shim)
    };
    let before = {
        fresh();
        files(directory.path())
    };
    for mut writer in fresh() {
        assert!(writer.status().expect("it runs").success());
    }
    let after = files(directory.path());
    assert!(
        before
            .iter()
            .zip(&after)
            .all(|(before, after)| before != after)
    );
    for step in 0..20 {
        for mut writer in fresh() {
            let mut child = writer.spawn().expect("it starts");
            sleep(Duration::from_micros(300 * step));
            child.kill().expect("killed");
            child.wait().expect("ended");
        }
        for (now, (before, after)) in files(directory.path())
            .iter()
            .zip(before.iter().zip(&after))
        {
            assert!(now == before || now == after, "{now}");
        }
    }
}

#[test]
fn one_that_finds_the_disk_full_leaves_the_old() {
    if !is_root() {
        return skip(
            "one_that_finds_the_disk_full_leaves_the_old",
            "only root may mount a small disk",
        );
    }
    let directory = tempfile::tempdir().expect("a directory");
    let shim = shim_in(directory.path());
    let disk = directory.path().join("disk");
    fs::create_dir(&disk).expect("made");
    let script = r#"
        mount -t tmpfs -o size=64k none "$1" && cd "$1" &&
        printf %s "$4" >config.json && cp config.json "$5" &&
        mkdir -p root/etc/systemd/system root/opt/reuseport && printf %s "$6" >root/etc/systemd/system/a.service &&
        cp "$3" root/opt/reuseport/ &&
        dd if=/dev/zero of=filler bs=4k 2>/dev/null
        "$2" inject --in-place --no-check --shim-path "$3" "$1"; echo $?
        "$2" inject --in-place --no-check --unit a --root "$1/root"; echo $?
        "$2" cdi --install --spec-dir "$1/cdi" --shim-path "$1/shim/libreuseport.so"; echo $?
        cmp config.json "$5"; ls -A; ls -A root/etc/systemd/system/*"#;
    let mut call = command("unshare");
    call.args(["--mount", "sh", "-c", script, "sh"]).arg(&disk);
    call.arg(env!("CARGO_BIN_EXE_reuseport"))
        .arg(&shim)
        .arg(CONFIG);
    call.arg(directory.path().join("old")).arg(UNIT);
    let outcome = run(&mut call);
    let lines: Vec<_> = outcome.stdout.lines().collect();
    assert_eq!(
        lines[..3],
        ["2", "2", "2"],
        "{} {}",
        outcome.stdout,
        outcome.stderr
    );
    assert!(
        outcome.stderr.contains("No space left"),
        "{}",
        outcome.stderr
    );
    assert!(
        !outcome.stdout.contains(".reuseport-"),
        "{}",
        outcome.stdout
    );
    assert!(!outcome.stdout.contains("differ"), "{}", outcome.stdout);
}
