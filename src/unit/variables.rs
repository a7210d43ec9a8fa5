//! What takes our variables away again, or sets them anew.

use std::io;
use std::path::Path;

use super::dropin::DROP_IN;
use super::environment::{self, EnvironmentFile};
use super::judge::error;
use super::load::Unit;
use super::sandbox::NAME_INSTANCE;
use super::specifier::expand;
use super::syntax;
use crate::finding::{Finding, Severity};
use crate::preload::LD_PRELOAD;
use crate::program::Root;
use crate::rules::Variable;

/// What pam_env(8) sets for all sessions.
const SESSIONS: &str = "/etc/environment";

/// Looks at what `unit` of `root` and `files`, those of EnvironmentFile=, do to them; the shim
/// lies at `shim`.
pub(super) fn keep_variables(
    unit: &Unit,
    root: &Root,
    shim: &Path,
    files: &[EnvironmentFile<'_>],
    findings: &mut Vec<Finding>,
) {
    let has_shim = |value: &str| has_shim(value, shim);
    let is_rule = |name: &str| Variable::ALL.iter().any(|one| one.name() == name);
    for (word, setting) in unit.words("UnsetEnvironment") {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word.as_str(), None),
        };
        let hint = "take it out of that list: in a drop-in, UnsetEnvironment= empties it";
        if name == LD_PRELOAD && value.is_none_or(has_shim) {
            let what = "takes LD_PRELOAD away";
            findings.push(error("scrubbed-environment", setting, what, hint));
        } else if is_rule(name) && value.is_none() {
            let what = format!("takes {name} away");
            findings.push(warn(error("rule-overridden", setting, &what, hint)));
        }
    }
    for EnvironmentFile {
        setting,
        path,
        assignments,
        error: failure,
    } in files
    {
        let path = path.display();
        if let Some(failure) = failure {
            let what = format!("cannot be read, and may set LD_PRELOAD: {path}: {failure}");
            let hint = if failure.kind() == io::ErrorKind::PermissionDenied {
                "ask as root, or as a user who may"
            } else {
                "see for yourself that it does not"
            };
            findings.push(warn(error("preload-overridden", setting, &what, hint)));
        }
        for one in assignments {
            let what = format!(
                "wins over Environment=, and sets {}: {path}:{}",
                one.name, one.line
            );
            if one.name == LD_PRELOAD && !has_shim(&one.value) {
                let hint = format!("add {} to LD_PRELOAD there, or take it out", shim.display());
                findings.push(error("preload-overridden", setting, &what, &hint));
            } else if is_rule(&one.name) {
                let hint = "say there what it is to be, or take it out";
                findings.push(warn(error("rule-overridden", setting, &what, hint)));
            }
        }
    }
    for (word, setting) in unit.words("EnvironmentFile") {
        if let Err(unknown) = expand(unit, &word) {
            let what = format!("depends on {}, and may set LD_PRELOAD", unknown.0);
            findings.push(warn(error(
                "unknown-specifier",
                setting,
                &what,
                NAME_INSTANCE,
            )));
        }
    }
    for (word, setting) in unit.words("PassEnvironment") {
        if word == LD_PRELOAD {
            let what = "is without effect: Environment= wins";
            let mut finding = error("preload-already-set", setting, what, "");
            finding.severity = Severity::Note;
            finding.hint = Some("put what it holds into Environment=LD_PRELOAD=".into());
            findings.push(finding);
        }
    }
    findings.extend(see_session(unit, root, shim));
    for setting in &unit.settings {
        let is_later = setting.path.file_name().is_some_and(|name| name > DROP_IN)
            && setting.path != unit.path;
        if !is_later || setting.line.key != "Environment" {
            continue;
        }
        let words = syntax::words(&setting.line.value).unwrap_or_default();
        let hint = "give that drop-in a name that comes before";
        // An empty one takes away all before it.
        let takes = words.iter().any(|word| {
            let value = word.strip_prefix("LD_PRELOAD=");
            value.is_some_and(|value| !has_shim(value))
        });
        if takes || words.is_empty() {
            let what =
                format!("is read after {DROP_IN}, and takes LD_PRELOAD away or sets it anew");
            findings.push(error("preload-overridden", setting, &what, hint));
        } else if let Some((name, _)) = words
            .iter()
            .filter_map(|word| word.split_once('='))
            .find(|(name, _)| is_rule(name))
        {
            let what = format!("is read after {DROP_IN}, and sets {name}");
            findings.push(warn(error("rule-overridden", setting, &what, hint)));
        }
    }
}

/// Whether `list` names `shim`.
fn has_shim(list: &str, shim: &Path) -> bool {
    let mut entries = list.split([' ', ':']);
    entries.any(|one| Path::new(one) == shim)
}

fn warn(mut finding: Finding) -> Finding {
    finding.severity = Severity::Warning;
    finding
}

/// What a session of PAM may do to them.
fn see_session(unit: &Unit, root: &Root, shim: &Path) -> Option<Finding> {
    let setting = unit.value("PAMName")?;
    // Without a user there is no session.
    unit.value("User")?;
    let lines = environment::read(root, Path::new(SESSIONS)).unwrap_or_default();
    let list = lines.iter().rfind(|one| one.name == LD_PRELOAD);
    Some(match list {
        Some(one) if !has_shim(&one.value, shim) => {
            let what = format!(
                "wins over Environment= where its modules have pam_env, by which {SESSIONS}:{} \
                 sets LD_PRELOAD",
                one.line
            );
            let hint = format!("add {} to LD_PRELOAD there", shim.display());
            warn(error("preload-overridden", setting, &what, &hint))
        }
        _ => {
            let what = "wins over Environment= where its modules set LD_PRELOAD, which are not \
                        looked at";
            let hint = "check --pid looks at the running server";
            let mut finding = error("preload-overridden", setting, what, hint);
            finding.severity = Severity::Note;
            finding
        }
    })
}
