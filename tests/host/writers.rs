//! Whoever is killed while writing, or finds the disk full, leaves the old file
//! or the new one.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::shim_in;
use crate::support::{command, is_root, output, reuseport, run, skip};

const CONFIG: &str = r#"{"process":{"args":["x"]},"root":{"path":"/"}}"#;
const UNIT: &str = "[Service]\nExecStart=/bin/true\n";
const DROP_IN: &str = "root/etc/systemd/system/a.service.d/50-reuseport.conf";

/// A command that writes one file, of which an older version is there.
struct Writer {
    /// The path below the place.
    file: &'static str,
    arguments: Vec<String>,
}

/// A place with a bundle, a unit, a device and a shim, each as an older call left
/// it.
struct Place {
    directory: TempDir,
    writers: Vec<Writer>,
}

impl Place {
    fn new(directory: TempDir, shim: &Path) -> Self {
        let top = directory.path().display().to_string();
        let below = |name: &str| format!("{top}/{name}");
        let shim = shim.display();
        let writer = |file, line: String| Writer {
            file,
            arguments: line.split(' ').map(str::to_owned).collect(),
        };
        let bundle = below("bundle");
        let root = below("root");
        let (specs, device) = (below("cdi"), below("cdi-shim/libreuseport.so"));
        let writers = vec![
            writer(
                "bundle/config.json",
                format!("inject --in-place --no-check --port 2 --shim-path {shim} {bundle}"),
            ),
            writer("bundle/config.json", format!("eject --in-place {bundle}")),
            writer(
                DROP_IN,
                format!("inject --in-place --no-check --port 2 --unit a --root {root}"),
            ),
            writer(
                "cdi/reuseport.json",
                format!(
                    "cdi --install --device a=--port=2 --spec-dir {specs} --shim-path {device}"
                ),
            ),
            writer(
                "cdi-shim/libreuseport.so",
                format!("cdi --install --spec-dir {specs} --shim-path {device}"),
            ),
            writer("shim/libreuseport.so", format!("install {}", below("shim"))),
        ];
        let this = Self { directory, writers };
        for (path, text) in [
            ("bundle/config.json", CONFIG),
            ("root/etc/systemd/system/a.service", UNIT),
        ] {
            this.write(path, text.as_bytes());
        }
        output(reuseport().args(["install", &below("root/opt/reuseport")]));
        for index in [0, 2, 3] {
            let arguments = this.writers[index].arguments.iter();
            // The older version has another port.
            let older = arguments.map(|one| one.replace("=2", "=1"));
            let older: Vec<String> = older
                .map(|one| if one == "2" { "1".into() } else { one })
                .collect();
            let outcome = run(reuseport().args(older));
            assert_eq!(outcome.status, Some(0), "{}", outcome.stderr);
        }
        this.age_shims();
        this
    }

    /// Other writers than the one that is tried may have replaced them.
    fn age_shims(&self) {
        for path in ["cdi-shim/libreuseport.so", "shim/libreuseport.so"] {
            self.write(path, b"an older one");
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn write(&self, path: &str, content: &[u8]) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(path, content).expect("written");
    }

    fn read(&self, path: &str) -> Vec<u8> {
        fs::read(self.path(path)).expect("a file")
    }
}

/// The calls by which files get their content and their names.
const CALLS: [&str; 13] = [
    "openat",
    "write",
    "fchmod",
    "fchown",
    "fsync",
    "rename",
    "renameat",
    "renameat2",
    "linkat",
    "unlink",
    "ftruncate",
    "mkdir",
    "close",
];

#[test]
fn one_that_is_killed_leaves_the_old_or_the_new() {
    let shims = tempfile::tempdir().expect("a directory");
    let place = Place::new(
        tempfile::tempdir().expect("a directory"),
        &shim_in(shims.path()),
    );
    for Writer { file, arguments } in &place.writers {
        place.age_shims();
        let old = place.read(file);
        let status = reuseport()
            .args(arguments)
            .output()
            .expect("it runs")
            .status;
        assert!(status.success(), "{arguments:?}");
        let new = place.read(file);
        assert!(old != new, "{arguments:?}");
        let mut kills = 0;
        // Killed as it enters the call, the first one of its kind and each later one.
        for call in CALLS {
            for step in 1.. {
                place.write(file, &old);
                let mut strace = command("strace");
                strace.args([
                    "-qq",
                    "-o",
                    "/dev/null",
                    "-e",
                    &format!("trace={call}"),
                    "-e",
                ]);
                strace.arg(format!("inject={call}:signal=KILL:when={step}"));
                strace.arg(env!("CARGO_BIN_EXE_reuseport")).args(arguments);
                let status = strace.output().expect("strace").status;
                let now = place.read(file);
                let is_whole = now == old || now == new;
                assert!(is_whole, "{arguments:?}: killed at {call} {step}");
                if status.success() {
                    break;
                }
                assert_eq!(status.signal(), Some(9), "{arguments:?}: {status}");
                kills += 1;
            }
        }
        assert!(kills > 10, "{arguments:?}: {kills}");
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
    let shims = tempfile::tempdir().expect("a directory");
    let disk = tempfile::tempdir().expect("a directory");
    let place = Place::new(disk, &shim_in(shims.path()));
    // The same files on a disk that has no room left.
    let script = r#"
        cp -a "$1" "$1.copy" && mount -t tmpfs -o size=400k none "$1" && cp -a "$1.copy"/. "$1" &&
        rm -r "$1.copy" && cd "$1" && { dd if=/dev/zero of=filler bs=4k 2>/dev/null; shift; "$@"; echo $?; cat "$0"; }
        find . -name '.*reuseport-*' | grep . >&2"#;
    for Writer { file, arguments } in &place.writers {
        let old = String::from_utf8_lossy(&place.read(file)).into_owned();
        let mut call = command("unshare");
        call.args(["--mount", "sh", "-c", script, file])
            .arg(place.directory.path());
        call.arg(env!("CARGO_BIN_EXE_reuseport")).args(arguments);
        let outcome = run(&mut call);
        assert_eq!(
            outcome.stdout,
            format!("2\n{old}"),
            "{arguments:?}: {}",
            outcome.stderr
        );
        let lines: Vec<_> = outcome.stderr.lines().collect();
        assert_eq!(lines.len(), 1, "{arguments:?}: {}", outcome.stderr);
        assert!(lines[0].contains("No space left"), "{}", outcome.stderr);
    }
}
