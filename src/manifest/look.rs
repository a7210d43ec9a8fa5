//! What is asked of a container's image, where somebody looks into it.
//!
//! Nothing here reads an image: whoever calls [`inject`](super::inject) may bring
//! [`Images`], which does.

use std::ffi::OsString;

use serde_json::Value;

use super::names::ENTRY;
use crate::finding::{Finding, Severity};
use crate::image::Platform;
use crate::image::check::Run;
use crate::preload::LD_PRELOAD;

/// A container whose image is to be looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Asked {
    /// The image, as the container names it.
    pub image: String,
    /// The platform of the nodes; `None` for all that the image is for.
    pub platform: Option<Platform>,
    /// How the container is run.
    pub run: Run,
}

/// What an image says of its containers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Why the shim may not act in the program, or will not.
    pub findings: Vec<Finding>,
    /// `LD_PRELOAD` in the image's own ENV, for each platform that was looked at.
    pub preloads: Vec<Option<String>>,
    /// The libraries that must be loaded before the shim.
    pub first: Vec<OsString>,
}

/// Who looks into images.
pub trait Images {
    /// What the image of a container says.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn look(&self, asked: &Asked) -> Result<Seen, String>;
}

impl Seen {
    /// What is to come before the shim in `LD_PRELOAD` where the container itself
    /// sets none, with colons between.
    pub(super) fn before(&self) -> String {
        let preload = self.preloads.iter().flatten().next();
        let preload = preload.map_or("", String::as_str);
        let mut entries: Vec<&str> = preload.split([' ', ':']).collect();
        entries.retain(|entry| !entry.is_empty() && *entry != ENTRY);
        for runtime in self.first.iter().rev().filter_map(|one| one.to_str()) {
            if !entries.iter().any(|one| one.ends_with(runtime)) {
                entries.insert(0, runtime);
            }
        }
        // The kubelet expands what looks like a reference to a variable.
        entries.join(":").replace("$(", "$$(")
    }

    /// What is to be known of the container `name`, whose own environment has an
    /// `LD_PRELOAD` or not.
    pub(super) fn findings(&self, name: &str, has_preload: bool) -> Vec<Finding> {
        let mut findings = self.findings.clone();
        let is_mixed = self.preloads.iter().any(|one| *one != self.preloads[0]);
        if !has_preload && is_mixed {
            let message = format!(
                "the image of container {name} sets another LD_PRELOAD for each platform: the first is joined"
            );
            let finding = Finding::new(Severity::Warning, "image-preload", message);
            findings.push(finding.hint("pin the pods to one architecture, or say it with --arch"));
        } else if !has_preload && self.preloads.iter().any(Option::is_some) {
            let message =
                format!("the image of container {name} sets LD_PRELOAD: the shim is appended");
            findings.push(Finding::new(Severity::Note, "image-preload", message));
        }
        if let (Some(runtime), true) = (self.first.first(), has_preload) {
            let runtime = runtime.display();
            let message = format!(
                "the program of container {name} needs {runtime} before all else in LD_PRELOAD"
            );
            findings.push(Finding::new(Severity::Warning, "sanitizer", message));
        }
        findings
    }
}

/// How Kubernetes runs `container` of the pod `spec`:
/// <https://kubernetes.io/docs/tasks/inject-data-application/define-command-argument-container/>.
pub(super) fn run(container: &Value, spec: &Value) -> Run {
    let environment = environment(container);
    let words = |key: &str| {
        let words = container.get(key)?.as_array()?.iter();
        let words = words.filter_map(Value::as_str);
        let words: Vec<String> = words.map(|word| expanded(word, &environment)).collect();
        (!words.is_empty()).then_some(words)
    };
    let number = |key: &str| {
        let of = |one: &Value| one["securityContext"][key].as_u64();
        of(container).or_else(|| of(spec))?.try_into().ok()
    };
    let directory = container["workingDir"].as_str();
    Run {
        command: words("command"),
        arguments: words("args"),
        directory: directory.map(ToOwned::to_owned),
        user: number("runAsUser"),
        group: number("runAsGroup"),
        no_new_privileges: container["securityContext"]["allowPrivilegeEscalation"] == false,
        environment,
    }
}

/// The variables whose values stand in the container.
fn environment(container: &Value) -> Vec<(String, String)> {
    let variables = container["env"].as_array().into_iter().flatten();
    let mut known: Vec<(String, String)> = Vec::new();
    for variable in variables {
        let (Some(name), Some(value)) = (variable["name"].as_str(), variable["value"].as_str())
        else {
            continue;
        };
        // What is said of LD_PRELOAD is said of the manifest.
        if name != LD_PRELOAD {
            let value = expanded(value, &known);
            known.push((name.to_owned(), value));
        }
    }
    known
}

/// `text` with `$(NAME)` replaced where NAME is known, as the kubelet does: `$$`
/// stands for one `$`.
fn expanded(text: &str, known: &[(String, String)]) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        result += &rest[..at];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            result.push('$');
            rest = after;
        } else if let Some((name, after)) =
            rest.strip_prefix('(').and_then(|rest| rest.split_once(')'))
        {
            match known.iter().rfind(|(one, _)| one == name) {
                Some((_, value)) => result += value,
                None => result.extend(["$(", name, ")"]),
            }
            rest = after;
        } else {
            result.push('$');
        }
    }
    result + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn references_are_expanded_as_the_kubelet_does() {
        let known = [("A".to_owned(), "1".to_owned())];
        for (text, result) in [
            ("--a=$(A)$(B)", "--a=1$(B)"),
            ("$$(A) $A $", "$(A) $A $"),
            ("$(A", "$(A"),
        ] {
            assert_eq!(expanded(text, &known), result);
        }
    }

    #[test]
    fn a_container_is_run_as_it_and_its_pod_say() {
        let spec = json!({"securityContext": {"runAsUser": 1, "runAsGroup": 2}});
        let container = json!({
            "command": ["$(BIN)"], "args": [], "workingDir": "/srv",
            "env": [{"name": "BIN", "value": "/bin/x"}, {"name": "LD_PRELOAD", "value": "/a.so"}],
            "securityContext": {"runAsUser": 3, "allowPrivilegeEscalation": false},
        });
        let run = run(&container, &spec);
        assert_eq!(run.command, Some(vec!["/bin/x".to_owned()]));
        assert_eq!(run.arguments, None);
        assert_eq!((run.user, run.group), (Some(3), Some(2)));
        assert!(run.no_new_privileges);
        assert_eq!(run.environment, [("BIN".to_owned(), "/bin/x".to_owned())]);
    }

    #[test]
    fn what_an_image_preloads_comes_before_the_shim() {
        let seen = |preload: &str, first: &[&str]| Seen {
            preloads: vec![Some(preload.to_owned())],
            first: first.iter().map(OsString::from).collect(),
            ..Seen::default()
        };
        assert_eq!(seen("/a.so /b.so", &[]).before(), "/a.so:/b.so");
        assert_eq!(seen(ENTRY, &[]).before(), "");
        assert_eq!(
            seen("/a.so", &["libasan.so.8"]).before(),
            "libasan.so.8:/a.so"
        );
        assert_eq!(seen("/$(A).so", &[]).before(), "/$$(A).so");
        assert_eq!(Seen::default().before(), "");
    }
}
