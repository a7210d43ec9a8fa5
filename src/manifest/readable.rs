//! A text as the parser takes it, where that takes less than Kubernetes does.
//!
//! What is readable is of the same length as what was written, in bytes: the parser's
//! positions are places in both.

use std::borrow::Cow;
use std::ops::Range;

use saphyr_parser::{Event, Parser, Span};

/// Turns the parser's positions, which count characters, into bytes.
#[derive(Debug)]
pub(super) struct Offsets<'t> {
    text: &'t str,
    /// The byte of every 64th character, unless each is one byte.
    marks: Vec<usize>,
}

impl<'t> Offsets<'t> {
    const STEP: usize = 64;

    pub(super) fn new(text: &'t str) -> Self {
        let marks = if text.is_ascii() {
            Vec::new()
        } else {
            let bytes = text.char_indices().map(|(byte, _)| byte);
            bytes.step_by(Self::STEP).collect()
        };
        Self { text, marks }
    }

    pub(super) fn byte(&self, character: usize) -> usize {
        if self.marks.is_empty() {
            return character.min(self.text.len());
        }
        let Some(&mark) = self.marks.get(character / Self::STEP) else {
            return self.text.len();
        };
        let mut rest = self.text[mark..].char_indices();
        let found = rest.nth(character % Self::STEP);
        found.map_or(self.text.len(), |(byte, _)| mark + byte)
    }
}

/// What the parser says of a line that is not indented as the specification asks.
pub(super) const INDENTATION: &str = "invalid indentation";

/// `text` as the parser takes it, which is of the same length.
pub(super) fn readable(text: &str) -> Cow<'_, str> {
    if is_json(text) {
        without_halves(text)
    } else {
        joined(text)
    }
}

fn is_json(text: &str) -> bool {
    let text = text.trim_start_matches('\u{feff}').trim_start();
    text.starts_with('{')
}

/// Whether `text` is JSON that has no other form as YAML.
pub(super) fn has_halves(text: &str) -> bool {
    is_json(text) && matches!(without_halves(text), Cow::Owned(_))
}

/// JSON writes what lies beyond 16 bits as two escapes (`\ud83d\ude00`), neither of
/// which is a character to YAML: each becomes that of another, which nobody sees, as
/// long as no string of such a text is written anew.
fn without_halves(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let is_half = |at: &usize| {
        let before = text[..*at].len() - text[..*at].trim_end_matches('\\').len();
        before.is_multiple_of(2)
            && matches!(bytes.get(at + 2), Some(b'd' | b'D'))
            && matches!(
                bytes.get(at + 3),
                Some(b'8'..=b'9' | b'a'..=b'f' | b'A'..=b'F')
            )
    };
    let escapes = text.match_indices("\\u").map(|(at, _)| at);
    let halves: Vec<usize> = escapes.filter(is_half).collect();
    let mut readable = Cow::Borrowed(text);
    for at in halves {
        // \ud800 to \udfff become \ue800 to \uefff, which are for private use.
        readable.to_mut().replace_range(at + 2..at + 3, "e");
    }
    readable
}

/// Collections in brackets whose lines are not indented further than the key that they
/// belong to, on one line each. The specification asks for more (YAML 1.2.2, section
/// 7.4); what Kubernetes reads with does not, and a `]` below its key is a common sight:
///
/// ```yaml
/// args: [
///   a,
/// ]
/// ```
fn joined(text: &str) -> Cow<'_, str> {
    let mut joined = Cow::Borrowed(text);
    if !may_need_joining(text) {
        return joined;
    }
    // A document is read again for each collection of it that has to be joined.
    let mut most = 64 * text.len();
    let mut start = 0;
    while let Some(failure) = failure(&joined[start..]) {
        let open = start + failure.open;
        let Some(gaps) = gaps(&joined[open..]).filter(|gaps| !gaps.is_empty()) else {
            break;
        };
        let blanks = gaps.iter().map(|gap| (gap, " ".repeat(gap.len())));
        for (gap, blank) in blanks {
            let gap = open + gap.start..open + gap.end;
            joined.to_mut().replace_range(gap, &blank);
        }
        start += failure.document;
        let Some(rest) = most.checked_sub(failure.read) else {
            break;
        };
        most = rest;
    }
    joined
}

/// Whether a line ends, or the next begins, as in brackets.
fn may_need_joining(text: &str) -> bool {
    text.lines().any(|line| {
        line.trim_start().starts_with([']', '}']) || line.trim_end().ends_with(['[', '{', ','])
    })
}

