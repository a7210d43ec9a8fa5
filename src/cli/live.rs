//! `reuseport check --live`: tries a server, and says what came of it.

use std::env;
use std::ffi::OsString;
use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::found::Found;
use super::report::escaped;
use super::rules::RuleFlags;
use super::run::place;
use crate::environment::Environment;
use crate::finding::{Finding, Severity, Verdict};
use crate::live::{self, Copy, Plan, Refusal, Report, ShimSource, State};
use crate::rules::{Assignments, Variable};

/// The flags of a trial.
#[derive(Args, Debug)]
pub(super) struct Flags {
    /// Start CMD twice under the shim, apart from this machine, and see
    #[arg(long, conflicts_with_all = ["root", "pid"])]
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
    /// There are rules or limits, and no trial to which they could apply; or a
    /// trial, and no command line.
    pub(super) fn options(self, has_command: bool) -> Result<Option<Options>, &'static str> {
        const TIMEOUT: Duration = Duration::from_secs(10);
        let rules = self.rules.assignments();
        if self.live && !has_command {
            return Err("--live tries a command line, which stands after --: \
                        reuseport check --live RULES -- CMD");
        }
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
struct Trial {
    report: Report,
    verdict: Verdict,
    findings: Vec<Finding>,
    /// Whether the output of the copies is of interest all the same.
    shows_output: bool,
}

impl Options {
    /// Tries `command`, of which `found` is known, and adds what came of it;
    /// unless it cannot be started at all.
    ///
    /// # Errors
    /// It could not be tried.
    pub(super) fn try_command(
        &self,
        command: &[OsString],
        found: &mut Found,
        environment: &Environment,
    ) -> Result<(), String> {
        let Some((program, _)) = found
            .judgements
            .first()
            .and_then(|one| one.chain.links.first())
        else {
            return Ok(());
        };
        if found.is_no_program() {
            return Ok(());
        }
        let architecture = found.architecture().map_err(|error| error.to_string())?;
        let rules = self.rules.iter();
        let rules = rules.map(|(variable, value)| (variable.name().into(), value.to_owned()));
        let plan = Plan {
            program: program.clone(),
            arguments: command.to_vec(),
            environment: rules.collect(),
            first: found.first(),
            shim: if self.is_isolated {
                ShimSource::Isolated(architecture.name.to_owned())
            } else {
                let path = place(architecture, environment);
                ShimSource::Host(path.map_err(|error| error.to_string())?)
            },
            timeout: self.timeout,
        };
        let report = live::run(&plan).map_err(|refusal| explain(&refusal))?;
        let (verdict, findings) = live::judge(&report);
        let trial = Trial {
            shows_output: verdict != Verdict::Works || self.shows_output(),
            report,
            verdict,
            findings,
        };
        trial.add_to(found);
        Ok(())
    }

    fn shows_output(&self) -> bool {
        self.rules.get(Variable::Debug).is_some() || env::var_os(Variable::Debug.name()).is_some()
    }
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
    /// The verdict is the trial's, or what is known without one where that leaves
    /// it open.
    fn add_to(&self, found: &mut Found) {
        found.verdict = match (self.verdict, found.verdict) {
            (Verdict::Uncertain, Verdict::Fails) => Verdict::Fails,
            (verdict, _) => verdict,
        };
        let worst = match found.verdict {
            Verdict::Works => Severity::Note,
            Verdict::Uncertain => Severity::Warning,
            Verdict::Fails => Severity::Error,
        };
        for one in &mut found.findings {
            one.severity = one.severity.min(worst);
            // How to find out: that has just been done.
            one.hint = one
                .hint
                .take()
                .filter(|hint| !hint.contains("check --live"));
        }
        found.findings.splice(0..0, self.findings.iter().cloned());
        self.write(&mut found.more);
        found.facts.insert("live".into(), self.json());
    }

    /// Writes what people read, below the findings.
    fn write(&self, text: &mut String) {
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
    fn json(&self) -> Value {
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
