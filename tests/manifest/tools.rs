//! Other readers of what comes out: PyYAML, for what changed and what did not;
//! the API's own schemas; kubectl; base64(1).

use std::collections::BTreeMap;
use std::fs;

use reuseport::manifest::{Delivery, Injection, inject};
use reuseport::shim;
use serde_json::{Value, json};

use crate::corpus::{self, KINDS};
use crate::helm::kubectl;
use crate::laws::{options, source, text};
use crate::overlap;
use crate::print::STYLES;
use crate::support::{command, output, skip};

/// Reads each file of a directory, in the order of names, with a YAML 1.1 parser
/// that is not ours; prints a line of JSON for each.
const READ: &str = "
import json, os, sys, yaml
loader = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)
for name in sorted(os.listdir(sys.argv[1])):
    with open(os.path.join(sys.argv[1], name), encoding='utf-8-sig', newline='') as file:
        print(json.dumps(list(yaml.load_all(file.read(), loader))))
";

/// What each text holds, by PyYAML.
pub fn read(texts: &[String]) -> Vec<Value> {
    let directory = tempfile::tempdir().expect("a directory");
    for (number, text) in texts.iter().enumerate() {
        fs::write(directory.path().join(format!("{number:06}")), text).expect("written");
    }
    let mut python = command("/usr/bin/python3");
    let lines = output(python.args(["-c", READ]).arg(directory.path()));
    let values = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"));
    values.collect()
}

/// What an object is to become, written down without regard to how it is done.
fn meant(object: &mut Value, configmaps: &mut BTreeMap<String, Value>) {
    if object["kind"] == "List" {
        for item in object["items"].as_array_mut().into_iter().flatten() {
            meant(item, configmaps);
        }
        return;
    }
    let namespace = object["metadata"]["namespace"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let pod = match object["kind"].as_str() {
        Some("Pod") => &mut object["spec"],
        Some("PodTemplate") => &mut object["template"]["spec"],
        Some("CronJob") => &mut object["spec"]["jobTemplate"]["spec"]["template"]["spec"],
        Some("ConfigMap") => return,
        Some("Service") if object["apiVersion"] == "v1" => return,
        _ => &mut object["spec"]["template"]["spec"],
    };
    let arch = if pod["nodeSelector"].is_null() {
        "x86_64"
    } else {
        "aarch64"
    };
    if pod.get("nodeSelector").is_some_and(Value::is_null) {
        // Asking for it made it.
        pod.as_object_mut()
            .expect("a mapping")
            .shift_remove("nodeSelector");
    }
    if pod["containers"].as_array().is_none_or(Vec::is_empty) {
        return;
    }
    for container in pod["containers"].as_array_mut().expect("a list") {
        if container["name"] == "istio-proxy" {
            continue;
        }
        let entry = "/.reuseport/libreuseport.so";
        let mut env = container["env"].as_array().cloned().unwrap_or_default();
        for taken in ["LIBREUSEPORT_PORT"] {
            for one in env.iter_mut().filter(|one| one["name"] == taken) {
                one["name"] = format!("KEPT_{taken}").into();
            }
        }
        match env.iter().position(|one| one["name"] == "LD_PRELOAD") {
            None => env.push(json!({"name": "LD_PRELOAD", "value": entry})),
            Some(at) => match env[at]["value"].as_str() {
                Some(value) if !value.is_empty() && !value.ends_with(' ') => {
                    env[at]["value"] = format!("{value}:{entry}").into();
                }
                _ => {
                    env[at]["name"] = "KEPT_LD_PRELOAD".into();
                    let value = format!("$(KEPT_LD_PRELOAD):{entry}");
                    env.insert(at + 1, json!({"name": "LD_PRELOAD", "value": value}));
                }
            },
        }
        env.push(json!({"name": "LIBREUSEPORT_PORT", "value": "80"}));
        container["env"] = env.into();
        let mut mounts = container["volumeMounts"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        mounts
            .push(json!({"name": "reuseport-shim", "mountPath": "/.reuseport", "readOnly": true}));
        container["volumeMounts"] = mounts.into();
    }
    let key = format!("{namespace} {arch}");
    let mut volumes = pod["volumes"].as_array().cloned().unwrap_or_default();
    volumes.push(json!({"name": "reuseport-shim", "configMap": {"name": key}}));
    pod["volumes"] = volumes.into();
    let bytes = shim::embedded(shim::architecture(arch).expect("known")).expect("built");
    configmaps.entry(key).or_insert_with(|| json!(bytes));
}

/// Takes our ConfigMaps out of what was read, and puts in the place of their names
/// whose they are; and takes out the annotation.
fn plain(values: &mut Vec<Value>) -> BTreeMap<String, Value> {
    let mut configmaps = BTreeMap::new();
    let mut names = BTreeMap::new();
    values.retain(|value| {
        let name = value["metadata"]["name"].as_str().unwrap_or_default();
        if !name.starts_with("reuseport-shim-") {
            return true;
        }
        assert_eq!(value["immutable"], true);
        let namespace = value["metadata"]["namespace"].as_str().unwrap_or_default();
        let data = value["binaryData"]["libreuseport.so"]
            .as_str()
            .expect("data");
        let bytes = decoded(data);
        let arch = ["x86_64", "aarch64"].into_iter().find(|name| {
            let architecture = shim::architecture(name).expect("known");
            shim::embedded(architecture).expect("built") == bytes
        });
        let key = format!("{namespace} {}", arch.expect("a shim"));
        names.insert(name.to_owned(), key.clone());
        assert!(configmaps.insert(key, json!(bytes)).is_none(), "{name}");
        false
    });
    for one in values.iter_mut() {
        rename(one, &names);
    }
    configmaps
}

fn rename(value: &mut Value, names: &BTreeMap<String, String>) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|one| rename(one, names)),
        Value::Object(map) => {
            if let Some(Value::Object(annotations)) = map
                .get_mut("metadata")
                .and_then(|one| one.get_mut("annotations"))
            {
                annotations.shift_remove("reuseport.dev/restore");
            }
            map.values_mut().for_each(|one| rename(one, names));
        }
        Value::String(text) => {
            if let Some(name) = names.get(text) {
                text.clone_from(name);
            }
        }
        _ => {}
    }
}

