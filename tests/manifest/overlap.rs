//! `--surge-ready` and `--shards`: the laws on what they change, and
//! that the API takes what comes out.

use std::fs;

use proptest::prelude::*;
use reuseport::manifest::{Compose, Injection, ShardProbes, Shards, eject, inject};
use reuseport::shim;
use serde_json::{Value, json};

use crate::corpus::object;
use crate::laws::{hold, options, source, text};
use crate::print::STYLES;
use crate::schema;
use crate::support::{reuseport, run};
use crate::tools::read;
use crate::unfit::pod;

/// Everything, with both.
pub fn fit() -> [Injection; 4] {
    let exec = ShardProbes::Exec(vec!["/bin/ok".into()]);
    let shards = |split_resources, probes| {
        Some(Shards {
            count: 3,
            split_resources,
            probes: Some(probes),
        })
    };
    let surge = Injection {
        surge_ready: true,
        architecture: shim::architecture("x86_64").ok(),
        ..options()
    };
    let both = Injection {
        containers: vec!["a".into()],
        shards: shards(true, exec),
        ..surge.clone()
    };
    let first = Injection {
        surge_ready: false,
        shards: shards(false, ShardProbes::First),
        ..both.clone()
    };
    let spread = Injection {
        shards: shards(true, ShardProbes::First),
        ..both.clone()
    };
    [surge, both, first, spread]
}

/// Whether an error is a refusal, and no law that is broken.
fn is_refusal(error: &str) -> bool {
    let laws = ["twice", "not given back", "eject", "changed by eject"];
    !laws.iter().any(|law| error.starts_with(law)) && !error.contains("fault of reuseport's")
}

