//! `reuseport krm`: a ResourceList in, a ResourceList out.

use std::fs;

use serde_json::{Value, json};

use crate::options::{golden, is_golden, said, stable};
use crate::refusals::filter;
use crate::schema;
use crate::tools::read;

const OWN: &str =
    "  apiVersion: reuseport.dev/v1\n  kind: Reuseport\n  metadata:\n    name: shim\n  spec:\n    ";
const CONFIGMAP: &str = "  apiVersion: v1\n  kind: ConfigMap\n  metadata:\n    name: shim\n  data:\n    port: \"53\"\n    proto: udp\n";

fn list() -> String {
    fs::read_to_string(golden("krm.yaml")).expect("an input")
}

/// The list with another configuration.
fn with(spec: &str) -> String {
    let list = list();
    assert!(list.contains(CONFIGMAP));
    let spec = spec.replace('\n', "\n    ");
    list.replace(CONFIGMAP, &format!("{OWN}{spec}\n"))
}

#[test]
fn each_form_gives_what_is_written_beside_it() {
    let cases = [
        ("krm", list()),
        (
            "krm-own",
            with(
                "delivery: image=example.org/shim:1\ncontainer: [dns, istio-proxy]\nworkload: DaemonSet/dns\ndebug: true",
            ),
        ),
        (
            "krm-json",
            read(&[with("delivery: image=example.org/shim:1")]).remove(0)[0].to_string(),
        ),
        (
            "krm-error",
            with("container: [nobody]").replace("image: example.org/dns", "env: {A: b}"),
        ),
        ("krm-results", list() + "results:\n- message: of another\n"),
        (
            "krm-none",
            "apiVersion: config.kubernetes.io/v1\nkind: ResourceList\nitems: []\n".into(),
        ),
    ];
    let mut wrong = Vec::new();
    for (name, input) in cases {
        let (status, stdout, stderr) = filter(&["krm"], &input);
        let is_error = name == "krm-error";
        assert_eq!(
            status,
            Some(if is_error { 2 } else { 0 }),
            "{name}: {stderr}"
        );
        assert_eq!(stderr.is_empty(), !is_error, "{name}: {stderr}");
        let found = format!("{}{}", said(&stderr), stable(&stdout));
        if !is_golden(name, &found) {
            wrong.push(format!("{name}:\n{found}"));
        }
        // The items do not change a second time, and what is said is said again.
        let results = |text: &str| read(&[text.to_owned()]).remove(0)[0]["results"].clone();
        let without = |text: &str| {
            text.split("\nresults:")
                .next()
                .unwrap_or_default()
                .to_owned()
        };
        if name == "krm" {
            let (_, again, _) = filter(&["krm"], &without(&stdout));
            assert_eq!(without(&again), without(&stdout));
            assert_eq!(results(&again), results(&stdout));
            let (_, given_back, _) = filter(&["eject", "-f", "-"], &(without(&stdout) + "\n"));
            assert_eq!(given_back, list());
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn items_become_what_inject_makes_of_them() {
    let (_, stdout, _) = filter(&["krm"], &list());
    let given = read(&[list(), stdout]);
    let items = |list: &Value| list[0]["items"].as_array().expect("items").clone();
    let [before, after] = [items(&given[0]), items(&given[1])];
    let stream = |items: &[Value]| {
        let texts: Vec<String> = items
            .iter()
            .map(|one| {
                format!(
                    "---
{one}
"
                )
            })
            .collect();
        texts.concat()
    };
    let (status, stdout, stderr) = filter(
        &["inject", "-f", "-", "--port", "53", "--proto", "udp"],
        &stream(&before),
    );
    assert_eq!(status, Some(0), "{stderr}");
    assert_eq!(read(&[stdout]).remove(0), json!(after));
    for object in &after {
        if object["kind"] != "Service" {
            assert_eq!(schema::wrong(object), Some(Vec::new()), "{object}");
        }
    }
    // Every item that was there has what tells where it came from.
    for item in &before {
        let same = after.iter().find(|one| one["kind"] == item["kind"]);
        assert_eq!(same.expect("it")["metadata"], item["metadata"]);
    }
}

#[test]
fn a_configmap_with_an_older_shim_makes_way() {
    let (_, stdout, _) = filter(&["krm"], &list());
    // The bytes of both stand in its items.
    let older: String = stdout
        .split_inclusive('\n')
        .map(|line| match line.split_once("libreuseport.so: ") {
            Some((before, _)) => format!("{before}libreuseport.so: b2xk\n"),
            None => line.replace("reuseport-shim-", "reuseport-shim-0"),
        })
        .collect();
    let (status, again, stderr) =
        filter(&["krm"], older.split("\nresults:").next().expect("a list"));
    assert_eq!(status, Some(0), "{stderr}");
    let [again, stdout] = [again, stdout].map(|one| stable(one.trim_end()));
    let diff = similar::TextDiff::from_lines(&stdout, &again);
    assert!(again == stdout, "{}", diff.unified_diff());
}

#[test]
fn what_cannot_be_is_an_error_among_the_results() {
    for (spec, expected) in [
        (
            "ports: 80",
            "functionConfig: there is no option ports; there are",
        ),
        (
            "port: http",
            "functionConfig: invalid value 'http' for '--port",
        ),
        (
            "debug: perhaps",
            "functionConfig: debug: expected true or false, found \"perhaps\"",
        ),
        (
            "file: /etc/passwd",
            "functionConfig: there is no option file",
        ),
        (
            "delivery: host=/x\nconfigmap: c",
            "functionConfig: configmap goes with delivery configmap alone",
        ),
        (
            "workload: Pod/none",
            "there is no workload Pod/none; there are DaemonSet/dns, Pod/other",
        ),
    ] {
        let (status, stdout, stderr) = filter(&["krm"], &with(spec));
        assert_eq!(status, Some(2), "{spec}");
        assert!(stderr.contains(expected), "{spec}: {stderr}");
        let list = read(&[stdout]).remove(0);
        let result = &list[0]["results"][0];
        assert_eq!(result["severity"], "error");
        assert!(
            result["message"].as_str().expect("text").contains(expected),
            "{result}"
        );
        assert_eq!(list[0]["items"], read(&[with(spec)]).remove(0)[0]["items"]);
    }
    for input in [
        "",
        "kind: List\nitems: []\n",
        "kind: ResourceList\n---\nkind: Pod\n",
        "- a\n",
    ] {
        let (status, stdout, stderr) = filter(&["krm"], input);
        assert_eq!(
            (status, stdout.as_str()),
            (Some(2), ""),
            "{input}: {stderr}"
        );
        assert!(stderr.contains("this is no ResourceList"), "{stderr}");
    }
    let (status, stdout, _) = filter(&["krm"], "kind: ResourceList\nitems: [\n");
    assert_eq!((status, stdout.as_str()), (Some(2), ""));
}
