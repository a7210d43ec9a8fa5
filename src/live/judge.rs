//! What a trial amounts to.

use std::fmt::Write;

use super::{Copy, Report, Socket, State};
use crate::finding::{Finding, Severity, Verdict};

/// With fewer connections, one copy may get none by chance.
const ENOUGH: u32 = 30;

/// Judges a trial.
///
/// It works where both copies have the same sockets, with the option, and each
/// got a part of what came. It fails where a socket that the rules ask for
/// evidently lacks the option, where the second copy finds an address in use, or
/// gets nothing. Where a copy ends or does not bind, it is uncertain: it may miss
/// what it has on its own machine.
pub fn judge(report: &Report) -> (Verdict, Vec<Finding>) {
    let mut findings = Vec::new();
    bypassed(report, &mut findings);
    outside_rules(report, &mut findings);
    in_use(report, &mut findings);
    starved(report, &mut findings);
    if !findings.iter().any(|one| one.severity == Severity::Error) {
        unfinished(report, &mut findings);
    }
    for note in &report.notes {
        findings.push(Finding::new(Severity::Note, "trial", note));
    }
    let worst = findings.iter().map(|one| one.severity).max();
    let verdict = match worst {
        Some(Severity::Error) => Verdict::Fails,
        Some(Severity::Warning) => Verdict::Uncertain,
        Some(Severity::Note) | None => Verdict::Works,
    };
    (verdict, findings)
}

fn name(socket: &Socket) -> String {
    format!("{} {}", socket.protocol, socket.address)
}

