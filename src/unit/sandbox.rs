//! What systemd puts between the program and the shim, see systemd.exec(5),
//! "Sandboxing" and "Mandatory access control".

use std::io::Read;
use std::path::{Path, PathBuf};

use super::judge::{UnitRoot, error};
use super::load::{Setting, Unit};
use super::specifier::expand;
use super::syntax::is_yes;
use super::way::Way;
use crate::finding::{Finding, Severity};
use crate::program::Root;

/// Where the shim is, and what is found of it.
#[derive(Debug)]
pub(super) struct Sandbox<'a> {
    unit: &'a Unit,
    /// The root that systemd sees, from which it mounts.
    root: &'a Root,
    /// The one that the program sees, and where it lies; `None` where that is not
    /// looked into.
    inner: Option<(&'a Path, &'a Root)>,
    shim: &'a Path,
    /// The shim's path with links resolved.
    real: PathBuf,
    is_confined: bool,
    findings: Vec<Finding>,
    way: Way,
}

/// What the namespace has in the place of a directory above the shim.
#[derive(Debug)]
struct Cover<'a> {
    /// How many components lead there.
    depth: usize,
    /// What is mounted, and the shim in it; `None` where it is not there.
    shim: Option<(PathBuf, PathBuf)>,
    setting: &'a Setting,
    /// What that does, where it does not hold the shim.
    what: String,
}

/// What `ProtectHome=` covers.
const HOMES: [&str; 3] = ["/home", "/root", "/run/user"];

/// What `PrivateTmp=` covers.
const TEMPORARY: [&str; 2] = ["/tmp", "/var/tmp"];

const ELSEWHERE: &str = "install the shim elsewhere, and name it with --shim-path";

