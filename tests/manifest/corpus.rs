//! Objects in every kind and shape that matters to the shim, as values, and
//! manifests that no printer of values would write.

use serde_json::{Value, json};

use crate::print::STYLES;

/// A pod template with these containers and more fields of its specification.
fn template(containers: &Value, more: &Value) -> Value {
    let mut spec = json!({"containers": containers});
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    json!({"metadata": {"labels": {"app": "web"}}, "spec": spec})
}

/// An object of a kind around a pod template.
pub fn object(kind: &str, name: &str, template: &Value) -> Value {
    let version = match kind {
        "Pod" | "PodTemplate" | "ReplicationController" => "v1",
        "Job" | "CronJob" => "batch/v1",
        "Rollout" => "argoproj.io/v1alpha1",
        "Service" => "serving.knative.dev/v1",
        "DeploymentConfig" => "apps.openshift.io/v1",
        "CloneSet" => "apps.kruise.io/v1alpha1",
        _ => "apps/v1",
    };
    let mut object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}});
    match kind {
        "Pod" => object["spec"] = template["spec"].clone(),
        "PodTemplate" => object["template"] = template.clone(),
        "CronJob" => {
            object["spec"] =
                json!({"schedule": "* * * * *", "jobTemplate": {"spec": {"template": template}}});
        }
        _ => {
            object["spec"] =
                json!({"selector": {"matchLabels": {"app": "web"}}, "template": template});
        }
    }
    if kind == "ReplicationController" {
        object["spec"]["selector"] = json!({"app": "web"});
    }
    if kind == "DaemonSet" {
        object["spec"]["template"]["spec"]["nodeSelector"] = json!({"kubernetes.io/arch": "arm64"});
    }
    object
}

pub const KINDS: [&str; 13] = [
    "Pod",
    "PodTemplate",
    "Deployment",
    "ReplicaSet",
    "ReplicationController",
    "StatefulSet",
    "DaemonSet",
    "Job",
    "CronJob",
    "Rollout",
    "Service",
    "DeploymentConfig",
    "CloneSet",
];

/// Streams of values, each to be printed in every style.
pub fn values() -> Vec<Vec<Value>> {
    let web = || json!({"name": "web", "image": "nginx:1.29"});
    let with = |key: &str, value: Value| {
        let mut container = web();
        container[key] = value;
        container
    };
    let deployment = |containers: &Value, more: &Value| {
        vec![object("Deployment", "web", &template(containers, more))]
    };
    let mut streams: Vec<Vec<Value>> = KINDS
        .iter()
        .map(|kind| vec![object(kind, "web", &template(&json!([web()]), &json!({})))])
        .collect();
    let preload = |value: Value| json!([{"name": "A", "value": "y"}, value, {"name": "Z", "value": "$(LD_PRELOAD)"}]);
    for env in [
        Value::Null,
        json!([]),
        json!([{"name": "A", "value": "1_000"}]),
        json!([{"name": "LD_PRELOAD", "value": "/usr/lib/jemalloc.so"}]),
        json!([{"name": "LD_PRELOAD", "value": ""}]),
        json!([{"name": "LD_PRELOAD"}]),
        json!([{"name": "LD_PRELOAD", "value": "a b:c "}]),
        preload(
            json!({"name": "LD_PRELOAD", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}}),
        ),
        preload(json!({"name": "LD_PRELOAD", "value": "tab\there"})),
        json!([{"name": "LIBREUSEPORT_PORT", "value": "81"}, {"name": "LIBREUSEPORT_ADDR", "value": "::1"}]),
    ] {
        streams.push(deployment(&json!([with("env", env)]), &json!({})));
    }
    for (key, value) in [
        ("volumeMounts", Value::Null),
        ("volumeMounts", json!([])),
        (
            "volumeMounts",
            json!([{"name": "data", "mountPath": "/data"}]),
        ),
        ("envFrom", json!([{"secretRef": {"name": "s"}}])),
        (
            "args",
            json!([
                "--- not a document",
                "# no comment",
                "a: b",
                "'",
                "\"",
                "{{ .x }}"
            ]),
        ),
    ] {
        streams.push(deployment(&json!([with(key, value)]), &json!({})));
    }
    for (key, value) in [
        ("volumes", Value::Null),
        ("volumes", json!([])),
        ("volumes", json!([{"name": "data", "emptyDir": {}}])),
        ("initContainers", Value::Null),
        ("initContainers", json!([{"name": "migrate", "image": "x"}])),
        ("nodeSelector", json!({"kubernetes.io/arch": "arm64"})),
    ] {
        let mut more = json!({});
        more[key] = value;
        streams.push(deployment(
            &json!([web(), {"name": "istio-proxy", "image": "p"}]),
            &more,
        ));
    }
    for annotations in [Value::Null, json!({}), json!({"a": "b"})] {
        let mut objects = deployment(&json!([with("env", json!([]))]), &json!({}));
        objects[0]["metadata"]["annotations"] = annotations;
        streams.push(objects);
    }
    // Nothing to do.
    streams.push(deployment(&json!([]), &json!({})));
    streams.push(deployment(&Value::Null, &json!({})));
    streams.push(vec![
        json!({"kind": "List", "apiVersion": "v1", "items": []}),
    ]);
    // Several documents, and others between them.
    let mut other = object(
        "StatefulSet",
        "db",
        &template(&json!([web(), {"name": "b", "image": "c"}]), &json!({})),
    );
    other["metadata"]["namespace"] = "prod".into();
    streams.push(vec![
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}}),
        object("Deployment", "web", &template(&json!([web()]), &json!({}))),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"f": "a\n---\nb\n\n", "e": ""}}),
        other.clone(),
        object("DaemonSet", "agent", &template(&json!([web()]), &json!({"hostNetwork": true}))),
    ]);
    streams.push(vec![json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"f": "x"}},
        object("Deployment", "web", &template(&json!([with("env", json!([]))]), &json!({}))),
        other,
    ]})]);
    streams
}

