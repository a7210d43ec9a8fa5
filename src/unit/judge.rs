//! Whether the shim will act in a unit's program: the program itself, who runs
//! it, and what systemd puts between it and the shim.

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::dropin::{DROP_IN, Environment};
use super::load::{Setting, Unit};
use super::syntax::{is_yes, words};
use super::{Error, syntax};
use crate::finding::{Finding, Severity};
use crate::preload::LD_PRELOAD;
use crate::program::{Credentials, Judge, Judgement, Lookup, Root, Shims};

/// What is found of a unit.
#[derive(Debug)]
pub struct Verdict {
    /// What is found of each command, in order.
    pub commands: Vec<Judgement>,
    /// What is found of the settings.
    pub findings: Vec<Finding>,
}

/// The directories in which systemd looks for a program with no slash.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Judges `unit` of `root`; the shim lies at `shim`.
///
/// # Errors
/// It has no ExecStart=, or one that systemd would not take.
pub fn judge(unit: &Unit, root: &Root, shim: &Path, shims: Shims<'_>) -> Result<Verdict, Error> {
    let mut findings = Vec::new();
    see_shim(unit, root, shim, &mut findings);
    keep_variable(unit, root, &mut findings);
    note_sockets(unit, root, &mut findings);
    let mut commands = Vec::new();
    let starts = unit.list("ExecStart");
    if starts.is_empty() {
        return Err(Error::NoExecStart {
            name: unit.name.clone(),
            path: unit.path.clone(),
        });
    }
    let environment = Environment::of(unit);
    for start in starts {
        let command = Command::parse(unit, &environment, start)?;
        let who = credentials(unit, root, command.is_privileged);
        let own;
        let root = match unit.value("RootDirectory") {
            Some(setting) if setting.line.value != "/" => {
                let path = Path::new(&setting.line.value);
                own = root.pinned(path).and_then(|pinned| Root::new(&pinned.path));
                if let Err(why) = &own {
                    let what = format!("cannot be looked into: {why}");
                    let found = error("unit-root", setting, &what, "make that directory");
                    if !findings.contains(&found) {
                        findings.push(found);
                    }
                }
                own.as_ref().unwrap_or(root)
            }
            _ => root,
        };
        let directory = unit
            .value("WorkingDirectory")
            .map(|one| one.line.value.as_str());
        let directory = directory.map_or("/", |one| one.trim_start_matches('-'));
        let lookup = Lookup {
            root,
            path: Some(PATH.as_ref()),
            directory: Path::new(directory),
        };
        let variable = |name: &str| environment.get(name).map(AsRef::as_ref);
        let judgement = Judge::new(lookup, who, variable).judge(&command.words, shims);
        commands.push(judgement);
    }
    Ok(Verdict { commands, findings })
}

/// A command line of a unit.
struct Command {
    words: Vec<OsString>,
    /// Whether it starts with all rights, whatever `User=` says.
    is_privileged: bool,
}

impl Command {
    fn parse(unit: &Unit, environment: &Environment, start: &Setting) -> Result<Self, Error> {
        let fail = |what| Error::ExecStart {
            path: start.path.clone(),
            value: start.line.value.clone(),
            what,
        };
        let value = start.line.value.as_str();
        let line = value.trim_start_matches(['@', '-', ':', '+', '!', '|']);
        let prefix = &value[..value.len() - line.len()];
        let words = syntax::words(line).ok_or_else(|| fail("a quote is not closed"))?;
        let mut words: Vec<String> = words.iter().map(|word| expand(unit, word)).collect();
        if words.is_empty() {
            return Err(fail("it names no program"));
        }
        if prefix.contains('@') && words.len() > 1 {
            // The second word is the name that the program is to see.
            words.remove(1);
        }
        if !prefix.contains(':') {
            let arguments = words.split_off(1);
            words.extend(
                arguments
                    .iter()
                    .flat_map(|word| substitute(environment, word)),
            );
        }
        Ok(Self {
            words: words.into_iter().map(OsString::from).collect(),
            is_privileged: prefix.contains(['+', '!']),
        })
    }
}