/// Where the parser stops for want of indentation within brackets.
struct Failure {
    /// Where the document begins, and the outermost collection in brackets.
    document: usize,
    open: usize,
    /// How many bytes of the document were read.
    read: usize,
}

fn failure(text: &str) -> Option<Failure> {
    // Not all of the text may be read.
    let mut known = (0, 0);
    let mut byte = |character: usize| {
        let (count, at) = if known.0 <= character { known } else { (0, 0) };
        let mut rest = text[at..].char_indices();
        let more = rest.nth(character - count).map(|(more, _)| at + more);
        known = (character, more.unwrap_or(text.len()));
        known.1
    };
    let mut bytes = |span: Span| byte(span.start.index())..byte(span.end.index());
    let mut document = 0;
    // Of each collection that is open, where it begins if it is in brackets.
    let mut open: Vec<Option<usize>> = Vec::new();
    for event in Parser::new_from_str(text) {
        match event {
            Ok((Event::DocumentStart(_), span)) => {
                let before = &text[..bytes(span).start];
                document = before.rfind('\n').map_or(0, |end| end + 1);
            }
            Ok((Event::SequenceStart(..) | Event::MappingStart(..), span)) => {
                let range = bytes(span);
                let start = range.start;
                let is_flow = text[range].contains(['[', '{']);
                open.push(is_flow.then_some(start));
            }
            Ok((Event::SequenceEnd | Event::MappingEnd, _)) => {
                open.pop();
            }
            Ok(_) => {}
            Err(error) if error.info().starts_with(INDENTATION) => {
                let read = byte(error.marker().index());
                let read = read.saturating_sub(document);
                return open.into_iter().flatten().next().map(|open| Failure {
                    document,
                    open,
                    read,
                });
            }
            Err(_) => return None,
        }
    }
    None
}

/// What stands between the tokens of the collection in brackets that `text` begins
/// with, where a bracket or a comma is on one side of it and a line ends in it: it
/// means nothing there. `None` where the collection does not end.
fn gaps(text: &str) -> Option<Vec<Range<usize>>> {
    let bytes = text.as_bytes();
    let mut gaps = Vec::new();
    let mut depth = 0usize;
    let mut in_plain = false;
    let mut at = text.find(['[', '{'])?;
    while let Some(&byte) = bytes.get(at) {
        let next = bytes.get(at + 1).copied().unwrap_or(b'\n');
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => {
                let end = gap(bytes, at);
                let after = bytes.get(end..)?;
                if after.starts_with(b"---") || after.starts_with(b"...") {
                    return None;
                }
                let is_bounded = matches!(bytes[at - 1], b'[' | b'{' | b',')
                    || matches!(after.first()?, b']' | b'}' | b',');
                if is_bounded && bytes[at..end].contains(&b'\n') {
                    gaps.push(at..end);
                }
                at = end;
                continue;
            }
            b'[' | b'{' => {
                depth += 1;
                in_plain = false;
            }
            b']' | b'}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(gaps);
                }
                in_plain = false;
            }
            b',' => in_plain = false,
            b':' | b'?' if b" \t\r\n,[]{}".contains(&next) => in_plain = false,
            b'"' | b'\'' if !in_plain => {
                at += closing_quote(&bytes[at..])?;
                continue;
            }
            b'&' | b'!' | b'*' if !in_plain => {
                while bytes
                    .get(at + 1)
                    .is_some_and(|one| !b" \t\r\n,[]{}".contains(one))
                {
                    at += 1;
                }
            }
            _ => in_plain = true,
        }
        at += 1;
    }
    None
}

/// Where blanks, line ends and comments from `at` on end.
fn gap(bytes: &[u8], mut at: usize) -> usize {
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => at += 1,
            b'#' => {
                let end = bytes[at..].iter().position(|one| *one == b'\n');
                at = end.map_or(bytes.len(), |end| at + end);
            }
            _ => break,
        }
    }
    at
}

/// The length of the quoted scalar that `bytes` begin with.
pub(super) fn closing_quote(bytes: &[u8]) -> Option<usize> {
    let quote = *bytes.first()?;
    let mut at = 1;
    while let Some(&byte) = bytes.get(at) {
        let next = bytes.get(at + 1);
        at += match byte {
            b'\\' if quote == b'"' => 2,
            b'\'' if quote == b'\'' && next == Some(&b'\'') => 2,
            _ if byte == quote => return Some(at + 1),
            _ => 1,
        };
    }
    None
}
