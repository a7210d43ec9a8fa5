//! Pods as the API server gives them to a policy: without null and without empty
//! lists, which it drops.

use proptest::prelude::*;
use reuseport::manifest::SIDECARS;
use serde_json::{Value, json};

/// A pod that asks for the shim.
pub fn pod(annotations: &Value, spec: &Value) -> Value {
    let mut annotations = annotations.clone();
    if annotations.get("reuseport.dev/inject").is_none() {
        annotations["reuseport.dev/inject"] = "enabled".into();
    }
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "namespace": "web", "annotations": annotations},
        "spec": spec,
    })
}

/// Pods of every shape. The last one has the shim by an image.
pub fn all() -> Vec<Value> {
    let web = || json!({"name": "web", "image": "nginx"});
    let with = |key: &str, value: Value| {
        let mut container = web();
        container[key] = value;
        container
    };
    let mut all = vec![pod(&json!({}), &json!({"containers": [web()]}))];
    let env = |value: Value| pod(&json!({}), &json!({"containers": [with("env", value)]}));
    let from = json!({"configMapKeyRef": {"name": "m", "key": "k", "optional": true}});
    for variables in [
        json!([{"name": "A", "value": "1"}]),
        json!([{"name": "A", "value": "1"}, {"name": "LD_PRELOAD", "value": "/a.so"}, {"name": "Z"}]),
        json!([{"name": "LD_PRELOAD", "valueFrom": from}, {"name": "Z", "value": "$(LD_PRELOAD)"}]),
        json!([{"name": "Z", "value": "1"}, {"name": "LD_PRELOAD", "valueFrom": from}]),
        json!([{"name": "LD_PRELOAD"}]),
        json!([{"name": "LD_PRELOAD", "value": ""}]),
        json!([{"name": "LD_PRELOAD", "value": "/a.so:"}]),
        json!([{"name": "LD_PRELOAD", "value": "/a.so "}]),
        json!([{"name": "LD_PRELOAD", "value": "/a.so"}, {"name": "LD_PRELOAD", "value": "/b.so"}, {"name": "X", "value": "1"}]),
        json!([{"name": "LIBREUSEPORT_PORT", "value": "1"}, {"name": "LIBREUSEPORT_ADDR", "value": "::1"}]),
        json!([{"name": "LIBREUSEPORT_PORT", "value": "1"}, {"name": "LIBREUSEPORT_PORT", "valueFrom": from}, {"name": "LIBREUSEPORT_PORT"}, {"name": "LD_PRELOAD", "valueFrom": from}]),
        json!([{"name": "KEPT_LD_PRELOAD", "value": "/a.so"}]),
        json!([{"name": "KEPT_LIBREUSEPORT_OP", "value": "1"}]),
        json!([{"name": "KEPT_LD_PRELOADS", "value": "1"}]),
    ] {
        all.push(env(variables));
    }
    let mount = |path: &str| with("volumeMounts", json!([{"name": "data", "mountPath": path}]));
    for path in [
        "/data",
        "/.reuseport",
        "/.reuseport/",
        "/.reuseport/x",
        "/.reuseports",
    ] {
        all.push(pod(
            &json!({}),
            &json!({"containers": [mount(path)], "volumes": [{"name": "data", "emptyDir": {}}]}),
        ));
    }
    let several = json!({
        "initContainers": [{"name": "migrate", "image": "m"}, {"name": "proxy", "image": "p", "restartPolicy": "Always"}],
        "containers": [{"name": "a", "image": "a"}, {"name": "istio-proxy", "image": "i"}, with("env", json!([{"name": "LD_PRELOAD", "valueFrom": from}]))],
        "hostNetwork": true,
    });
    all.push(pod(&json!({}), &several));
    for names in [
        "a",
        " web , migrate",
        "istio-proxy",
        "proxy,a,web",
        "b",
        "",
        "a,",
        "a,a",
    ] {
        all.push(pod(&json!({"reuseport.dev/containers": names}), &several));
    }
    let sidecars = SIDECARS.map(|name| json!({"name": name, "image": "x"}));
    all.push(pod(&json!({}), &json!({"containers": sidecars})));
    for word in ["disabled", "enabled"] {
        all.push(pod(&json!({"reuseport.dev/inject": word}), &several));
    }
    all.extend(VALUES.iter().map(|(name, value)| {
        let annotations = json!({format!("reuseport.dev/{name}"): value, "other": "x"});
        pod(&annotations, &json!({"containers": [web()]}))
    }));
    all.push(pod(
        &json!({"reuseport.dev/port": "53", "reuseport.dev/proto": "udp", "reuseport.dev/debug": "yes", "reuseport.dev/op": "both"}),
        &several,
    ));
    for (key, value) in nodes() {
        all.push(pod(&json!({}), &json!({"containers": [web()], key: value})));
    }
    all.push(pod(
        &json!({}),
        &json!({
            "containers": [{
                "name": "web",
                "image": "nginx",
                "env": [{"name": "LD_PRELOAD", "value": "/.reuseport/libreuseport.so"}],
                "volumeMounts": [{"name": "reuseport-shim", "mountPath": "/.reuseport", "readOnly": true}],
            }],
            "volumes": [{"name": "reuseport-shim", "image": {"reference": "example.org/shim:1"}}],
        }),
    ));
    all
}

