//! What systemd puts between the program and the shim, see systemd.exec(5),
//! "Sandboxing" and "Mandatory access control".

use std::io::Read;
use std::path::{Path, PathBuf};

use super::judge::error;
use super::load::{Setting, Unit};
use super::specifier::expand;
use super::syntax::is_yes;
use crate::finding::{Finding, Severity};
use crate::program::{Credentials, Root};

/// Where the shim is, and what is found of it.
#[derive(Debug)]
pub(super) struct Sandbox<'a> {
    unit: &'a Unit,
    root: &'a Root,
    shim: &'a Path,
    /// The shim's path with links resolved.
    real: PathBuf,
    findings: Vec<Finding>,
}

/// What the namespace has at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cover {
    /// Something in which the shim is not.
    Other,
    /// A directory that holds the shim.
    Shim,
}

/// What `ProtectHome=` covers.
const HOMES: [&str; 3] = ["/home", "/root", "/run/user"];

/// What `PrivateTmp=` covers.
const TEMPORARY: [&str; 2] = ["/tmp", "/var/tmp"];

const ELSEWHERE: &str = "install the shim elsewhere, and name it with --shim-path";

/// What keeps the shim at `shim` from being seen or mapped.
pub(super) fn judge(unit: &Unit, root: &Root, shim: &Path) -> Vec<Finding> {
    let real = root.canonical(shim).unwrap_or_else(|_| shim.to_owned());
    let mut sandbox = Sandbox {
        unit,
        root,
        shim,
        real,
        findings: Vec::new(),
    };
    sandbox.see_mounts();
    sandbox.see_exec();
    sandbox.see_policies();
    sandbox.see_system_calls();
    sandbox.findings
}

/// What keeps `who` from reading the shim.
pub(super) fn judge_user(who: Credentials, root: &Root, shim: &Path) -> Option<Finding> {
    if who.user == 0 {
        return None;
    }
    for path in shim.ancestors() {
        let status = root.status(path).ok()?;
        let shift = if status.user == who.user {
            6
        } else if status.group == who.group {
            3
        } else {
            0
        };
        let (needed, what, mode) = if path == shim {
            (4, "read", "a+r")
        } else {
            (1, "entered", "a+x")
        };
        if status.mode >> shift & needed == 0 {
            let path = path.display();
            let message = format!(
                "{path} cannot be {what} by the user {} who runs it",
                who.user
            );
            let finding = Finding::new(Severity::Error, "shim-unreadable", message);
            return Some(finding.hint(format!("chmod {mode} {path}")));
        }
    }
    None
}

/// Whether AppArmor has a profile for the program at `path`, by the name that
/// such files have, which does not speak of the shim.
pub(super) fn judge_profile(root: &Root, path: &Path, shim: &Path) -> Option<Finding> {
    const ENABLED: &str = "/sys/module/apparmor/parameters/enabled";
    let read = |path: &Path| {
        let mut text = Vec::new();
        let file = root.open(path).ok()?;
        file.take(1 << 20).read_to_end(&mut text).ok()?;
        Some(String::from_utf8_lossy(&text).into_owned())
    };
    if root.is_host() && std::fs::read(ENABLED).ok()?.first() != Some(&b'Y') {
        return None;
    }
    let program = root.canonical(path).ok()?;
    let name = program.to_str()?.trim_start_matches('/').replace('/', ".");
    let directory = Path::new("/etc/apparmor.d");
    let profile = directory.join(&name);
    let text = read(&profile)?;
    let local = directory.join("local").join(&name);
    let added = read(&local).unwrap_or_default();
    let shim = shim.display().to_string();
    let is_off = root
        .canonical(&directory.join("disable").join(&name))
        .is_ok();
    if is_off || text.contains("complain") || text.contains(&shim) || added.contains(&shim) {
        return None;
    }
    let message = format!(
        "AppArmor has a profile for it, which may keep {shim} from being mapped: {}",
        profile.display()
    );
    let hint = format!("allow it, in {}: {shim} mr,", local.display());
    Some(Finding::new(Severity::Warning, "confined", message).hint(hint))
}

impl<'a> Sandbox<'a> {
    fn add(&mut self, code: &'static str, setting: &Setting, what: &str, hint: &str) {
        self.findings.push(error(code, setting, what, hint));
    }

    fn warn(&mut self, code: &'static str, setting: &Setting, what: &str, hint: &str) {
        let mut finding = error(code, setting, what, hint);
        finding.severity = Severity::Warning;
        self.findings.push(finding);
    }

    /// How many components of `path` lead to the shim, where it lies there.
    fn depth(&self, path: &Path) -> Option<usize> {
        let real = self.root.canonical(path);
        let covers =
            self.shim.starts_with(path) || real.is_ok_and(|real| self.real.starts_with(real));
        covers.then(|| path.components().count())
    }

