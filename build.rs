//! Builds the shim for every architecture whose Rust target is installed, and
//! writes the table through which the program embeds them.

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
        let mut table = String::from("[\n");
        for architecture in &ARCHITECTURES {
            let file = out.join(format!("{name}-{}.so", architecture.name));
            let version = version.to_string_lossy();
            match builder::build(kind, &rustc, &sources, &version, architecture, &file) {
                Ok(()) => writeln!(table, "Some(include_bytes!(r##\"{}\"##)),", file.display()),
                Err(Failure::NoTarget(_)) => writeln!(table, "None,"),
                Err(failure) => {
                    eprintln!("{failure}");
                    return ExitCode::FAILURE;
                }
            }
            .expect("a String takes any text");
        }
        table.push(']');
        fs::write(out.join(format!("{name}.rs")), table).expect("OUT_DIR can be written");
    }
    ExitCode::SUCCESS
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