/// Values of annotations, good and bad.
pub const VALUES: [(&str, &str); 64] = [
    ("addr", ""),
    ("addr", "127.0.0.1"),
    ("addr", "10.0.0.0/8, ::1,\tfe80::/10 "),
    ("addr", "1::2:3:4:5:6:7"),
    ("addr", "::1.2.3.4"),
    ("addr", "01.2.3.4"),
    ("addr", "10.0.0.0/33"),
    ("addr", "10.0.0.0/08"),
    ("addr", "1:2"),
    ("addr", "10.0.0.1,"),
    ("addr", "localhost"),
    ("port", ""),
    ("port", "80"),
    ("port", " 80 ,443,8000-8099\n"),
    ("port", "0"),
    ("port", "65535"),
    ("port", "65536"),
    ("port", "080"),
    ("port", "80-79"),
    ("port", "79-80"),
    ("port", "80 - 81"),
    ("port", "80-"),
    ("port", "-80"),
    ("port", "1-2-3"),
    ("port", "http"),
    ("port", "+80"),
    ("port", ","),
    ("op", ""),
    ("op", "1"),
    ("op", "3"),
    ("op", "reuseport"),
    ("op", "reuseaddr"),
    ("op", "both"),
    ("op", " 1"),
    ("op", "4"),
    ("proto", ""),
    ("proto", "tcp"),
    ("proto", "udp, tcp"),
    ("proto", "TCP"),
    ("proto", "tcp,"),
    ("interface", ""),
    ("interface", "eth0"),
    ("interface", "eth0.100"),
    ("interface", "123456789012345"),
    ("interface", "1234567890123456"),
    (
        "interface",
        "\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}",
    ),
    ("interface", ".."),
    ("interface", "a/b"),
    ("interface", "a b"),
    ("program", ""),
    ("program", "nginx,python3*"),
    ("program", "[!]a]x, [^a-z]?\\*"),
    ("program", "[]]"),
    ("program", "[]"),
    ("program", "[!]"),
    ("program", "[a/b]"),
    ("program", "a/b"),
    ("program", "x\\"),
    ("program", "[a"),
    ("debug", ""),
    ("debug", "0"),
    ("debug", "false"),
    ("debug", "true"),
    ("debug", "1"),
];

