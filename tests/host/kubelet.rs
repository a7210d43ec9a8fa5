//! What a kubelet makes of a manifest that the shim was put into: the ConfigMap as a
//! directory of links, mounted into containers on the host's network.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::await_listeners;
use crate::bundle::{Containers, edit, unpacked};
use crate::support::{command, free_port, is_root, reuseport, skip};

/// What `reuseport inject -f -` makes of `manifest`.
fn injected(manifest: &str, more: &[&str]) -> String {
    let mut inject = reuseport();
    inject.args(["inject", "-f", "-"]).args(more);
    inject.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = inject.stderr(Stdio::null()).spawn().expect("it starts");
    let mut input = child.stdin.take().expect("its input");
    input.write_all(manifest.as_bytes()).expect("it reads");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success());
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Writes the file of a ConfigMap as the kubelet's atomic writer does: in a
/// directory of its time, to which links lead.
fn mounted(volume: &Path, name: &str, content: &[u8]) {
    let real = volume.join("..2026_01_02_03_04_05.678");
    fs::create_dir_all(&real).expect("made");
    fs::write(real.join(name), content).expect("written");
    let mode = fs::Permissions::from_mode(0o644);
    fs::set_permissions(real.join(name), mode).expect("set");
    symlink("..2026_01_02_03_04_05.678", volume.join("..data")).expect("linked");
    symlink(format!("..data/{name}"), volume.join(name)).expect("linked");
}

#[test]
fn two_containers_with_the_volume_of_a_kubelet_share_a_port() {
    const NAME: &str = "two_containers_with_the_volume_of_a_kubelet_share_a_port";
    if !is_root() {
        return skip(NAME, "runc needs root");
    }
    let directory = tempfile::tempdir().expect("a directory");
    let port = free_port();
    let bundle = unpacked(directory.path(), port);
    let pod = json!({
        "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"hostNetwork": true, "containers": [{"name": "redis", "image": "redis"}]},
    });
    let architecture = [
        "--arch",
        std::env::consts::ARCH,
        "--port",
        &port.to_string(),
    ];

    // The ConfigMap, by the shell.
    let text = injected(&pod.to_string(), &architecture);
    let data = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("libreuseport.so: "));
    let encoded = directory.path().join("encoded");
    fs::write(&encoded, data.expect("its data").trim_matches('"')).expect("written");
    let decoded = command("base64").arg("-d").arg(&encoded).output();
    let volume = directory.path().join("volume");
    mounted(&volume, "libreuseport.so", &decoded.expect("base64").stdout);

    // The container, from JSON, which stays JSON.
    let named = [&architecture[..], &["--configmap", "shim"]].concat();
    let pod: Value = serde_json::from_str(&injected(&pod.to_string(), &named)).expect("JSON");
    let container = &pod["spec"]["containers"][0];
    let mount = &container["volumeMounts"][0];
    assert_eq!(pod["spec"]["volumes"][0]["configMap"]["name"], "shim");
    edit(&bundle, |config| {
        let environment = config["process"]["env"].as_array_mut().expect("a list");
        for variable in container["env"].as_array().expect("a list") {
            let text = |key: &str| variable[key].as_str().expect("a string").to_owned();
            environment.push(format!("{}={}", text("name"), text("value")).into());
        }
        assert_eq!(mount["readOnly"], true);
        let mounts = config["mounts"].as_array_mut().expect("a list");
        mounts.push(json!({
            "destination": mount["mountPath"],
            "source": volume,
            "type": "bind",
            "options": ["rbind", "ro"],
        }));
    });
    let mut containers = Containers::new("runc");
    for _ in 0..2 {
        assert!(containers.start(&bundle), "runc");
    }
    await_listeners(port, 2);
}
