//! `reuseport check --pid`: says of running processes whether the shim works in
//! them.

use std::fmt::Write;
use std::path::Path;

use serde_json::{Value, json};

use super::{answer, complain, status};
use crate::process::{self, Error, Executable, Finding, Process, Socket, Verdict};
use crate::program::{Elf, Linkage};
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

/// What is said of one process or id.
struct Report {
    target: String,
    verdict: Verdict,
    findings: Vec<Finding>,
    process: Result<Process, Error>,
}

pub(super) fn run(pids: &[u32], options: Options) -> u8 {
    let reports: Vec<Report> = pids.iter().map(|&pid| Report::new(pid)).collect();
    let worst = reports.iter().map(|report| report.status(options.strict));
    let worst = worst.max().unwrap_or(status::DONE);
    if options.quiet {
        return worst;
    }
    let mut text = String::new();
    if options.json {
        let reports: Value = reports.iter().map(Report::json).collect();
        text = escaped_json(&format!("{reports:#}\n"));
    } else {
        for report in &reports {
            match &report.process {
                Ok(process) => report.write(process, &mut text),
                Err(error) => {
                    let message = escaped(&error.to_string());
                    let target = &report.target;
                    let hint = hint(error).map_or(String::new(), |hint| format!("; {hint}"));
                    complain(&format_args!("{target}: {message}{hint}"), status::FAULT);
                }
            }
        }
    }
    answer(text.as_bytes()).max(worst)
}

impl Report {
    fn new(pid: u32) -> Self {
        let target = format!("pid:{pid}");
        let process = Process::read(Path::new("/proc"), pid);
        let (verdict, mut findings) = match &process {
            Ok(process) => process::judge(process),
            Err(error) => (Verdict::Fails, vec![fault(error)]),
        };
        if let Ok(process) = &process
            && process.pid != pid
        {
            findings.push(Finding {
                code: "thread",
                severity: process::Severity::Note,
                message: format!("{pid} is a thread of the process {}", process.pid),
                hint: None,
            });
        }
        Self {
            target,
            verdict,
            findings,
            process,
        }
    }

    fn status(&self, is_strict: bool) -> u8 {
        match (&self.process, self.verdict) {
            (Err(_), _) => status::FAULT,
            (Ok(_), Verdict::Fails) => status::NO,
            (Ok(_), Verdict::Uncertain) if is_strict => status::NO,
            (Ok(_), _) => status::DONE,
        }
    }

    fn json(&self) -> Value {
        let findings = self.findings.iter().map(|finding| {
            json!({
                "code": finding.code,
                "severity": finding.severity.name(),
                "message": finding.message,
                "hint": finding.hint,
            })
        });
        let process = self.process.as_ref().ok();
        let path = |process: &Process| process.executable.path.to_string_lossy().into_owned();
        json!({
            "target": self.target,
            "verdict": self.verdict.name(),
            "program": process.map(|process| program_json(&process.executable)),
            "chain": process.iter().map(|process| path(process)).collect::<Vec<_>>(),
            "findings": findings.collect::<Value>(),
            "process": process.map(process_json),
        })
    }

    /// Writes what people read.
    fn write(&self, process: &Process, text: &mut String) {
        let path = process.executable.path.to_string_lossy();
        let deleted = if process.executable.is_deleted {
            " (deleted)"
        } else {
            ""
        };
        let (target, verdict) = (&self.target, self.verdict.name());
        let _ = writeln!(text, "{target}: {verdict}: {}{deleted}", escaped(&path));
        for finding in &self.findings {
            let (severity, code) = (finding.severity.name(), finding.code);
            let _ = writeln!(text, "  {severity}: {code}: {}", escaped(&finding.message));
            if let Some(hint) = &finding.hint {
                let _ = writeln!(text, "    {}", escaped(hint));
            }
        }
        write_table(&process.sockets, text);
    }
}

