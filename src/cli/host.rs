//! What the commands share that leave images alone: the shim lies on the host,
//! and what starts a server is told of it.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use super::report::{escaped, findings_json, write_findings, write_verdict};
use super::{complain, status};
use crate::finding::{Finding, Severity, Verdict};
use crate::program::{Judgement, Root};
use crate::shim::{self, Architecture, Rejection};

/// Where the shim lies by convention.
pub(super) const SHIM_PATH: &str = "/opt/reuseport/libreuseport.so";

/// The flags of these commands.
#[derive(Args, Debug)]
pub(super) struct HostFlags {
    /// The shim on this host, for bundles and units [default: /opt/reuseport/libreuseport.so]
    #[arg(long, value_name = "FILE", value_parser = shim_path)]
    pub(super) shim_path: Option<PathBuf>,
}

impl HostFlags {
    pub(super) fn shim(&self) -> &Path {
        self.shim_path.as_deref().unwrap_or(Path::new(SHIM_PATH))
    }
}

/// The path of a shim: absolute, under the name that it has everywhere, and such
/// that LD_PRELOAD can hold it.
pub(super) fn shim_path(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if !path.is_absolute() {
        return Err("give an absolute path".into());
    }
    if path.file_name() != Some(shim::FILE_NAME.as_ref()) {
        return Err(format!("its name must be {}", shim::FILE_NAME));
    }
    if !crate::preload::can_name(&path) {
        return Err("LD_PRELOAD cannot hold a space, a colon or a dollar sign".into());
    }
    Ok(path)
}

/// Looks whether the shim for `architecture` lies at `path` of `root`, such that
/// a server can map it.
///
/// # Errors
/// What is wrong, and how to put it right.
pub(super) fn check_shim(
    root: &Root,
    path: &Path,
    architecture: &Architecture,
) -> Result<(), String> {
    let found = if root.is_host() {
        let user = rustix::process::geteuid().as_raw();
        shim::check_installed(path, architecture, user)
    } else {
        let file = root.open(path).map_err(Rejection::Io);
        file.and_then(|file| shim::check_content(file, architecture))
    };
    found.map_err(|why| {
        let directory = path.parent().unwrap_or(path).display();
        let other = if architecture.name == std::env::consts::ARCH {
            String::new()
        } else {
            format!("--arch {} ", architecture.name)
        };
        format!(
            "{}: {why}; put it there: reuseport install {other}{directory}, or name it with --shim-path",
            path.display()
        )
    })
}

/// What was found of what a bundle or a unit starts.
pub(super) struct Found {
    pub(super) target: String,
    pub(super) judgements: Vec<Judgement>,
    /// What was found beside.
    pub(super) findings: Vec<Finding>,
}

impl Found {
    pub(super) fn verdict(&self) -> Verdict {
        let judged = self.judgements.iter().flat_map(|one| &one.findings);
        let worst = judged.chain(&self.findings).map(|one| one.severity).max();
        match worst {
            Some(Severity::Error) => Verdict::Fails,
            Some(Severity::Warning) => Verdict::Uncertain,
            Some(Severity::Note) | None => Verdict::Works,
        }
    }

    /// All findings, each once.
    pub(super) fn all(&self) -> Vec<Finding> {
        let judged = self.judgements.iter().flat_map(|one| &one.findings);
        let mut all: Vec<Finding> = Vec::new();
        for one in judged.chain(&self.findings) {
            if !all.contains(one) {
                all.push(one.clone());
            }
        }
        all
    }

    /// The architecture of the first program that has a shim; else this one's.
    pub(super) fn architecture(&self) -> Result<&'static Architecture, shim::NoShim> {
        let found = self.judgements.iter().find_map(|one| one.architecture);
        found.map_or_else(shim::native, Ok)
    }

    /// The libraries that must be loaded before the shim.
    pub(super) fn first(&self) -> Vec<std::ffi::OsString> {
        let programs = self.judgements.iter().filter_map(|one| one.chain.program());
        programs.flat_map(|(_, elf)| elf.sanitizers()).collect()
    }

    /// Says on standard error what was found, unless all is well. Gives whether
    /// to go on.
    pub(super) fn say(&self, is_forced: bool) -> bool {
        let verdict = self.verdict();
        if verdict == Verdict::Works {
            return true;
        }
        let mut text = String::new();
        write_verdict(&mut text, &self.target, verdict, "");
        write_findings(&mut text, &self.all());
        let _ = write!(anstream::stderr(), "{text}");
        if verdict == Verdict::Fails && !is_forced {
            let target = escaped(&self.target);
            let message =
                format!("{target}: the shim would not act there; --force puts it in all the same");
            complain(&message, status::NO);
            return false;
        }
        true
    }

    /// The object of `check --json`.
    pub(super) fn json(&self) -> Value {
        let chain = self.judgements.iter().flat_map(|one| &one.chain.links);
        let chain: Vec<_> = chain.map(|(path, _)| path.to_string_lossy()).collect();
        let program = self.judgements.first().and_then(super::check::program);
        serde_json::json!({
            "target": self.target,
            "verdict": self.verdict().name(),
            "program": program,
            "chain": chain,
            "findings": findings_json(&self.all()),
        })
    }
}
