//! Images that lib.injectImage makes. That two derivations make the same one, and
//! that it is sound, is among the flake's checks.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::lab::{SYSTEM, lab};
use crate::support::{output, run};

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
