//! The programs that the tests need, and what is built with them.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::slot::Slot;

/// The Debian packages that bring everything that is needed.
const PACKAGES: &str = include_str!("packages");

/// Where Debian has servers; a user's PATH may not name it.
const SERVER_DIRECTORIES: &str = "/usr/local/sbin:/usr/sbin:/sbin";

/// A source below fixtures/.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/servers/fixtures")
        .join(name)
}

/// `PATH` with the directories of servers.
pub fn search_path() -> String {
    let path = env::var("PATH").unwrap_or_default();
    format!("{path}:{SERVER_DIRECTORIES}")
}

/// Panics where `file`, a path or the name of a program, is not there.
pub fn require(file: &str, package: &str) {
    assert!(
        PACKAGES.lines().any(|line| line == package),
        "{package} is missing in tests/servers/packages"
    );
    let found = if file.contains('/') {
        Path::new(file).exists()
    } else {
        env::split_paths(&search_path()).any(|directory| directory.join(file).exists())
    };
    assert!(
        found,
        "{file} is not there; Debian's package {package} brings it: apt-get install {package}"
    );
}

/// Runs `command` to its end.
///
/// # Panics
/// It fails. Its output is in the message.
pub fn run(command: &mut Command) {
    let output = command
        .env("PATH", search_path())
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
}

/// Builds fixtures/server.c as the program `server` in the copy's directory.
pub fn compile(compiler: &str, flags: &[&str], slot: &Slot) {
    run(Command::new(compiler)
        .args(["-O1", "-Wall", "-Werror", "-o"])
        .arg(slot.path("server"))
        .args(flags)
        .arg(fixture("server.c")));
}

/// The directory `name` below target/. Once, `make` fills a directory that is
/// then given this name.
pub fn kept(name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let kept = target.join(name);
    if !kept.exists() {
        let temporary = tempfile::tempdir_in(target).expect("a writable target directory");
        let filled = temporary.path().join(name);
        fs::create_dir(&filled).expect("a writable target directory");
        make(&filled);
        // Another process may have been faster.
        if let Err(error) = fs::rename(&filled, &kept) {
            assert!(kept.exists(), "{}: {error}", kept.display());
        }
    }
    kept
}

/// The files of a Debian package, unpacked and not installed: for one that
/// excludes another package that a machine may need.
pub fn unpacked(package: &str) -> PathBuf {
    kept(package, |directory| {
        run(Command::new("apt-get")
            .args(["download", package])
            .current_dir(directory));
        for archive in files(directory) {
            run(Command::new("dpkg-deb")
                .arg("--extract")
                .args([&archive, directory]));
        }
    })
}

/// What lies in `directory`.
pub fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("a readable directory");
    entries
        .map(|entry| entry.expect("a readable directory").path())
        .collect()
}
