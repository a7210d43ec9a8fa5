//! Compose files: what comes out of each option, what is refused, and the laws.

use std::fs;

use proptest::prelude::*;
use reuseport::manifest::{Compose, Delivery, Injection, Source, eject, inject};
use serde_json::{Value, json};

use crate::laws::{hold, options};
use crate::options::{golden, is_golden, said};
use crate::print::{STYLES, Style};
use crate::refusals::filter;
use crate::support::{reuseport, run};
use crate::tools::read;

const CASES: [(&str, &str, &[&str]); 7] = [
    ("compose-all", "compose", &[]),
    (
        "compose-rules",
        "compose",
        &[
            "--port",
            "80,443",
            "--program",
            "a$b",
            "--delivery",
            "host=/usr/lib/reuseport",
        ],
    ),
    (
        "compose-service",
        "compose",
        &["--service", "db", "--service", "web", "--json"],
    ),
    (
        "compose-scale",
        "compose",
        &["--service", "web", "--scale-ready", "--port", "80"],
    ),
    (
        "compose-aside",
        "compose",
        &["--service", "api", "--scale-ready"],
    ),
    ("compose-list", "compose-list", &["--debug"]),
    (
        "compose-list-scale",
        "compose-list",
        &["--service", "empty", "--scale-ready"],
    ),
];

