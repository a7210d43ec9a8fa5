//! `reuseport policy`: its expressions, evaluated on pods of every shape, do to them
//! what `inject -f` does.

use std::fs;

use proptest::strategy::{Strategy, ValueTree};
use reuseport::manifest::policy::{Policy, Version, policy};
use reuseport::manifest::{Delivery, Injection, inject};
use reuseport::rules::{Assignments, Variable};
use reuseport::shim;
use serde_json::{Value, json};

use crate::evaluated::Compiled;
use crate::laws::{options, source};
use crate::options::{is_golden, stable};
use crate::pods::{self, pod};
use crate::support::{command, output, reuseport, run, skip};
use crate::tools::read;

/// A policy by image, for pods that ask for it, without rules.
fn by_image() -> Policy {
    Policy {
        rules: Assignments::default(),
        delivery: Delivery::parse("image=example.org/shim:1").expect("a delivery"),
        all: false,
        labels: Vec::new(),
        namespaces: Vec::new(),
        version: Version::V1,
        warn: true,
        architecture: None,
    }
}

fn by_configmap() -> Policy {
    Policy {
        delivery: Delivery::ConfigMap(None),
        namespaces: vec!["web".into(), "dns".into()],
        ..by_image()
    }
}

/// The objects of a policy, by PyYAML.
fn objects(options: &Policy) -> Vec<Value> {
    let text = policy(options).expect("a policy");
    let Value::Array(objects) = read(&[text]).remove(0) else {
        panic!("documents")
    };
    objects
}

fn of_kind(objects: &[Value], kind: &str) -> Compiled {
    let found = objects.iter().find(|one| one["kind"] == kind);
    Compiled::new(found.expect("the policy"))
}

/// What `inject -f` makes of pods; those that it refuses stay as they are.
fn injected(pods: &[Value], options: &Injection) -> Vec<Value> {
    let texts = pods.iter().map(|pod| {
        let text = pod.to_string();
        inject(&source(&text), options).map_or(text, |outcome| outcome.texts.concat())
    });
    let documents = read(&texts.collect::<Vec<_>>());
    let plain = documents.into_iter().map(|documents| {
        let documents = documents.as_array().expect("documents").clone();
        let (maps, mut pods): (Vec<_>, Vec<_>) = documents
            .into_iter()
            .partition(|one| one["kind"] == "ConfigMap");
        let mut pod = pods.remove(0);
        carried(&mut pod, &maps);
        pod
    });
    plain.collect()
}

/// Puts the architecture whose shim a pod gets in the place of the name of the
/// ConfigMap that it comes from, and takes out what serves to give bytes back.
fn carried(pod: &mut Value, maps: &[Value]) {
    let annotations = pod["metadata"]["annotations"].as_object_mut();
    annotations.map(|all| all.shift_remove("reuseport.dev/restore"));
    for volume in pod["spec"]["volumes"].as_array_mut().into_iter().flatten() {
        if volume["name"] == "reuseport-shim" && volume.get("configMap").is_some() {
            let name = &volume["configMap"]["name"];
            let map = maps.iter().find(|one| one["metadata"]["name"] == *name);
            let data = map.expect("the ConfigMap")["binaryData"]["libreuseport.so"].clone();
            volume["configMap"]["name"] = data;
        }
    }
}

/// The options of `inject -f` that say the same as a policy.
fn same(policy: &Policy) -> Injection {
    Injection {
        rules: policy.rules.clone(),
        delivery: policy.delivery.clone(),
        architecture: policy
            .architecture
            .or(Some(shim::architecture("x86_64").expect("known"))),
        ..options()
    }
}