fn decoded(text: &str) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), text).expect("written");
    let decoded = command("/usr/bin/base64")
        .arg("-d")
        .arg(file.path())
        .output();
    decoded.expect("base64").stdout
}

#[test]
fn nothing_changes_but_what_was_meant() {
    // PyYAML takes no tabs between tokens.
    let styles: Vec<_> = STYLES
        .iter()
        .filter(|one| !one.name.contains("tabs"))
        .collect();
    let mut texts = Vec::new();
    let mut wanted = Vec::new();
    for values in corpus::values() {
        let mut configmaps = BTreeMap::new();
        let mut after = values.clone();
        for one in &mut after {
            meant(one, &mut configmaps);
        }
        for style in &styles {
            let before = style.stream(&values);
            texts.push(text(inject(&source(&before), &options())).expect("injected"));
            wanted.push((style.name, after.clone(), configmaps.clone()));
        }
    }
    assert!(texts.len() > 300, "{}", texts.len());
    let found = read(&texts);
    assert_eq!(found.len(), wanted.len());
    for (number, (found, (style, after, configmaps))) in found.into_iter().zip(wanted).enumerate() {
        let Value::Array(mut found) = found else {
            panic!("a list")
        };
        let carried = plain(&mut found);
        // An annotation's place that was not there, or was empty, tells nothing.
        let strip = |values: &[Value]| {
            let mut values = json!(values);
            empty_annotations(&mut values);
            values
        };
        assert!(
            strip(&found) == strip(&after) && carried == configmaps,
            "{style}: {}\n{}\n{}",
            texts[number],
            strip(&found),
            strip(&after)
        );
    }
}

fn empty_annotations(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(empty_annotations),
        Value::Object(map) => {
            let is_empty = |one: &Value| one.is_null() || *one == json!({});
            if map.get("annotations").is_some_and(is_empty) {
                map.shift_remove("annotations");
            }
            map.values_mut().for_each(empty_annotations);
        }
        _ => {}
    }
}

/// One workload of every kind, by every delivery.
pub fn deliveries() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for delivery in [
        "configmap",
        "image=example.org/shim:1",
        "init=example.org/reuseport:1",
        "host=/opt/reuseport",
    ] {
        let options = Injection {
            delivery: Delivery::parse(delivery).expect("a delivery"),
            ..options()
        };
        for values in corpus::values().into_iter().take(KINDS.len()) {
            for style in [STYLES[1], STYLES[9]] {
                let out = text(inject(&source(&style.stream(&values)), &options));
                all.push((
                    format!("{delivery}, {}", style.name),
                    out.expect("injected"),
                ));
            }
        }
    }
    all
}

#[test]
fn kubectl_accepts_what_comes_out() {
    let Some(kubectl) = kubectl() else {
        return skip("kubectl_accepts_what_comes_out", "there is no kubectl");
    };
    let directory = tempfile::tempdir().expect("a directory");
    let mut objects = 0;
    let deliveries = deliveries().into_iter().map(|(_, text)| text);
    for (number, text) in deliveries.chain(overlap::made()).enumerate() {
        objects += text.matches("kind: ConfigMap").count() + 1;
        let path = directory.path().join(format!("{number}.yaml"));
        fs::write(path, text).expect("written");
    }
    let mut kubectl = command(kubectl);
    kubectl
        .args(["label", "--local", "a=b", "-o", "name", "-f"])
        .arg(directory.path());
    assert_eq!(output(&mut kubectl).lines().count(), objects);
}
