//! Whether the shim will act in a unit's program: the program itself, who runs
//! it, what becomes of the variables, and what systemd puts between it and the
//! shim.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::Error;
use super::command::{self, Command};
use super::environment::{Environment, files};
use super::load::{Setting, Unit};
use super::sandbox::{self, NAME_INSTANCE};
use super::specifier::expand;
use super::user::User;
use super::variables::keep_variables;
use crate::finding::{Finding, Severity, Verdict as Answer};
use crate::program::{Credentials, Judge, Judgement, Lookup, Root, Shims};

/// What is found of a unit.
#[derive(Debug)]
pub struct Verdict {
    /// What is found of each command, in order.
    pub commands: Vec<Judgement>,
    /// What is found of the settings.
    pub findings: Vec<Finding>,
    /// The shim that the programs will find, as a path of the system; `None` where
    /// they find none.
    pub shim: Option<PathBuf>,
}

/// The directories in which systemd looks for a program with no slash.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Judges `unit` of `root`; the shim lies at `shim`.
///
/// # Errors
/// It has no ExecStart=, or one that systemd would not take.
pub fn judge(unit: &Unit, root: &Root, shim: &Path, shims: Shims<'_>) -> Result<Verdict, Error> {
    let files = files(unit, root);
    let environment = Environment::of(unit).effective(unit, &files);
    let commands = command::commands(unit, &environment)?;
    let own = UnitRoot::of(unit, root);
    let is_confined = !commands.iter().all(|one| one.is_unconfined);
    let (mut findings, way) = sandbox::judge(unit, root, &own, shim, is_confined);
    keep_variables(unit, root, shim, &files, &mut findings);
    note_sockets(unit, root, &mut findings);
    let mut judgements = Vec::new();
    let users = [false, true].map(|is_privileged| User::of(unit, root, is_privileged));
    for one in commands {
        let user = &users[usize::from(one.is_privileged)];
        let inner = match &own {
            UnitRoot::None => Ok(root),
            UnitRoot::Directory(_, inner) => Ok(inner),
            UnitRoot::Unknown(finding) => Err(finding.clone()),
        };
        let more = match inner {
            Ok(inner) => {
                let who = user.credentials;
                let (judgement, mut more) =
                    judge_command(unit, inner, who, &environment, &one, shims);
                let first = judgement.iter().flat_map(|one| &one.chain.links).next();
                let judge = |path: &PathBuf| way.judge_file_system(unit, inner, path);
                more.extend(first.and_then(|(path, _)| judge(path)));
                judgements.extend(judgement);
                more
            }
            // Without the shim it fails anyway.
            Err(_) if findings.iter().any(|one| one.code == "unit-root") => Vec::new(),
            Err(finding) => vec![finding],
        };
        for finding in more.into_iter().chain(way.judge(user)) {
            if !findings.contains(&finding) {
                findings.push(finding);
            }
        }
    }
    if let Some((path, _)) = judgements.iter().find_map(|one| one.chain.program()) {
        findings.extend(sandbox::judge_profile(root, path, shim));
    }
    Ok(Verdict {
        commands: judgements,
        findings,
        shim: way.shim,
    })
}

/// The root that a unit's programs see, see systemd.exec(5), "Paths".
#[derive(Debug)]
pub(super) enum UnitRoot {
    /// The system's.
    None,
    /// A directory of it.
    Directory(PathBuf, Root),
    /// What cannot be looked into.
    Unknown(Finding),
}

impl UnitRoot {
    fn of(unit: &Unit, root: &Root) -> Self {
        let unknown = |severity, setting, what: &str, hint| {
            let mut finding = error("unit-root", setting, what, hint);
            finding.severity = severity;
            Self::Unknown(finding)
        };
        let look = "check the program in it by itself";
        for key in ["RootImage", "RootMStack"] {
            if let Some(setting) = unit.value(key) {
                let what = "is not looked into, and holds what is started";
                return unknown(Severity::Warning, setting, what, look);
            }
        }
        let Some(setting) = unit.value("RootDirectory") else {
            return Self::None;
        };
        let path = match expand(unit, &setting.line.value) {
            Ok(path) if path == "/" => return Self::None,
            Ok(path) => PathBuf::from(path),
            Err(it) => {
                let what = format!("depends on {}: what is started is not known", it.0);
                return unknown(Severity::Warning, setting, &what, NAME_INSTANCE);
            }
        };
        let inner = root
            .pinned(&path)
            .and_then(|pinned| Root::new(&pinned.path));
        match inner {
            Ok(inner) => Self::Directory(path, inner),
            Err(why) => {
                let what = format!("cannot be looked into: {why}");
                unknown(Severity::Error, setting, &what, "make that directory")
            }
        }
    }
}