/// Replaces the specifiers of systemd.unit(5) that the name alone gives.
fn expand(unit: &Unit, word: &str) -> String {
    let stem = unit.name.strip_suffix(".service").unwrap_or(&unit.name);
    let (prefix, instance) = stem.split_once('@').unwrap_or((stem, ""));
    let mut text = String::new();
    let mut rest = word.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        match rest.next() {
            Some('%') => text.push('%'),
            Some('n') => text.push_str(&unit.name),
            Some('N') => text.push_str(stem),
            Some('p' | 'P') => text.push_str(prefix),
            Some('i') => text.push_str(instance),
            Some('I') => text.push_str(&instance.replace('-', "/")),
            Some('t') => text.push_str("/run"),
            Some('S') => text.push_str("/var/lib"),
            Some('E') => text.push_str("/etc"),
            other => {
                text.push('%');
                text.extend(other);
            }
        }
    }
    text
}

/// Replaces `$NAME`, which may become several words, and `${NAME}` within one.
fn substitute(environment: &Environment, word: &str) -> Vec<String> {
    let value = |name: &str| environment.get(name).unwrap_or_default();
    if let Some(name) = word.strip_prefix('$')
        && !name.starts_with(['{', '$'])
    {
        return value(name).split_whitespace().map(str::to_owned).collect();
    }
    let mut text = String::new();
    let mut rest = word;
    while let Some((before, after)) = rest.split_once("${") {
        text.push_str(before);
        match after.split_once('}') {
            Some((name, after)) => {
                text.push_str(value(name));
                rest = after;
            }
            None => {
                text.push_str("${");
                rest = after;
            }
        }
    }
    text.push_str(rest);
    vec![text.replace("$$", "$")]
}

/// Who runs the program. A user that cannot be looked up is one without rights.
fn credentials(unit: &Unit, root: &Root, is_privileged: bool) -> Credentials {
    const NOBODY: u32 = 65534;
    let setting = |key: &str| unit.value(key).map(|one| one.line.value.as_str());
    let look_up = |file: &str, name: &str| {
        if let Ok(id) = name.parse() {
            return Some((id, id));
        }
        let mut text = String::new();
        let file = root.open(Path::new(file)).ok()?;
        file.take(16 << 20).read_to_string(&mut text).ok()?;
        let line = text
            .lines()
            .find(|line| line.split(':').next() == Some(name))?;
        let mut ids = line
            .split(':')
            .skip(2)
            .map(|id| id.parse().unwrap_or(NOBODY));
        Some((ids.next()?, ids.next().unwrap_or(NOBODY)))
    };
    let own = Credentials::of_this_process();
    let (user, group) = match setting("User") {
        _ if is_privileged => (0, 0),
        _ if unit.is_user => (own.user, own.group),
        Some(name) => look_up("/etc/passwd", name).unwrap_or((NOBODY, NOBODY)),
        None if unit.is_yes("DynamicUser") => (NOBODY, NOBODY),
        None => (0, 0),
    };
    let other = setting("Group").filter(|_| !is_privileged);
    let other = other.and_then(|name| look_up("/etc/group", name));
    Credentials {
        user,
        group: other.map_or(group, |(id, _)| id),
        no_new_privileges: unit.is_yes("NoNewPrivileges"),
    }
}

fn error(code: &'static str, setting: &Setting, what: &str, hint: &str) -> Finding {
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

/// The paths that the setting `key` lists, each with its setting.
fn paths<'a>(unit: &'a Unit, key: &str) -> Vec<(PathBuf, &'a Setting)> {
    let list = unit.list(key).into_iter();
    let paths = list.flat_map(|setting| {
        let words = words(&setting.line.value).unwrap_or_default();
        words.into_iter().map(move |word| {
            let path = word.trim_start_matches(['-', '+']);
            let path = path.split(':').next().unwrap_or_default();
            (PathBuf::from(path), setting)
        })
    });
    paths.collect()
}

