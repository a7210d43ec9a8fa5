//! Builds the shim for every architecture whose Rust target is installed, packs it as
//! it stands in a layer, and writes the tables through which the program embeds them.

use std::env;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[path = "shim/builder.rs"]
mod builder;

use builder::{ARCHITECTURES, Failure, Kind};

fn main() -> ExitCode {
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let out = PathBuf::from(variable("OUT_DIR"));
    let rustc = variable("RUSTC");
    let version = variable("CARGO_PKG_VERSION");
    let sources = root.join("shim");
    println!("cargo::rerun-if-changed=shim");
    println!("cargo::rerun-if-changed=build.rs");
    watch_targets(&rustc);

    for (kind, name) in [(Kind::Plain, "shims"), (Kind::Counting, "counting-shims")] {
        let mut files = Vec::new();
        for architecture in &ARCHITECTURES {
            let file = out.join(format!("{name}-{}.so", architecture.name));
            let version = version.to_string_lossy();
            match builder::build(kind, &rustc, &sources, &version, architecture, &file) {
                Ok(()) => files.push(Some(file)),
                Err(Failure::NoTarget(_)) => files.push(None),
                Err(failure) => {
                    eprintln!("{failure}");
                    return ExitCode::FAILURE;
                }
            }
        }
        write_table(&out.join(format!("{name}.rs")), &files);
        if kind == Kind::Plain {
            let packed: Vec<_> = files.iter().map(|file| file.as_deref().map(pack)).collect();
            write_table(&out.join("packed-shims.rs"), &packed);
        }
    }
    ExitCode::SUCCESS
}

/// Writes the table that embeds `files`.
fn write_table(path: &Path, files: &[Option<PathBuf>]) {
    let mut table = String::from("[\n");
    for file in files {
        match file {
            Some(file) => writeln!(table, "Some(include_bytes!(r##\"{}\"##)),", file.display()),
            None => writeln!(table, "None,"),
        }
        .expect("a String takes any text");
    }
    table.push(']');
    fs::write(path, table).expect("OUT_DIR can be written");
}

/// Packs (RFC 1951) what an archive holds from the data of its last file, `shim`, on:
/// zeros up to a whole block, and two blocks more. That takes longer than all else
/// that is done to an image, and is the same each time.
fn pack(shim: &Path) -> PathBuf {
    const BLOCK: usize = 512;
    let mut rest = fs::read(shim).expect("it was just built");
    rest.resize(rest.len().next_multiple_of(BLOCK) + 2 * BLOCK, 0);
    let path = shim.with_extension("deflate");
    fs::write(&path, miniz_oxide::deflate::compress_to_vec(&rest, 9))
        .expect("OUT_DIR can be written");
    path
}

/// Runs this script again when rustup adds or removes a target.
fn watch_targets(rustc: &OsString) {
    let components = std::process::Command::new(rustc)
        .args(["--print", "sysroot"])
        .output()
        .map(|output| {
            String::from_utf8_lossy(&output.stdout)
                .trim_end()
                .to_owned()
        })
        .map(|sysroot| Path::new(&sysroot).join("lib/rustlib/components"));
    if let Ok(components) = components
        && components.exists()
    {
        println!("cargo::rerun-if-changed={}", components.display());
    }
}

fn variable(name: &str) -> OsString {
    env::var_os(name).unwrap_or_else(|| panic!("Cargo sets {name}"))
}
