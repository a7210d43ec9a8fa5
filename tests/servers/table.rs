//! The truth table: what happens to two copies of many programs, and what
//! `reuseport check` says of them before. It must be right about every one.
//!
//! The test also writes docs/truth-table.md (docs/truth-table does it), and fails
//! where that is not what it saw.

mod copy;
mod data;
mod document;
mod languages;
mod launchers;
mod modes;
mod names;
mod row;
mod trial;
mod web;

#[path = "../support/mod.rs"]
mod support;

use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use crate::running::REUSEPORT;
use row::{Row, Truth};
use trial::Seen;

/// How many rows are tried at once.
const AT_ONCE: usize = 2;

/// Of how many programs one may be uncertain.
const CERTAIN: usize = 10;

/// The packages that the tests need; a row's are among them.
const PACKAGES: &str = include_str!("../packages");

fn rows() -> impl Iterator<Item = &'static Row> {
    let lists = [
        web::ROWS,
        languages::ROWS,
        data::ROWS,
        names::ROWS,
        launchers::ROWS,
        modes::ROWS,
    ];
    lists.into_iter().flatten()
}

#[test]
fn check_is_right_about_every_program() {
    const NAME: &str = "check_is_right_about_every_program";

    if !support::is_root() {
        return support::skip(NAME, "it makes setuid programs and becomes another user");
    }
    // A build directory may not be open to others.
    let directory = tempfile::tempdir().expect("a directory for temporary files");
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).expect("ours");
    let reuseport = directory.path().join("reuseport");
    fs::copy(REUSEPORT, &reuseport).expect("room for reuseport");
    let reuseport = reuseport.to_str().expect("a UTF-8 path");

    // For work on single rows.
    let only = env::var("REUSEPORT_TABLE_ROWS").ok();
    let is_wanted = |row: &&Row| {
        only.as_ref()
            .is_none_or(|only| only.split(',').any(|name| name == row.name))
    };
    let left = Mutex::new(rows().filter(is_wanted));
    let seen = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = left.lock().expect("no row panics").next();
                    let Some(row) = next else { break };
                    let one = missing(row).map_or_else(|| trial::of(row, reuseport), Err);
                    seen.lock().expect("no row panics").push((row, one));
                }
            });
        }
    });
    drop(left);
    let seen = seen.into_inner().expect("no row panics");

    let mut wrong: Vec<String> = seen
        .iter()
        .filter_map(|(row, one)| Some(format!("{}: {}", row.name, problem(row, one)?)))
        .collect();
    let mut lines: Vec<(&Row, &Seen)> = seen
        .iter()
        .filter_map(|(row, one)| Some((*row, one.as_ref().ok()?)))
        .collect();
    lines.sort_by_key(|(row, _)| row.name.to_lowercase());
    let uncertain = lines.iter().filter(|(_, one)| one.verdict == "uncertain");
    let uncertain: Vec<&str> = uncertain.map(|(row, _)| row.name).collect();
    if only.is_none() {
        if uncertain.len() * CERTAIN > lines.len() {
            wrong.push(format!(
                "uncertain of {} in {}: {}",
                uncertain.len(),
                lines.len(),
                uncertain.join(", ")
            ));
        }
        wrong.extend(document::problem(&document::text(&lines)));
    }
    assert!(
        wrong.is_empty(),
        "{} of {} rows\n\n{}",
        wrong.len(),
        seen.len(),
        wrong.join("\n\n")
    );
}

/// What is wrong with what was seen of `row`.
fn problem(row: &Row, seen: &Result<Seen, String>) -> Option<String> {
    let seen = match seen {
        Ok(seen) => seen,
        Err(problem) => return Some(problem.clone()),
    };
    let agrees = match seen.verdict.as_str() {
        "works" => seen.hooked,
        "fails" => !seen.hooked,
        "uncertain" => true,
        _ => false,
    };
    // Where it shares alone, that both get clients is no proof of the shim.
    let is_proved = seen.without == Truth::Shares || seen.hooked == (seen.with == Truth::Shares);
    let what = if (seen.without, seen.with) != (row.without, row.with) {
        format!(
            "it {} without the shim and {} with it, not {} and {}",
            seen.without.name(),
            seen.with.name(),
            row.without.name(),
            row.with.name()
        )
    } else if !is_proved {
        "what the shim says and what happened differ".to_owned()
    } else if agrees != row.misjudged.is_none() {
        let not = if seen.hooked { "" } else { "not " };
        format!("the shim did {not}act, and check says {}", seen.verdict)
    } else {
        return None;
    };
    Some(format!("{what}\n{}", seen.report))
}

/// The packages of `row` that are not installed, or not in the list.
fn missing(row: &Row) -> Option<String> {
    for package in row.packages {
        let is_listed = PACKAGES
            .lines()
            .any(|line| line.split_whitespace().next() == Some(package));
        if !is_listed {
            return Some(format!("{package} is missing in tests/packages"));
        }
        let query = Command::new("dpkg-query")
            .args(["--show", "--showformat=${db:Status-Status}", package])
            .output();
        if !query.is_ok_and(|output| output.stdout == b"installed") {
            return Some(format!("apt-get install --no-install-recommends {package}"));
        }
    }
    None
}

/// Where the table lies.
fn document() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/truth-table.md"))
}
