//! Values as YAML and JSON in the styles that people and tools write them in.

use serde_json::Value;

/// How a manifest is written.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    pub name: &'static str,
    /// Spaces below a key, and before the dashes of its list.
    pub step: usize,
    pub dash: usize,
    /// The depth from which collections are in flow style.
    pub flow_from: usize,
    pub is_json: bool,
    /// JSON over many lines, indented by this.
    pub pretty: Option<&'static str>,
    pub comments: bool,
    pub newline: &'static str,
    /// A byte order mark, or nothing.
    pub before: &'static str,
    pub last_newline: bool,
    pub marker: &'static str,
    pub quote: char,
}

const PLAIN: Style = Style {
    name: "plain",
    step: 2,
    dash: 0,
    flow_from: usize::MAX,
    is_json: false,
    pretty: None,
    comments: false,
    newline: "\n",
    before: "",
    last_newline: true,
    marker: "",
    quote: ' ',
};

/// The styles of the corpus.
pub const STYLES: [Style; 12] = [
    PLAIN,
    Style {
        name: "indented lists, comments",
        dash: 2,
        comments: true,
        marker: "---\n",
        ..PLAIN
    },
    Style {
        name: "four spaces, quotes",
        step: 4,
        dash: 4,
        quote: '"',
        ..PLAIN
    },
    Style {
        name: "carriage returns, comments",
        newline: "\r\n",
        comments: true,
        quote: '\'',
        ..PLAIN
    },
    Style {
        name: "byte order mark, no last newline",
        before: "\u{feff}",
        last_newline: false,
        ..PLAIN
    },
    Style {
        name: "flow from the pod on",
        flow_from: 4,
        comments: true,
        ..PLAIN
    },
    Style {
        name: "flow from the containers on",
        flow_from: 6,
        dash: 2,
        last_newline: false,
        ..PLAIN
    },
    Style {
        name: "flow alone",
        flow_from: 0,
        marker: "--- # one\n",
        ..PLAIN
    },
    Style {
        name: "JSON on one line",
        flow_from: 0,
        is_json: true,
        last_newline: false,
        ..PLAIN
    },
    Style {
        name: "JSON by kubectl",
        flow_from: 0,
        is_json: true,
        pretty: Some("    "),
        ..PLAIN
    },
    Style {
        name: "JSON with tabs and carriage returns",
        flow_from: 0,
        is_json: true,
        pretty: Some("\t"),
        newline: "\r\n",
        ..PLAIN
    },
    Style {
        name: "directive, comments, three spaces",
        step: 3,
        dash: 1,
        comments: true,
        marker: "%YAML 1.1\n---\n",
        last_newline: false,
        ..PLAIN
    },
];

impl Style {
    /// `values` as the documents of one stream.
    pub fn stream(&self, values: &[Value]) -> String {
        let mut text = String::new();
        for (index, value) in values.iter().enumerate() {
            if index == 0 {
                if self.comments {
                    text += "# The first comment, which is not the server's.\n";
                }
                text += self.marker;
            } else if self.marker.starts_with('%') {
                text += "...\n";
                text += self.marker;
            } else {
                text += "---\n";
            }
            text += &self.document(value);
            text.push('\n');
        }
        if !self.last_newline {
            text.pop();
        } else if self.comments {
            text += "# The end: ---\n\n";
        }
        let text = text.replace('\n', self.newline);
        format!("{}{text}", self.before)
    }

    fn document(&self, value: &Value) -> String {
        if let Some(indent) = self.pretty {
            let formatter = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
            let mut bytes = Vec::new();
            let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
            serde::Serialize::serialize(value, &mut serializer).expect("JSON");
            return String::from_utf8(bytes).expect("UTF-8");
        }
        if self.flow_from == 0 {
            return self.flow(value);
        }
        let mut lines = Vec::new();
        self.block(value, 0, 0, &mut lines);
        lines.join("\n")
    }

    fn block(&self, value: &Value, column: usize, depth: usize, lines: &mut Vec<String>) {
        let indent = " ".repeat(column);
        match value {
            Value::Object(map) => {
                for (index, (key, value)) in map.iter().enumerate() {
                    if self.comments && (index + depth) % 3 == 1 {
                        lines.push(format!("{indent}# about {key}: yes"));
                        lines.push(String::new());
                    }
                    let key = if key.contains(['/', '.']) && depth.is_multiple_of(2) {
                        format!("\"{key}\"")
                    } else {
                        key.clone()
                    };
                    if self.is_inline(value, depth + 1) {
                        let text = self.flow(value);
                        // What is not there is written with nothing, now and then.
                        let text = if value.is_null() && index % 2 == 1 {
                            String::new()
                        } else {
                            format!(" {text}")
                        };
                        let comment = if self.comments { "  # so it is" } else { "" };
                        lines.push(format!("{indent}{key}:{text}{comment}"));
                    } else {
                        lines.push(format!("{indent}{key}:"));
                        let below = if value.is_array() {
                            column + self.dash
                        } else {
                            column + self.step
                        };
                        self.block(value, below, depth + 1, lines);
                    }
                }
            }
            Value::Array(items) => {
                for item in items {
                    if self.is_inline(item, depth + 1) {
                        lines.push(format!("{indent}- {}", self.flow(item)));
                    } else {
                        let first = lines.len();
                        self.block(item, column + 2, depth + 1, lines);
                        // Comments before the first key stand before the dash.
                        let is_content = |line: &&mut String| {
                            !line.trim().is_empty() && !line.trim().starts_with('#')
                        };
                        let line = lines[first..].iter_mut().find(is_content);
                        line.expect("a key").replace_range(column..column + 2, "- ");
                    }
                }
            }
            _ => lines.push(format!("{indent}{}", self.flow(value))),
        }
    }

    fn is_inline(&self, value: &Value, depth: usize) -> bool {
        match value {
            Value::Object(map) => map.is_empty() || depth >= self.flow_from,
            Value::Array(items) => items.is_empty() || depth >= self.flow_from,
            _ => true,
        }
    }

    fn flow(&self, value: &Value) -> String {
        match value {
            _ if self.is_json => value.to_string(),
            Value::Object(map) => {
                let pairs: Vec<String> = map
                    .iter()
                    .map(|(key, value)| format!("{}: {}", self.text(key), self.flow(value)))
                    .collect();
                format!("{{{}}}", pairs.join(", "))
            }
            Value::Array(items) if items.is_empty() => "[ ]".into(),
            Value::Array(items) => {
                let items: Vec<String> = items.iter().map(|item| self.flow(item)).collect();
                format!("[ {} ]", items.join(", "))
            }
            Value::String(text) => self.text(text),
            Value::Null => "~".into(),
            _ => value.to_string(),
        }
    }

    fn text(&self, text: &str) -> String {
        let is_plain = |one: char| one.is_ascii_alphabetic() || "/-_.".contains(one);
        let is_word = text.starts_with(|one: char| one.is_ascii_alphabetic() || one == '/')
            && text.chars().all(is_plain)
            && !["y", "n", "on", "off", "yes", "no", "true", "false", "null"].contains(&text);
        match self.quote {
            ' ' if is_word => text.to_owned(),
            '\'' if !text.contains(['\n', '\t']) => format!("'{}'", text.replace('\'', "''")),
            _ => Value::String(text.to_owned()).to_string(),
        }
    }
}
