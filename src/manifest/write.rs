//! Values as text: in block style, as most manifests are written, and in flow
//! style, which is JSON where its neighbours are.

use std::fmt::Write;

use serde_json::{Map, Value};

use super::scalar;

/// How a document indents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Indent {
    /// Spaces before the keys of a mapping below those of the one that holds it.
    pub(super) step: usize,
    /// Spaces before the dashes of a list below the key that holds it.
    pub(super) dash: usize,
}

impl Indent {
    /// The lines of a mapping whose keys stand in `column`.
    pub(super) fn map(self, map: &Map<String, Value>, column: usize) -> Vec<String> {
        let mut lines = Vec::new();
        for (key, value) in map {
            lines.extend(self.entry(key, value, column));
        }
        lines
    }

    /// The lines of one entry of a mapping.
    pub(super) fn entry(self, key: &str, value: &Value, column: usize) -> Vec<String> {
        let mut text = " ".repeat(column);
        text += &string(key);
        text.push(':');
        match value {
            Value::Object(map) if !map.is_empty() => {
                let mut lines = vec![text];
                lines.extend(self.map(map, column + self.step));
                lines
            }
            Value::Array(items) if !items.is_empty() => {
                let mut lines = vec![text];
                for item in items {
                    lines.extend(self.item(item, column + self.dash));
                }
                lines
            }
            Value::String(value) if is_lines(value) => {
                text.push_str(" |-");
                let margin = " ".repeat(column + self.step);
                let lines = value.lines().map(|line| format!("{margin}{line}"));
                [text].into_iter().chain(lines).collect()
            }
            _ => {
                text.push(' ');
                text += &inline(value);
                vec![text]
            }
        }
    }

    /// The lines of one item of a list whose dashes stand in `column`.
    pub(super) fn item(self, item: &Value, column: usize) -> Vec<String> {
        let dash = format!("{}- ", " ".repeat(column));
        match item {
            Value::Object(map) if !map.is_empty() => {
                let mut lines = self.map(map, column + 2);
                lines[0].replace_range(..column + 2, &dash);
                lines
            }
            _ => vec![dash + &inline(item)],
        }
    }
}

/// Whether a string is lines of printable text, which a literal scalar holds.
fn is_lines(text: &str) -> bool {
    let is_plain = |one: char| one == '\n' || one.is_ascii_graphic() || one == ' ';
    text.contains('\n')
        && text.chars().all(is_plain)
        && !text.starts_with([' ', '\n'])
        && !text.ends_with('\n')
}

/// A value in one line, in block style.
pub(super) fn inline(value: &Value) -> String {
    match value {
        Value::String(text) => string(text),
        _ => flow(value, true),
    }
}

/// A string in block style: without quotes where it means itself, in single ones
/// where that spares many escapes.
fn string(text: &str) -> String {
    if scalar::is_safe(text) {
        return text.to_owned();
    }
    let is_plain = |one: char| !one.is_control() && one != '\'' && one.is_ascii();
    if text.contains('"') && text.chars().all(is_plain) {
        return format!("'{text}'");
    }
    quoted(text)
}

/// A string in double quotes, as JSON and YAML both read it.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for one in text.chars() {
        match one {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(one);
            }
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            // What YAML does not count among the printable characters, and the
            // line ends that it has beside JSON's.
            '\0'..='\x1f'
            | '\x7f'..='\u{a0}'
            | '\u{2028}'
            | '\u{2029}'
            | '\u{feff}'
            | '\u{fffe}'
            | '\u{ffff}' => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(one));
            }
            _ => quoted.push(one),
        }
    }
    quoted.push('"');
    quoted
}

/// A value in flow style: JSON, or without the quotes that YAML does not need.
pub(super) fn flow(value: &Value, is_json: bool) -> String {
    let text = |text: &str| {
        if !is_json && scalar::is_safe(text) {
            text.to_owned()
        } else {
            quoted(text)
        }
    };
    match value {
        Value::String(one) => text(one),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| flow(item, is_json)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(map) => format!("{{{}}}", pairs(map, is_json)),
        _ => value.to_string(),
    }
}

/// The entries of a mapping in flow style, without its braces.
pub(super) fn pairs(map: &Map<String, Value>, is_json: bool) -> String {
    let key = |key: &str| {
        if !is_json && scalar::is_safe(key) {
            key.to_owned()
        } else {
            quoted(key)
        }
    };
    let pairs = map
        .iter()
        .map(|(name, value)| format!("{}: {}", key(name), flow(value, is_json)));
    pairs.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lists_are_indented_as_their_neighbours_are() {
        let value = json!([{"name": "a", "value": "80"}, {"name": "b", "empty": {}}]);
        let lines = |dash| Indent { step: 2, dash }.entry("env", &value, 2).join("\n");
        assert_eq!(
            lines(0),
            "  env:\n  - name: a\n    value: \"80\"\n  - name: b\n    empty: {}"
        );
        assert_eq!(
            lines(2),
            "  env:\n    - name: a\n      value: \"80\"\n    - name: b\n      empty: {}"
        );
    }

    #[test]
    fn flow_is_json_where_it_must_be() {
        let value = json!({"name": "LD_PRELOAD", "value": "80", "x": [true, null]});
        assert_eq!(
            flow(&value, true),
            r#"{"name": "LD_PRELOAD", "value": "80", "x": [true, null]}"#
        );
        assert_eq!(
            flow(&value, false),
            r#"{name: LD_PRELOAD, value: "80", x: [true, null]}"#
        );
        assert_eq!(
            quoted("a\u{85}\n\"\u{1f600}"),
            "\"a\\u0085\\n\\\"\u{1f600}\""
        );
    }
}