/// What keeps the shim at `shim` from being seen or mapped, and the way to it,
/// empty where it is not seen. Where the unit is not confined, because of the prefix
/// `+`, mounts and roots alone count.
pub(super) fn judge(
    unit: &Unit,
    root: &Root,
    own: &UnitRoot,
    shim: &Path,
    is_confined: bool,
) -> (Vec<Finding>, Way) {
    let inner = match own {
        UnitRoot::None => Some((Path::new("/"), root)),
        UnitRoot::Directory(path, root) => Some((path.as_path(), root)),
        UnitRoot::Unknown(..) => None,
    };
    let real = inner.and_then(|(_, root)| root.canonical(shim).ok());
    let mut sandbox = Sandbox {
        unit,
        root,
        inner,
        shim,
        real: real.unwrap_or_else(|| shim.to_owned()),
        is_confined,
        findings: Vec::new(),
        way: Way::default(),
    };
    sandbox.see_mounts(own);
    if is_confined {
        sandbox.see_exec();
        sandbox.see_policies();
        sandbox.see_system_calls();
    }
    (sandbox.findings, sandbox.way)
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

    /// Where the shim lies below `path`, a path that the program sees, if it does.
    fn below(&self, path: &Path) -> Option<PathBuf> {
        let plain = self.shim.strip_prefix(path).ok();
        let real = || {
            let real = self.inner?.1.canonical(path).ok()?;
            self.real.strip_prefix(real).ok().map(Path::to_owned)
        };
        plain.map(Path::to_owned).or_else(real)
    }

    /// How many components of `path` lead to the shim, where it lies there.
    fn depth(&self, path: &Path) -> Option<usize> {
        self.below(path).map(|_| path.components().count())
    }

    /// The paths that the setting `key` lists, as the program sees them, each with
    /// its setting. What depends on a specifier that is not known is noted.
    fn paths(&mut self, key: &str) -> Vec<(PathBuf, &'a Setting)> {
        let mut paths = Vec::new();
        for (word, setting) in self.unit.words(key) {
            match expand(self.unit, &word) {
                Ok(word) => {
                    let word = word.trim_start_matches('-');
                    let path = word.trim_start_matches('+');
                    let path = Path::new(path.split(':').next().unwrap_or_default());
                    let seen = match self.inner {
                        // These alone are paths outside of RootDirectory=.
                        Some((place, _)) if !word.starts_with('+') => path
                            .strip_prefix(place)
                            .map(|below| Path::new("/").join(below)),
                        _ => Ok(path.to_owned()),
                    };
                    paths.extend(seen.ok().map(|path| (path, setting)));
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
                let source = Path::new(parts.next().unwrap_or_default());
                let destination = parts.next().filter(|one| !one.is_empty());
                let destination = destination.map_or(source, Path::new);
                // Without its source, it is passed over.
                if !word.starts_with('-') || self.root.status(source).is_ok() {
                    found.push((source.to_owned(), destination.to_owned(), setting));
                }
            }
        }
        found
    }

    fn see_mounts(&mut self, own: &UnitRoot) {
        let (unit, is_confined) = (self.unit, self.is_confined);
        let directory = self.shim.parent().unwrap_or(Path::new("/"));
        let bind = format!(
            "put the shim there: BindReadOnlyPaths={}",
            directory.display()
        );
        let hides = format!("hides {}", self.shim.display());
        // Of those that cover the shim, the deepest decides.
        let mut covers: Vec<Cover<'_>> = Vec::new();
        for (source, destination, setting) in self.binds() {
            let Some(below) = self.below(&destination) else {
                continue;
            };
            let path = under(&source, &below);
            let is_shim = path == self.shim || self.root.canonical(&path).is_ok();
            covers.push(Cover {
                depth: destination.components().count(),
                shim: is_shim.then_some((source, path)),
                setting,
                what: format!(
                    "puts something else in the place of {}",
                    self.shim.display()
                ),
            });
        }
        let mut cover = |depth, setting| {
            covers.push(Cover {
                depth,
                shim: None,
                setting,
                what: hides.clone(),
            });
        };
        for key in ["TemporaryFileSystem", "MountImages"] {
            for (word, setting) in unit.words(key) {
                let word = expand(unit, &word).unwrap_or(word);
                let mut parts = word.trim_start_matches('-').split(':');
                let path = parts.nth(usize::from(key == "MountImages"));
                if let Some(depth) = path.and_then(|path| self.depth(Path::new(path))) {
                    cover(depth, setting);
                }
            }
        }
        let cover_each = |key: &str, is_set: fn(&str) -> bool, paths: &[&str]| {
            let setting = unit.value(key).filter(|one| is_set(&one.line.value));
            let setting = setting.filter(|_| is_confined);
            let found = setting.into_iter().flat_map(|setting| {
                let paths = paths.iter().map(Path::new);
                paths.map(move |path| (path.to_owned(), setting))
            });
            found.collect::<Vec<_>>()
        };
        let mut tmpfs = cover_each("ProtectHome", |value| value == "tmpfs", &HOMES);
        let is_private = |value: &str| is_yes(value) || value == "disconnected";
        tmpfs.extend(cover_each("PrivateTmp", is_private, &TEMPORARY));
        tmpfs.extend(cover_each("DynamicUser", is_yes, &TEMPORARY));
        for (path, setting) in tmpfs {
            if let Some(depth) = self.depth(&path) {
                cover(depth, setting);
            }
        }
        let mut inaccessible = Vec::new();
        let keys = ["InaccessiblePaths", "InaccessibleDirectories"];
        for key in keys.into_iter().filter(|_| is_confined) {
            inaccessible.extend(self.paths(key));
        }
        inaccessible.extend(cover_each("ProtectHome", is_yes, &HOMES));
        // What is inaccessible is so with all below it, whatever is mounted there.
        let hidden = inaccessible
            .iter()
            .find(|(path, _)| self.depth(path).is_some());
        if let Some((_, setting)) = hidden {
            self.add("shim-hidden", setting, &hides, ELSEWHERE);
        }
        covers.sort_by_key(|one| (one.depth, one.shim.is_some()));
        let deepest = covers.pop();
        let above = covers.last().map_or(usize::MAX, |one| one.depth);
        match deepest {
            Some(Cover {
                shim: Some((source, path)),
                depth,
                ..
            }) => self.see_bind(&source, &path, above.min(depth)),
            Some(Cover { setting, what, .. }) if hidden.is_none() => {
                let is_temporary = TEMPORARY.iter().any(|path| self.shim.starts_with(path));
                let hint = if is_temporary { ELSEWHERE } else { &bind };
                self.add("shim-hidden", setting, &what, hint);
                self.see_root(own, &bind);
            }
            None if hidden.is_none() => {
                if let Some((place, inner)) = self.inner {
                    self.way.add(inner, place, Path::new("/"), self.shim);
                }
                self.see_root(own, &bind);
            }
            _ => self.see_root(own, &bind),
        }
    }

    /// The way to the shim at `path`, where `source` is mounted: above that, the
    /// directories of the program's root, of which those from the component `above`
    /// on are what systemd mounts or makes.
    fn see_bind(&mut self, source: &Path, path: &Path, above: usize) {
        if let Some((place, inner)) = self.inner {
            let mut outside = self.shim.ancestors();
            if let Some(parent) = outside.find(|one| one.components().count() < above) {
                self.way.add(inner, place, Path::new("/"), parent);
            }
        }
        if let Ok(real) = self.root.canonical(source) {
            // What is mounted is where its links lead.
            let path = under(&real, path.strip_prefix(source).unwrap_or(path));
            self.way.add(self.root, Path::new("/"), &real, &path);
        }
    }

    /// Whether the shim is in another root, where the unit has one.
    fn see_root(&mut self, own: &UnitRoot, bind: &str) {
        match own {
            UnitRoot::None => return,
            UnitRoot::Directory(_, inner) if inner.canonical(self.shim).is_ok() => return,
            // There is no such root at all.
            UnitRoot::Unknown(finding) if finding.severity == Severity::Error => return,
            _ => {}
        }
        for key in ["RootDirectory", "RootImage", "RootMStack"] {
            if let Some(setting) = self.unit.value(key) {
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

/// What lies `below` a source that is mounted: the source itself, where that is the
/// file.
fn under(source: &Path, below: &Path) -> PathBuf {
    if below == Path::new("") {
        source.to_owned()
    } else {
        source.join(below)
    }
}

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
