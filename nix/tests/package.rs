//! The package's own check finds a shim that is wrong.

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
