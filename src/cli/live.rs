//! `reuseport check --live`: tries a server, and says what came of it.

use std::env;
use std::ffi::OsString;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::report::escaped;
use super::rules::RuleFlags;
use super::run::place;
use crate::environment::Environment;
use crate::finding::{Finding, Severity, Verdict};
use crate::live::{self, Copy, Plan, Refusal, Report, ShimSource, State};
use crate::program::Judgement;
use crate::rules::Assignments;
use crate::shim;

/// The flags of a trial.
#[derive(Args, Debug)]
pub(super) struct Flags {
    /// Start CMD twice under the shim, apart from this machine, and see
    #[arg(long, requires = "command", conflicts_with_all = ["root", "targets", "pid"])]
    live: bool,
    /// How long both copies may take until they listen, in seconds [default: 10]
    #[arg(long, value_name = "SECS", value_parser = seconds)]
    timeout: Option<Duration>,
    /// Try it on this machine's own files, which CMD may change
    #[arg(long)]
    no_isolation: bool,
    #[command(flatten)]
    rules: RuleFlags,
}

/// A number of seconds, which may have a fraction.
fn seconds(text: &str) -> Result<Duration, String> {
    const LONGEST: f64 = 86_400.0;
    match text.parse() {
        Ok(seconds @ 0.1..=LONGEST) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("give a number of seconds from 0.1 to 86400".into()),
    }
}

impl Flags {
    /// What is asked for, if it is a trial.
    ///
    /// # Errors
    /// There are rules or limits, and no trial to which they could apply.
    pub(super) fn options(self) -> Result<Option<Options>, &'static str> {
        const TIMEOUT: Duration = Duration::from_secs(10);
        let rules = self.rules.assignments();
        if self.live {
            return Ok(Some(Options {
                rules,
                timeout: self.timeout.unwrap_or(TIMEOUT),
                is_isolated: !self.no_isolation,
            }));
        }
        if self.timeout.is_some() || self.no_isolation || rules.iter().next().is_some() {
            return Err("RULES, --timeout and --no-isolation are for a trial: \
                        reuseport check --live RULES -- CMD");
        }
        Ok(None)
    }
}

/// What a trial needs beside the command.
pub(super) struct Options {
    rules: Assignments,
    timeout: Duration,
    is_isolated: bool,
}

/// A trial, and what it amounts to.
pub(super) struct Trial {
    pub(super) report: Report,
    pub(super) verdict: Verdict,
    pub(super) findings: Vec<Finding>,
    /// Whether the output of the copies is of interest all the same.
    shows_output: bool,
}

/// Tries `command`, of which `judgement` was found.
///
/// # Errors
/// It could not be tried.
pub(super) fn try_command(
    command: &[OsString],
    judgement: &Judgement,
    options: &Options,
    environment: &Environment,
) -> Result<Trial, String> {
    let architecture = match judgement.architecture {
        Some(architecture) => architecture,
        None => shim::native().map_err(|error| error.to_string())?,
    };
    let first = judgement.chain.program();
    let plan = Plan {
        program: judgement
            .chain
            .links
            .first()
            .map_or(PathBuf::new(), |(path, _)| path.clone()),
        arguments: command.to_vec(),
        environment: options
            .rules
            .iter()
            .map(|(variable, value)| (variable.name().into(), value.to_owned()))
            .collect(),
        first: first.map_or(Vec::new(), |(_, elf)| elf.sanitizers()),
        shim: if options.is_isolated {
            ShimSource::Isolated(architecture.name.to_owned())
        } else {
            let path = place(architecture, environment);
            ShimSource::Host(path.map_err(|error| error.to_string())?)
        },
        timeout: options.timeout,
    };
    let report = live::run(&plan).map_err(|refusal| explain(&refusal))?;
    let (verdict, findings) = live::judge(&report);
    Ok(Trial {
        shows_output: verdict != Verdict::Works || env::var_os("LIBREUSEPORT_DEBUG").is_some(),
        report,
        verdict,
        findings,
    })
}

fn explain(refusal: &Refusal) -> String {
    let hint = &refusal.hint;
    let hint = if hint.is_empty() {
        String::new()
    } else {
        format!("\n{hint}")
    };
    format!("--live: {refusal}{hint}")
}