/// Judges one command, which `who` runs; none where its program is not known.
fn judge_command(
    unit: &Unit,
    root: &Root,
    who: Credentials,
    environment: &Environment,
    command: &Command<'_>,
    shims: Shims<'_>,
) -> (Option<Judgement>, Vec<Finding>) {
    let warning = |what: &str| {
        let mut finding = error("unknown-specifier", command.setting, what, NAME_INSTANCE);
        finding.severity = Severity::Warning;
        finding
    };
    if let Some(unknown) = &command.unknown_program {
        let what = format!("depends on {}: what it starts is not known", unknown.0);
        return (None, vec![warning(&what)]);
    }
    let mut findings = Vec::new();
    let directory = unit.text("WorkingDirectory").and_then(Result::ok);
    let directory = directory.map_or("/".into(), |one| one.trim_start_matches('-').to_owned());
    let search = unit.words("ExecSearchPath");
    let search: Vec<&str> = search.iter().map(|(word, _)| word.as_str()).collect();
    let search = if search.is_empty() {
        PATH.to_owned()
    } else {
        search.join(":")
    };
    let mut lookup = Lookup {
        root,
        path: Some(OsStr::new(&search)),
        directory: Path::new(&directory),
    };
    let mut words = command.words.clone();
    // What scripts start is looked for in PATH, but not the program itself.
    if let Some(first) = words.first_mut()
        && let Ok(found) = lookup.find(first)
    {
        *first = found.into_os_string();
        let path = environment.get("PATH").map(OsStr::new);
        lookup.path = path.or(lookup.path);
    }
    let variable = |name: &str| environment.get(name).map(AsRef::as_ref);
    let mut judgement = Judge::new(lookup, who, variable).judge(&words, shims);
    if let Some(unknown) = &command.unknown_argument
        && judgement.chain.links.len() > 1
        && judgement.verdict() == Answer::Fails
    {
        // The wrapper or script may lead elsewhere.
        let what = format!(
            "depends on {}: what it starts in the end is not known",
            unknown.0
        );
        findings.push(warning(&what));
        judgement.chain.broken = None;
        judgement
            .findings
            .retain(|one| one.severity != Severity::Error);
    }
    (Some(judgement), findings)
}

pub(super) fn error(code: &'static str, setting: &Setting, what: &str, hint: &str) -> Finding {
    let Setting { path, line } = setting;
    let message = format!(
        "{}:{}: {}={} {what}",
        path.display(),
        line.number,
        line.key,
        line.value
    );
    Finding::new(Severity::Error, code, message).hint(hint)
}

/// Sockets that systemd binds and passes are out of the shim's reach.
fn note_sockets(unit: &Unit, root: &Root, findings: &mut Vec<Finding>) {
    let stem = unit.name.strip_suffix(".service").unwrap_or(&unit.name);
    let own = format!("{stem}.socket");
    let directories = [
        "/etc/systemd/system",
        "/usr/lib/systemd/system",
        "/lib/systemd/system",
    ];
    let is_there = directories
        .iter()
        .any(|directory| root.canonical(&Path::new(directory).join(&own)).is_ok());
    let named = unit.value("Sockets").map(|one| one.line.value.clone());
    if let Some(sockets) = named.or(is_there.then_some(own)) {
        let message = format!("systemd binds what {sockets} lists, and passes it on");
        findings.push(
            Finding::new(Severity::Note, "socket-activated", message)
                .hint("where that unit is in use: ReusePort=yes in it"),
        );
    }
}

#[cfg(test)]
mod tests;
