//! A stream with changes to its documents: the text that it becomes, read again
//! and held against what was meant before anybody gets it.

use serde_json::Value;

use super::document::{Document, Documents};
use super::edit::Edited;
use super::error::{Error, Fault, Position};
use super::splice::{self, Splice};
use super::value;
use super::write::Indent;

/// What a document of the result must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// The one that it was, to every style and anchor.
    Same(u64),
    /// A value, by its hash.
    Value(u64),
}

/// A document that goes if nothing uses it.
#[derive(Debug)]
struct Candidate {
    name: String,
    start: usize,
    has_marker: bool,
    /// Where the next document begins, and where its marker's line ends.
    end: usize,
    end_with_marker: usize,
    place: usize,
}

/// A stream that is being changed.
#[derive(Debug)]
pub(super) struct Draft<'s> {
    file: &'s str,
    text: &'s str,
    splices: Vec<Splice>,
    expected: Vec<Expected>,
    candidates: Vec<Candidate>,
    /// The candidate before the next document, whose end that document tells.
    is_open: bool,
}

impl<'s> Draft<'s> {
    pub(super) fn new(file: &'s str, text: &'s str) -> Self {
        Self {
            file,
            text,
            splices: Vec::new(),
            expected: Vec::new(),
            candidates: Vec::new(),
            is_open: false,
        }
    }

    /// Puts a document of its own before the next one, `before`.
    pub(super) fn insert(&mut self, object: &Value, before: &Document) {
        let newline = before.newline();
        let indent = Indent { step: 2, dash: 0 };
        let lines = indent.map(object.as_object().expect("an object"), 0);
        let mut body = lines.join(newline);
        body.push_str(newline);
        let text = match &before.marker {
            None => format!("{body}---{newline}"),
            // Directives may follow only where a document was ended.
            Some(marker) if before.start < marker.start => {
                format!("---{newline}{body}...{newline}")
            }
            Some(_) => format!("---{newline}{body}"),
        };
        self.splices.push(Splice::insert(before.start, text));
        self.expected.push(Expected::Value(value::hash(object)));
    }

    /// Takes the next document, changed or as it is.
    pub(super) fn push(&mut self, document: &Document, edited: Option<Edited>) {
        self.close(document);
        match edited {
            Some(Edited { splices, meant }) => {
                self.splices.extend(splices);
                self.expected.push(Expected::Value(value::hash(&meant)));
            }
            None => self.expected.push(Expected::Same(document.fingerprint)),
        }
    }

    /// Takes the next document, which is to go if nothing uses `name`.
    pub(super) fn push_candidate(&mut self, document: &Document, name: String) {
        self.close(document);
        self.candidates.push(Candidate {
            name,
            start: document.start,
            has_marker: document.marker.is_some(),
            end: self.text.len(),
            end_with_marker: self.text.len(),
            place: self.expected.len(),
        });
        self.is_open = true;
        self.expected.push(Expected::Same(document.fingerprint));
    }

    /// Tells the candidate before `next`, if it is one, where it ends.
    fn close(&mut self, next: &Document) {
        if let Some(candidate) = self.candidates.last_mut().filter(|_| self.is_open) {
            candidate.end = next.start;
            candidate.end_with_marker = next.start;
            if let Some(marker) = &next.marker {
                let rest = &self.text[marker.end..];
                let line = rest.trim_start_matches([' ', '\t']);
                let line = line.strip_prefix('\r').unwrap_or(line);
                if let Some(line) = line.strip_prefix('\n') {
                    candidate.end_with_marker = self.text.len() - line.len();
                }
            }
        }
        self.is_open = false;
    }

    /// The text of the candidates that go. A run of them that begins at the start
    /// of the stream, without a marker, takes that of the next document along.
    fn deletions(&mut self, is_used: impl Fn(&str) -> bool) {
        let mut runs: Vec<(&Candidate, &Candidate)> = Vec::new();
        let gone = self.candidates.iter().filter(|one| !is_used(&one.name));
        for candidate in gone {
            match runs.last_mut() {
                Some((_, last)) if last.place + 1 == candidate.place => *last = candidate,
                _ => runs.push((candidate, candidate)),
            }
        }
        for (first, last) in runs.iter().rev() {
            let end = if first.has_marker {
                last.end
            } else {
                last.end_with_marker
            };
            self.splices.push(Splice::delete(first.start..end));
            self.expected.drain(first.place..=last.place);
        }
    }

    /// The text of the result, without the candidates that nothing uses.
    ///
    /// # Errors
    /// It does not read as what was meant.
    pub(super) fn finish(mut self, is_used: impl Fn(&str) -> bool) -> Result<String, Error> {
        self.deletions(is_used);
        if self.splices.is_empty() {
            return Ok(self.text.to_owned());
        }
        let mismatch = |document: usize, why: &'static str| {
            let position = Position {
                file: self.file.to_owned(),
                document: document + 1,
                line: 1,
                column: 1,
                path: String::new(),
            };
            Error::at(position, Fault::Mismatch { why })
        };
        let Some(text) = splice::apply(self.text, self.splices) else {
            return Err(mismatch(0, "two changes overlap"));
        };
        let mut documents = Documents::new(self.file, &text);
        let mut expected = self.expected.iter();
        while let Some(document) = documents
            .next()
            .map_err(|_| mismatch(0, "it is no YAML any more"))?
        {
            let is_right = match expected.next() {
                Some(Expected::Same(fingerprint)) => *fingerprint == document.fingerprint,
                Some(Expected::Value(hash)) => *hash == value::hash(&document.value(document.root)),
                None => false,
            };
            if !is_right {
                return Err(mismatch(document.index, "a document differs"));
            }
        }
        if expected.next().is_some() {
            return Err(mismatch(0, "a document is missing"));
        }
        drop(documents);
        Ok(text)
    }
}