fn write_table(sockets: &[Socket], text: &mut String) {
    if sockets.is_empty() {
        return;
    }
    let heading = ["PROTOCOL", "ADDRESS", "SO_REUSEPORT", "USER"];
    let mut rows = vec![heading.map(str::to_owned)];
    rows.extend(sockets.iter().map(|socket| {
        let option = match socket.reuseport {
            Ok(true) => "yes",
            Ok(false) => "no",
            Err(_) => "unknown",
        };
        [
            socket.protocol.to_string(),
            socket.address.to_string(),
            option.to_owned(),
            socket.user.to_string(),
        ]
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    for [protocol, address, option, user] in &rows {
        let [first, second, third] = widths;
        let _ = writeln!(
            text,
            "  {protocol:first$}  {address:second$}  {option:third$}  {user}"
        );
    }
}

fn process_json(process: &Process) -> Value {
    let shim = process.shims.mapped.first();
    let sockets = process.sockets.iter().map(|socket| {
        json!({
            "protocol": socket.protocol.to_string(),
            "address": socket.address.ip().to_string(),
            "port": socket.address.port(),
            "reuseport": socket.reuseport.ok(),
            "why": socket.reuseport.err().map(|why| why.to_string()),
            "uid": socket.user,
        })
    });
    json!({
        "pid": process.pid,
        "shim": shim.map(|file| file.path.to_string_lossy()),
        "secure": process.secure,
        "preload": process.started.preload().map(|list| list.to_string_lossy().into_owned()),
        "sockets": sockets.collect::<Value>(),
    })
}

fn program_json(executable: &Executable) -> Value {
    let elf = executable.elf.as_ref();
    let interpreter = elf.and_then(|elf| match &elf.linkage {
        Linkage::Dynamic(path) => Some(path.to_string_lossy()),
        _ => None,
    });
    let libc = interpreter.as_ref().and_then(|path| {
        let name = path.rsplit('/').next().unwrap_or_default();
        [
            ("ld-linux", "glibc"),
            ("ld64", "glibc"),
            ("ld-musl", "musl"),
        ]
        .into_iter()
        .find_map(|(prefix, libc)| name.starts_with(prefix).then_some(libc))
    });
    json!({
        "path": executable.path.to_string_lossy(),
        "kind": elf.map_or("other", kind),
        "arch": elf.map(architecture),
        "libc": libc,
        "interpreter": interpreter,
    })
}

fn kind(elf: &Elf) -> &'static str {
    match elf.linkage {
        Linkage::Dynamic(_) => "dynamic",
        Linkage::Static => "static",
        Linkage::StaticPie => "static-pie",
        Linkage::Library => "library",
    }
}

fn architecture(elf: &Elf) -> String {
    let mut known = ARCHITECTURES.iter();
    let found = known.find(|one| elf.is_64_bit && one.elf_machine == elf.machine);
    found.map_or(format!("machine {}", elf.machine), |one| {
        one.name.to_owned()
    })
}

/// What keeps us from looking at a process, as a finding.
fn fault(error: &Error) -> Finding {
    let code = match error {
        Error::NoSuchProcess(_) | Error::Ended(_) => "not-found",
        Error::KernelThread(_) => "kernel-thread",
        Error::Invisible(..) | Error::NotPermitted { .. } | Error::Io { .. } => "not-readable",
    };
    Finding {
        code,
        severity: process::Severity::Error,
        message: error.to_string(),
        hint: hint(error).map(str::to_owned),
    }
}

fn hint(error: &Error) -> Option<&'static str> {
    match error {
        Error::Invisible(..) => Some("root can see it"),
        Error::NotPermitted { user, own, .. } if user == own => Some(
            "it has rights that this one has not, or keeps itself from being read: \
             root on the host can read it",
        ),
        Error::NotPermitted { .. } => Some("root can read it"),
        _ => None,
    }
}

/// `text` without what a terminal would obey: what comes from a process may hold
/// anything.
fn escaped(text: &str) -> String {
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
fn escaped_json(json: &str) -> String {
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
