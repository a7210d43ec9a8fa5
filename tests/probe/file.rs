//! The shim's file, as another reader of ELF sees it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{output, reuseport};

/// The functions that the shim stands in front of: all that it may export.
const HOOKS: [&str; 3] = ["bind", "listen", "syscall"];

/// What it may look for in the process, and must do without.
const WEAK: [&str; 3] = ["__errno_location", "dlsym", "environ"];

fn shims() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("all");
    let printed = output(reuseport().args(["install", "--all"]).arg(&directory));
    let paths: Vec<PathBuf> = printed.lines().map(PathBuf::from).collect();
    let expected = ["x86_64", "aarch64"].map(|name| directory.join(name).join("libreuseport.so"));
    assert_eq!(paths, expected);
    paths
}

fn readelf(flags: &[&str], path: &Path) -> String {
    output(
        Command::new("readelf")
            .env("LC_ALL", "C")
            .arg("-W")
            .args(flags)
            .arg(path),
    )
}

#[test]
fn it_needs_no_library_and_no_version_of_one() {
    for path in shims() {
        let dynamic = readelf(&["--dynamic"], &path);
        assert!(dynamic.contains("(INIT_ARRAY)"), "{dynamic}");
        for tag in [
            "(NEEDED)",
            "(VERNEED)",
            "(VERDEF)",
            "(TEXTREL)",
            "(INIT)",
            "(RUNPATH)",
            // musl ignores it before 1.2.4.
            "(RELR)",
        ] {
            assert!(!dynamic.contains(tag), "{tag} in {dynamic}");
        }
    }
}

#[test]
fn it_exports_the_hooks_and_needs_weak_symbols_alone() {
    for path in shims() {
        let symbols = readelf(&["--dyn-syms"], &path);
        let rows = symbols
            .lines()
            .skip_while(|line| !line.contains("Num:"))
            .skip(2);
        let (mut exported, mut weak) = (Vec::new(), Vec::new());
        for row in rows {
            let words: Vec<&str> = row.split_whitespace().collect();
            let [_, _, _, _, binding, visibility, section, name] = words[..] else {
                panic!("{row}");
            };
            match (binding, visibility, section) {
                ("WEAK", "DEFAULT", "UND") => weak.push(name),
                ("GLOBAL", "DEFAULT", section) if section != "UND" => exported.push(name),
                _ => panic!("{row}"),
            }
        }
        exported.sort_unstable();
        weak.sort_unstable();
        assert_eq!(
            (exported.as_slice(), weak.as_slice()),
            (&HOOKS[..], &WEAK[..])
        );
    }
}

#[test]
fn it_is_small_and_its_stack_is_not_executable() {
    for path in shims() {
        let size = path.metadata().expect("a file").len();
        assert!(size <= 17 * 1024, "{}: {size} bytes", path.display());
        let segments = readelf(&["--segments"], &path);
        let stack = segments
            .lines()
            .find(|line| line.contains("GNU_STACK"))
            .expect("a stack");
        assert!(stack.contains(" RW "), "{stack}");
    }
}

#[test]
fn each_is_for_its_architecture() {
    let machines = ["Advanced Micro Devices X86-64", "AArch64"];
    for (path, machine) in shims().iter().zip(machines) {
        assert!(
            readelf(&["--file-header"], path).contains(machine),
            "{}",
            path.display()
        );
    }
}

#[test]
fn the_plain_command_builds_the_same_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let built = Path::new(env!("CARGO_TARGET_TMPDIR")).join("built.so");
    for (path, name) in shims().iter().zip(["x86_64", "aarch64"]) {
        output(Command::new(root.join("shim/build")).arg(&built).arg(name));
        let read = |path| std::fs::read(path).expect("readable");
        assert!(read(&built) == read(path), "{name}");
    }
}
