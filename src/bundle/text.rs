//! JSON as text: a new value is written into the text of the old one, so that every
//! byte of what stays is kept, however the text is laid out.

use std::collections::HashMap;
use std::ops::Range;

use serde_json::{Map, Value};

use crate::image::json::Document;

/// A value in a text.
#[derive(Debug)]
struct Node {
    range: Range<usize>,
    /// The items of a list or the members of an object, in order; nothing of
    /// another value.
    parts: Vec<Part>,
}

/// An item of a list, or a member of an object.
#[derive(Debug)]
struct Part {
    /// Where it begins: a member with its name.
    start: usize,
    name: String,
    node: Node,
}

/// Finds the values of a text that is JSON, which serde_json has read: so it is
/// well-formed, and no deeper than that takes.
struct Scanner<'t> {
    text: &'t str,
    at: usize,
}

impl Scanner<'_> {
    fn blanks(&mut self) {
        let rest = self.text[self.at..].trim_start();
        self.at = self.text.len() - rest.len();
    }

    fn is_next(&mut self, byte: u8) -> bool {
        let is_next = self.text.as_bytes().get(self.at) == Some(&byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn node(&mut self) -> Node {
        self.blanks();
        let start = self.at;
        let mut parts = Vec::new();
        let close = match self.text.as_bytes().get(start) {
            Some(b'{') => b'}',
            Some(b'[') => b']',
            Some(b'"') => {
                self.string();
                b'"'
            }
            _ => {
                let rest = &self.text[start..];
                let is_end = |c: char| c.is_ascii_whitespace() || matches!(c, ',' | ']' | '}');
                self.at += rest.find(is_end).unwrap_or(rest.len());
                b'"'
            }
        };
        if close != b'"' {
            self.at += 1;
            self.blanks();
            while self.at < self.text.len() && !self.is_next(close) {
                parts.push(self.part(close == b'}'));
                self.blanks();
                self.is_next(b',');
                self.blanks();
            }
        }
        Node {
            range: start..self.at,
            parts,
        }
    }

    fn part(&mut self, is_member: bool) -> Part {
        let start = self.at;
        let mut name = String::new();
        if is_member {
            self.string();
            name = serde_json::from_str(&self.text[start..self.at]).unwrap_or_default();
            self.blanks();
            self.is_next(b':');
        }
        let node = self.node();
        Part { start, name, node }
    }

    fn string(&mut self) {
        let bytes = self.text.as_bytes();
        self.at += 1;
        while let Some(&byte) = bytes.get(self.at) {
            self.at += if byte == b'\\' { 2 } else { 1 };
            if byte == b'"' {
                return;
            }
        }
    }
}

fn scan(text: &str) -> Node {
    Scanner { text, at: 0 }.node()
}

/// `text`, which says `old`, made to say `new`. What is new is spelt as `document`
/// spells it.
pub(super) fn rewrite(text: &str, old: &Value, new: &Value, document: &Document) -> String {
    let mut writer = Writer {
        text,
        document,
        changes: Vec::new(),
    };
    writer.change(&scan(text), old, new);
    apply(text, writer.changes)
}

/// `text` with `changes` made, which do not overlap.
fn apply(text: &str, mut changes: Vec<(Range<usize>, String)>) -> String {
    changes.sort_by_key(|(range, _)| (range.start, range.end));
    let mut result = String::with_capacity(text.len());
    let mut done = 0;
    for (range, new) in changes {
        result += &text[done..range.start];
        result += &new;
        done = range.end;
    }
    result += &text[done..];
    result
}

/// The text of the value at `path`, names from the top.
pub(super) fn raw<'t>(text: &'t str, path: &[&str]) -> Option<&'t str> {
    Some(&text[find(text, path)?])
}

/// `text` with `raw` in the place of the value at `path`.
pub(super) fn replace(text: &str, path: &[&str], raw: &str) -> Option<String> {
    let range = find(text, path)?;
    Some([&text[..range.start], raw, &text[range.end..]].concat())
}

fn find(text: &str, path: &[&str]) -> Option<Range<usize>> {
    let mut node = scan(text);
    for name in path {
        // Of two of one name, the last one counts.
        node = node.parts.into_iter().rfind(|one| one.name == *name)?.node;
    }
    Some(node.range)
}

struct Writer<'t> {
    text: &'t str,
    document: &'t Document,
    /// What takes the place of which bytes.
    changes: Vec<(Range<usize>, String)>,
}

