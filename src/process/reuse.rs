//! What is found of a process's sockets, and of others at the same addresses.

use std::fmt::{self, Display, Write};
use std::net::SocketAddr;

use super::Process;
use super::neighbour::{Neighbour, Relation};
use super::socket::{Inherited, Socket};
use super::standing::{self, Standing};
use super::table::Protocol;
use crate::finding::Verdict;
use crate::finding::{Finding, Severity};

/// The findings about the process's own sockets.
pub(super) fn findings(
    process: &Process,
    standings: &[(&Socket, Standing)],
    verdict: Verdict,
) -> Vec<Finding> {
    if standings.is_empty() {
        let message = "it has no inet socket that is bound";
        let hint = "it may bind later, or another process does: look at that one";
        return vec![Finding::new(Severity::Warning, "no-bind", message).hint(hint)];
    }
    let mut findings = lacking(process, standings);
    findings.extend(left_out(process, standings, verdict));
    findings.extend(undecided(process, standings, verdict));
    findings
}

/// The names of those of `sockets` for which `test` holds, if there are any.
fn names(
    sockets: &[(&Socket, Standing)],
    test: impl Fn(&Socket, &Standing) -> bool,
) -> Option<String> {
    let chosen = sockets.iter().filter(|(one, standing)| test(one, standing));
    let names: Vec<_> = chosen
        .map(|(one, _)| Name(one.protocol, &one.address))
        .collect();
    (!names.is_empty()).then(|| List(&names).to_string())
}

/// Those that should have the option, and do not: by who bound them.
fn lacking(process: &Process, sockets: &[(&Socket, Standing)]) -> Vec<Finding> {
    let mut origins: Vec<Option<Inherited>> = Vec::new();
    for (socket, standing) in sockets {
        if *standing == Standing::Lacks && !origins.contains(&socket.inherited) {
            origins.push(socket.inherited);
        }
    }
    let is_explained =
        process.shims.mapped.is_empty() || matches!(standing::rules(process), Some(Err(_)));
    let finding = |origin: Option<Inherited>| {
        let is_meant = |socket: &Socket, standing: &Standing| {
            *standing == Standing::Lacks && socket.inherited == origin
        };
        let message = format!(
            "SO_REUSEPORT is not set on {}",
            names(sockets, is_meant).unwrap_or_default()
        );
        let error = |code, message: String| Finding::new(Severity::Error, code, message);
        match origin {
            None if is_explained => error("option-not-set", message),
            None => error("option-not-set", message).hint(
                "the program binds without calling bind(2) of the C library, has cleared the \
                 option, or did not bind it: LIBREUSEPORT_DEBUG=1 shows each bind",
            ),
            Some(Inherited::Passed) => error(
                "inherited",
                format!("{message}, which its service manager bound (LISTEN_FDS)"),
            )
            .hint("set ReusePort=yes in the .socket unit"),
            Some(Inherited::Parent(parent)) => error(
                "inherited",
                format!("{message}, which its parent {parent} has too, without the shim"),
            )
            .hint("start the parent under the shim"),
        }
    };
    origins.into_iter().map(finding).collect()
}