fn assert_same(options: &Policy, pods: &[Value]) {
    let objects = objects(options);
    let compiled = of_kind(&objects, "MutatingAdmissionPolicy");
    for (pod, expected) in pods.iter().zip(injected(pods, &same(options))) {
        let found = compiled.mutate(pod);
        let again = compiled.mutate(&found);
        assert_eq!(again, found, "a second call changes what the first made");
        let mut found = found;
        carried(&mut found, &objects);
        assert!(
            found == expected,
            "{pod:#}\nfound {found:#}\nexpected {expected:#}"
        );
    }
}

#[test]
fn pods_of_every_shape_become_what_inject_makes_of_them() {
    let pods = pods::all();
    assert_same(&by_image(), &pods);
    // What holds another delivery is left as it is, where inject -f replaces it.
    let (_, others) = pods.split_last().expect("some");
    assert_same(&by_configmap(), others);
    let arm = shim::architecture("aarch64").expect("known");
    let policy = Policy {
        architecture: Some(arm),
        ..by_configmap()
    };
    assert_same(&policy, others);
}

#[test]
fn rules_are_for_pods_whose_annotations_say_nothing_of_them() {
    let mut rules = Assignments::default();
    rules.set(Variable::Port, "80".into());
    rules.set(Variable::Program, "\"\\*\",'".into());
    rules.set(Variable::Debug, "1".into());
    let policy = Policy {
        rules,
        ..by_image()
    };
    let silent = |pod: &Value| {
        let said = ["port", "program", "debug"];
        said.iter().all(|one| {
            pod["metadata"]["annotations"]
                .get(format!("reuseport.dev/{one}"))
                .is_none()
        })
    };
    let pods: Vec<Value> = pods::all().into_iter().filter(silent).collect();
    assert_same(&policy, &pods[..pods.len() - 1]);
    let compiled = of_kind(&objects(&policy), "MutatingAdmissionPolicy");
    let annotations = json!({"reuseport.dev/port": "53", "reuseport.dev/debug": "false"});
    let pod = pod(
        &annotations,
        &json!({"containers": [{"name": "a", "image": "a"}]}),
    );
    let env = &compiled.mutate(&pod)["spec"]["containers"][0]["env"];
    assert_eq!(env[1], json!({"name": "LIBREUSEPORT_PORT", "value": "53"}));
    assert_eq!(env.as_array().map(Vec::len), Some(3), "{env}");
}

#[test]
fn pods_ask_or_with_all_do_not_refuse() {
    let of = |policy: &Policy| of_kind(&objects(policy), "MutatingAdmissionPolicy");
    let [asked, all] = [false, true].map(|all| of(&Policy { all, ..by_image() }));
    let spec = json!({"containers": [{"name": "a", "image": "a"}]});
    let bare = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec});
    for (word, is_asked, is_all) in [
        (None, false, true),
        (Some("enabled"), true, true),
        (Some("disabled"), false, false),
        (Some("yes"), false, false),
    ] {
        let mut one = bare.clone();
        if let Some(word) = word {
            one["metadata"]["annotations"] = json!({"reuseport.dev/inject": word});
        }
        assert_eq!(asked.mutate(&one) != one, is_asked, "{word:?}");
        assert_eq!(all.mutate(&one) != one, is_all, "{word:?}");
    }
    // A mirror pod tells of what a node runs already.
    let mut mirror = pod(&json!({"kubernetes.io/config.mirror": "x"}), &spec);
    assert_eq!(asked.mutate(&mirror), mirror);
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    assert_eq!(all.mutate(&mirror), mirror);
}

#[test]
fn no_policy_reaches_the_clusters_own_pods() {
    for policy in [
        by_image(),
        by_configmap(),
        Policy {
            labels: vec![("a".into(), "b".into())],
            ..by_image()
        },
    ] {
        for object in objects(&policy) {
            let Some(constraints) = object["spec"].get("matchConstraints") else {
                continue;
            };
            let selector = &constraints["namespaceSelector"];
            let never = json!({"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system"]});
            assert_eq!(selector["matchExpressions"][0], never);
            assert_eq!(object["spec"]["failurePolicy"], "Ignore");
            let only = &selector["matchExpressions"][1];
            assert_eq!(only.is_null(), policy.namespaces.is_empty(), "{selector}");
            assert_eq!(selector["matchLabels"].is_null(), policy.labels.is_empty());
        }
    }
}

