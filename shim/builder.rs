//! How the shim is built, for each architecture of `architectures.rs`.
//!
//! Cargo cannot build it as a crate: a `no_std` shared object with a panic
//! handler of its own needs `panic = "abort"`, which is a profile's setting and
//! not a package's, and a static C library target refuses shared objects. So the
//! compiler is called here. The package's build script does so for every
//! architecture; `shim/build` compiles this file alone, for who wants the shared
//! object and nothing else.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

#[path = "architectures.rs"]
mod architectures;

pub use architectures::{ARCHITECTURES, Architecture};

/// Why there is no shim for an architecture.
pub enum Failure {
    /// The compiler has no standard library for the target.
    NoTarget(&'static Architecture),
    /// The compiler could not be run, or said no.
    Compiler(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTarget(architecture) => write!(
                f,
                "the Rust target {target} is not installed: rustup target add {target}",
                target = architecture.target
            ),
            Self::Compiler(message) => f.write_str(message),
        }
    }
}

/// Which of the two shims.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// That of every server.
    Plain,
    /// That of a runner's copies, which counts what they accept.
    #[allow(dead_code, reason = "shim/build makes the other alone")]
    Counting,
}

/// Compiles the sources in `sources` (this folder) to the shared object
/// `output`, with the compiler `rustc`, naming itself `version`.
pub fn build(
    kind: Kind,
    rustc: &OsString,
    sources: &Path,
    version: &str,
    architecture: &'static Architecture,
    output: &Path,
) -> Result<(), Failure> {
    if !has_target(rustc, architecture)? {
        return Err(Failure::NoTarget(architecture));
    }
    let mut command = Command::new(rustc);
    command
        .args(["--edition", "2024", "--crate-type", "cdylib"])
        .args(["--crate-name", "reuseport", "--target", architecture.target])
        // Small before fast: the file travels in a ConfigMap, and both the cost
        // of loading it and that of a bind are lowest so (see benches/).
        .args(["-Copt-level=s", "-Cpanic=abort", "-Clto=fat"])
        .args(["-Ccodegen-units=1", "-Cstrip=symbols"])
        // One writable segment: what would be read-only after relocation is
        // two addresses, and protecting them costs a mapping and a system call.
        .arg("-Crelro-level=off")
        .arg("--remap-path-prefix")
        .arg(joined([sources.as_os_str(), "=shim".as_ref()]))
        .args(linker(rustc)?)
        // No undefined symbol but the weak ones: proves that nothing panics.
        .args(["-Clink-arg=-zdefs", "-Clink-arg=--hash-style=gnu"])
        .args(match kind {
            Kind::Plain => vec![
                "-Clink-arg=--no-eh-frame-hdr".into(),
                joined([
                    "-Clink-arg=-T".as_ref(),
                    sources.join("sections.ld").as_os_str(),
                ]),
            ],
            Kind::Counting => ["--cfg=accepts", "-Cforce-unwind-tables=yes"]
                .map(OsString::from)
                .to_vec(),
        })
        .arg("-o")
        .args([output, &sources.join("lib.rs")])
        // Flags that are meant for the program, and a wrapper's settings.
        .env_remove("RUSTFLAGS")
        .env("CARGO_PKG_VERSION", version);
    let outcome = command
        .output()
        .map_err(|error| Failure::Compiler(format!("{}: {error}", rustc.display())))?;
    if !outcome.status.success() {
        let message = String::from_utf8_lossy(&outcome.stderr);
        return Err(Failure::Compiler(format!(
            "the shim for {} does not compile:\n{message}",
            architecture.name
        )));
    }
    Ok(())
}

fn joined<const N: usize>(parts: [&std::ffi::OsStr; N]) -> OsString {
    parts.into_iter().collect()
}

fn has_target(rustc: &OsString, architecture: &Architecture) -> Result<bool, Failure> {
    let arguments = ["--print", "target-libdir", "--target", architecture.target];
    let directory = PathBuf::from(ask(rustc, &arguments)?);
    let files = directory.read_dir().into_iter().flatten().flatten();
    Ok(files
        .into_iter()
        .any(|file| file.file_name().to_string_lossy().starts_with("libcore-")))
}

/// The linker's flags: that of the Rust toolchain links for every architecture;
/// a toolchain without one (a distribution's) has LLVM's beside it or, for its
/// own architecture, GNU's.
fn linker(rustc: &OsString) -> Result<Vec<&'static str>, Failure> {
    // One segment for code and constants, as GNU's linker does when asked.
    const LLD: [&str; 2] = ["-Clinker-flavor=ld.lld", "-Clink-arg=--no-rosegment"];
    let sysroot = PathBuf::from(ask(rustc, &["--print", "sysroot"])?);
    let version = ask(rustc, &["-vV"])?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let tools = sysroot
        .join("lib/rustlib")
        .join(host.unwrap_or_default())
        .join("bin");
    let linker = if tools.join("rust-lld").exists() {
        "-Clinker=rust-lld"
    } else if Command::new("ld.lld").arg("--version").output().is_ok() {
        "-Clinker=ld.lld"
    } else {
        return Ok(vec![
            "-Clinker=ld",
            "-Clinker-flavor=ld",
            "-Clink-arg=-znoseparate-code",
        ]);
    };
    Ok(std::iter::once(linker).chain(LLD).collect())
}

/// What the compiler prints, without the end of the line.
fn ask(rustc: &OsString, arguments: &[&str]) -> Result<String, Failure> {
    let fail = |why: &dyn fmt::Display| {
        Failure::Compiler(format!(
            "{} {}: {why}",
            rustc.display(),
            arguments.join(" ")
        ))
    };
    let outcome = Command::new(rustc).args(arguments).output();
    let outcome = outcome.map_err(|error| fail(&error))?;
    if !outcome.status.success() {
        return Err(fail(&String::from_utf8_lossy(&outcome.stderr)));
    }
    Ok(String::from_utf8_lossy(&outcome.stdout)
        .trim_end()
        .to_owned())
}

/// `build SOURCES VERSION OUTPUT [ARCHITECTURE]`: the program of `shim/build`.
#[allow(dead_code, reason = "the package's build script has a main of its own")]
fn main() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let [sources, version, output, rest @ ..] = &arguments[..] else {
        eprintln!("usage: shim/build OUTPUT [ARCHITECTURE]");
        return ExitCode::from(2);
    };
    let name = match rest.first() {
        Some(name) => name.to_string_lossy(),
        None => env::consts::ARCH.into(),
    };
    let Some(architecture) = ARCHITECTURES.iter().find(|one| one.name == name) else {
        eprintln!("shim/build: there is no shim for {name}");
        return ExitCode::from(2);
    };
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = version.to_string_lossy();
    match build(
        Kind::Plain,
        &rustc,
        sources.as_ref(),
        &version,
        architecture,
        output.as_ref(),
    ) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("shim/build: {failure}");
            ExitCode::FAILURE
        }
    }
}