/// What says which nodes pods go to.
pub fn nodes() -> Vec<(&'static str, Value)> {
    let affinity = |terms: Value| json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}});
    let term = |key: &str, values: &[&str]| {
        json!({"matchExpressions": [
            {"key": "zone", "operator": "Exists"},
            {"key": key, "operator": "In", "values": values},
        ]})
    };
    let arch = "kubernetes.io/arch";
    vec![
        ("nodeSelector", json!({"kubernetes.io/arch": "arm64"})),
        (
            "nodeSelector",
            json!({"kubernetes.io/arch": "amd64", "beta.kubernetes.io/arch": "arm64"}),
        ),
        ("nodeSelector", json!({"beta.kubernetes.io/arch": "arm64"})),
        ("nodeSelector", json!({"kubernetes.io/arch": "s390x"})),
        ("nodeSelector", json!({"kubernetes.io/os": "windows"})),
        ("nodeSelector", json!({"beta.kubernetes.io/os": "windows"})),
        ("nodeSelector", json!({"kubernetes.io/os": "linux"})),
        ("os", json!({"name": "windows"})),
        ("os", json!({"name": "linux"})),
        ("affinity", affinity(json!([term(arch, &["arm64"])]))),
        (
            "affinity",
            affinity(json!([term(arch, &["arm64"]), term(arch, &["arm64"])])),
        ),
        (
            "affinity",
            affinity(json!([term(arch, &["arm64", "amd64"])])),
        ),
        (
            "affinity",
            affinity(json!([term(arch, &["arm64"]), term(arch, &["amd64"])])),
        ),
        (
            "affinity",
            affinity(json!([term(arch, &["arm64"]), {"matchFields": []}])),
        ),
        ("affinity", affinity(json!([term(arch, &["s390x"])]))),
        (
            "affinity",
            affinity(json!([term("kubernetes.io/os", &["windows"])])),
        ),
        ("affinity", json!({"podAffinity": {}})),
        ("tolerations", json!([{"operator": "Exists"}])),
    ]
}

fn variable() -> impl Strategy<Value = Value> {
    let name = prop_oneof![
        2 => "[A-Z]{1,2}",
        2 => Just("LD_PRELOAD".to_owned()),
        1 => Just("LIBREUSEPORT_PORT".to_owned()),
        1 => Just("LIBREUSEPORT_OP".to_owned()),
        1 => "KEPT_(LD_PRELOAD|LIBREUSEPORT_X|X)",
    ];
    let value = prop_oneof![
        3 => "[ -~]{0,6}".prop_map(|text| json!({"value": text})),
        1 => Just(json!({"valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}})),
        1 => Just(json!({})),
    ];
    (name, value).prop_map(|(name, mut value)| {
        value["name"] = name.into();
        value
    })
}

pub fn any() -> impl Strategy<Value = Value> {
    let list =
        |items: BoxedStrategy<Value>| proptest::option::of(proptest::collection::vec(items, 1..4));
    let path = prop_oneof![Just("/data"), Just("/.reuseport/a")];
    let mount = path
        .prop_map(|path| json!({"name": "data", "mountPath": path}))
        .boxed();
    let container = (
        list(variable().boxed()),
        proptest::option::weighted(0.3, mount),
    )
        .prop_map(|(env, mount)| {
            let mut container = json!({"image": "x"});
            if let Some(env) = env {
                container["env"] = env.into();
            }
            if let Some(mount) = mount {
                container["volumeMounts"] = json!([mount]);
            }
            container
        });
    let annotation = prop_oneof![
        4 => proptest::sample::select(&VALUES[..]).prop_map(|(name, value)| (name.to_owned(), value.to_owned())),
        1 => "[ a-d,]{0,5}".prop_map(|names| ("containers".to_owned(), names)),
    ];
    let annotations = proptest::collection::vec(annotation, 0..4);
    let containers = list(container.boxed());
    let names = Just(vec!["a", "b", "istio-proxy", "c", "d", "e"]).prop_shuffle();
    let nodes = proptest::option::weighted(0.2, proptest::sample::select(nodes()));
    let volumes = proptest::option::of(Just(json!([{"name": "data", "emptyDir": {}}])));
    (
        containers.clone(),
        containers,
        names,
        annotations,
        nodes,
        volumes,
    )
        .prop_map(|(init, regular, mut names, annotations, nodes, volumes)| {
            let mut with_names = |containers: Option<Vec<Value>>| {
                let mut containers = containers.unwrap_or_else(|| vec![json!({"image": "y"})]);
                for one in &mut containers {
                    one["name"] = names.pop().expect("names for all").into();
                }
                Value::from(containers)
            };
            let mut spec = json!({"containers": with_names(regular)});
            if let Some(init) = init {
                spec["initContainers"] = with_names(Some(init));
            }
            if let Some((key, value)) = nodes {
                spec[key] = value;
            }
            if let Some(volumes) = volumes {
                spec["volumes"] = volumes;
            }
            let annotations: serde_json::Map<String, Value> = annotations
                .into_iter()
                .map(|(name, value)| (format!("reuseport.dev/{name}"), value.into()))
                .collect();
            pod(&annotations.into(), &spec)
        })
}