/// The bind mounts: source, destination, and the setting.
fn binds(unit: &Unit) -> Vec<(PathBuf, PathBuf, &Setting)> {
    let settings = ["BindPaths", "BindReadOnlyPaths"].map(|key| unit.list(key));
    let mut found = Vec::new();
    for setting in settings.into_iter().flatten() {
        for word in words(&setting.line.value).unwrap_or_default() {
            let mut parts = word.trim_start_matches('-').split(':');
            let source = parts.next().unwrap_or_default();
            let destination = parts.next().filter(|one| !one.is_empty());
            let destination = destination.unwrap_or(source);
            found.push((source.into(), destination.into(), setting));
        }
    }
    found
}

/// What keeps the shim from being seen or mapped, see systemd.exec(5),
/// "Sandboxing".
fn see_shim(unit: &Unit, root: &Root, shim: &Path, findings: &mut Vec<Finding>) {
    const BIND: &str = "put the shim there: BindReadOnlyPaths=";
    let directory = shim.parent().unwrap_or(Path::new("/"));
    let bind = format!("{BIND}{}", directory.display());
    let mut is_bound = false;
    for (source, destination, setting) in binds(unit) {
        let Ok(below) = shim.strip_prefix(&destination) else {
            continue;
        };
        let path = source.join(below);
        is_bound = path == shim || root.canonical(&path).is_ok();
        if !is_bound {
            let what = format!("puts something else in the place of {}", shim.display());
            findings.push(error("shim-hidden", setting, &what, &bind));
        }
    }
    for key in ["RootDirectory", "RootImage", "RootMStack"] {
        if let Some(setting) = unit.value(key)
            && setting.line.value != "/"
            && !is_bound
        {
            let what = format!("has no {}", shim.display());
            findings.push(error("unit-root", setting, &what, &bind));
        }
    }
    let covers = |path: &Path| shim.starts_with(path);
    let mut hidden = |setting: &Setting, hint: &str| {
        let what = format!("hides {}", shim.display());
        findings.push(error("shim-hidden", setting, &what, hint));
    };
    for (path, setting) in paths(unit, "InaccessiblePaths") {
        if covers(&path) {
            hidden(
                setting,
                "install the shim elsewhere, and name it with --shim-path",
            );
        }
    }
    for (path, setting) in paths(unit, "TemporaryFileSystem") {
        if covers(&path) && !is_bound {
            hidden(setting, &bind);
        }
    }
    if let Some(setting) = unit.value("ProtectHome")
        && (is_yes(&setting.line.value) || setting.line.value == "tmpfs")
        && ["/home", "/root", "/run/user"]
            .iter()
            .any(|path| covers(Path::new(path)))
        && !is_bound
    {
        hidden(
            setting,
            "install the shim elsewhere, and name it with --shim-path",
        );
    }
    for key in ["PrivateTmp", "DynamicUser"] {
        if let Some(setting) = unit.value(key)
            && (is_yes(&setting.line.value) || setting.line.value == "disconnected")
            && ["/tmp", "/var/tmp"]
                .iter()
                .any(|path| covers(Path::new(path)))
        {
            hidden(
                setting,
                "install the shim elsewhere, and name it with --shim-path",
            );
        }
    }
    let depth = |key| {
        let covering = paths(unit, key)
            .into_iter()
            .filter(|(path, _)| covers(path));
        covering.max_by_key(|(path, _)| path.components().count())
    };
    if let Some((path, setting)) = depth("NoExecPaths") {
        let allowed = depth("ExecPaths").map_or(0, |(path, _)| path.components().count());
        if allowed <= path.components().count() {
            let what = format!("keeps {} from being mapped", shim.display());
            let hint = format!("allow it: ExecPaths={}", directory.display());
            findings.push(error("shim-noexec", setting, &what, &hint));
        }
    }
}