    /// The paths that the setting `key` lists, each with its setting. What depends
    /// on a specifier that is not known is noted.
    fn paths(&mut self, key: &str) -> Vec<(PathBuf, &'a Setting)> {
        let mut paths = Vec::new();
        for (word, setting) in self.unit.words(key) {
            match expand(self.unit, &word) {
                Ok(word) => {
                    let path = word.trim_start_matches(['-', '+']);
                    let path = path.split(':').next().unwrap_or_default();
                    paths.push((PathBuf::from(path), setting));
                }
                Err(unknown) => {
                    let what = format!("depends on {}", unknown.0);
                    self.warn("unknown-specifier", setting, &what, NAME_INSTANCE);
                }
            }
        }
        paths
    }

    /// The bind mounts: source, destination, and the setting.
    fn binds(&mut self) -> Vec<(PathBuf, PathBuf, &'a Setting)> {
        let mut found = Vec::new();
        for key in ["BindPaths", "BindReadOnlyPaths"] {
            for (word, setting) in self.unit.words(key) {
                let Ok(word) = expand(self.unit, &word) else {
                    continue;
                };
                let mut parts = word.trim_start_matches('-').split(':');
                let source = parts.next().unwrap_or_default();
                let destination = parts.next().filter(|one| !one.is_empty());
                let destination = destination.unwrap_or(source);
                found.push((source.into(), destination.into(), setting));
            }
        }
        found
    }

    fn see_mounts(&mut self) {
        let unit = self.unit;
        let directory = self.shim.parent().unwrap_or(Path::new("/"));
        let bind = format!(
            "put the shim there: BindReadOnlyPaths={}",
            directory.display()
        );
        let hides = format!("hides {}", self.shim.display());
        // Of those that cover the shim, the deepest decides.
        let mut covers: Vec<(usize, Cover, &Setting, String)> = Vec::new();
        for (source, destination, setting) in self.binds() {
            let Some(depth) = self.depth(&destination) else {
                continue;
            };
            let below = self.shim.strip_prefix(&destination);
            let path = below.map_or(self.shim.to_owned(), |below| source.join(below));
            let is_shim = path == self.shim || self.root.canonical(&path).is_ok();
            let cover = if is_shim { Cover::Shim } else { Cover::Other };
            let what = format!(
                "puts something else in the place of {}",
                self.shim.display()
            );
            covers.push((depth, cover, setting, what));
        }
        for key in ["TemporaryFileSystem", "MountImages"] {
            for (word, setting) in unit.words(key) {
                let word = expand(unit, &word).unwrap_or(word);
                let mut parts = word.trim_start_matches('-').split(':');
                let path = parts.nth(usize::from(key == "MountImages"));
                if let Some(depth) = path.and_then(|path| self.depth(Path::new(path))) {
                    covers.push((depth, Cover::Other, setting, hides.clone()));
                }
            }
        }
        let mut inaccessible = Vec::new();
        for key in ["InaccessiblePaths", "InaccessibleDirectories"] {
            inaccessible.extend(self.paths(key));
        }
        let cover_each = |key: &str, is_set: fn(&str) -> bool, paths: &[&str]| {
            let setting = unit.value(key).filter(|one| is_set(&one.line.value));
            let found = setting.into_iter().flat_map(|setting| {
                let paths = paths.iter().map(Path::new);
                paths.map(move |path| (path.to_owned(), setting))
            });
            found.collect::<Vec<_>>()
        };
        inaccessible.extend(cover_each("ProtectHome", is_yes, &HOMES));
        let mut tmpfs = cover_each("ProtectHome", |value| value == "tmpfs", &HOMES);
        let is_private = |value: &str| is_yes(value) || value == "disconnected";
        tmpfs.extend(cover_each("PrivateTmp", is_private, &TEMPORARY));
        tmpfs.extend(cover_each("DynamicUser", is_yes, &TEMPORARY));
        for (path, setting) in tmpfs {
            if let Some(depth) = self.depth(&path) {
                covers.push((depth, Cover::Other, setting, hides.clone()));
            }
        }
        // What is inaccessible is so with all below it, whatever is mounted there.
        let mut is_hidden = false;
        for (path, setting) in inaccessible {
            if self.depth(&path).is_some() && !is_hidden {
                is_hidden = true;
                self.add("shim-hidden", setting, &hides, ELSEWHERE);
            }
        }
        let deepest = covers.iter().max_by_key(|one| (one.0, one.1));
        let is_bound = deepest.is_some_and(|one| one.1 == Cover::Shim);
        if let Some((_, Cover::Other, setting, what)) = deepest
            && !is_hidden
        {
            let is_temporary = TEMPORARY.iter().any(|path| self.shim.starts_with(path));
            let hint = if is_temporary { ELSEWHERE } else { &bind };
            self.add("shim-hidden", setting, what, hint);
        }
        if !is_bound {
            self.see_root(&bind);
        }
    }