/// The names of the sockets of all copies that are in `state`, each once.
fn names(report: &Report, state: State) -> Option<String> {
    const MOST: usize = 8;
    let mut names: Vec<String> = Vec::new();
    let sockets = report.copies.iter().flat_map(|copy| &copy.sockets);
    for socket in sockets.filter(|one| one.state == state) {
        let name = name(socket);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let mut text = names
        .iter()
        .take(MOST)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > MOST {
        let _ = write!(text, " and {} more", names.len() - MOST);
    }
    (!names.is_empty()).then_some(text)
}

fn bypassed(report: &Report, findings: &mut Vec<Finding>) {
    if let Some(names) = names(report, State::Bypassed) {
        let message = format!("SO_REUSEPORT is not set on {names}");
        let hint = "it binds past the C library's bind(2), or clears the option afterwards";
        findings.push(Finding::new(Severity::Error, "bypassed", message).hint(hint));
    }
    if let Some(names) = names(report, State::SetsItself) {
        let message = format!("the program sets SO_REUSEPORT on {names} without the shim");
        findings.push(Finding::new(Severity::Note, "sets-itself", message));
    }
    if let Some(names) = names(report, State::Unknown) {
        let message = format!("whether SO_REUSEPORT is set on {names} could not be read");
        findings.push(Finding::new(Severity::Warning, "option-unknown", message));
    }
}

/// Sockets that the rules leave out are an error where a second copy cannot have
/// them, or where there are no others.
fn outside_rules(report: &Report, findings: &mut Vec<Finding>) {
    let Some(names) = names(report, State::OutsideRules) else {
        return;
    };
    let first = report.copies.first();
    let all = first.is_some_and(|copy| {
        copy.sockets
            .iter()
            .all(|one| one.state == State::OutsideRules)
    });
    let is_missed = report.copies.get(1).is_some_and(|second| {
        let lacks = |one: &Socket| !second.sockets.iter().any(|two| name(one) == name(two));
        first.is_some_and(|first| {
            first
                .sockets
                .iter()
                .any(|one| one.state == State::OutsideRules && lacks(one))
        })
    });
    let message = format!("the rules leave out {names}");
    findings.push(if is_missed {
        let message = format!("{message}, which the second copy could not have");
        Finding::new(Severity::Error, "outside-rules", message).hint("add it to the rules")
    } else if all {
        let message = format!("{message}, and it bound nothing else");
        Finding::new(Severity::Error, "outside-rules", message).hint("change the rules")
    } else {
        Finding::new(Severity::Note, "outside-rules", message)
    });
}

/// Addresses that the second copy wanted and found in use.
fn in_use(report: &Report, findings: &mut Vec<Finding>) {
    let [first, second] = report.copies.as_slice() else {
        return;
    };
    // What even one copy alone does not get, it does without.
    let is_new = |failure: &&super::Failure| {
        failure.error == "EADDRINUSE" && !first.failures.contains(failure)
    };
    let mut addresses: Vec<&str> = Vec::new();
    for failure in second.failures.iter().filter(is_new) {
        let has = |copy: &Copy| {
            let mut sockets = copy.sockets.iter();
            sockets.any(|one| one.address.to_string() == failure.address)
        };
        if has(first) && !has(second) {
            addresses.push(&failure.address);
        }
    }
    let is_known = findings.iter().any(|one| one.severity == Severity::Error);
    if !addresses.is_empty() && !is_known {
        let message = format!(
            "the second copy got EADDRINUSE for {}",
            addresses.join(", ")
        );
        let hint = "both must run as the same user, and set the option before they bind";
        findings.push(Finding::new(Severity::Error, "address-in-use", message).hint(hint));
    }
}

fn starved(report: &Report, findings: &mut Vec<Finding>) {
    for traffic in &report.traffic {
        let (name, counts) = (
            format!("{} {}", traffic.protocol, traffic.address),
            traffic.counts,
        );
        let sum = counts[0] + counts[1];
        if sum >= ENOUGH && counts.contains(&0) {
            let message = format!(
                "{name}: one copy got all {sum} connections or datagrams, and the other none"
            );
            findings.push(Finding::new(Severity::Error, "starved", message));
        } else if sum < ENOUGH {
            let message = format!("{name}: only {sum} connections or datagrams came through");
            findings.push(Finding::new(Severity::Warning, "no-traffic", message));
        }
        for (copy, taken) in traffic.taken.iter().enumerate() {
            if !taken {
                let message = format!("{name}: copy {} does not take what waits for it", copy + 1);
                findings.push(Finding::new(Severity::Warning, "not-accepting", message));
            }
        }
    }
}

/// Copies that ended, or did not bind.
fn unfinished(report: &Report, findings: &mut Vec<Finding>) {
    for (index, copy) in report.copies.iter().enumerate() {
        let number = index + 1;
        let missing = match index {
            0 => Vec::new(),
            _ => missing(&report.copies[0], copy),
        };
        let mut found = |code, message: String, hint: &str| {
            findings.push(Finding::new(Severity::Warning, code, message).hint(hint));
        };
        if let Some(status) = copy.exit {
            let bound = if copy.sockets.is_empty() {
                " before it listened"
            } else {
                ""
            };
            let message = format!("copy {number} ended with status {status}{bound}");
            let hint = "it may miss here what it has on the machine (a network, another user), \
                        or be one that runs once: see its output";
            found("ended", message, hint);
        } else if copy.sockets.is_empty() {
            let message = format!("copy {number} has not bound any socket in time");
            found("never-bound", message, "give it more time: --timeout");
        } else if !missing.is_empty() {
            let message = format!("copy {number} has not bound {} in time", missing.join(", "));
            found("never-bound", message, "give it more time: --timeout");
        }
    }
}

/// The names of the sockets that `first` has and `second` has not.
fn missing(first: &Copy, second: &Copy) -> Vec<String> {
    let has = |one: &&Socket| second.sockets.iter().any(|two| name(one) == name(two));
    first
        .sockets
        .iter()
        .filter(|one| !has(one))
        .map(name)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Failure, Traffic};
    use super::*;

    fn copy(states: &[(u16, State)]) -> Copy {
        let socket = |(port, state): &(u16, State)| Socket {
            protocol: "tcp".into(),
            address: ([127, 0, 0, 1], *port).into(),
            state: *state,
        };
        Copy {
            sockets: states.iter().map(socket).collect(),
            ..Copy::default()
        }
    }

    fn judged(copies: [Copy; 2], counts: Option<[u32; 2]>) -> (Verdict, Vec<&'static str>) {
        let traffic = counts.map(|counts| Traffic {
            protocol: "tcp".into(),
            address: ([127, 0, 0, 1], 80).into(),
            counts,
            lost: 0,
            taken: [true; 2],
        });
        let report = Report {
            copies: copies.into(),
            traffic: traffic.into_iter().collect(),
            notes: Vec::new(),
        };
        let (verdict, findings) = judge(&report);
        (verdict, findings.iter().map(|one| one.code).collect())
    }

    #[test]
    fn both_hooked_and_served_works() {
        let hooked = copy(&[(80, State::Hooked)]);
        let both = [hooked.clone(), hooked];
        assert_eq!(
            judged(both.clone(), Some([90, 110])),
            (Verdict::Works, vec![])
        );
        assert_eq!(
            judged(both.clone(), Some([200, 0])),
            (Verdict::Fails, vec!["starved"])
        );
        assert_eq!(
            judged(both, Some([2, 0])),
            (Verdict::Uncertain, vec!["no-traffic"])
        );
    }

    #[test]
    fn a_socket_without_the_option_fails() {
        let first = copy(&[(80, State::Bypassed)]);
        let mut second = copy(&[]);
        second.exit = Some(1);
        assert_eq!(
            judged([first, second], None),
            (Verdict::Fails, vec!["bypassed"])
        );
    }

    #[test]
    fn sockets_outside_the_rules_fail_where_they_are_missed() {
        let first = copy(&[(80, State::Hooked), (81, State::OutsideRules)]);
        let second = copy(&[(80, State::Hooked)]);
        let lost = (Verdict::Fails, vec!["outside-rules"]);
        assert_eq!(judged([first.clone(), second], Some([99, 101])), lost);
        let kept = (Verdict::Works, vec!["outside-rules"]);
        assert_eq!(judged([first.clone(), first], Some([99, 101])), kept);
    }

    #[test]
    fn what_the_first_copy_does_without_is_no_conflict() {
        let failure = |address: &str| Failure {
            address: address.into(),
            error: "EADDRINUSE".into(),
        };
        let mut first = copy(&[(80, State::Hooked)]);
        let mut second = copy(&[]);
        first.failures = vec![failure("[::]:80")];
        second.failures = vec![failure("[::]:80")];
        second.exit = Some(1);
        let ended = (Verdict::Uncertain, vec!["ended"]);
        assert_eq!(judged([first.clone(), second.clone()], None), ended);
        second.failures.push(failure("127.0.0.1:80"));
        let in_use = (Verdict::Fails, vec!["address-in-use"]);
        assert_eq!(judged([first, second], None), in_use);
    }
}
