//! JSON that others wrote, edited as a tree and written back in its own style.
//!
//! An edit that is undone must give the very bytes that were there, or the digest
//! is another one. So a document remembers how its writer spelt it: Go escapes
//! `&`, `<` and `>`, Python puts a space after commas, Docker indents manifests by
//! three spaces. Every field, their order and the digits of numbers are kept.

use std::fmt::Write;

use serde_json::Value;

/// A tree of JSON, and how it is spelt.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    pub tree: Value,
    style: Style,
}

/// How a writer of JSON spells it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Style {
    /// What stands before each line, once a level; `None` for one line.
    indent: Option<String>,
    /// Whether commas and colons on one line are followed by a space.
    is_spaced: bool,
    escapes: Escapes,
    /// What follows the value.
    end: String,
}

/// Which characters are escaped though JSON does not ask for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escapes {
    None,
    /// `&`, `<`, `>` and the line separators: Go's `encoding/json`.
    Go,
    /// All but ASCII: Python's `json`.
    Ascii,
}

impl Document {
    /// Parses `bytes`.
    ///
    /// # Errors
    /// They are no JSON.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let tree: Value = serde_json::from_slice(bytes)?;
        let text = str::from_utf8(bytes).unwrap_or_default();
        let body = text.trim_end();
        let end = text[body.len()..].to_owned();
        let indent = body.split_once('\n').map(|(_, line)| {
            let rest = line.trim_start_matches([' ', '\t']);
            line[..line.len() - rest.len()].to_owned()
        });
        // Where each member has its line, there are no other spaces.
        let spacings: &[bool] = if indent.is_some() {
            &[false]
        } else {
            &[false, true]
        };
        let escapes = [Escapes::Go, Escapes::None, Escapes::Ascii];
        let mut styles = escapes
            .iter()
            .flat_map(|&escapes| spacings.iter().map(move |&is_spaced| (escapes, is_spaced)));
        let style = styles.find_map(|(escapes, is_spaced)| {
            let style = Style {
                indent: indent.clone(),
                is_spaced,
                escapes,
                end: end.clone(),
            };
            (style.write(&tree).as_bytes() == bytes).then_some(style)
        });
        // One that nobody's tools write: its lines and its end are kept, at least.
        let near = || Style {
            indent,
            is_spaced: false,
            escapes: Escapes::Go,
            end,
        };
        let style = style.unwrap_or_else(near);
        Ok(Self { tree, style })
    }

    /// The document as bytes: those that were parsed, if the tree is the same and
    /// the style is one that we know.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.style.write(&self.tree).into_bytes()
    }

    /// `value` in this style, without an end: on lines of its own where it `has_lines`
    /// and the style has them.
    pub(crate) fn spell(&self, value: &Value, has_lines: bool) -> String {
        let style = Style {
            indent: self.style.indent.clone().filter(|_| has_lines),
            is_spaced: self.is_spaced(),
            escapes: self.style.escapes,
            end: String::new(),
        };
        style.write(value)
    }

    /// What stands before each line, once a level; `None` for one line.
    pub(crate) fn indent(&self) -> Option<&str> {
        self.style.indent.as_deref()
    }

    /// Whether colons are followed by a space.
    pub(crate) fn is_spaced(&self) -> bool {
        self.style.is_spaced || self.style.indent.is_some()
    }

    /// Another tree in the same style.
    #[must_use]
    pub fn with(&self, tree: Value) -> Self {
        Self {
            tree,
            style: self.style.clone(),
        }
    }
}

impl Style {
    fn write(&self, tree: &Value) -> String {
        let mut text = String::new();
        self.value(&mut text, tree, 0);
        text.push_str(&self.end);
        text
    }

    fn value(&self, text: &mut String, value: &Value, depth: usize) {
        match value {
            Value::Null => text.push_str("null"),
            Value::Bool(value) => {
                let _ = write!(text, "{value}");
            }
            Value::Number(value) => {
                let _ = write!(text, "{value}");
            }
            Value::String(value) => self.string(text, value),
            Value::Array(values) => {
                text.push('[');
                for (index, value) in values.iter().enumerate() {
                    self.separate(text, index, depth);
                    self.value(text, value, depth + 1);
                }
                self.close(text, values.is_empty(), depth);
                text.push(']');
            }
            Value::Object(members) => {
                text.push('{');
                for (index, (name, value)) in members.iter().enumerate() {
                    self.separate(text, index, depth);
                    self.string(text, name);
                    text.push(':');
                    if self.is_spaced || self.indent.is_some() {
                        text.push(' ');
                    }
                    self.value(text, value, depth + 1);
                }
                self.close(text, members.is_empty(), depth);
                text.push('}');
            }
        }
    }

    /// What stands before the member `index`.
    fn separate(&self, text: &mut String, index: usize, depth: usize) {
        if index > 0 {
            text.push(',');
        }
        match &self.indent {
            Some(indent) => line(text, indent, depth + 1),
            None if self.is_spaced && index > 0 => text.push(' '),
            None => {}
        }
    }

    fn close(&self, text: &mut String, is_empty: bool, depth: usize) {
        if let Some(indent) = &self.indent
            && !is_empty
        {
            line(text, indent, depth);
        }
    }

    fn string(&self, text: &mut String, string: &str) {
        text.push('"');
        for character in string.chars() {
            match character {
                '"' => text.push_str("\\\""),
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                '\u{8}' if self.escapes != Escapes::Go => text.push_str("\\b"),
                '\u{c}' if self.escapes != Escapes::Go => text.push_str("\\f"),
                one if one < ' ' || self.escapes.concern(one) => {
                    let mut units = [0; 2];
                    for unit in one.encode_utf16(&mut units) {
                        let _ = write!(text, "\\u{unit:04x}");
                    }
                }
                one => text.push(one),
            }
        }
        text.push('"');
    }
}

fn line(text: &mut String, indent: &str, depth: usize) {
    text.push('\n');
    for _ in 0..depth {
        text.push_str(indent);
    }
}

impl Escapes {
    fn concern(self, character: char) -> bool {
        match self {
            Self::None => false,
            Self::Go => matches!(character, '&' | '<' | '>' | '\u{2028}' | '\u{2029}'),
            Self::Ascii => !character.is_ascii(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_changed_is_written_as_it_was() {
        for text in [
            r#"{"b":1,"a":[],"c":{},"d":[{"x":null}]}"#,
            "{\n   \"b\": 1,\n   \"a\": [],\n   \"c\": [\n      1,\n      {}\n   ]\n}",
            "{\n\t\"b\": {\n\t\t\"x\": true\n\t}\n}\n",
            r#"{"a": [1, 2], "b": {"c": "d"}}"#,
            r#"{"a":"x \u0026\u0026 y \u003c z"}"#,
            r#"{"a":"x && y < z"}"#,
            r#"{"a": "\u00e9\ud83d\ude00"}"#,
            r#"{"a":"é😀","n":1.0,"big":123456789012345678901234567890,"e":1e+5}"#,
        ] {
            let document = Document::parse(text.as_bytes()).expect(text);
            let written = String::from_utf8(document.to_bytes()).expect("UTF-8");
            assert_eq!(written, text);
        }
    }

    #[test]
    fn what_is_new_is_written_in_the_style_of_the_old() {
        let go = Document::parse(br#"{"a":"\u0026"}"#).expect("JSON");
        let new = go.with(json!({"a": "<", "b": [1]}));
        assert_eq!(new.to_bytes(), br#"{"a":"\u003c","b":[1]}"#);
    }
}
