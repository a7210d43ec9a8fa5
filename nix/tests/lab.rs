//! Where the tests run Nix: the programs, the stand-in for nixpkgs, and what was
//! built already.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::support::{self, Outcome};

/// What the checks and packages of this machine are filed under.
pub const SYSTEM: &str = if cfg!(target_arch = "x86_64") {
    "x86_64-linux"
} else {
    "aarch64-linux"
};

/// Nix with nothing from outside: no sandbox, no cache, no daemon; and no import
/// from derivation, which the flake is to do without.
const SETTINGS: &str = "experimental-features = nix-command flakes
sandbox = false
substitute = false
build-users-group =
flake-registry =
allow-import-from-derivation = false
warn-dirty = false
";

/// A Nix, and what it is run with.
pub struct Nix {
    pub program: PathBuf,
    home: PathBuf,
    stub: PathBuf,
}

/// Every Nix that was found; the one that is installed comes first.
pub struct Lab {
    pub every: Vec<Nix>,
}

impl Lab {
    pub fn installed(&self) -> &Nix {
        &self.every[0]
    }
}

/// The lab; where there can be none, notes why `test` cannot run.
pub fn lab(test: &str) -> Option<&'static Lab> {
    static LAB: OnceLock<Result<Lab, String>> = OnceLock::new();
    match LAB.get_or_init(prepare) {
        Ok(lab) => Some(lab),
        Err(why) => {
            support::skip(&format!("nix {test}"), why);
            None
        }
    }
}

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn target() -> &'static Path {
    let own = Path::new(env!("CARGO_TARGET_TMPDIR"));
    own.parent().expect("Cargo's folder")
}

fn prepare() -> Result<Lab, String> {
    if !root().join(".git").exists() {
        return Err("the flake is read from a git repository, and this is none".into());
    }
    if !support::is_root() {
        return Err("Nix writes to /nix: it takes root".into());
    }
    let own = target().join("nix");
    let home = own.join("home");
    fs::create_dir_all(&home).expect("made");
    let stub = prepare_stub(&own);
    reuse_libraries(&own);
    let mut programs = vec![which::which("nix").map_err(|error| format!("nix: {error}"))?];
    let newer = own.join("debian13");
    let unpacked = support::run(
        Command::new(root().join("nix/tests/debian13-nix"))
            .arg(&newer)
            .stdin(std::process::Stdio::null()),
    );
    if unpacked.status == Some(0) {
        programs.push(newer.join("nix"));
    } else {
        support::skip("nix of Debian 13", unpacked.stderr.trim());
    }
    let every = programs.into_iter().map(|program| Nix {
        program,
        home: home.clone(),
        stub: stub.clone(),
    });
    Ok(Lab {
        every: every.collect(),
    })
}

/// The stand-in for nixpkgs, told where this machine's programs are.
fn prepare_stub(own: &Path) -> PathBuf {
    let stub = own.join("stub");
    let _ = fs::remove_dir_all(&stub);
    let from = root().join("nix/tests/stub");
    support::output(Command::new("cp").arg("-r").args([&from, &stub]));
    let variable = |name: &str, default: &str| {
        let home = || env::home_dir().expect("a home").join(default);
        env::var_os(name).map_or_else(home, PathBuf::from)
    };
    let host = format!(
        "{{\n  path = \"{}\";\n  cargoHome = \"{}\";\n  rustupHome = \"{}\";\n  target = \"{}\";\n}}\n",
        env::var("PATH").expect("a PATH"),
        variable("CARGO_HOME", ".cargo").display(),
        variable("RUSTUP_HOME", ".rustup").display(),
        target().display(),
    );
    fs::write(stub.join("host.nix"), host).expect("written");
    stub
}

/// Gives the build that Nix starts the libraries that Cargo has built for these
/// tests, so that only this package is compiled again. What compilers write anew is
/// linked; what build scripts and Cargo write in place is copied.
fn reuse_libraries(own: &Path) {
    let cargo = own.join("cargo/debug");
    let built = target().join("debug");
    if cargo.exists() || !built.exists() {
        return;
    }
    fs::create_dir_all(&cargo).expect("made");
    let script = r#"
        cp -a "$1/build" "$1/.fingerprint" "$2"
        rm -rf "$2"/build/reuseport-* "$2"/.fingerprint/reuseport-*
        mkdir "$2/deps"
        find "$1/deps" -regex '.*\.\(rlib\|rmeta\|so\|d\)' -exec cp -al -t "$2/deps" {} +
    "#;
    let link = Command::new("sh")
        .args(["-euc", script, "sh"])
        .args([&built, &cargo])
        .status();
    assert!(link.is_ok_and(|status| status.success()), "linked");
}

impl Nix {
    /// `nix ARGUMENTS` on this flake, with the stand-in where it takes an input.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = support::command(&self.program);
        command
            .current_dir(root())
            .env("HOME", &self.home)
            .env("NIX_CONFIG", SETTINGS)
            .args(arguments);
        command
    }

    /// The same on this flake, with the stand-in for its input. What Nix runs
    /// comes after `arguments`.
    pub fn flake(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(arguments);
        command
            .arg("--override-input")
            .arg("nixpkgs")
            .arg(format!("path:{}", self.stub.display()))
            .arg("--no-write-lock-file");
        command
    }

    /// Builds an output of the flake; gives where the link to it is, as long as
    /// the folder lives.
    pub fn build(&self, output: &str) -> (TempDir, PathBuf) {
        let directory = tempfile::tempdir().expect("a folder");
        let link = directory.path().join("result");
        let mut command = self.flake(&["build", &format!(".#{output}")]);
        let outcome = support::run(command.arg("--out-link").arg(&link));
        assert_eq!(outcome.status, Some(0), "{output}: {}", outcome.stderr);
        (directory, link)
    }

    /// An expression in which `lib` and `pkgs` are the stand-in's, `evaluate` a
    /// NixOS and `package` ours.
    pub fn scope(&self, expression: &str) -> String {
        format!(
            "let
               lib = import {stub}/lib.nix;
               pkgs = import {stub}/pkgs.nix {{ inherit lib; system = \"{SYSTEM}\"; }};
               package = pkgs.callPackage {root}/nix/package.nix {{ }};
               evaluate = modules: (lib.evalModules {{
                 modules = [ {root}/nix/tests/nixos.nix ] ++ modules;
                 specialArgs = {{ inherit pkgs; }};
               }}).config;
             in {expression}",
            stub = self.stub.display(),
            root = root().display(),
        )
    }

    /// Evaluates such an expression.
    pub fn evaluate(&self, expression: &str) -> Outcome {
        let expression = self.scope(expression);
        support::run(&mut self.command(&["eval", "--impure", "--json", "--expr", &expression]))
    }

    /// What such an expression gives.
    pub fn value(&self, expression: &str) -> serde_json::Value {
        let outcome = self.evaluate(expression);
        assert_eq!(outcome.status, Some(0), "{}", outcome.stderr);
        serde_json::from_str(&outcome.stdout).expect("JSON")
    }
}
