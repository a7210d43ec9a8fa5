//! The Container Device Interface: a file that tells container engines what a
//! device brings along, see <https://github.com/cncf-tags/container-device-interface>.
//!
//! Our devices bring no device: they mount the shim and set its variables.

use std::fmt::Write;
use std::path::Path;

use serde_json::{Value, json};

use crate::image::layer::{SHIM, SHIM_DIRECTORY};
use crate::preload::LD_PRELOAD;
use crate::rules::Assignments;

/// The vendor and class of our devices.
pub const KIND: &str = "reuseport.dev/shim";

/// The name of the file, without its ending.
pub const FILE_STEM: &str = "reuseport";

/// The device that acts on all binds.
pub const ALL: &str = "all";

/// A device, and the rules that its variables give the shim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    pub name: String,
    pub rules: Assignments,
}

/// Whether a device may have this name: letters, digits, `_`, `-`, `.` and `:`,
/// the first of which is a letter (before version 0.5.0 of the specification) and
/// the last a letter or a digit.
pub fn is_name(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
    let first = name.chars().next().is_some_and(|c| c.is_ascii_alphabetic());
    let last = name.chars().next_back();
    name.chars().all(inner) && first && last.is_some_and(|c| c.is_ascii_alphanumeric())
}

/// The specification: the device [`ALL`], and `devices`. The host's shim lies in
/// the directory `host`.
///
/// Version 0.3.0, which older engines accept too: so each device carries the
/// whole edit.
pub fn specification(host: &Path, devices: &[Device]) -> Value {
    let device = |name: &str, rules: &Assignments| {
        let variables = rules.iter();
        let variables = variables
            .map(|(variable, value)| format!("{}={}", variable.name(), value.to_string_lossy()));
        let env: Vec<String> = [format!("{LD_PRELOAD}={SHIM}")]
            .into_iter()
            .chain(variables)
            .collect();
        json!({
            "name": name,
            "containerEdits": {
                "env": env,
                "mounts": [{
                    "hostPath": host.to_string_lossy(),
                    "containerPath": SHIM_DIRECTORY,
                    "options": ["bind", "ro", "nosuid", "nodev"],
                }],
            },
        })
    };
    let others = devices.iter().map(|one| device(&one.name, &one.rules));
    let all = device(ALL, &Assignments::default());
    let devices: Vec<Value> = [all].into_iter().chain(others).collect();
    json!({
        "cdiVersion": "0.3.0",
        "kind": KIND,
        "devices": devices,
    })
}

/// `tree` as YAML in block style; strings stand in double quotes, which YAML
/// reads as JSON does.
pub fn yaml(tree: &Value) -> String {
    let mut text = String::new();
    block(&mut text, tree, 0);
    text
}

fn block(text: &mut String, tree: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    match tree {
        Value::Object(members) if !members.is_empty() => {
            for (name, value) in members {
                let _ = write!(text, "{indent}{name}:");
                below(text, value, depth);
            }
        }
        Value::Array(values) if !values.is_empty() => {
            for value in values {
                let start = text.len();
                block(text, value, depth + 1);
                // The dash takes the place of the first line's indentation.
                text.replace_range(start..start + indent.len() + 2, &format!("{indent}- "));
            }
        }
        scalar => {
            let _ = writeln!(text, "{indent}{scalar}");
        }
    }
}

fn below(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            text.push('\n');
            block(text, value, depth + 1);
        }
        Value::Array(values) if !values.is_empty() => {
            text.push('\n');
            block(text, value, depth);
        }
        scalar => {
            let _ = writeln!(text, " {scalar}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Variable;

    #[test]
    fn yaml_says_what_json_says() {
        let mut rules = Assignments::default();
        rules.set(Variable::Port, "53".into());
        let device = Device {
            name: "dns".into(),
            rules,
        };
        let text = yaml(&specification(Path::new("/opt/reuseport"), &[device]));
        let expected = r#"cdiVersion: "0.3.0"
kind: "reuseport.dev/shim"
devices:
- name: "all"
  containerEdits:
    env:
    - "LD_PRELOAD=/.reuseport/libreuseport.so"
    mounts:
    - hostPath: "/opt/reuseport"
      containerPath: "/.reuseport"
      options:
      - "bind"
      - "ro"
      - "nosuid"
      - "nodev"
- name: "dns"
  containerEdits:
    env:
    - "LD_PRELOAD=/.reuseport/libreuseport.so"
    - "LIBREUSEPORT_PORT=53"
    mounts:
    - hostPath: "/opt/reuseport"
      containerPath: "/.reuseport"
      options:
      - "bind"
      - "ro"
      - "nosuid"
      - "nodev"
"#;
        assert_eq!(text, expected);
    }

    #[test]
    fn names_are_those_of_the_specification() {
        for name in ["all", "a", "dns-53", "a.b:c_d"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "-a", "a-", "a b", "é", "a/b", "53"] {
            assert!(!is_name(name), "{name}");
        }
    }
}
