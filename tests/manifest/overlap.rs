//! `--surge-ready` and `--shards`: the laws on what they change, what they refuse, and
//! that the API takes what comes out.

use proptest::prelude::*;
use reuseport::manifest::{Injection, ShardProbes, Shards, eject, inject};
use reuseport::shim;
use serde_json::{Value, json};

use crate::corpus::object;
use crate::laws::{hold, options, source, text};
use crate::print::STYLES;
use crate::refusals::refused;
use crate::schema;
use crate::tools::read;

/// Everything, with both.
fn fit() -> [Injection; 4] {
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
            let kind = after["kind"].as_str().expect("a kind");
            // To the schema, null is no strategy.
            let spec = after["spec"].as_object().expect("a mapping");
            let has_null = spec.values().any(Value::is_null)
                || spec
                    .values()
                    .any(|one| one.get("rollingUpdate") == Some(&Value::Null));
            if let Some(schema) = schema::of(kind).filter(|_| !has_null) {
                assert_eq!(schema::wrong(after, &schema), [] as [String; 0]);
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

const POD: &str = "kind: Deployment\nmetadata: {name: w}\nspec:\n  template:\n    metadata: {labels: {app: w}}\n    spec:\n      hostNetwork: true\n      containers:\n      - name: a\n        ports: [{containerPort: 80, name: http}]\n";

/// A workload whose container has `more` as well.
fn pod(more: &str) -> String {
    let more = more.lines().map(|line| format!("        {line}\n"));
    POD.to_owned() + &more.collect::<String>()
}

#[test]
fn what_cannot_surge_is_named_with_the_way_out() {
    let surge = |cases: &[(&str, &str)]| refused(&["--surge-ready"], cases);
    let service = |selector: &str, port: &str| {
        format!(
            "{POD}---\nkind: Service\nmetadata: {{name: s}}\nspec:\n  selector: {selector}\n  ports:\n  - port: 80\n    targetPort: {port}\n"
        )
    };
    let policy = |rules: &str| {
        format!(
            "kind: NetworkPolicy\nmetadata: {{name: np}}\nspec:\n  podSelector: {{}}\n  {rules}\n---\n{POD}"
        )
    };
    let monitor = "kind: PodMonitor\nmetadata: {name: m, namespace: other}\nspec: {namespaceSelector: {any: true}, selector: {matchLabels: {app: w}}, podMetricsEndpoints: [{port: http}]}\n---\n";
    surge(&[
        (
            &POD.replace("      hostNetwork: true\n", ""),
            "--surge-ready: there is no DaemonSet and no Deployment with hostNetwork: true",
        ),
        (
            &POD.replace("kind: Deployment", "kind: StatefulSet"),
            "--surge-ready: there is no DaemonSet",
        ),
        (
            &POD.replace(
                "spec:\n  template",
                "spec:\n  strategy: {type: Recreate}\n  template",
            ),
            "4:20: document 1, .spec.strategy.type: Deployment/w: the strategy Recreate starts no new pod before the old one stops; make it RollingUpdate",
        ),
        (
            &service("{app: w}", "http"),
            "document 2, .spec.ports[0].targetPort: Service/s: it refers to the port http of Deployment/w by the name, which goes with the entry in ports; give the number: 80",
        ),
        (
            &policy("ingress: [{ports: [{port: 1}, {port: http}]}]"),
            "document 1, .spec.ingress[0].ports[1].port: NetworkPolicy/np: it refers to the port http",
        ),
        (
            &policy("egress: [{to: [{podSelector: {}}], ports: [{port: http}]}]"),
            "document 1, .spec.egress[0].ports[0].port: NetworkPolicy/np: it refers to the port http",
        ),
        (
            &format!("{monitor}{POD}"),
            "document 1, .spec.podMetricsEndpoints[0].port: PodMonitor/m: it refers to the port http",
        ),
        (
            "kind: DaemonSet\nspec: {template: {spec: {nodeSelector: {kubernetes.io/arch: amd64}, hostNetwork: true, containers: [{name: a, ports: [&p {containerPort: 1}]}, {name: b, ports: [*p]}]}}}\n",
            ".spec.template.spec.containers[0].ports: this cannot be edited as it is written",
        ),
    ]);
    // Those that are named are held to it.
    let named = ["--surge-ready", "--workload", "Deployment/w"];
    refused(
        &named,
        &[(
            &POD.replace("      hostNetwork: true\n", ""),
            "document 1, .spec.template.spec.hostNetwork: Deployment/w: its pods have a network each, so that updates overlap as they are; --surge-ready is for pods with hostNetwork: true",
        )],
    );
    refused(
        &["--surge-ready", "--workload", "Job/w"],
        &[(
            &POD.replace("kind: Deployment", "kind: Job"),
            "document 1, .kind: Job/w: a Job starts no new pod before the old one stops",
        )],
    );
    // What selects other pods, or names no port that goes, is no matter.
    for input in [
        service("{app: other}", "http"),
        service("{app: w}", "80"),
        service("{app: w}", "\"80\""),
        policy("egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8}}], ports: [{port: http}]}]"),
        format!("{POD}---\nkind: Service\nmetadata: {{name: s, namespace: other}}\nspec: {{selector: {{app: w}}, ports: [{{targetPort: http}}]}}\n")
            .replace("metadata: {name: w}", "metadata: {name: w, namespace: here}"),
    ] {
        let made = inject(&source(&input), &fit()[0]);
        text(made).expect("injected");
    }
}

#[test]
fn what_cannot_be_repeated_is_named_with_the_way_out() {
    let first = ["--shards", "2", "--shard-probes", "first"];
    let at = |path: &str, rest: &str| {
        format!("document 1, .spec.template.spec.{path}: Deployment/w: {rest}")
    };
    let volume = |source: &str| {
        pod("volumeMounts: [{name: d, mountPath: /d}]")
            + &format!("      volumes: [{{name: d, {source}}}]\n")
    };
    let writes = |what: &str| {
        at(
            "containers[0].volumeMounts[0]",
            &format!(
                "each of 2 copies of a would write to volume d, {what}; mount it with readOnly: true"
            ),
        )
    };
    let hook = |command: &str| {
        pod(&format!(
            "lifecycle: {{preStop: {{exec: {{command: {command}}}}}}}"
        ))
    };
    refused(
        &first,
        &[
            (
                &(POD.to_owned() + "      - name: b\n"),
                &at(
                    "containers",
                    "there are 2 to be repeated: a, b; say which with --container",
                ),
            ),
            (
                &(POD.to_owned() + "      - name: istio-proxy\n      - name: a-2\n")
                    .replace("name: a-2", "name: b")
                    .replace(
                        "- name: istio-proxy",
                        "- name: x\n      initContainers:\n      - name: a-2",
                    ),
                "say which with --container",
            ),
            (
                &(POD.to_owned() + "      initContainers:\n      - name: a-2\n"),
                &at(
                    "containers[0].name",
                    "a copy of a is to be called a-2, and there is a container of that name; rename a-2",
                ),
            ),
            (
                &POD.replace("name: a\n", &format!("name: {}\n", "a".repeat(62))),
                "no name is longer than 63 characters",
            ),
            (
                &volume("persistentVolumeClaim: {claimName: c}"),
                &writes("a PersistentVolumeClaim"),
            ),
            (
                &volume("ephemeral: {volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce]}}}"),
                &writes("a claim of the pod's own"),
            ),
            (&volume("iscsi: {lun: 0}"), &writes("a disk")),
            (
                &hook("[curl, -X, POST, 'http://localhost:80/drain']"),
                &at(
                    "containers[0].lifecycle.preStop",
                    "preStop of a calls a port that all copies share, and would reach another copy as well; write one that acts within its own container",
                ),
            ),
            (
                &(hook("[sh, -c, 'pkill -TERM nginx; sleep 5']")
                    + "      shareProcessNamespace: true\n"),
                "looks for processes in the whole pod (shareProcessNamespace)",
            ),
            (
                &pod("lifecycle: {postStart: {tcpSocket: {port: 80}}}"),
                "postStart of a calls a port that all copies share",
            ),
        ],
    );
    refused(
        &["--shards", "2"],
        &[(
            &pod("readinessProbe: {httpGet: {port: http}}"),
            &at(
                "containers[0].readinessProbe",
                "readinessProbe of a calls a port that all copies share, and any of them answers; leave it to the first with --shard-probes first",
            ),
        )],
    );
    refused(
        &["--shards", "2", "--container", "i"],
        &[(
            &(POD.to_owned() + "      initContainers:\n      - name: i\n"),
            &at(
                "initContainers[0]",
                "i is an init container, which runs before the others and ends; choose another with --container",
            ),
        )],
    );
    refused(
        &["--shards", "2", "--split-resources"],
        &[
            (
                &pod("resources: {limits: {nvidia.com/gpu: 1}}"),
                &at(
                    "containers[0].resources.limits.nvidia.com/gpu",
                    "1 of nvidia.com/gpu is not to be split into 2: a part would be no whole number of them; change it, or leave resources as they are",
                ),
            ),
            (
                &pod("resources: {requests: {cpu: much}}"),
                "much of cpu is not to be split into 2: it is no quantity",
            ),
        ],
    );
    // What only seems to stand in the way.
    let claim = |mode: &str| {
        format!(
            "{}---\nkind: PersistentVolumeClaim\nmetadata: {{name: c}}\nspec: {{accessModes: [{mode}]}}\n",
            volume("persistentVolumeClaim: {claimName: c}")
        )
    };
    refused(
        &first,
        &[(&claim("ReadWriteOnce"), &writes("a PersistentVolumeClaim"))],
    );
    for input in [
        claim("ReadWriteMany"),
        volume("persistentVolumeClaim: {claimName: c, readOnly: true}"),
        volume("persistentVolumeClaim: {claimName: c}")
            .replace("mountPath: /d", "mountPath: /d, readOnly: true"),
        volume("hostPath: {path: /d}"),
        hook("[sh, -c, 'kill -QUIT 1; sleep 5']"),
    ] {
        hold(&input, &fit()[2]).expect("the laws");
    }
    // StatefulSets bring claims of their own.
    let templates =
        "  volumeClaimTemplates: [{metadata: {name: d}, spec: {accessModes: [ReadWriteOnce]}}]\n";
    let set = pod("volumeMounts: [{name: d, mountPath: /d}]").replace("Deployment", "StatefulSet")
        + templates;
    refused(
        &first,
        &[(&set, "would write to volume d, a volumeClaimTemplate")],
    );
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
        let back = text(eject(&source(&edited), &[], &[])).expect("ejected");
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
