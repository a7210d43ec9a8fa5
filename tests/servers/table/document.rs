//! docs/truth-table.md, made from what was seen.

use std::env;
use std::fmt::Write;
use std::fs;

use super::row::{Row, Truth, User};
use super::trial::Seen;

const HEAD: &str = "\
# The truth table

What happens to the second of two copies of a program on one port, and what
`reuseport check` says of it before. Made by `docs/truth-table`, which starts
every one of them; no line is written by hand, and a test fails where a line is
no longer true.

- *without*: what a copy does that is started without the shim. `refused`: it
  cannot bind. `shares`: it sets SO_REUSEPORT itself.
- *with*: what it does under the shim. `shares`: both copies got clients.
  `refused`: the shim did not act.
- *check*: the verdict for the same command line, in the same environment, as the
  same user. Findings that are notes are in parentheses.
";

const COLUMNS: [&str; 9] = [
    "program", "package", "language", "kind", "run by", "without", "with", "check", "findings",
];

/// The document that says what was seen.
pub fn text(lines: &[(&Row, &Seen)]) -> String {
    let mut text = HEAD.to_owned();
    let count = |verdict: &str| {
        lines
            .iter()
            .filter(|(_, one)| one.verdict == verdict)
            .count()
    };
    let _ = writeln!(
        text,
        "\n{} programs: {} `works`, {} `fails`, {} `uncertain`.\n",
        lines.len(),
        count("works"),
        count("fails"),
        count("uncertain")
    );
    for (row, why) in lines
        .iter()
        .filter_map(|(row, _)| Some((row, row.misjudged?)))
    {
        let _ = writeln!(
            text,
            "`check` is wrong about one kind, \"{}\": {why}.\n",
            row.name
        );
    }
    let mut line = |cells: &[&str]| {
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    };
    line(&COLUMNS);
    line(&["---"; COLUMNS.len()]);
    for (row, seen) in lines {
        let user = match row.user {
            User::Root => "root",
            User::Nobody => "nobody",
            User::NobodyForGood => "nobody, no_new_privs",
        };
        let with = match (seen.without, seen.with, seen.hooked) {
            (Truth::Shares, Truth::Shares, false) => "shares, without the shim's help",
            (_, with, _) => with.name(),
        };
        let verdict = match row.misjudged {
            Some(_) => format!("{}, wrongly", seen.verdict),
            None => seen.verdict.clone(),
        };
        let notes = seen.notes.iter().map(|code| format!("({code})"));
        let findings: Vec<String> = seen.codes.iter().cloned().chain(notes).collect();
        line(&[
            row.name,
            &row.packages.join(", "),
            row.language,
            &seen.kind,
            user,
            seen.without.name(),
            with,
            &verdict,
            &findings.join(", "),
        ]);
    }
    text
}

/// Writes `text` to the file that REUSEPORT_TABLE names; where it is not set,
/// says how the committed document differs.
pub fn problem(text: &str) -> Option<String> {
    if let Some(file) = env::var_os("REUSEPORT_TABLE") {
        fs::write(file, text).expect("REUSEPORT_TABLE names a writable file");
        return None;
    }
    let path = super::document();
    let committed = fs::read_to_string(path).unwrap_or_default();
    if committed == text {
        return None;
    }
    let mut problem = format!("{}: docs/truth-table makes it anew\n", path.display());
    for (sign, here, there) in [("-", &*committed, text), ("+", text, &*committed)] {
        for line in here
            .lines()
            .filter(|line| !there.lines().any(|other| other == *line))
        {
            let _ = writeln!(problem, "{sign} {line}");
        }
    }
    Some(problem)
}
