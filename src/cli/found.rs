//! What `check` says of one target, to people and to machines.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::report::{findings_json, program_json, write_findings, write_verdict};
use super::status;
use crate::finding::{Finding, Severity, Verdict};
use crate::program::{Broken, Judgement, Link};
use crate::shim::{self, Architecture};

/// What was found of a target, which may start several programs.
pub(super) struct Found {
    pub(super) target: String,
    pub(super) judgements: Vec<Judgement>,
    pub(super) verdict: Verdict,
    pub(super) findings: Vec<Finding>,
    /// What stands below the findings.
    pub(super) more: String,
    /// Further members of the JSON object.
    pub(super) facts: Map<String, Value>,
}

impl Found {
    /// What the judgements of `target` amount to, with `findings` beside them.
    pub(super) fn new(
        target: String,
        judgements: Vec<Judgement>,
        mut findings: Vec<Finding>,
    ) -> Self {
        for one in judgements.iter().flat_map(|one| &one.findings) {
            if !findings.contains(one) {
                findings.push(one.clone());
            }
        }
        let worst = findings.iter().map(|one| one.severity).max();
        Self {
            target,
            judgements,
            verdict: match worst {
                Some(Severity::Error) => Verdict::Fails,
                Some(Severity::Warning) => Verdict::Uncertain,
                Some(Severity::Note) | None => Verdict::Works,
            },
            findings,
            more: String::new(),
            facts: Map::new(),
        }
    }

    /// The architecture of the first program that has a shim; else this one's.
    ///
    /// # Errors
    /// There is no shim for this machine.
    pub(super) fn architecture(&self) -> Result<&'static Architecture, shim::NoShim> {
        let found = self.judgements.iter().find_map(|one| one.architecture);
        found.map_or_else(shim::native, Ok)
    }

    /// The libraries that must be loaded before the shim.
    pub(super) fn first(&self) -> Vec<std::ffi::OsString> {
        let programs = self.judgements.iter().filter_map(|one| one.chain.program());
        programs.flat_map(|(_, elf)| elf.sanitizers()).collect()
    }

    pub(super) fn is_no_program(&self) -> bool {
        let broken = |one: &Judgement| {
            let broken = one.chain.broken.as_ref();
            broken.is_some_and(Broken::is_no_program)
        };
        self.judgements.iter().any(broken)
    }

    /// A target that is no program at all is the call's fault.
    pub(super) fn exit_status(&self, strict: bool) -> u8 {
        match self.verdict {
            _ if self.is_no_program() => status::FAULT,
            Verdict::Works => status::DONE,
            Verdict::Uncertain if strict => status::NO,
            Verdict::Uncertain => status::DONE,
            Verdict::Fails => status::NO,
        }
    }

    pub(super) fn write(&self, text: &mut String) {
        write_verdict(text, &self.target, self.verdict, "");
        write_findings(text, &self.findings);
        let _ = write!(text, "{}", self.more);
    }

    /// The object of DESIGN's `check --json`.
    pub(super) fn json(&self) -> Value {
        let links = self.judgements.iter().flat_map(|one| &one.chain.links);
        let paths: Vec<_> = links.map(|(path, _)| path.to_string_lossy()).collect();
        let mut object = json!({
            "target": self.target,
            "verdict": self.verdict.name(),
            "program": self.program(),
            "chain": paths,
            "findings": findings_json(&self.findings),
        });
        if let Some(members) = object.as_object_mut() {
            members.extend(self.facts.clone());
        }
        object
    }

    /// The file that the target names.
    fn program(&self) -> Option<Value> {
        let first = self.judgements.first()?.chain.links.first();
        first.map(|(path, link)| match link {
            Link::Script(interpreter) => json!({
                "path": path.to_string_lossy(),
                "kind": "script",
                "arch": null,
                "libc": null,
                "interpreter": interpreter.path.to_string_lossy(),
            }),
            Link::Wrapper(elf) | Link::Program(elf) => program_json(path, Some(elf)),
        })
    }
}
