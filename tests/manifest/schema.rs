//! The API's own schemas, unknown fields refused, as k8s-openapi carries them.

use k8s_openapi::api::admissionregistration::{v1 as admission, v1beta1 as admission_beta};
use k8s_openapi::api::{apps::v1 as apps, batch::v1 as batch, core::v1 as core};
use schemars::{JsonSchema, schema_for};
use serde_json::Value;

use crate::tools::{deliveries, read};

fn schema<T: JsonSchema>() -> Value {
    schema_for!(T).to_value()
}

/// The schema of a kind; none for those that extend the API.
pub fn of(kind: &str) -> Option<Value> {
    Some(match kind {
        "ConfigMap" => schema::<core::ConfigMap>(),
        "Pod" => schema::<core::Pod>(),
        "PodTemplate" => schema::<core::PodTemplate>(),
        "ReplicationController" => schema::<core::ReplicationController>(),
        "Deployment" => schema::<apps::Deployment>(),
        "ReplicaSet" => schema::<apps::ReplicaSet>(),
        "StatefulSet" => schema::<apps::StatefulSet>(),
        "DaemonSet" => schema::<apps::DaemonSet>(),
        "Job" => schema::<batch::Job>(),
        "CronJob" => schema::<batch::CronJob>(),
        _ => return None,
    })
}

/// The schema of a policy or of its binding.
fn of_policy(version: &str, kind: &str) -> Option<Value> {
    let version = version.strip_prefix("admissionregistration.k8s.io/")?;
    Some(match (version, kind) {
        ("v1", "MutatingAdmissionPolicy") => schema::<admission::MutatingAdmissionPolicy>(),
        ("v1", "MutatingAdmissionPolicyBinding") => {
            schema::<admission::MutatingAdmissionPolicyBinding>()
        }
        ("v1", "ValidatingAdmissionPolicy") => schema::<admission::ValidatingAdmissionPolicy>(),
        ("v1", "ValidatingAdmissionPolicyBinding") => {
            schema::<admission::ValidatingAdmissionPolicyBinding>()
        }
        ("v1beta1", "MutatingAdmissionPolicy") => {
            schema::<admission_beta::MutatingAdmissionPolicy>()
        }
        ("v1beta1", "MutatingAdmissionPolicyBinding") => {
            schema::<admission_beta::MutatingAdmissionPolicyBinding>()
        }
        _ => return None,
    })
}

/// What is wrong with an object; nothing where there is no schema of it.
pub fn wrong(object: &Value) -> Option<Vec<String>> {
    let text = |key: &str| object[key].as_str().unwrap_or_default();
    let schema = of_policy(text("apiVersion"), text("kind")).or_else(|| of(text("kind")))?;
    let mut wrong = Vec::new();
    check(object, &schema, &schema, text("kind"), &mut wrong);
    Some(wrong)
}

/// What of `value` the schema does not allow, with its path.
fn check(value: &Value, schema: &Value, root: &Value, path: &str, wrong: &mut Vec<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = root.pointer(&reference[1..]).expect("a definition");
        return check(value, target, root, path, wrong);
    }
    if let Some(all) = schema["allOf"].as_array() {
        for one in all {
            check(value, one, root, path, wrong);
        }
        return;
    }
    let is_right = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64(),
        Some("number") => value.is_number(),
        _ => true,
    };
    if !is_right {
        wrong.push(format!("{path}: {value} is no {}", schema["type"]));
    }
    for required in schema["required"].as_array().into_iter().flatten() {
        let key = required.as_str().expect("a key");
        if value.get(key).is_none() {
            wrong.push(format!("{path}: no {key}"));
        }
    }
    for (key, value) in value.as_object().into_iter().flatten() {
        let path = format!("{path}.{key}");
        match (
            schema["properties"].get(key),
            schema.get("additionalProperties"),
        ) {
            (Some(schema), _) | (None, Some(schema)) => check(value, schema, root, &path, wrong),
            (None, None) => wrong.push(format!("{path}: unknown")),
        }
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        check(
            item,
            &schema["items"],
            root,
            &format!("{path}[{index}]"),
            wrong,
        );
    }
}

#[test]
fn what_comes_out_is_what_the_api_takes() {
    let (names, texts): (Vec<_>, Vec<_>) = deliveries().into_iter().unzip();
    let mut checked = 0;
    for (name, documents) in names.iter().zip(read(&texts)) {
        for object in documents.as_array().expect("documents") {
            let Some(wrong) = wrong(object) else { continue };
            assert!(wrong.is_empty(), "{name}: {wrong:#?}");
            checked += 1;
        }
    }
    assert!(checked >= 80, "{checked}");
}

#[test]
fn the_check_sees_an_unknown_field() {
    let schema = schema::<core::Pod>();
    let pod = serde_json::json!({
        "metadata": {"name": "a"},
        "spec": {"containers": [{"name": "a", "volumes": [], "env": [{"name": "A", "value": 1}]}]},
    });
    let mut wrong = Vec::new();
    check(&pod, &schema, &schema, "", &mut wrong);
    assert_eq!(
        wrong,
        [
            ".spec.containers[0].volumes: unknown",
            ".spec.containers[0].env[0].value: 1 is no \"string\""
        ]
    );
}
