//! The VM test cannot run here: it takes NixOS. What can be shown of it is that its
//! machine evaluates and that its script is Python.

use std::fs;
use std::process::Command;

use crate::lab::{lab, root};
use crate::support::run;

#[test]
fn the_vm_test_evaluates_and_its_script_compiles() {
    let Some(lab) = lab("the_vm_test_evaluates_and_its_script_compiles") else {
        return;
    };
    let found = lab.installed().value(&format!(
        "let
           test = import {}/nix/tests/vm.nix {{ inherit lib pkgs; }};
           any = lib.mkOption {{ type = lib.types.unspecified; }};
           machine = evaluate [
             test.nodes.machine
             {{ options = {{ boot = any; users = any; }}; }}
             {{ programs.reuseport = {{ inherit package; }}; }}
           ];
         in {{
           script = test.testScript;
           a = machine.systemd.services.web-a.environment;
           b = machine.systemd.services.web-b.environment;
           alone = machine.systemd.services.web-alone.environment;
         }}",
        root().display()
    ));
    assert_eq!(found["a"], found["b"]);
    assert_eq!(found["a"]["LIBREUSEPORT_PORT"], "8000");
    assert_eq!(found["alone"], serde_json::json!({}));
    let directory = tempfile::tempdir().expect("a folder");
    let script = directory.path().join("script.py");
    fs::write(&script, found["script"].as_str().expect("a script")).expect("written");
    let outcome = run(Command::new("python3")
        .args(["-m", "py_compile"])
        .arg(&script));
    assert_eq!(outcome.status, Some(0), "{}", outcome.stderr);
}