/// Manifests as people write them: anchors, merge keys, block scalars and the like.
pub const WRITTEN: [(&str, &str); 22] = [
    ("anchors", include_str!("written/anchors.yaml")),
    ("merges", include_str!("written/merges.yaml")),
    ("brackets", include_str!("written/brackets.yaml")),
    ("merged-last", include_str!("written/merged-last.yaml")),
    ("scalars", include_str!("written/scalars.yaml")),
    ("odd", include_str!("written/odd.yaml")),
    ("preload", include_str!("written/preload.yaml")),
    (
        "carriage-returns",
        "kind: Pod\nspec:\n  containers:\n  - name: a\r\r\n    image: x\n  - name: b\r\r\r",
    ),
    (
        "surrogates",
        r#"{"kind": "Pod", "metadata": {"annotations": {"a": "\ud83d\ude00 \\ud83d \uD83D", "b\udBFF": "\/"}},
"spec": {"containers": [{"name": "a", "args": ["\ud83d\ude00"], "env": []}]}}
"#,
    ),
    (
        "knative",
        "apiVersion: serving.knative.dev/v1\nkind: Service\nspec:\n  template:\n    spec:\n      containers:\n        - image: ko://a\n      initContainers:\n        - image: ko://a\n          env:\n",
    ),
    (
        "alias of nothing",
        "x: &e # c\nkind: Pod\nspec:\n  containers:\n  - name: a\n    env: *e # d\n    volumeMounts: *e\n  - {name: b, env: *e}\n  volumes: *e\n",
    ),
    (
        "alias of an empty list",
        "kind: Pod\nspec:\n  containers:\n  - name: a\n    env: &e []\n  - name: b\n    env: *e\n    volumeMounts: *e\n",
    ),
    (
        "alias among init containers",
        "x: &e [{name: A, value: b}]\nkind: Pod\nspec:\n  initContainers:\n  - name: web\n    env: *e\n  containers:\n  - name: b\n",
    ),
    ("empty", ""),
    ("comment", "# nothing here\n"),
    ("markers", "---\n---\n# nothing\n---\n"),
    (
        "ended",
        "a: 1\n...\n# then\nkind: Pod\nspec:\n  containers:\n  - name: a\n...\n",
    ),
    ("scalar", "just text\n"),
    ("list", "- a\n- kind: Pod\n"),
    ("line", "{kind: Pod, spec: {containers: [{name: a}]}}"),
    (
        "trailing",
        "kind: Pod\nspec: {containers: [ { name: a, env: [ {name: A, value: b}, ], }, ], } # x",
    ),
    (
        "nulls",
        "kind: Pod\nmetadata:\nspec:\n  containers:\n  - name: a\n    env:\n    volumeMounts: null # no\n  volumes: !!null\n",
    ),
];

/// All manifests of the corpus, with names for messages.
pub fn all() -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = WRITTEN
        .iter()
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
        .collect();
    for (number, values) in values().iter().enumerate() {
        for style in STYLES {
            let name = format!("stream {number}, {}", style.name);
            all.push((name, style.stream(values)));
        }
    }
    all
}
