//! Whether what was read of a process proves that the shim works in it.

use super::socket::Socket;
use super::standing::{self, Standing};
use super::{Process, presence, reuse};
use crate::finding::{Finding, Verdict};

/// Judges `process`.
///
/// It works where the shim is mapped and each socket that should have the option
/// has it; and where the shim is not mapped but each has it all the same. It fails
/// where a socket evidently lacks it, and where the shim is not mapped and no
/// socket evidently has it. Where there is no such socket, or none that may be
/// asked, it is uncertain.
pub fn judge(process: &Process) -> (Verdict, Vec<Finding>) {
    let standings = standing::of(process);
    let verdict = verdict(process, &standings);
    let mut findings = presence::findings(process, verdict);
    findings.extend(reuse::findings(process, &standings, verdict));
    findings.extend(reuse::neighbours(&process.neighbours));
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    (verdict, findings)
}

fn verdict(process: &Process, standings: &[(&Socket, Standing)]) -> Verdict {
    let any = |test: fn(&Standing) -> bool| standings.iter().any(|(_, standing)| test(standing));
    let lacks = any(|one| matches!(one, Standing::Lacks));
    let has = any(|one| matches!(one, Standing::Has));
    let unknown = any(|one| matches!(one, Standing::Hidden(_) | Standing::Silent));
    let left_out = any(|one| matches!(one, Standing::LeftOut(_)));
    let is_absent = process.shims.mapped.is_empty() && process.shims.unread.is_empty();
    if lacks || (is_absent && unknown) || (left_out && !has && !unknown) {
        Verdict::Fails
    } else if has && !unknown {
        Verdict::Works
    } else {
        Verdict::Uncertain
    }
}