/// What becomes of a part.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Stays,
    Goes,
}

impl Writer<'_> {
    fn change(&mut self, node: &Node, old: &Value, new: &Value) {
        if old == new {
            return;
        }
        match (old, new) {
            (Value::Object(old), Value::Object(new)) => self.members(node, old, new),
            (Value::Array(old), Value::Array(new)) => self.items(node, old, new),
            _ => {
                let text = self.write(new, self.lead(node.range.start));
                self.changes.push((node.range.clone(), text));
            }
        }
    }

    fn members(&mut self, node: &Node, old: &Map<String, Value>, new: &Map<String, Value>) {
        let parts = node.parts.iter().enumerate();
        let last: HashMap<&str, usize> = parts
            .map(|(index, part)| (part.name.as_str(), index))
            .collect();
        let mut fates = Vec::new();
        for (index, part) in node.parts.iter().enumerate() {
            let is_last = last.get(part.name.as_str()) == Some(&index);
            match (old.get(&part.name), new.get(&part.name)) {
                (Some(old), Some(new)) if is_last => self.change(&part.node, old, new),
                _ => {}
            }
            fates.push(if new.contains_key(&part.name) {
                Fate::Stays
            } else {
                Fate::Goes
            });
        }
        let added = new.iter().filter(|(name, _)| !old.contains_key(*name));
        let added: Vec<_> = added.map(|(name, value)| (Some(name), value)).collect();
        self.put(node, &fates, &added);
    }

    fn items(&mut self, node: &Node, old: &[Value], new: &[Value]) {
        let mut fates = Vec::new();
        let mut next = new.iter().peekable();
        for (part, old) in node.parts.iter().zip(old) {
            match next.next_if(|new| is_version(old, new)) {
                Some(new) => {
                    self.change(&part.node, old, new);
                    fates.push(Fate::Stays);
                }
                None => fates.push(Fate::Goes),
            }
        }
        let added: Vec<_> = next.map(|value| (None, value)).collect();
        self.put(node, &fates, &added);
    }

    /// Takes out the parts of `node` that go, and adds others at its end.
    fn put(&mut self, node: &Node, fates: &[Fate], added: &[(Option<&String>, &Value)]) {
        let Range { start, end } = node.range;
        let first_kept = fates.iter().position(|fate| *fate == Fate::Stays);
        let ends = |index: usize| node.parts[index].node.range.end;
        let Some(first_kept) = first_kept else {
            if !node.parts.is_empty() || !added.is_empty() {
                let text = self.fill(start, added);
                self.changes.push((start + 1..end - 1, text));
            }
            return;
        };
        if first_kept > 0 {
            let range = node.parts[0].start..node.parts[first_kept].start;
            self.changes.push((range, String::new()));
        }
        for (index, fate) in fates.iter().enumerate().skip(first_kept + 1) {
            if *fate == Fate::Goes {
                let range = ends(index - 1)..ends(index);
                self.changes.push((range, String::new()));
            }
        }
        // What stands before the last part stands before the new ones, too.
        let last = node.parts.len() - 1;
        let before = if last == 0 { start + 1 } else { ends(last - 1) };
        let gap = &self.text[before..node.parts[last].start];
        let gap = gap.split_once(',').map_or(gap, |(_, gap)| gap);
        let mut text = String::new();
        for (name, value) in added {
            text.push(',');
            text += gap;
            let lead = gap.rsplit_once('\n').map(|(_, lead)| lead);
            text += &self.part(*name, value, lead);
        }
        self.changes.push((ends(last)..ends(last), text));
    }

    /// What stands between the brackets of a list or object that begins at `start`
    /// and had nothing that stays.
    fn fill(&self, start: usize, added: &[(Option<&String>, &Value)]) -> String {
        if added.is_empty() {
            return String::new();
        }
        let lead = self.lead(start).zip(self.document.indent());
        let inner = lead.map(|(lead, indent)| format!("{lead}{indent}"));
        let parts = added
            .iter()
            .map(|(name, value)| self.part(*name, value, inner.as_deref()));
        let parts: Vec<String> = parts.collect();
        match (lead, &inner) {
            (Some((lead, _)), Some(inner)) => {
                let parts = parts.join(&format!(",\n{inner}"));
                format!("\n{inner}{parts}\n{lead}")
            }
            _ => parts.join(if self.document.is_spaced() { ", " } else { "," }),
        }
    }

    fn part(&self, name: Option<&String>, value: &Value, lead: Option<&str>) -> String {
        let value = self.write(value, lead);
        let Some(name) = name else {
            return value;
        };
        let name = self.write(&Value::from(name.as_str()), None);
        let space = if self.document.is_spaced() { " " } else { "" };
        format!("{name}:{space}{value}")
    }

    /// `value` as text: on lines that begin with `lead`, or on one.
    fn write(&self, value: &Value, lead: Option<&str>) -> String {
        let text = self.document.spell(value, lead.is_some());
        match lead {
            Some(lead) => text.replace('\n', &format!("\n{lead}")),
            None => text,
        }
    }

    /// The blanks that begin the line of `at`; `None` where all is on one line.
    fn lead(&self, at: usize) -> Option<&str> {
        let line = self.text[..at].rfind('\n').map_or(0, |end| end + 1);
        let text = &self.text[line..];
        self.document.indent()?;
        Some(&text[..text.len() - text.trim_start_matches([' ', '\t']).len()])
    }
}

