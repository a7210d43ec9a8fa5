//! Images that lib.injectImage makes. That two derivations make the same one, and
//! that it is sound, is among the flake's checks.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::lab::{SYSTEM, lab, root};
use crate::support::{output, reuseport, run};

#[test]
fn an_image_runs_its_program_under_the_shim() {
    let Some(lab) = lab("an_image_runs_its_program_under_the_shim") else {
        return;
    };
    let (directory, link) = lab.installed().build(&format!("checks.{SYSTEM}.image"));
    let at = |name: &str| directory.path().join(name);
    for name in ["unpacked", "root"] {
        fs::create_dir(at(name)).expect("made");
    }
    let unpack = |archive, into| {
        output(
            Command::new("tar")
                .arg("-xf")
                .arg(archive)
                .arg("-C")
                .arg(into),
        )
    };
    let read = |name: &str| -> Value {
        let text = fs::read_to_string(at("unpacked").join(name)).expect("readable");
        serde_json::from_str(&text).expect("JSON")
    };
    unpack(link.join("archive"), at("unpacked"));
    let manifest = &read("manifest.json")[0];
    assert_eq!(manifest["RepoTags"][0], "twice:1-reuseport");
    for layer in manifest["Layers"].as_array().expect("layers") {
        let layer = at("unpacked").join(layer.as_str().expect("a name"));
        unpack(layer, at("root"));
    }
    let config = &read(manifest["Config"].as_str().expect("a name"))["config"];
    let variables: Vec<&str> = config["Env"]
        .as_array()
        .expect("variables")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(
        variables,
        [
            "LD_PRELOAD=/.reuseport/libreuseport.so",
            "LIBREUSEPORT_PORT=0-65535",
            "LIBREUSEPORT_OP=1",
        ]
    );
    let program = config["Cmd"][0].as_str().expect("a program");
    let start = |variables: &[&str]| {
        let mut command = Command::new("/usr/sbin/chroot");
        command.arg(at("root")).arg("/bin/twice").env_clear();
        command.envs(
            variables
                .iter()
                .filter_map(|variable| variable.split_once('=')),
        );
        run(&mut command)
    };
    assert_eq!(program, "/bin/twice");
    assert_eq!(start(&variables).status, Some(0));
    assert_eq!(start(&[]).status, Some(2), "without the shim");
}

#[test]
fn an_image_is_the_one_that_the_command_line_makes() {
    let Some(lab) = lab("an_image_is_the_one_that_the_command_line_makes") else {
        return;
    };
    let (directory, link) = lab.installed().build(&format!("checks.{SYSTEM}.image"));
    let archive = directory.path().join("archive");
    let reference = |file| format!("docker-archive:{}", Path::display(file));
    let outcome = run(reuseport()
        .args(["inject", "--port=0-65535", "--op=reuseport"])
        .arg(reference(&link.join("source")))
        .args(["-t", &format!("{}:twice:1-reuseport", reference(&archive))]));
    assert_eq!(outcome.status, Some(0), "{}", outcome.stderr);
    let bytes = |file: &Path| fs::read(file).expect("readable");
    assert!(bytes(&archive) == bytes(&link.join("archive")));
}

#[test]
fn a_wrong_argument_is_refused_by_name() {
    let Some(lab) = lab("a_wrong_argument_is_refused_by_name") else {
        return;
    };
    for (arguments, name, allowed) in [
        (
            "image = package; name = \"web\"; port = \"http\";",
            "injectImage.port",
            "range of ports",
        ),
        (
            "image = package; name = \"web\"; ports = 80;",
            "injectImage.ports",
            "does not exist",
        ),
        (
            "image = package; name = \"web\"; check = 1;",
            "injectImage.check",
            "boolean",
        ),
        (
            "image = package; name = \"web\"; tag = \"a b\";",
            "injectImage.tag",
            "matching the pattern",
        ),
        (
            "image = package;",
            "injectImage.name",
            "what the result is to be called",
        ),
        ("", "injectImage.image", "no value defined"),
    ] {
        let outcome = lab.installed().evaluate(&format!(
            "(import {}/nix/image.nix pkgs {{
               inherit package;
               {arguments}
             }}).drvPath",
            root().display()
        ));
        assert_eq!(outcome.status, Some(1), "{arguments} {}", outcome.stdout);
        for part in [name, allowed] {
            assert!(outcome.stderr.contains(part), "{}", outcome.stderr);
        }
    }
}

#[test]
fn a_machine_for_which_there_is_no_shim_here_is_refused() {
    let Some(lab) = lab("a_machine_for_which_there_is_no_shim_here_is_refused") else {
        return;
    };
    for (system, reason) in [
        ("riscv64-linux", "reuseport has no shim for riscv64-linux"),
        (
            if SYSTEM == "x86_64-linux" {
                "aarch64-linux"
            } else {
                "x86_64-linux"
            },
            "the program that runs on",
        ),
    ] {
        let outcome = lab.installed().evaluate(&format!(
            "(import {}/nix/image.nix (pkgs.crossTo \"{system}\") {{
               image = package;
               name = \"web\";
             }}).drvPath",
            root().display()
        ));
        assert_eq!(outcome.status, Some(1), "{system}: {}", outcome.stdout);
        assert!(outcome.stderr.contains(reason), "{}", outcome.stderr);
    }
}