impl Trial {
    /// The verdict on the program: the trial's, or what is known without one
    /// where that leaves it open. Puts the findings together likewise.
    pub(super) fn merge(&self, judgement: &Judgement) -> (Verdict, Vec<Finding>) {
        let mut findings = self.findings.clone();
        let verdict = match (self.verdict, judgement.verdict()) {
            (Verdict::Uncertain, Verdict::Fails) => Verdict::Fails,
            (verdict, _) => verdict,
        };
        let worst = match verdict {
            Verdict::Works => Severity::Note,
            Verdict::Uncertain => Severity::Warning,
            Verdict::Fails => Severity::Error,
        };
        findings.extend(judgement.findings.iter().cloned().map(|mut one| {
            one.severity = one.severity.min(worst);
            one
        }));
        (verdict, findings)
    }

    /// Writes what people read, below the findings.
    pub(super) fn write(&self, text: &mut String) {
        self.write_sockets(text);
        for traffic in &self.report.traffic {
            let unit = if traffic.protocol == "tcp" {
                "connections"
            } else {
                "datagrams"
            };
            let sum = traffic.counts[0] + traffic.counts[1] + traffic.lost;
            let _ = writeln!(
                text,
                "  {sum} {unit} to {} {}:",
                traffic.protocol, traffic.address
            );
            for (index, count) in traffic.counts.iter().enumerate() {
                let _ = writeln!(
                    text,
                    "    copy {}  {count:>4}  {}",
                    index + 1,
                    bar(*count, sum)
                );
            }
            if traffic.lost > 0 {
                let _ = writeln!(text, "    neither {:>4}", traffic.lost);
            }
        }
        if !self.shows_output {
            return;
        }
        for (index, copy) in self.report.copies.iter().enumerate() {
            if !copy.output.is_empty() {
                let _ = writeln!(text, "  the last output of copy {}:", index + 1);
                for line in &copy.output {
                    let _ = writeln!(text, "    | {}", escaped(line));
                }
            }
        }
    }

    /// A line for each address, with what became of it in each copy.
    fn write_sockets(&self, text: &mut String) {
        let copies = &self.report.copies;
        let mut addresses: Vec<(&str, SocketAddr)> = Vec::new();
        for socket in copies.iter().flat_map(|copy| &copy.sockets) {
            let address = (socket.protocol.as_str(), socket.address);
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        for address in addresses {
            let state = |copy: &Copy| {
                let mut sockets = copy.sockets.iter();
                let own = sockets.find(|one| (one.protocol.as_str(), one.address) == address);
                own.map_or("never bound", |one| words(one.state))
            };
            let states = copies.iter().map(state).enumerate();
            let states: Vec<String> = states
                .map(|(index, state)| format!("copy {} {state}", index + 1))
                .collect();
            let (protocol, address) = address;
            let _ = writeln!(text, "  {protocol} {address}: {}", states.join(", "));
        }
    }

    /// The object `live` of `check --live --json`.
    pub(super) fn json(&self) -> Value {
        let copies = self.report.copies.iter().map(|copy| {
            let sockets = copy.sockets.iter().map(|socket| {
                json!({
                    "protocol": socket.protocol,
                    "address": socket.address.ip().to_string(),
                    "port": socket.address.port(),
                    "state": socket.state,
                })
            });
            json!({
                "exit": copy.exit,
                "sockets": sockets.collect::<Value>(),
                "output": copy.output,
            })
        });
        let traffic = self.report.traffic.iter().map(|traffic| {
            json!({
                "protocol": traffic.protocol,
                "address": traffic.address.ip().to_string(),
                "port": traffic.address.port(),
                "counts": traffic.counts,
                "lost": traffic.lost,
            })
        });
        json!({
            "copies": copies.collect::<Value>(),
            "traffic": traffic.collect::<Value>(),
        })
    }
}

/// A bar of up to 40 characters for `count` of `sum`.
fn bar(count: u32, sum: u32) -> String {
    const LONGEST: u32 = 40;
    let length = (count * LONGEST).div_ceil(sum.max(1));
    "#".repeat(length as usize)
}

fn words(state: State) -> &'static str {
    match state {
        State::Hooked => "hooked",
        State::SetsItself => "sets the option itself",
        State::Bypassed => "bypassed",
        State::OutsideRules => "outside the rules",
        State::Unknown => "unknown",
    }
}