#[test]
fn warnings_name_what_is_in_the_way() {
    let compiled = of_kind(&objects(&by_configmap()), "ValidatingAdmissionPolicy");
    let ports = json!([{"containerPort": 53, "protocol": "UDP"}]);
    let dns = json!({
        "hostNetwork": true,
        "containers": [{"name": "dns", "image": "d", "ports": ports}, {"name": "b", "image": "b"}],
    });
    let template = |kind: &str, pod: &Value| {
        let template = json!({"metadata": pod["metadata"], "spec": pod["spec"]});
        json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "d"}, "spec": {"template": template}})
    };
    let asks = pod(&json!({}), &dns);
    for object in [
        asks.clone(),
        template("DaemonSet", &asks),
        template("Deployment", &asks),
    ] {
        let said = compiled.warnings(&object);
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(
            said[0].ends_with(
                "take ports out of the containers, the server listens all the same: dns"
            ),
            "{said:?}"
        );
    }
    // Who has the shim by its manifest is warned as well, and who has not is not.
    let mut by_text = injected(std::slice::from_ref(&asks), &same(&by_configmap()));
    by_text[0]["metadata"]["annotations"] = json!({"reuseport.dev/port": "not one", "a": "b"});
    assert_eq!(compiled.warnings(&by_text[0]).len(), 1);
    let none = json!({"kind": "Pod", "metadata": {"name": "p"}, "spec": dns});
    assert_eq!(compiled.warnings(&none), [""; 0]);
    let mut quiet = asks.clone();
    quiet["spec"]
        .as_object_mut()
        .expect("a map")
        .shift_remove("hostNetwork");
    assert_eq!(compiled.warnings(&quiet), [""; 0]);
    // What the mutating policy leaves alone, and why.
    let objects = objects(&by_configmap());
    let mutating = of_kind(&objects, "MutatingAdmissionPolicy");
    let mut reasons = std::collections::BTreeSet::new();
    for one in pods::all() {
        let asks = one["metadata"]["annotations"]["reuseport.dev/inject"] == "enabled";
        let has_it = one.to_string().contains("reuseport-shim");
        let said = compiled.warnings(&one);
        let is_left = mutating.mutate(&one) == one;
        assert_eq!(
            asks && is_left && !has_it,
            !said.is_empty(),
            "{one:#}\n{said:?}"
        );
        reasons.extend(said);
    }
    assert_eq!(reasons.len(), 12, "{reasons:#?}");
}

/// Every option, to be written anew as those of `options`.
const CASES: [(&str, &[&str]); 3] = [
    ("policy", &["--namespace", "web", "--namespace", "dns"]),
    (
        "policy-warn",
        &[
            "--namespace",
            "web",
            "--namespace-label",
            "example.org/tier=edge",
            "--arch",
            "arm64",
            "--warn",
            "--port",
            "53",
            "--proto",
            "udp",
        ],
    ),
    (
        "policy-image",
        &[
            "--delivery",
            "image=example.org/shim:1",
            "--all",
            "--namespace-label",
            "team=web",
            "--namespace-label",
            "empty=",
            "--api-version",
            "v1beta1",
        ],
    ),
];

