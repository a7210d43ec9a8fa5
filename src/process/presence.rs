//! What is found of the shim's being in a process, and of how that was started.

use super::Process;
use crate::finding::Verdict;
use crate::finding::{Finding, Severity};
use crate::preload::LD_PRELOAD;
use crate::program::Linkage;

/// The findings about the shim being there.
pub(super) fn findings(process: &Process, verdict: Verdict) -> Vec<Finding> {
    let mut findings = Vec::new();
    let shims = &process.shims;
    let decides = match verdict {
        Verdict::Fails => Severity::Error,
        Verdict::Uncertain => Severity::Warning,
        Verdict::Works => Severity::Note,
    };
    if shims.mapped.is_empty() {
        if let Some(file) = shims.unread.first() {
            let path = file.path.display();
            let message = format!("{path} is mapped, and could not be read to see what it is");
            findings
                .push(Finding::new(Severity::Warning, "shim-unreadable", message).hint("root can"));
        } else {
            findings.push(not_mapped(process, decides));
        }
        findings.extend(obstacles(process, decides));
    } else if process.secure == Some(true) {
        let message = "the loader ran in secure mode, and the shim is mapped all the same";
        findings.push(Finding::new(Severity::Note, "secure-mode", message));
    }
    for file in shims.mapped.iter().filter(|file| file.is_deleted) {
        let path = file.path.display();
        let message = format!("{path} was deleted or replaced since; this process keeps it");
        let finding = Finding::new(Severity::Warning, "shim-deleted", message);
        findings.push(finding.hint("put it back before the program is started again"));
    }
    if process.started.is_overwritten {
        let message = "the process has written over the environment that it was started with: \
                       what is not found there may have been there";
        findings.push(Finding::new(
            Severity::Note,
            "environment-overwritten",
            message,
        ));
    }
    findings
}

fn not_mapped(process: &Process, severity: Severity) -> Finding {
    let message = match severity {
        Severity::Note => {
            "the shim is not mapped; the sockets have the option without it: the program sets \
             it itself, or another process did"
        }
        _ => "the shim is not mapped",
    };
    let finding = Finding::new(severity, "not-mapped", message);
    if severity == Severity::Note || !obstacles(process, severity).is_empty() {
        return finding;
    }
    let hint = if let Some(path) = process.missing_preloads.first() {
        let path = path.display();
        format!("{LD_PRELOAD} names {path}, which is not there, as the process sees it")
    } else if let Some(list) = process.started.preload() {
        let list = list.display();
        format!("it was started with {LD_PRELOAD}={list}; is that for another loader or machine?")
    } else if process.started.is_overwritten {
        format!("whether it was started with {LD_PRELOAD} cannot be known")
    } else {
        format!("it was started without {LD_PRELOAD}: start it by reuseport run, or inject")
    };
    finding.hint(hint)
}

/// Why the shim could not be mapped, whatever LD_PRELOAD says.
fn obstacles(process: &Process, severity: Severity) -> Vec<Finding> {
    let mut findings = Vec::new();
    if process.secure == Some(true) {
        let message = "the loader ran in secure mode, in which it ignores LD_PRELOAD";
        findings.push(Finding::new(severity, "secure-mode", message).hint(
            "the program is setuid, setgid or has file capabilities: start it as the user it \
             needs, with ambient capabilities",
        ));
    }
    let linkage = process.executable.elf.as_ref().map(|elf| &elf.linkage);
    if let Some(Linkage::Static | Linkage::StaticPie) = linkage {
        let message = "statically linked: no dynamic loader reads LD_PRELOAD";
        findings.push(Finding::new(severity, "static", message));
    }
    findings
}
