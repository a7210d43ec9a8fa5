//! Whether a seccomp profile allows the system calls of the shim: see the OCI runtime
//! specification, "Seccomp". Which rule wins is libseccomp's, to which runc and crun
//! give them.

use serde_json::Value;

use crate::finding::{Finding, Severity};

/// What becomes of a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Allowed,
    Forbidden,
    /// What is not known of its arguments decides.
    Depends,
}

/// The system calls, with those of their arguments that are known: the level
/// SOL_SOCKET, and the option SO_REUSEPORT.
const CALLS: [(&str, &[(u64, u64)]); 2] = [
    ("setsockopt", &[(1, 1), (2, 15)]),
    ("getsockopt", &[(1, 1)]),
];

/// What `seccomp`, `linux.seccomp` of a bundle, does to the shim.
pub(super) fn judge(seccomp: &Value) -> Option<Finding> {
    if !seccomp.is_object() {
        return None;
    }
    let answers = CALLS.map(|(call, known)| (call, answer(seccomp, call, known)));
    let find = |wanted| answers.iter().find(|(_, answer)| *answer == wanted);
    let (severity, message) = if let Some((call, _)) = find(Answer::Forbidden) {
        let message = format!("linux.seccomp forbids {call}, which the shim calls");
        (Severity::Error, message)
    } else {
        let (call, _) = find(Answer::Depends)?;
        let message = format!("linux.seccomp allows {call}, which the shim calls, in some cases");
        (Severity::Warning, message)
    };
    Some(Finding::new(severity, "syscall-filter", message).hint("allow it there"))
}

fn answer(seccomp: &Value, call: &str, known: &[(u64, u64)]) -> Answer {
    let default = &seccomp["defaultAction"];
    let rules = seccomp["syscalls"].as_array().into_iter().flatten();
    // libseccomp takes no rule that does what is done anyway.
    let rules = rules.filter(|rule| rule["action"] != *default);
    let rules: Vec<_> = rules
        .filter(|rule| {
            let names = rule["names"].as_array();
            names.into_iter().flatten().any(|name| name == call)
        })
        .collect();
    // One without arguments takes the place of all others, and the first one stays.
    if let Some(rule) = rules.iter().find(|rule| arguments(rule).is_empty()) {
        return of_action(&rule["action"]);
    }
    let mut answers = Vec::new();
    let mut is_certain = false;
    for rule in rules {
        match applies(rule, known) {
            Some(false) => continue,
            Some(true) => is_certain = true,
            None => {}
        }
        answers.push(of_action(&rule["action"]));
    }
    if !is_certain {
        answers.push(of_action(default));
    }
    let first = answers[0];
    if answers.iter().all(|one| *one == first) {
        first
    } else {
        Answer::Depends
    }
}

fn of_action(action: &Value) -> Answer {
    match action.as_str() {
        Some("SCMP_ACT_ALLOW" | "SCMP_ACT_LOG") => Answer::Allowed,
        // Another process decides.
        Some("SCMP_ACT_NOTIFY" | "SCMP_ACT_TRACE") => Answer::Depends,
        _ => Answer::Forbidden,
    }
}

fn arguments(rule: &Value) -> &[Value] {
    rule["args"].as_array().map_or(&[], Vec::as_slice)
}