#[test]
fn each_option_gives_what_is_written_beside_it() {
    let mut wrong = Vec::new();
    for (name, input, arguments) in CASES {
        let text = fs::read_to_string(golden(&format!("{input}.yaml"))).expect("an input");
        let all = [&["inject", "-f", "-"], arguments].concat();
        let (status, stdout, stderr) = filter(&all, &text);
        assert_eq!(status, Some(0), "{name}: {stderr}");
        let found = format!("#| reuseport {}\n{}{stdout}", all.join(" "), said(&stderr));
        if !is_golden(name, &found) {
            wrong.push(format!("{name}:\n{found}"));
        }
        let (_, given_back, _) = filter(&["eject", "-f", "-"], &stdout);
        assert_eq!(given_back, text, "{name}");
        let again = [&["inject", "-f", "-"], arguments].concat();
        assert_eq!(filter(&again, &stdout).1, stdout, "{name}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

const SCALE: &[&str] = &["--scale-ready"];

/// What is refused of the service `web`: more of it, options, and what is said.
const REFUSED: [(&str, &[&str], &str); 31] = [
    (
        "    volumes:\n    - a:/b\n    - ./x:/.reuseport:ro\n",
        &[],
        "6:7: document 1, .services.web.volumes[1]: container web mounts /.reuseport at /.reuseport",
    ),
    (
        "    volumes: [{type: bind, source: /x, target: /.reuseport/y}]\n",
        &[],
        ".services.web.volumes[0]: container web mounts",
    ),
    (
        "    tmpfs: /.reuseport\n",
        &[],
        "mounts /.reuseport at /.reuseport",
    ),
    (
        "    volumes: a:/b\n",
        &[],
        ".services.web.volumes: expected a list, found a string",
    ),
    (
        "    environment: yes\n",
        &[],
        ".services.web.environment: expected a mapping or a list, found a boolean",
    ),
    (
        "    environment: [{A: b}]\n",
        &[],
        ".services.web.environment[0]: expected a string, found a mapping",
    ),
    (
        "    environment: {KEPT_LD_PRELOAD: x}\n",
        &[],
        "the name KEPT_LD_PRELOAD is taken in the environment of service web",
    ),
    (
        "    environment: {LD_PRELOAD: 80}\n",
        &[],
        ".services.web.environment.LD_PRELOAD: expected a string, found a number",
    ),
    (
        "    environment: {LD_PRELOAD: &lib /a.so}\n",
        &[],
        ".services.web.environment.LD_PRELOAD: this cannot be edited as it is written",
    ),
    (
        "    environment: {LD_PRELOAD: !reset null}\n",
        &[],
        ".services.web.environment.LD_PRELOAD: Compose leaves out LD_PRELOAD here",
    ),
    (
        "    environment: !reset null\n",
        &[],
        ".services.web.environment: Compose leaves out environment here, for its tag",
    ),
    (
        "    volumes: !reset []\n",
        &[],
        "write volumes: !override and what is to stay",
    ),
    (
        "    network_mode: !reset bridge\n",
        SCALE,
        ".services.web.network_mode: Compose leaves out network_mode here",
    ),
    (
        "    platform: windows/amd64\n",
        &[],
        ".services.web.platform: these containers run on Windows",
    ),
    (
        "",
        &["--service", "wbe"],
        "there is no service wbe; there are web",
    ),
    (
        "",
        &["--container", "web"],
        "choose with --service NAME, not --container",
    ),
    (
        "",
        &["--delivery", "image=x"],
        "use --delivery host=PATH, or none for /opt/reuseport",
    ),
    ("", &["--configmap", "x"], "use --delivery host=PATH"),
    ("", &["--delivery", "configmap"], "use --delivery host=PATH"),
    (
        "",
        &["--arch", "arm64"],
        "--arch is for the pods of Kubernetes, and there is none",
    ),
    (
        "",
        &["--shards", "2"],
        "--shards is for the pods of Kubernetes",
    ),
    (
        "    networks: [front]\n",
        SCALE,
        ".services.web.networks: service web cannot be made ready to scale: networks and the host's network exclude each other",
    ),
    ("    links: [db]\n", SCALE, "links and the host's network"),
    (
        "    sysctls: {net.core.somaxconn: 1024}\n",
        SCALE,
        "net.core.somaxconn cannot be set on the host's network",
    ),
    (
        "    ports: ['8080:80']\n",
        SCALE,
        ".services.web.ports: service web cannot be made ready to scale: item 0: 8080 is published for 80",
    ),
    (
        "    ports: ['80:80', '127.0.0.1:81:81']\n",
        SCALE,
        "item 1: 81 is published on 127.0.0.1 alone",
    ),
    (
        "    ports: ['[::1]:81:81']\n",
        SCALE,
        "published on ::1 alone",
    ),
    (
        "    ports: [{target: 80, published: '8080'}]\n",
        SCALE,
        "8080 is published for 80",
    ),
    (
        "    ports: ['${PORT:-80}:80']\n",
        SCALE,
        "is known only when it runs; write the numbers out",
    ),
    (
        "    <<: {container_name: x}\n",
        SCALE,
        "container_name has to make way and is not written here",
    ),
    (
        "    ? container_name\n    : &a x\n    &n network_mode: bridge\n",
        SCALE,
        "network_mode has to make way and is not written here",
    ),
];

#[test]
fn what_cannot_be_done_is_refused_with_the_place_and_a_way_out() {
    let web = |text: &str| format!("services:\n  web:\n    image: x\n{text}");
    for (text, arguments, expected) in REFUSED {
        let input = web(text);
        let all = [&["inject", "-f", "-"], arguments].concat();
        let (status, stdout, stderr) = filter(&all, &input);
        assert_eq!(
            (status, stdout.as_str()),
            (Some(2), ""),
            "{input}\n{stderr}"
        );
        assert!(stderr.contains(expected), "{input}\n{stderr}\n{expected}");
    }
    for (input, expected) in [
        (
            "services: [web]\n",
            ".services: expected a mapping, found a list",
        ),
        (
            "services: {web: nginx}\n",
            ".services.web: expected a mapping, found a string",
        ),
    ] {
        let (status, stdout, stderr) = filter(&["inject", "-f", "-"], input);
        assert_eq!(
            (status, stdout.as_str()),
            (Some(2), ""),
            "{input}\n{stderr}"
        );
        assert!(stderr.contains(expected), "{stderr}");
    }
    let (status, _, stderr) = filter(&["eject", "-f", "-", "--service", "wbe"], &web(""));
    assert_eq!(
        (status, stderr.as_str()),
        (
            Some(2),
            "reuseport: there is no service wbe; there are web\n"
        )
    );
    let pod = "kind: Pod\nspec: {containers: [{name: x}]}\n";
    let (status, _, stderr) = filter(&["inject", "-f", "-", "--service", "web"], pod);
    assert_eq!(
        (status, stderr.as_str()),
        (
            Some(2),
            "reuseport: there is no service web; there is no Compose file\n"
        )
    );
}

#[test]
fn what_overrides_another_file_is_changed_where_it_speaks_of_the_same() {
    let directory = tempfile::tempdir().expect("a directory");
    let [base, more] =
        ["compose.yaml", "compose.override.yaml"].map(|one| directory.path().join(one));
    let texts = [
        "services:\n  web:\n    image: x\n    environment:\n      LD_PRELOAD: /a.so\n  db:\n    image: y\n",
        "services:\n  web:\n    environment:\n      LD_PRELOAD: /b.so\n      LIBREUSEPORT_PORT: 9\n  db:\n    ports: []\n",
    ];
    let write = || {
        fs::write(&base, texts[0]).expect("written");
        fs::write(&more, texts[1]).expect("written");
    };
    write();
    let call = |arguments: &[&str]| {
        run(reuseport()
            .args(arguments)
            .arg("-f")
            .arg(&base)
            .arg("-f")
            .arg(&more))
    };
    let refused = call(&["inject"]);
    assert_eq!((refused.status, refused.stdout.as_str()), (Some(2), ""));
    assert!(
        refused
            .stderr
            .contains("several Compose files are no stream"),
        "{}",
        refused.stderr
    );
    let outcome = call(&["inject", "--in-place", "--port", "80"]);
    assert_eq!(outcome.status, Some(0), "{}", outcome.stderr);
    let found = fs::read_to_string(&more).expect("readable");
    assert_eq!(
        found,
        "services:\n  web:\n    environment:\n      LD_PRELOAD: /b.so:/.reuseport/libreuseport.so\n      \
         KEPT_LIBREUSEPORT_PORT: 9\n  db:\n    ports: []\n"
    );
    let outcome = call(&["eject", "--in-place"]);
    assert_eq!(outcome.status, Some(0), "{}", outcome.stderr);
    assert_eq!(fs::read_to_string(&base).expect("readable"), texts[0]);
    assert_eq!(fs::read_to_string(&more).expect("readable"), texts[1]);
    // Alone, it cannot be told from a file that is at fault.
    let (status, stdout, stderr) = filter(&["inject", "-f", "-"], texts[1]);
    assert_eq!((status, stdout.as_str()), (Some(0), texts[1]));
    assert!(
        stderr.contains("warning: fragment: left as it is"),
        "{stderr}"
    );
}

#[test]
fn what_takes_the_place_of_another_files_holds_the_shim_itself() {
    let base = "services:\n  web: {image: x, environment: [A=b], volumes: ['d:/d']}\n  old: {image: x}\n  db: {image: y}\n";
    let more = "services:\n  web:\n    environment: !override\n      B: c\n    volumes: !override\n      - e:/e\n    ports: !reset []\n  old: !reset null\n  db: !override\n    image: z\n";
    let source = |name: &str, text: &str| Source {
        name: name.into(),
        text: text.into(),
    };
    let sources = [source("compose.yaml", base), source("override.yaml", more)];
    let options = injection(false, &[]);
    let outcome = inject(&sources, &options).expect("injected");
    let [first, second] = &outcome.texts[..] else {
        panic!("two texts")
    };
    assert_eq!(first.matches("target").count(), 3, "{first}");
    let expected = "services:\n  web:\n    environment: !override\n      B: c\n      LD_PRELOAD: /.reuseport/libreuseport.so\n";
    assert!(second.starts_with(expected), "{second}");
    assert!(
        second.contains("    volumes: !override\n      - e:/e\n      - type: bind\n"),
        "{second}"
    );
    assert!(
        second.contains("  old: !reset null\n  db: !override\n    image: z\n    environment:\n"),
        "{second}"
    );
    assert_eq!(second.matches("target").count(), 2, "{second}");
    let sources = [
        source("compose.yaml", first),
        source("override.yaml", second),
    ];
    assert_eq!(
        inject(&sources, &options).expect("injected").texts,
        outcome.texts
    );
    let given_back = eject(&sources, &[], &[], &options.compose).expect("ejected");
    assert_eq!(given_back.texts, [base, more]);
    // All of them at once.
    let all = "services: !override\n  web: {image: x}\n";
    let sources = [source("a", base), source("b", all)];
    let outcome = inject(&sources, &options).expect("injected");
    assert!(outcome.texts[1].contains("target"), "{}", outcome.texts[1]);
    let sources = [source("a", base), source("b", "services: !reset null\n")];
    let outcome = inject(&sources, &options).expect("injected");
    assert_eq!(outcome.texts[1], sources[1].text);
}

#[test]
fn a_file_of_compose_and_kubernetes_objects_side_by_side_gets_both() {
    let input = "services:\n  web: {image: x}\n---\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: a}]}\n";
    let text = hold(input, &options()).expect("the laws");
    assert_eq!(text.matches("libreuseport.so").count(), 3, "{text}");
}

/// Files that no printer of values would write.
const WRITTEN: [&str; 8] = [
    "services:\n  a: &a\n    image: x\n    environment: &e {LD_PRELOAD: /a.so}\n  b:\n    <<: *a\n  c: *a\n  d: {image: y, environment: *e}\n",
    "services: &s\n  a: {image: x}\nx-s: *s\n",
    "services:\n  a:\n    image: x\n    environment: !override\n      - A=b\n    ports: !reset null\n    command: !reset []\n",
    "services:\n  \"a b\":\n    image: x\n    ports: !override [\"80:80\"]\n    container_name: \"z\"\n",
    "services:\n  a:\n    image: x\n    container_name: &n z\n    hostname: *n\n    ports: &p [\"80:80\"]\n  b:\n    image: x\n    ports: *p\n",
    "services:\n  a: &a\n    image: x\n    container_name: z\n  b: *a\n  c:\n    <<: *a\n    container_name: q\n",
    "x-e: &e {LIBREUSEPORT_PORT: 1, LD_PRELOAD: ''}\nservices:\n  a:\n    image: x\n    environment:\n      <<: *e\n      A: b\n  b: {image: x, environment: {<<: *e, LIBREUSEPORT_PORT: 2}}\n",
    "{\"services\": {\"a\": {\"image\": \"x\", \"environment\": {\"LIBREUSEPORT_PORT\": 80, \"LD_PRELOAD\": null}}}}",
];

#[test]
fn anchors_merge_keys_and_tags_keep_the_laws() {
    for text in WRITTEN {
        for scale_ready in [false, true] {
            for services in [&[][..], &["a"]] {
                let is_named = services.is_empty() || !text.contains("a b");
                let refused = ["is not written here", "there is no service a"];
                if let Err(error) = hold(text, &injection(scale_ready, services)) {
                    let is_refused = refused.iter().any(|one| error.contains(one));
                    let may_be = scale_ready || !is_named || text.contains("LD_PRELOAD: ''");
                    assert!(is_refused && may_be, "{error}\n----- of\n{text}");
                }
            }
        }
    }
}

fn variable() -> impl Strategy<Value = (String, Value)> {
    let name = prop_oneof![
        3 => "[A-Z]{1,3}",
        1 => Just("LD_PRELOAD".to_owned()),
        1 => Just("LIBREUSEPORT_PORT".to_owned()),
        1 => Just("LIBREUSEPORT_DEBUG".to_owned()),
    ];
    let value = prop_oneof![
        2 => "[ -~]{0,8}".prop_map(Value::from),
        1 => Just("/a.so".into()),
        1 => Just("${A:-}".into()),
        1 => Just(Value::Null),
        1 => Just(json!(80)),
        1 => Just(json!(true)),
    ];
    let is_text = |value: &Value| value.is_string() || value.is_null();
    (name, value).prop_filter("a library's name is text", move |(name, value)| {
        name != "LD_PRELOAD" || is_text(value)
    })
}

fn environment() -> impl Strategy<Value = Option<Value>> {
    let all = || proptest::collection::vec(variable(), 0..4);
    let list = all().prop_map(|all| {
        let item = |(name, value): (String, Value)| match value {
            Value::Null => name,
            Value::String(value) => format!("{name}={value}"),
            other => format!("{name}={other}"),
        };
        Some(all.into_iter().map(item).collect())
    });
    let map = all().prop_map(|all| Some(all.into_iter().collect::<serde_json::Map<_, _>>().into()));
    prop_oneof![Just(None), Just(Some(Value::Null)), list, map]
}

fn service() -> impl Strategy<Value = Value> {
    let volume = prop_oneof![
        Just(json!("data:/data")),
        Just(json!("${D:-/a:b}:/data:ro")),
        Just(json!({"type": "bind", "source": "./a", "target": "/data"})),
    ];
    let volumes = prop_oneof![
        Just(None),
        Just(Some(Value::Null)),
        proptest::collection::vec(volume, 0..3).prop_map(|all| Some(json!(all))),
    ];
    let ports = prop_oneof![
        Just(None),
        Just(Some(json!(["80:80", 443]))),
        Just(Some(json!([])))
    ];
    let network = prop_oneof![Just(None), Just(Some("host")), Just(Some("bridge"))];
    (environment(), volumes, ports, network, any::<bool>()).prop_map(
        |(environment, volumes, ports, network, named)| {
            let mut service = json!({"image": "x"});
            for (key, value) in [
                ("environment", environment),
                ("volumes", volumes),
                ("ports", ports),
            ] {
                if let Some(value) = value {
                    service[key] = value;
                }
            }
            if let Some(network) = network {
                service["network_mode"] = network.into();
            }
            if named {
                service["container_name"] = "one".into();
            }
            service
        },
    )
}

fn style() -> impl Strategy<Value = Style> {
    proptest::sample::select(&STYLES[..])
}

fn injection(scale_ready: bool, services: &[&str]) -> Injection {
    Injection {
        delivery: Delivery::Host("/opt/reuse$port".into()),
        compose: Compose {
            services: services.iter().map(|one| (*one).to_owned()).collect(),
            scale_ready,
        },
        ..options()
    }
}

/// What Compose makes of an environment.
fn variables(service: &Value) -> Vec<(String, Value)> {
    match &service["environment"] {
        Value::Array(items) => {
            let split = |item: &Value| {
                // `Y` is a boolean to who reads this, and a name to Compose.
                let item = item.as_str().unwrap_or("Y");
                let (name, value) = item
                    .split_once('=')
                    .map_or((item, Value::Null), |(name, value)| (name, value.into()));
                (name.to_owned(), value)
            };
            items.iter().map(split).collect()
        }
        Value::Object(map) => map.clone().into_iter().collect(),
        _ => Vec::new(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_file_keeps_the_laws(
        services in proptest::collection::vec(service(), 1..4),
        style in style(),
        scale_ready in any::<bool>(),
        some in any::<bool>(),
    ) {
        let services: serde_json::Map<String, Value> =
            services.into_iter().enumerate().map(|(at, one)| (format!("s{at}"), one)).collect();
        let file = json!({"services": services, "x-more": {"a": [1]}});
        let text = style.stream(&[file]);
        let chosen: &[&str] = if some { &["s0"] } else { &[] };
        if let Err(error) = hold(&text, &injection(scale_ready, chosen)) {
            prop_assert!(false, "{error}\n----- of\n{text}");
        }
    }
}

#[test]
fn services_change_as_was_meant() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut before = Vec::new();
    let mut texts = Vec::new();
    for _ in 0..100 {
        let tree = (service(), any::<bool>())
            .new_tree(&mut runner)
            .expect("a service");
        let (service, scale_ready) = proptest::strategy::ValueTree::current(&tree);
        let text = STYLES[1].stream(&[json!({"services": {"web": service}})]);
        texts.push(hold(&text, &injection(scale_ready, &[])).expect("the laws"));
        before.push((service, scale_ready));
    }
    for ((before, scale_ready), after) in before.iter().zip(read(&texts)) {
        let after = &after[0]["services"]["web"];
        let [old, new] = [before, after].map(variables);
        let last = |name: &str, all: &[(String, Value)]| {
            all.iter()
                .rfind(|(one, _)| one == name)
                .map(|(_, value)| value.clone())
        };
        let shim = "/.reuseport/libreuseport.so";
        let preload = match last("LD_PRELOAD", &old) {
            None => shim.to_owned(),
            Some(Value::Null) => format!("${{LD_PRELOAD:-}}:{shim}"),
            Some(value) => {
                let text = value.as_str().map_or(value.to_string(), ToOwned::to_owned);
                if text.is_empty() || text.ends_with([' ', ':']) {
                    shim.into()
                } else {
                    format!("{text}:{shim}")
                }
            }
        };
        assert_eq!(
            last("LD_PRELOAD", &new),
            Some(preload.into()),
            "{before}\n{after}"
        );
        assert_eq!(
            last("LIBREUSEPORT_PORT", &new),
            Some("80".into()),
            "{after}"
        );
        assert_eq!(
            last("LIBREUSEPORT_DEBUG", &new),
            last("LIBREUSEPORT_DEBUG", &old)
        );
        let mounts = after["volumes"].as_array().expect("mounts");
        assert_eq!(
            mounts.len(),
            before["volumes"].as_array().map_or(0, Vec::len) + 1
        );
        assert_eq!(
            mounts.last(),
            Some(
                &json!({"type": "bind", "source": "/opt/reuse$$port", "target": "/.reuseport", "read_only": true, "bind": {"create_host_path": false}})
            )
        );
        if *scale_ready {
            assert_eq!(after["network_mode"], "host");
            for key in ["ports", "container_name"] {
                assert!(after.get(key).is_none(), "{after}");
                assert_eq!(
                    after.get(format!("x-reuseport-{key}")),
                    before.get(key),
                    "{after}"
                );
            }
        } else {
            for key in ["ports", "container_name", "network_mode"] {
                assert_eq!(after.get(key), before.get(key));
            }
        }
    }
}
