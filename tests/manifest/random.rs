//! The laws on manifests that nobody thought of: values made at random, printed in
//! a style chosen at random, with text put between.

use proptest::prelude::*;
use reuseport::manifest::{Delivery, Injection};
use serde_json::{Value, json};

use crate::corpus::{KINDS, object};
use crate::laws::{hold, options};
use crate::print::{STYLES, Style};

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{1,8}",
        "[ -~]{0,12}",
        "[a-z\u{e9}\u{4e2d}\u{1f600}\n\t:#-]{0,10}",
        Just("/a.so".to_owned()),
    ]
}

fn variable() -> impl Strategy<Value = Value> {
    let name = prop_oneof![
        2 => "[A-Z]{1,3}",
        1 => Just("LD_PRELOAD".to_owned()),
        1 => Just("LIBREUSEPORT_PORT".to_owned()),
        1 => Just("LIBREUSEPORT_DEBUG".to_owned()),
    ];
    let value = prop_oneof![
        3 => text().prop_map(|text| json!({"value": text})),
        1 => Just(json!({"valueFrom": {"fieldRef": {"fieldPath": "a"}}})),
        1 => Just(json!({"value": null})),
        1 => Just(json!({})),
    ];
    (name, value).prop_map(|(name, mut value)| {
        value["name"] = name.into();
        value
    })
}

/// A list, or what stands where there is none.
fn list(item: impl Strategy<Value = Value> + 'static) -> impl Strategy<Value = Option<Value>> {
    prop_oneof![
        Just(None),
        Just(Some(Value::Null)),
        Just(Some(json!([]))),
        proptest::collection::vec(item, 1..4).prop_map(|items| Some(json!(items))),
    ]
}

fn container() -> impl Strategy<Value = Value> {
    let mount = Just(json!({"name": "data", "mountPath": "/data"}));
    let name = prop_oneof!["[a-c]", "[a-z]{2,5}", Just("istio-proxy".to_owned())];
    (
        name,
        list(variable()),
        list(mount),
        list(text().prop_map(Value::String)),
    )
        .prop_map(|(name, env, mounts, args)| {
            let mut container = json!({"name": name});
            for (key, value) in [("args", args), ("env", env), ("volumeMounts", mounts)] {
                if let Some(value) = value {
                    container[key] = value;
                }
            }
            container
        })
}

fn workload() -> impl Strategy<Value = Value> {
    let volume = Just(json!({"name": "data", "emptyDir": {}}));
    let annotations = prop_oneof![
        Just(None),
        Just(Some(json!({}))),
        Just(Some(Value::Null)),
        text().prop_map(|text| Some(json!({"example.org/a": text, "reuseport.dev/debug": "1"}))),
    ];
    (
        proptest::sample::select(&KINDS[..]),
        list(container()),
        list(container()),
        list(volume),
        annotations,
    )
        .prop_map(|(kind, mut containers, mut init, volumes, annotations)| {
            // Kubernetes takes each name once.
            let mut names = std::collections::HashSet::new();
            for list in [&mut init, &mut containers].into_iter().flatten() {
                if let Some(list) = list.as_array_mut() {
                    list.retain(|one| names.insert(one["name"].to_string()));
                }
            }
            let mut spec = json!({});
            for (key, value) in [
                ("initContainers", init),
                ("containers", containers),
                ("volumes", volumes),
            ] {
                if let Some(value) = value {
                    spec[key] = value;
                }
            }
            let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": spec});
            let mut object = object(kind, "web", &template);
            if let Some(annotations) = annotations {
                object["metadata"]["annotations"] = annotations;
            }
            object
        })
}

fn style() -> impl Strategy<Value = Style> {
    (
        proptest::sample::select(&STYLES[..]),
        0..9usize,
        any::<bool>(),
    )
        .prop_map(|(style, flow_from, comments)| {
            if style.flow_from == 0 {
                return style;
            }
            let flow_from = if flow_from == 0 {
                usize::MAX
            } else {
                flow_from
            };
            Style {
                flow_from,
                comments,
                ..style
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_workload_keeps_the_laws(
        values in proptest::collection::vec(workload(), 1..3),
        style in style(),
        by_init in any::<bool>(),
    ) {
        let text = style.stream(&values);
        // Init containers move where one of ours comes before them.
        let options = if by_init {
            Injection {
                delivery: Delivery::Init("reuseport".into()),
                containers: vec!["a".into()],
                ..options()
            }
        } else {
            options()
        };
        if let Err(error) = hold(&text, &options) {
            let is_absent = error.starts_with("no workload has a container a");
            prop_assert!(by_init && is_absent, "{error}\n----- of\n{text}");
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "([ -~\u{e9}\t]{0,20}\r?\n){0,8}", tail in "[ -~]{0,20}") {
        let text = format!("kind: Pod\nspec:\n  containers:\n  - name: a\n{text}{tail}");
        let _ = hold(&text, &options()).map_err(|error| {
            assert!(!error.contains("not given back") && !error.contains("twice"), "{error}");
        });
    }
}

/// A manifest of the corpus with pieces cut, doubled and put in.
fn damaged() -> impl Strategy<Value = String> {
    let pieces = prop_oneof![
        proptest::sample::select(
            &[
                "\n", "  ", "- ", "# c", "*env", "&a ", "{", "}", "[]", ",", ": ", "'", "\"",
                "|\n", "<<: ", "---\n", "...\n", "\t", "\r\n", "null", "env:\n", "~", "!!str ",
                "? ", "\u{e9}",
            ][..]
        )
        .prop_map(ToOwned::to_owned),
        "[ -~]{0,3}",
    ];
    let edits = proptest::collection::vec((any::<u16>(), 0..12usize, 0..3u8, pieces), 1..4);
    let texts: Vec<&str> = crate::corpus::WRITTEN
        .iter()
        .map(|(_, text)| *text)
        .collect();
    (proptest::sample::select(texts), edits).prop_map(|(text, edits)| {
        let mut characters: Vec<char> = text.chars().collect();
        for (at, length, kind, piece) in edits {
            let start = usize::from(at) % (characters.len() + 1);
            let end = (start + length).min(characters.len());
            let new: Vec<char> = match kind {
                0 => Vec::new(),
                1 => characters[start..end].repeat(2),
                _ => piece.chars().collect(),
            };
            let end = if kind == 2 { start } else { end };
            characters.splice(start..end, new);
        }
        characters.into_iter().collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damage_breaks_no_law(text in damaged()) {
        if let Err(error) = hold(&text, &options()) {
            let is_broken = ["twice", "not given back", "eject: ", "eject of nothing: test.yaml:1:1: document 1: the text"]
                .iter()
                .any(|law| error.starts_with(law));
            prop_assert!(!is_broken, "{error}\n----- of\n{text}");
        }
    }
}
