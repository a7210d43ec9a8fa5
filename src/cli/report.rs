//! How verdicts and findings are shown, to people and to machines.

use std::fmt::Write;
use std::path::Path;

use anstream::{AutoStream, ColorChoice};
use serde_json::{Value, json};

use crate::finding::{Finding, Verdict};
use crate::program::{Elf, Libc, Linkage};
use crate::shim::ARCHITECTURES;

/// How the answer is given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    /// As JSON.
    pub(super) json: bool,
    /// By the exit status alone.
    pub(super) quiet: bool,
    /// What is uncertain is a no.
    pub(super) strict: bool,
}

/// Writes the verdict on `target`, with what else is to stand in that line.
pub(super) fn write_verdict(text: &mut String, target: &str, verdict: Verdict, rest: &str) {
    let colour = match verdict {
        Verdict::Works => "\x1b[32m",
        Verdict::Uncertain => "\x1b[33m",
        Verdict::Fails => "\x1b[31m",
    };
    let (target, verdict, rest) = (escaped(target), verdict.name(), escaped(rest));
    let _ = writeln!(
        text,
        "\x1b[1m{target}\x1b[0m: {colour}{verdict}\x1b[0m{rest}"
    );
}

/// Writes a line for each of `findings`, and one for its hint.
pub(super) fn write_findings(text: &mut String, findings: &[Finding]) {
    for Finding {
        code,
        severity,
        message,
        hint,
    } in findings
    {
        let _ = writeln!(text, "  {}: {code}: {}", severity.name(), escaped(message));
        if let Some(hint) = hint {
            let _ = writeln!(text, "    {}", escaped(hint));
        }
    }
}

/// `text` with its colours where standard output is a terminal that wants them,
/// see <https://no-color.org>.
pub(super) fn coloured_for_stdout(text: &str) -> Vec<u8> {
    use std::io::Write;

    if AutoStream::choice(&std::io::stdout()) != ColorChoice::Never {
        return text.as_bytes().to_vec();
    }
    let mut plain = AutoStream::never(Vec::new());
    let _ = plain.write_all(text.as_bytes());
    plain.into_inner()
}

/// The object `program` of DESIGN's `check --json`.
pub(super) fn program_json(path: &Path, elf: Option<&Elf>) -> Value {
    let linkage = elf.map(|elf| &elf.linkage);
    let (kind, interpreter) = match linkage {
        Some(Linkage::Dynamic(interpreter)) => ("dynamic", Some(interpreter.to_string_lossy())),
        Some(Linkage::Static) => ("static", None),
        Some(Linkage::StaticPie) => ("static-pie", None),
        Some(Linkage::Library) => ("library", None),
        Some(Linkage::Other) | None => ("other", None),
    };
    let architecture = |elf: &Elf| {
        let mut known = ARCHITECTURES.iter();
        let found = known.find(|one| elf.is_64_bit && one.elf_machine == elf.machine);
        found.map_or_else(
            || format!("machine {}", elf.machine),
            |one| one.name.to_owned(),
        )
    };
    json!({
        "path": path.to_string_lossy(),
        "kind": kind,
        "arch": elf.map(architecture),
        "libc": elf.and_then(Libc::of).map(Libc::name),
        "interpreter": interpreter,
    })
}

/// The array `findings` of DESIGN's `check --json`.
pub(super) fn findings_json(findings: &[Finding]) -> Value {
    let object = |finding: &Finding| {
        json!({
            "code": finding.code,
            "severity": finding.severity.name(),
            "message": finding.message,
            "hint": finding.hint,
        })
    };
    findings.iter().map(object).collect()
}

/// `text` without what a terminal would obey: what comes from a process may hold
/// anything.
pub(super) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if is_obeyed(character) {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
    }
    safe
}

/// The same of `json`, whose escapes are others. Its own line ends stay: in a
/// string they are escaped already.
pub(super) fn escaped_json(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for character in json.chars() {
        if is_obeyed(character) && character != '\n' {
            // All of them have four digits at most.
            let _ = write!(safe, "\\u{:04x}", u32::from(character));
        } else {
            safe.push(character);
        }
    }
    safe
}

/// Control characters, and those that turn the direction of what follows.
fn is_obeyed(character: char) -> bool {
    let turns = matches!(
        character,
        '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    character.is_control() || turns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_written_out() {
        assert_eq!(
            escaped("a\x1b[2J\n\u{9b}é\u{202e}"),
            "a\\u{1b}[2J\\n\\u{9b}é\\u{202e}"
        );
    }
    #[test]
    fn json_is_the_same_after_it() {
        let value = json!({"a\u{9b}": ["\u{202e}\x1b\n\\", "\u{7f}é"]});
        let text = escaped_json(&format!("{value:#}"));
        assert!(!text.contains(|one: char| one != '\n' && is_obeyed(one)));
        assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), value);
    }
}