#[test]
fn each_option_prints_what_is_written_down() {
    let mut wrong = Vec::new();
    for (name, arguments) in CASES {
        let all = [&["policy"], arguments].concat();
        let text = stable(&output(reuseport().args(&all)));
        let found = format!("#| reuseport {}\n{text}", all.join(" "));
        if !is_golden(name, &found) {
            wrong.push(format!("{name}:\n{found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // A namespace that is named again is the same.
    let call = |names: &[&str]| {
        let names = names.iter().flat_map(|name| ["--namespace", name]);
        output(reuseport().arg("policy").args(names))
    };
    assert_eq!(call(&["web", "dns", "web"]), call(&["web", "dns"]));
}

#[test]
fn policies_that_cannot_be_are_refused() {
    for (arguments, said) in [
        (
            &[][..],
            "a ConfigMap lies in one namespace: name each with --namespace, or use --delivery image=REF",
        ),
        (
            &["--namespace", "a", "--namespace", "kube-system"],
            "kube-system holds the cluster's own pods",
        ),
        (
            &["--delivery", "image=x", "--namespace", "kube-system"],
            "kube-system holds",
        ),
        (
            &["--delivery", "init=x"],
            "by configmap or image=REF; for init=REF and host=PATH use reuseport inject -f",
        ),
        (
            &["--delivery", "host=/opt/reuseport"],
            "by configmap or image=REF",
        ),
        (&["--namespace", "A"], "a namespace's name is made of"),
        (
            &["--namespace", "a", "--namespace-label", "team"],
            "expected KEY=VALUE",
        ),
        (
            &["--namespace", "a", "--namespace-label", "te am=b"],
            "expected KEY=VALUE",
        ),
        (
            &["--namespace", "a", "--namespace-label", "_/a=b"],
            "expected KEY=VALUE",
        ),
        (
            &["--namespace", "a", "--api-version", "v1alpha1"],
            "v1, v1beta1",
        ),
        (
            &["--namespace", "a", "--port", "http"],
            "invalid value 'http'",
        ),
        (
            &["--namespace", "a", "--arch", "s390x"],
            "there is no shim for s390x",
        ),
    ] {
        let outcome = run(reuseport().arg("policy").args(arguments));
        assert_eq!(
            (outcome.status, outcome.stdout.as_str()),
            (Some(2), ""),
            "{arguments:?}"
        );
        assert!(
            outcome.stderr.contains(said),
            "{arguments:?}: {}",
            outcome.stderr
        );
    }
}

#[test]
fn the_api_and_kubectl_take_what_is_printed() {
    let policies = [
        by_image(),
        by_configmap(),
        Policy {
            version: Version::V1Beta1,
            all: true,
            labels: vec![("a/b".into(), "c".into())],
            ..by_configmap()
        },
    ];
    let mut count = 0;
    for policy in &policies {
        for object in objects(policy) {
            assert_eq!(
                crate::schema::wrong(&object),
                Some(Vec::new()),
                "{object:#}"
            );
            count += 1;
        }
    }
    assert_eq!(count, 4 + 8 + 8);
    if fs::metadata("/usr/bin/kubectl").is_err() {
        return skip(
            "the_api_and_kubectl_take_what_is_printed",
            "there is no kubectl",
        );
    }
    for options in &policies {
        let file = tempfile::NamedTempFile::with_suffix(".yaml").expect("a file");
        fs::write(file.path(), policy(options).expect("a policy")).expect("written");
        let mut kubectl = command("/usr/bin/kubectl");
        kubectl
            .args(["label", "--local", "a=b", "-o", "name", "-f"])
            .arg(file.path());
        assert_eq!(output(&mut kubectl).lines().count(), objects(options).len());
    }
}

#[test]
fn any_pod_becomes_what_inject_makes_of_it() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let pods: Vec<Value> = (0..300)
        .map(|_| {
            let tree = pods::any().new_tree(&mut runner).expect("a pod");
            tree.current()
        })
        .collect();
    let changed = injected(&pods, &same(&by_image()));
    let count = pods
        .iter()
        .zip(&changed)
        .filter(|(pod, changed)| pod != changed)
        .count();
    assert!((50..250).contains(&count), "{count}");
    assert_same(&by_image(), &pods);
    assert_same(&by_configmap(), &pods[..100]);
}
