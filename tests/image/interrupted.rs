//! Whoever is stopped, or is not alone, leaves what is whole.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::Instant;

use crate::build::{Image, Layer, attempt, digest, inject, oci, validate};
use crate::support::reuseport;

fn image() -> Image {
    let noise: Vec<u8> = (0..2_000_000_u32)
        .map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3])
        .collect();
    Image::new(Layer::default().file("a", 0o644, noise))
}

fn start(source: &str, target: &str, port: usize) -> Child {
    reuseport()
        .args([
            "inject",
            "--no-check",
            source,
            "-t",
            target,
            "--port",
            &port.to_string(),
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("started")
}

/// Kills injects from `source` to `target` at twenty points of the time that one
/// takes, and asks each time whether `intact` holds.
fn kill_at_twenty_points(source: &str, target: &str, intact: impl Fn()) {
    let begin = Instant::now();
    assert!(start(source, target, 1).wait().expect("ended").success());
    let whole = begin.elapsed();
    for point in 0..20 {
        let mut child = start(source, target, 1000 + point);
        sleep(whole * u32::try_from(point).expect("small") / 20);
        child.kill().expect("killed");
        child.wait().expect("ended");
        intact();
    }
    inject(source, &["-t", target]);
    intact();
}

fn leftovers(directory: &Path) -> usize {
    let entries = fs::read_dir(directory).expect("a directory");
    entries
        .filter(|entry| {
            entry
                .as_ref()
                .is_ok_and(|one| one.file_name().to_string_lossy().starts_with(".reuseport-"))
        })
        .count()
}

#[test]
fn a_killed_inject_leaves_the_layout_whole() {
    let directory = tempfile::tempdir().expect("a directory");
    let [from, to] = ["from", "to"].map(|name| directory.path().join(name));
    let original = image().tag(&from, "v1");
    image().tag(&to, "kept");
    kill_at_twenty_points(&oci(&from, "v1"), &oci(&to, "x"), || {
        validate(&oci(&from, "v1"));
        validate(&oci(&to, "kept"));
        validate(&oci(&to, "x"));
    });
    assert_eq!(digest(&["eject", &oci(&to, "x"), "-t", "back"]), original);
    assert_eq!(leftovers(&to), 0);
}

#[test]
fn a_killed_inject_leaves_the_archive_whole() {
    let directory = tempfile::tempdir().expect("a directory");
    let layout = directory.path().join("layout");
    image().tag(&layout, "v1");
    let archive = format!("oci-archive:{}:x", directory.path().join("x.tar").display());
    kill_at_twenty_points(&oci(&layout, "v1"), &archive, || validate(&archive));
    assert_eq!(leftovers(directory.path()), 0);
}

#[test]
fn of_two_at_once_both_are_there() {
    let directory = tempfile::tempdir().expect("a directory");
    let layout = directory.path();
    Image::new(Layer::default().file("a", 0o644, "a")).tag(layout, "v1");
    let source = oci(layout, "v1");
    let children: Vec<Child> = (0..8)
        .map(|n| start(&source, &oci(layout, &format!("t{n}")), 80 + n))
        .collect();
    for mut child in children {
        assert!(child.wait().expect("ended").success());
    }
    for n in 0..8 {
        validate(&oci(layout, &format!("t{n}")));
    }
    // A layout that none of them finds there.
    let new = directory.path().join("new");
    let children: Vec<Child> = (0..8)
        .map(|n| start(&source, &oci(&new, &format!("t{n}")), 80 + n))
        .collect();
    for mut child in children {
        assert!(child.wait().expect("ended").success());
    }
    for n in 0..8 {
        validate(&oci(&new, &format!("t{n}")));
    }
    // One that was stopped before it had a list, and a folder of other things.
    let begun = directory.path().join("begun");
    fs::create_dir_all(begun.join("blobs/sha256")).expect("made");
    inject(&source, &["-t", &oci(&begun, "x")]);
    let other = directory.path().join("other");
    fs::create_dir(&other).expect("made");
    fs::write(other.join("letter"), "x").expect("written");
    let outcome = attempt(&["inject", "--no-check", &source, "-t", &oci(&other, "x")]);
    assert_eq!(outcome.status, Some(2), "{outcome:?}");
}

#[test]
fn a_full_disk_leaves_the_old_state() {
    // The limit on a file's size stands for a disk that ends within the file.
    let directory = tempfile::tempdir().expect("a directory");
    let [from, to] = ["from", "to"].map(|name| directory.path().join(name));
    image().tag(&from, "v1");
    Image::new(Layer::default()).tag(&to, "kept");
    let before = fs::read(to.join("index.json")).expect("an index");
    let archive = format!("oci-archive:{}:x", directory.path().join("x.tar").display());
    for target in [oci(&to, "x"), archive] {
        let script = "trap '' XFSZ; ulimit -f 1000; exec \"$0\" inject --no-check \"$1\" -t \"$2\"";
        let program = env!("CARGO_BIN_EXE_reuseport");
        let mut shell = crate::support::command("/bin/sh");
        let outcome =
            crate::support::run(shell.args(["-c", script, program, &oci(&from, "v1"), &target]));
        assert_eq!(
            (outcome.status, outcome.stdout.as_str()),
            (Some(2), ""),
            "{outcome:?}"
        );
        assert!(outcome.stderr.contains("File too large"), "{outcome:?}");
    }
    assert_eq!(fs::read(to.join("index.json")).expect("an index"), before);
    assert_eq!((leftovers(&to), leftovers(directory.path())), (0, 0));
    assert!(!directory.path().join("x.tar").exists());
}
