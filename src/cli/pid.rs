//! `reuseport check --pid`: says of running processes whether the shim works in
//! them.

use std::fmt::Write;
use std::path::Path;

use serde_json::{Value, json};

use super::report::{
    Options, coloured_for_stdout, escaped, escaped_json, findings_json, program_json,
    write_findings, write_verdict,
};
use super::{answer, complain, status};
use crate::finding::{Finding, Severity, Verdict};
use crate::process::{self, Error, Process, Socket};

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
    answer(&coloured_for_stdout(&text)).max(worst)
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
                severity: Severity::Note,
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
        let process = self.process.as_ref().ok();
        let path = |process: &Process| process.executable.path.to_string_lossy().into_owned();
        json!({
            "target": self.target,
            "verdict": self.verdict.name(),
            "program": process.map(|process| {
                program_json(&process.executable.path, process.executable.elf.as_ref())
            }),
            "chain": process.iter().map(|process| path(process)).collect::<Vec<_>>(),
            "findings": findings_json(&self.findings),
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
        write_verdict(
            text,
            &self.target,
            self.verdict,
            &format!(": {path}{deleted}"),
        );
        write_findings(text, &self.findings);
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

/// What keeps us from looking at a process, as a finding.
fn fault(error: &Error) -> Finding {
    let code = match error {
        Error::NoSuchProcess(_) | Error::Ended(_) => "not-found",
        Error::KernelThread(_) => "kernel-thread",
        Error::Invisible(..) | Error::NotPermitted { .. } | Error::Io { .. } => "not-readable",
    };
    Finding {
        code,
        severity: Severity::Error,
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
