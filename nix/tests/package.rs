//! What the package refuses: a shim that is wrong, and package sets in which it
//! cannot be built.

use crate::lab::{lab, root};
use crate::support::run;

#[test]
fn its_install_check_fails_where_the_shim_is_wrong() {
    let Some(lab) = lab("its_install_check_fails_where_the_shim_is_wrong") else {
        return;
    };
    for (broken, complaint) in [
        (
            "exports-more",
            "the shim exports: accept bind listen syscall; it is to export: bind listen syscall",
        ),
        (
            "exports-less",
            "the shim exports: bind listen; it is to export: bind listen syscall",
        ),
        ("sets-nothing", "the second bind fails under the shim"),
        (
            "is-another",
            "the shim in the output lib is not the one that the program carries",
        ),
    ] {
        let nix = lab.installed();
        let expression = format!(
            "(import {}/nix/tests/broken.nix {{ inherit package; }}).{broken}",
            root().display()
        );
        let mut command = nix.command(&["build", "--impure", "--no-link", "--print-build-logs"]);
        let outcome = run(command.args(["--expr", &nix.scope(&expression)]));
        assert_eq!(outcome.status, Some(1), "{broken}");
        assert!(
            outcome.stderr.contains(complaint),
            "{broken}: {}",
            outcome.stderr
        );
    }
}

#[test]
fn package_sets_that_cannot_have_it_say_so() {
    let Some(lab) = lab("package_sets_that_cannot_have_it_say_so") else {
        return;
    };
    for (set, output, reason) in [
        ("pkgsStatic", "lib", "a static package set has no shim"),
        (
            "pkgsMusl",
            "drvPath",
            "the Rust compiler of a musl package set knows the target of musl alone",
        ),
    ] {
        let outcome = lab.installed().evaluate(&format!(
            "(pkgs.{set}.callPackage {}/nix/package.nix {{ }}).{output}",
            root().display()
        ));
        assert_eq!(outcome.status, Some(1), "{}", outcome.stdout);
        assert!(outcome.stderr.contains(reason), "{}", outcome.stderr);
    }
}