/// Whether `new` stands where `old` stood: the same, or another value of the same
/// variable.
fn is_version(old: &Value, new: &Value) -> bool {
    let name = |value: &Value| Some(value.as_str()?.split_once('=')?.0.to_owned());
    old == new || name(old).is_some_and(|old| Some(old) == name(new))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rewritten(text: &str, new: &Value) -> String {
        let document = Document::parse(text.as_bytes()).expect("JSON");
        let result = rewrite(text, &document.tree, new, &document);
        let read: Value = serde_json::from_str(&result).expect("JSON");
        assert_eq!(read, *new, "{result}");
        result
    }

    #[test]
    fn what_stays_keeps_its_bytes() {
        let text = "{ \"a\" :[1 ,\t2,3 ],\n\"b\":{\"\\u0063\":\"\\/\"} , \"n\":1.0e2}\n\n";
        for (new, expected) in [
            (
                json!({"a": [1, 2, 3, 4], "b": {"c": "/"}}),
                "{ \"a\" :[1 ,\t2,3,4 ],\n\"b\":{\"\\u0063\":\"\\/\"}}\n\n",
            ),
            (
                json!({"a": [2], "b": {"c": "/", "d": []}}),
                "{ \"a\" :[2 ],\n\"b\":{\"\\u0063\":\"\\/\",\"d\": []}}\n\n",
            ),
            (json!({"b": {}}), "{ \"b\":{}}\n\n"),
            (json!({}), "{}\n\n"),
        ] {
            assert_eq!(rewritten(text, &new), expected);
        }
    }

    #[test]
    fn what_is_new_is_laid_out_as_its_neighbours_are() {
        let text = "{\n\t\"a\": [\n\t\t\"x\"\n\t],\n\t\"b\": []\n}";
        let new = json!({"a": ["x", {"y": 1}], "b": ["z"], "c": {"d": [1]}});
        let expected = "{\n\t\"a\": [\n\t\t\"x\",\n\t\t{\n\t\t\t\"y\": 1\n\t\t}\n\t],\n\t\"b\": [\n\t\t\"z\"\n\t],\
                        \n\t\"c\": {\n\t\t\"d\": [\n\t\t\t1\n\t\t]\n\t}\n}";
        assert_eq!(rewritten(text, &new), expected);
        assert_eq!(
            rewritten(r#"{"a":[]}"#, &json!({"a": [1], "b": 2})),
            r#"{"a":[1],"b":2}"#
        );
        assert_eq!(
            rewritten(r#"{"a": [1, 2]}"#, &json!({"a": [1, 2, 3]})),
            r#"{"a": [1, 2, 3]}"#
        );
    }

    #[test]
    fn of_two_of_one_name_the_last_one_changes() {
        let text = r#"{"a":[1],"b":0,"a":[2]}"#;
        assert_eq!(
            rewritten(text, &json!({"a": [2, 3], "b": 0})),
            r#"{"a":[1],"b":0,"a":[2,3]}"#
        );
        assert_eq!(rewritten(text, &json!({"b": 0})), r#"{"b":0}"#);
        assert_eq!(raw(text, &["a"]), Some("[2]"));
    }

    #[test]
    fn entries_of_an_environment_change_in_place() {
        let text = r#"["A=1",  "B=2" ,"C=3"]"#;
        let new = json!(["A=1", "B=x", "D=4"]);
        assert_eq!(rewritten(text, &new), r#"["A=1",  "B=x","D=4"]"#);
    }
}