/// What takes LD_PRELOAD away again, or sets it anew.
fn keep_variable(unit: &Unit, root: &Root, findings: &mut Vec<Finding>) {
    for setting in unit.list("UnsetEnvironment") {
        let names = words(&setting.line.value).unwrap_or_default();
        if names
            .iter()
            .any(|one| one.split('=').next() == Some(LD_PRELOAD))
        {
            findings.push(error(
                "scrubbed-environment",
                setting,
                "takes LD_PRELOAD away",
                "take it out of that list: in a drop-in, UnsetEnvironment= empties it",
            ));
        }
    }
    for setting in unit.list("EnvironmentFile") {
        let path = expand(unit, setting.line.value.trim_start_matches('-'));
        let path = Path::new(&path);
        let mut text = String::new();
        let file = root.open(path).map(|file| file.take(1 << 20));
        let read = file.and_then(|mut file| file.read_to_string(&mut text));
        let sets = |line: &str| line.trim_start().starts_with("LD_PRELOAD=");
        if read.is_ok() && text.lines().any(sets) {
            findings.push(error(
                "preload-overridden",
                setting,
                "sets LD_PRELOAD, and wins over Environment=",
                "add the shim to LD_PRELOAD in that file, or take it out there",
            ));
        }
    }
    for setting in unit
        .settings
        .iter()
        .filter(|one| one.line.key == "Environment")
    {
        let is_later = setting.path.file_name().is_some_and(|name| name > DROP_IN)
            && setting.path != unit.path;
        let words = words(&setting.line.value).unwrap_or_default();
        // An empty one takes away all before it.
        let takes = words.is_empty() || words.iter().any(|one| one.starts_with("LD_PRELOAD="));
        if is_later && takes {
            findings.push(error(
                "preload-overridden",
                setting,
                &format!("is read after {DROP_IN}, and takes LD_PRELOAD away or sets it anew"),
                "give that drop-in a name that comes before",
            ));
        }
    }
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
mod tests {
    use super::super::Paths;
    use super::*;
    use std::fs;

    /// The codes of what is found of a unit with these lines in `[Service]`.
    fn codes(lines: &str) -> Vec<&'static str> {
        let directory = tempfile::tempdir().expect("a directory");
        let units = directory.path().join("etc/systemd/system");
        fs::create_dir_all(&units).expect("a directory");
        let text = format!("[Service]\nExecStart=/bin/server\n{lines}\n");
        fs::write(units.join("a.service"), text).expect("a unit");
        let root = Root::new(directory.path()).expect("a root");
        let unit = Unit::read(&root, &Paths::system(), "a", DROP_IN).expect("a unit");
        let shim = Path::new("/opt/reuseport/libreuseport.so");
        let verdict = judge(&unit, &root, shim, &|_| true).expect("a verdict");
        verdict.findings.iter().map(|one| one.code).collect()
    }

    #[test]
    fn what_hides_the_shim_is_found() {
        for (lines, code) in [
            ("RootImage=/srv/image", "unit-root"),
            ("InaccessiblePaths=-/opt", "shim-hidden"),
            ("TemporaryFileSystem=/opt:ro", "shim-hidden"),
            ("NoExecPaths=/\nExecPaths=/bin /usr", "shim-noexec"),
            ("UnsetEnvironment=A LD_PRELOAD", "scrubbed-environment"),
            ("BindReadOnlyPaths=/srv/empty:/opt", "shim-hidden"),
        ] {
            assert_eq!(codes(lines), [code], "{lines}");
        }
    }

    #[test]
    fn what_does_not_hide_it_is_not() {
        for lines in [
            "RootDirectory=/etc\nBindReadOnlyPaths=/opt/reuseport",
            "InaccessiblePaths=/opt/other\nProtectHome=yes\nPrivateTmp=yes",
            "TemporaryFileSystem=/opt\nTemporaryFileSystem=",
            "TemporaryFileSystem=/opt\nBindReadOnlyPaths=/opt/reuseport",
            "NoExecPaths=/\nExecPaths=/opt/reuseport",
            "UnsetEnvironment=LD_PRELOAD\nUnsetEnvironment=",
        ] {
            assert_eq!(codes(lines), [""; 0], "{lines}");
        }
    }
}