    /// Whether the shim is in another root, where the unit has one.
    fn see_root(&mut self, bind: &str) {
        for key in ["RootDirectory", "RootImage", "RootMStack"] {
            let Some(setting) = self.unit.value(key) else {
                continue;
            };
            let path = expand(self.unit, &setting.line.value).unwrap_or_default();
            let inner = self.root.pinned(Path::new(&path));
            let inner = inner.and_then(|one| Root::new(&one.path));
            let is_there = key == "RootDirectory"
                && inner.is_ok_and(|inner| inner.canonical(self.shim).is_ok());
            if path != "/" && !is_there {
                let what = format!("has no {}", self.shim.display());
                self.add("unit-root", setting, &what, bind);
            }
        }
    }

    fn see_exec(&mut self) {
        let mut deepest = |key| {
            let paths = self.paths(key).into_iter();
            let covering = paths.filter_map(|(path, one)| Some((self.depth(&path)?, one)));
            covering.max_by_key(|(depth, _)| *depth)
        };
        let Some((forbidden, setting)) = deepest("NoExecPaths") else {
            return;
        };
        let allowed = deepest("ExecPaths").map_or(0, |(depth, _)| depth);
        if allowed <= forbidden {
            let directory = self.shim.parent().unwrap_or(Path::new("/"));
            let what = format!("keeps {} from being mapped", self.shim.display());
            let hint = format!("allow it: ExecPaths={}", directory.display());
            self.add("shim-noexec", setting, &what, &hint);
        }
    }

    /// What decides by rules that lie elsewhere.
    fn see_policies(&mut self) {
        let shim = self.shim.display();
        let what = format!("decides whether {shim} may be mapped, by rules that are not read here");
        let rule = format!("allow it there: {shim} mr,");
        let label = format!("give it a label that may be mapped: chcon -t lib_t {shim}");
        for (key, hint) in [
            ("AppArmorProfile", &rule),
            ("SELinuxContext", &label),
            ("SmackProcessLabel", &label),
        ] {
            if let Some(setting) = self.unit.value(key)
                && setting.line.value.trim_start_matches('-') != "unconfined"
            {
                self.warn("confined", setting, &what, hint);
            }
        }
    }

    /// Whether the shim's own system calls are allowed: one that is not may end the
    /// program.
    fn see_system_calls(&mut self) {
        const SETS: [&str; 3] = ["@network-io", "@system-service", "@known"];
        for call in ["setsockopt", "getsockopt"] {
            let mut is_allow_list = None;
            // Whether it is allowed, and by which setting.
            let mut state = None;
            for setting in self.unit.list("SystemCallFilter") {
                let value = setting.line.value.as_str();
                let (inverted, value) = match value.strip_prefix('~') {
                    Some(value) => (true, value),
                    None => (false, value),
                };
                let allows = *is_allow_list.get_or_insert(!inverted);
                let words = super::syntax::words(value).unwrap_or_default();
                let mut names = words.iter().map(|word| word.split(':').next());
                let is_named = names
                    .any(|name| name == Some(call) || SETS.iter().any(|set| name == Some(set)));
                if is_named {
                    state = Some((!inverted, setting));
                } else if state.is_none() {
                    state = Some((!allows, setting));
                }
            }
            if let Some((false, setting)) = state {
                let what = format!("forbids {call}, which the shim calls");
                let hint = format!("allow it: SystemCallFilter={call}");
                self.add("syscall-filter", setting, &what, &hint);
                return;
            }
        }
    }
}

/// What to do about a template's specifiers.
pub(super) const NAME_INSTANCE: &str =
    "name an instance where the unit is a template: NAME@INSTANCE";

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const SHIM: &str = "/opt/reuseport/libreuseport.so";

    #[test]
    fn a_profile_of_apparmor_is_found() {
        let directory = tempfile::tempdir().expect("a directory");
        let profiles = directory.path().join("etc/apparmor.d");
        fs::create_dir_all(profiles.join("local")).expect("made");
        fs::create_dir_all(directory.path().join("usr/sbin")).expect("made");
        fs::write(directory.path().join("usr/sbin/named"), "").expect("written");
        let root = Root::new(directory.path()).expect("a root");
        let code = || {
            let found = judge_profile(&root, Path::new("/usr/sbin/named"), Path::new(SHIM));
            found.map(|one| one.code)
        };
        assert_eq!(code(), None);
        fs::write(
            profiles.join("usr.sbin.named"),
            "profile named /usr/sbin/named {}",
        )
        .expect("it");
        assert_eq!(code(), Some("confined"));
        fs::write(
            profiles.join("local/usr.sbin.named"),
            format!("{SHIM} mr,\n"),
        )
        .expect("it");
        assert_eq!(code(), None);
    }
}