/// Whether `rule`, which has arguments, is for the call; `None` where an argument
/// that is not known decides.
fn applies(rule: &Value, known: &[(u64, u64)]) -> Option<bool> {
    let arguments = arguments(rule);
    let index = |argument: &Value| argument["index"].as_u64();
    let holds = |argument: &Value| {
        let number = |name: &str| argument[name].as_u64().unwrap_or(0);
        let (_, is) = known.iter().find(|(at, _)| Some(*at) == index(argument))?;
        let value = number("value");
        Some(match argument["op"].as_str()? {
            "SCMP_CMP_NE" => *is != value,
            "SCMP_CMP_LT" => *is < value,
            "SCMP_CMP_LE" => *is <= value,
            "SCMP_CMP_EQ" => *is == value,
            "SCMP_CMP_GE" => *is >= value,
            "SCMP_CMP_GT" => *is > value,
            "SCMP_CMP_MASKED_EQ" => is & value == number("valueTwo"),
            _ => return None,
        })
    };
    // Two that look at the same argument are a rule each, for the runtimes.
    let is_any = arguments.iter().enumerate().any(|(at, one)| {
        arguments[..at]
            .iter()
            .any(|other| index(other) == index(one))
    });
    let answers: Vec<_> = arguments.iter().map(holds).collect();
    let decides = Some(is_any);
    if answers.contains(&decides) {
        decides
    } else if answers.contains(&None) {
        None
    } else {
        Some(!is_any)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What is found of rules for setsockopt and getsockopt, where `default` is the
    /// default action.
    fn severity(default: &str, rules: &[(&str, Value)]) -> Option<Severity> {
        let rules = rules.iter().map(|(action, arguments)| {
            let names = ["bind", "setsockopt", "getsockopt"];
            json!({"names": names, "action": action, "args": arguments})
        });
        let rules: Vec<_> = rules.collect();
        let found = judge(&json!({"defaultAction": default, "syscalls": rules}));
        found.map(|finding| finding.severity)
    }

    #[test]
    fn arguments_decide_where_they_are_known() {
        const ALLOW: &str = "SCMP_ACT_ALLOW";
        const DENY: &str = "SCMP_ACT_ERRNO";
        const KILL: &str = "SCMP_ACT_KILL_PROCESS";
        let error = Some(Severity::Error);
        let warning = Some(Severity::Warning);
        let argument = |index: u64, value: u64, op: &str| json!({"index": index, "value": value, "op": format!("SCMP_CMP_{op}")});
        // An agent decides.
        let agent = ("SCMP_ACT_NOTIFY", json!([]));
        assert_eq!(severity(DENY, &[agent]), warning);
        let level = |value| json!([argument(1, value, "EQ")]);
        for (default, rules, expected) in [
            (ALLOW, vec![], None),
            (DENY, vec![], error),
            (DENY, vec![(ALLOW, json!([]))], None),
            (DENY, vec![(ALLOW, json!(null))], None),
            // The first one without arguments, and before all that have some.
            (ALLOW, vec![(DENY, json!([])), (KILL, json!([]))], error),
            (DENY, vec![(ALLOW, json!([])), (KILL, level(1))], None),
            (DENY, vec![(KILL, level(1)), (ALLOW, json!([]))], None),
            (DENY, vec![(ALLOW, json!([])), (DENY, json!([]))], None),
            // By SOL_SOCKET, or another level.
            (DENY, vec![(ALLOW, level(1))], None),
            (DENY, vec![(ALLOW, level(6))], error),
            (ALLOW, vec![(DENY, level(6))], None),
            (ALLOW, vec![(DENY, level(1))], error),
            (
                ALLOW,
                vec![(DENY, json!([argument(1, 6, "EQ"), argument(1, 0, "EQ")]))],
                None,
            ),
            (
                DENY,
                vec![(ALLOW, json!([argument(1, 6, "EQ"), argument(1, 1, "EQ")]))],
                None,
            ),
            // By the socket's number, which nobody knows.
            (ALLOW, vec![(DENY, json!([argument(0, 3, "GT")]))], warning),
            (
                ALLOW,
                vec![(DENY, json!([argument(0, 3, "GT"), argument(1, 6, "EQ")]))],
                None,
            ),
            (DENY, vec![(KILL, json!([argument(0, 3, "GT")]))], error),
            (
                KILL,
                vec![(DENY, level(1)), (ALLOW, json!([argument(0, 3, "LE")]))],
                warning,
            ),
        ] {
            assert_eq!(severity(default, &rules), expected, "{default} {rules:?}");
        }
    }

    #[test]
    fn the_option_counts_where_it_is_set() {
        let is = |value: u64, op: &str| {
            let argument = json!([{"index": 2, "value": value, "valueTwo": 8, "op": op}]);
            applies(&json!({"args": argument}), CALLS[0].1)
        };
        assert_eq!(is(15, "SCMP_CMP_EQ"), Some(true));
        assert_eq!(is(15, "SCMP_CMP_NE"), Some(false));
        assert_eq!(is(15, "SCMP_CMP_LT"), Some(false));
        assert_eq!(is(15, "SCMP_CMP_LE"), Some(true));
        assert_eq!(is(25, "SCMP_CMP_GE"), Some(false));
        assert_eq!(is(2, "SCMP_CMP_GT"), Some(true));
        assert_eq!(is(8, "SCMP_CMP_MASKED_EQ"), Some(true));
        assert_eq!(is(8, "SCMP_CMP_OTHER"), None);
    }
}