/// Streams of workloads that have what is changed, in many shapes.
fn streams() -> Vec<Vec<Value>> {
    let probe = |call: &str, port: Value| json!({call: {"port": port}, "periodSeconds": 3});
    let container = json!({
        "name": "a",
        "image": "x",
        "ports": [{"containerPort": 80, "name": "http"}, {"containerPort": 53, "hostPort": 53, "protocol": "UDP"}],
        "livenessProbe": probe("httpGet", json!("http")),
        "readinessProbe": probe("tcpSocket", json!(80)),
        "startupProbe": {"exec": {"command": ["true"]}},
        "lifecycle": {"postStart": {"exec": {"command": ["sleep", "1"]}}},
        "resources": {"requests": {"cpu": "500m", "memory": "100Mi"}, "limits": {"cpu": 2}},
    });
    let other = json!({"name": "b", "image": "y", "ports": []});
    let strategies = [
        None,
        Some(Value::Null),
        Some(json!({})),
        Some(json!({"type": "RollingUpdate"})),
        Some(json!({"rollingUpdate": null})),
        Some(json!({"rollingUpdate": {"maxSurge": "25%"}, "type": "RollingUpdate"})),
        Some(json!({"rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}})),
        Some(json!({"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}})),
    ];
    let mut streams = Vec::new();
    for (kind, key) in [("DaemonSet", "updateStrategy"), ("Deployment", "strategy")] {
        for strategy in &strategies {
            let spec = json!({"hostNetwork": true, "containers": [container, other]});
            let labels = json!({"labels": {"app": "web"}});
            let mut workload = object(kind, "w", &json!({"metadata": labels, "spec": spec}));
            if let Some(strategy) = strategy {
                workload["spec"][key] = strategy.clone();
            }
            streams.push(vec![workload]);
        }
    }
    let list: Vec<Value> = streams
        .iter()
        .step_by(3)
        .map(|one| one[0].clone())
        .collect();
    streams.push(vec![
        json!({"apiVersion": "v1", "kind": "List", "items": list}),
    ]);
    streams.push(list);
    streams
}

/// One workload of either kind, by each of the options.
pub fn made() -> Vec<String> {
    let streams = streams();
    let streams = streams.iter().step_by(5).filter(|one| one.len() == 1);
    let mut made = Vec::new();
    for values in streams.filter(|one| one[0]["kind"] != "List") {
        for options in fit() {
            let text_of_it = STYLES[1].stream(values);
            made.push(text(inject(&source(&text_of_it), &options)).expect("injected"));
        }
    }
    made
}

#[test]
fn what_was_changed_is_given_back() {
    let written = include_str!("written/overlap.yaml").to_owned();
    let mut all = vec![("written", written)];
    for values in streams() {
        all.extend(STYLES.map(|style| (style.name, style.stream(&values))));
    }
    let mut held = 0;
    let mut failures = Vec::new();
    for (name, text) in &all {
        for options in fit() {
            let options = Injection {
                // That one has no container of the name.
                containers: match *name {
                    "written" => options
                        .containers
                        .iter()
                        .map(|_| "anchored".into())
                        .collect(),
                    _ => options.containers.clone(),
                },
                ..options
            };
            match hold(text, &options) {
                Ok(made) => {
                    held += 1;
                    assert_ne!(made, *text);
                }
                Err(error) => failures.push(format!("{name}: {error}")),
            }
        }
    }
    let count = failures.len();
    failures.truncate(2);
    assert_eq!(count, 0, "{}", failures.join("\n\n"));
    assert!(held > 600, "{held}");
}

#[test]
fn nothing_but_that_changes_and_the_api_takes_it() {
    let mut texts = Vec::new();
    let mut wanted = Vec::new();
    for values in streams() {
        if values[0]["kind"] == "List" {
            continue;
        }
        for options in fit() {
            for style in [STYLES[0], STYLES[5], STYLES[9]] {
                let made = inject(&source(&style.stream(&values)), &options);
                texts.push(text(made).expect("injected"));
                wanted.push((values.clone(), options.clone()));
            }
        }
    }
    let mut checked = 0;
    for (found, (before, options)) in read(&texts).into_iter().zip(wanted) {
        let found = found.as_array().expect("documents").clone();
        let mut workloads = found.iter().filter(|one| one["kind"] != "ConfigMap");
        for before in &before {
            let after = workloads.next().expect("a workload");

            // To the schema, null is no strategy.
            let spec = after["spec"].as_object().expect("a mapping");
            let has_null = spec.values().any(Value::is_null)
                || spec
                    .values()
                    .any(|one| one.get("rollingUpdate") == Some(&Value::Null));
            if let Some(wrong) = schema::wrong(after).filter(|_| !has_null) {
                assert_eq!(wrong, [] as [String; 0]);
                checked += 1;
            }
            compare(before, after, &options);
        }
    }
    assert!(checked > 100, "{checked}");
}

/// Holds that `after` is what `options` make of `before`, written down without regard
/// to how it is done.
fn compare(before: &Value, after: &Value, options: &Injection) {
    let key = if before["kind"] == "DaemonSet" {
        "updateStrategy"
    } else {
        "strategy"
    };
    let pod = |object: &Value| object["spec"]["template"]["spec"].clone();
    let (old, new) = (&before["spec"], &after["spec"]);
    let [was, now] = [pod(before), pod(after)];
    let first = &now["containers"][0];
    if options.surge_ready {
        assert_eq!(
            new[key]["rollingUpdate"],
            json!({"maxSurge": 1, "maxUnavailable": 0})
        );
        for container in now["containers"].as_array().expect("a list") {
            assert!(
                container["ports"].as_array().is_none_or(Vec::is_empty),
                "{container}"
            );
        }
    } else {
        assert_eq!(new[key], old[key]);
        assert_eq!(first["ports"], was["containers"][0]["ports"]);
    }
    let port = if options.surge_ready {
        json!(80)
    } else {
        json!("http")
    };
    let Some(shards) = &options.shards else {
        assert_eq!(now["containers"].as_array().map(Vec::len), Some(2));
        assert_eq!(first["livenessProbe"]["httpGet"]["port"], port);
        return;
    };
    let exec = json!({"exec": {"command": ["/bin/ok"]}, "periodSeconds": 3});
    let is_first = shards.probes == Some(ShardProbes::First);
    if is_first {
        assert_eq!(first["livenessProbe"]["httpGet"]["port"], port);
    } else {
        assert_eq!(first["livenessProbe"], exec);
    }
    let resources = if shards.split_resources {
        json!({"requests": {"cpu": "166m", "memory": "34952533"}, "limits": {"cpu": "666m"}})
    } else {
        was["containers"][0]["resources"].clone()
    };
    assert_eq!(first["resources"], resources);
    let all = now["containers"].as_array().expect("a list");
    assert_eq!(all.len(), 4);
    assert_eq!(all[1]["name"], "b");
    for (copy, name) in all[2..].iter().zip(["a-2", "a-3"]) {
        let mut meant = first.clone();
        let map = meant.as_object_mut().expect("a mapping");
        map.insert("name".into(), name.into());
        map.shift_remove("ports");
        if is_first {
            map.shift_remove("livenessProbe");
            map.shift_remove("readinessProbe");
        }
        assert_eq!(*copy, meant);
    }
}

#[test]
fn what_was_edited_in_between_stays() {
    let input = pod("livenessProbe: {httpGet: {port: http}}\nresources: {limits: {cpu: 1}}");
    let made = text(inject(&source(&input), &fit()[3])).expect("injected");
    let edits = [
        ("maxSurge: 1", "maxSurge: 2"),
        ("port: 80}", "port: 81}"),
        ("cpu: \"333m\"}}\n        env", "cpu: 400m}}\n        env"),
        ("ports: []", "ports: [{containerPort: 81}]"),
    ];
    for (old, new) in edits {
        assert!(made.contains(old), "{old} in\n{made}");
        let edited = made.replacen(old, new, 1);
        let back = text(eject(&source(&edited), &[], &[], &Compose::default())).expect("ejected");
        let what = new.split('\n').next().expect("a line");
        assert!(back.contains(what), "{what} in\n{back}");
        assert!(
            !back.contains("a-2") && !back.contains("reuseport"),
            "{back}"
        );
        // The rest is as it was.
        let diff = similar::TextDiff::from_lines(&input, &back);
        let changed = diff
            .iter_all_changes()
            .filter(|one| one.tag() == similar::ChangeTag::Delete);
        assert!(changed.count() <= 1, "{back}");
    }
}

#[test]
fn the_example_of_the_documents_is_true() {
    let page = include_str!("../../docs/overlap.md");
    let block = |start: &str| {
        let (_, rest) = page.split_once(start).expect("a block");
        rest.split_once("```").expect("its end").0
    };
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("dns.yaml"), block("```yaml\n")).expect("written");
    let call = "inject -f dns.yaml --port 53 --surge-ready --diff";
    assert!(page.contains(&format!("reuseport {call}\n")));
    let mut command = reuseport();
    command.args(call.split(' ')).args(["--configmap", "shim"]);
    let outcome = run(command.current_dir(directory.path()));
    assert_eq!(outcome.status, Some(0), "{}", outcome.stderr);
    let lines = outcome.stdout.lines().map(|line| {
        let line = anstream::adapter::strip_str(line).to_string();
        match line.split_once("reuseport.dev/restore: ") {
            Some((before, _)) => format!("{before}reuseport.dev/restore: …\n"),
            None => line + "\n",
        }
    });
    assert_eq!(lines.collect::<String>(), block("```diff\n"));
    assert_eq!(outcome.stderr, block("what else is to be known:\n\n```\n"));
}

fn shape() -> impl Strategy<Value = Value> {
    let port = (1..9000u16, prop::option::of("[a-z]{1,4}"), prop::bool::ANY).prop_map(
        |(number, name, is_udp)| {
            let mut port = json!({"containerPort": number});
            if let Some(name) = name {
                port["name"] = name.into();
            }
            if is_udp {
                port["protocol"] = "UDP".into();
            }
            port
        },
    );
    let ports = prop_oneof![
        Just(Value::Null),
        prop::collection::vec(port, 0..3).prop_map(Value::from),
    ];
    let call = prop_oneof![
        Just(json!({"exec": {"command": ["a b", "#"]}})),
        "[a-z]{1,4}".prop_map(
            |name| json!({"httpGet": {"port": name, "path": "/: #"}, "periodSeconds": 1})
        ),
        Just(json!({"tcpSocket": {"port": 80}})),
    ];
    let quantity = prop_oneof![
        Just(json!(3)),
        Just(json!("750m")),
        Just(json!("0.3")),
        Just(json!("x"))
    ];
    let bound = prop_oneof![Just(json!(0)), Just(json!(1)), Just(json!("50%"))];
    let rolling = prop_oneof![
        Just(Value::Null),
        Just(json!({})),
        (bound.clone(), bound)
            .prop_map(|(surge, missing)| json!({"maxSurge": surge, "maxUnavailable": missing})),
    ];
    (
        prop::sample::select(&["DaemonSet", "Deployment"][..]),
        prop::option::of(rolling),
        ports.clone(),
        ports,
        prop::option::of(call),
        prop::option::of(quantity),
        prop::bool::ANY,
    )
        .prop_map(|(kind, rolling, ports, others, call, quantity, env)| {
            let mut container = json!({"name": "a", "ports": ports});
            if env {
                container["env"] = json!([]);
            }
            if let Some(call) = call {
                container["livenessProbe"] = call;
            }
            if let Some(quantity) = quantity {
                container["resources"] = json!({"requests": {"cpu": quantity}});
            }
            let spec = json!({"hostNetwork": true, "containers": [container, {"name": "b", "ports": others}]});
            let mut workload = object(kind, "w", &json!({"metadata": {"labels": {"a": "b"}}, "spec": spec}));
            if let Some(rolling) = rolling {
                let key = if kind == "DaemonSet" { "updateStrategy" } else { "strategy" };
                workload["spec"][key] = json!({"rollingUpdate": rolling});
            }
            workload
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_workload_is_given_back(
        values in prop::collection::vec(shape(), 1..3),
        style in prop::sample::select(&STYLES[..]),
        which in 0..4usize,
    ) {
        let text = style.stream(&values);
        if let Err(error) = hold(&text, &fit()[which]) {
            prop_assert!(is_refusal(&error), "{error}\n----- of\n{text}");
            // There is one reason for it here.
            prop_assert!(error.contains("x of cpu is not to be split"), "{error}\n----- of\n{text}");
        }
    }
}