/// Those that the rules leave out, and rules that do not parse.
fn left_out(process: &Process, sockets: &[(&Socket, Standing)], verdict: Verdict) -> Vec<Finding> {
    let decides = |otherwise| match verdict {
        Verdict::Fails => Severity::Error,
        _ => otherwise,
    };
    let mut reasons: Vec<&str> = Vec::new();
    for reason in sockets.iter().filter_map(|(_, standing)| standing.reason()) {
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    let finding = |reason: &str| {
        let names = names(sockets, |_, one| one.reason() == Some(reason)).unwrap_or_default();
        let message = format!("SO_REUSEPORT is not set on {names}: {reason}");
        Finding::new(decides(Severity::Note), "not-selected", message)
    };
    let mut findings: Vec<_> = reasons.into_iter().map(finding).collect();
    if !process.shims.mapped.is_empty()
        && let Some(Err(invalid)) = standing::rules(process)
    {
        let variable = invalid.invalid.variable.name();
        let message = format!("the shim stands down: {variable}: {invalid}");
        findings.push(Finding::new(
            decides(Severity::Warning),
            "rules-do-not-parse",
            message,
        ));
    }
    findings
}

/// Those that prove nothing.
fn undecided(process: &Process, sockets: &[(&Socket, Standing)], verdict: Verdict) -> Vec<Finding> {
    let severity = match verdict {
        Verdict::Works => Severity::Note,
        _ => Severity::Warning,
    };
    let mut findings = Vec::new();
    // The reason is one of this process's rights, and so the same for all.
    let why = sockets.iter().find_map(|(_, standing)| match standing {
        Standing::Hidden(why) => Some(why),
        _ => None,
    });
    if let Some(why) = why {
        let names = names(sockets, |_, one| matches!(one, Standing::Hidden(_)));
        let names = names.unwrap_or_default();
        let message = format!("whether SO_REUSEPORT is set on {names} cannot be read: {why}");
        let finding = Finding::new(Severity::Warning, "option-unreadable", message);
        findings.push(finding.hint("root on the host can read it"));
    }
    if let Some(names) = names(sockets, |_, one| *one == Standing::Silent) {
        let message = format!("SO_REUSEPORT is not set on {names}, bound and not listening");
        findings.push(Finding::new(severity, "not-listening", message));
    }
    if let Some(names) = names(sockets, |_, one| *one == Standing::Ephemeral) {
        let (first, last) = process.ephemeral.clone().into_inner();
        let message = format!(
            "SO_REUSEPORT is not known to be set on {names}, and need not be if the kernel chose \
             the port, as it does from {first} to {last}"
        );
        findings.push(Finding::new(severity, "ephemeral-port", message));
    }
    findings
}

/// The findings about the sockets of others: one for each own address and
/// relation.
pub(super) fn neighbours(neighbours: &[Neighbour]) -> Vec<Finding> {
    let mut findings: Vec<(&Neighbour, Vec<String>)> = Vec::new();
    for one in neighbours {
        let same = |(other, _): &&mut (&Neighbour, Vec<String>)| {
            (other.protocol, other.own, other.relation) == (one.protocol, one.own, one.relation)
        };
        match findings.iter_mut().find(same) {
            Some((_, all)) => all.push(describe(one)),
            None => findings.push((one, vec![describe(one)])),
        }
    }
    let finding = |(one, all): (&Neighbour, Vec<String>)| {
        let own = Name(one.protocol, &one.own);
        let others = List(&all);
        match one.relation {
            Relation::Shares => Finding::new(
                Severity::Note,
                "shared",
                format!("{own} is shared with {} more: {others}", all.len()),
            ),
            Relation::TakesPart => Finding::new(
                Severity::Warning,
                "partly-taken",
                format!("{own} gets nothing of what comes to {others}"),
            )
            .hint("only sockets of the same address share: let all bind one"),
        }
    };
    findings.into_iter().map(finding).collect()
}

fn describe(one: &Neighbour) -> String {
    let mut text = String::new();
    if one.relation == Relation::TakesPart {
        let _ = write!(text, "{} of ", Name(one.protocol, &one.address));
    }
    let _ = write!(text, "the user {}", one.user);
    for (index, holder) in one.holders.iter().take(MOST_NAMED).enumerate() {
        let before = if index == 0 { " (" } else { ", " };
        let _ = write!(text, "{before}{} {}", holder.pid, holder.name);
    }
    match one.holders.len() {
        0 => {}
        count if count > MOST_NAMED => text.push_str(", ...)"),
        _ => text.push(')'),
    }
    text
}

/// How many of a list are named.
const MOST_NAMED: usize = 8;

/// A list that names the first few.
struct List<'a, T>(&'a [T]);

impl<T: Display> Display for List<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, item) in self.0.iter().take(MOST_NAMED).enumerate() {
            let before = if index == 0 { "" } else { ", " };
            write!(f, "{before}{item}")?;
        }
        match self.0.len().checked_sub(MOST_NAMED) {
            Some(more @ 1..) => write!(f, " and {more} more"),
            _ => Ok(()),
        }
    }
}

/// An address with its protocol.
struct Name<'a>(Protocol, &'a SocketAddr);

impl Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.1)
    }
}
