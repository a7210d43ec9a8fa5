//! Finding a unit and its drop-ins, see systemd.unit(5), "Unit File Load Path".

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::names::drop_ins;
use super::specifier::{Unknown, expand};
use super::syntax::{self, Line};
use super::{Error, dropin};
use crate::nearness;
use crate::program::Root;

/// Where units lie, best first, and where ours are put.
#[derive(Clone, Debug)]
pub struct Paths {
    directories: Vec<PathBuf>,
    /// The administrator's, or the user's own.
    pub own: PathBuf,
    /// Whether they are a user's.
    pub is_user: bool,
    specifiers: HashMap<char, String>,
}

impl Paths {
    /// Those of the system's manager.
    pub fn system() -> Self {
        let directories = [
            "/etc/systemd/system.control",
            "/run/systemd/system.control",
            "/run/systemd/transient",
            "/run/systemd/generator.early",
            "/etc/systemd/system",
            "/etc/systemd/system.attached",
            "/run/systemd/system",
            "/run/systemd/system.attached",
            "/run/systemd/generator",
            "/usr/local/lib/systemd/system",
            "/usr/lib/systemd/system",
            "/lib/systemd/system",
            "/run/systemd/generator.late",
        ];
        Self {
            directories: directories.map(PathBuf::from).to_vec(),
            own: "/etc/systemd/system".into(),
            is_user: false,
            specifiers: [
                ('t', "/run"),
                ('S', "/var/lib"),
                ('C', "/var/cache"),
                ('L', "/var/log"),
                ('E', "/etc"),
                ('T', "/tmp"),
                ('V', "/var/tmp"),
                ('h', "/root"),
                ('u', "root"),
                ('g', "root"),
                ('U', "0"),
                ('G', "0"),
            ]
            .map(|(letter, value)| (letter, value.to_owned()))
            .into(),
        }
    }

    /// Those of a user's manager, with the variables that `variable` knows.
    pub fn user(variable: impl Fn(&str) -> Option<PathBuf>) -> Self {
        let xdg = |name| variable(name).filter(|path| path.is_absolute());
        let home = |below: &str| xdg("HOME").map(|home| home.join(below));
        let configuration = xdg("XDG_CONFIG_HOME").or_else(|| home(".config"));
        let data = xdg("XDG_DATA_HOME").or_else(|| home(".local/share"));
        let runtime = xdg("XDG_RUNTIME_DIR");
        let specifiers = [
            ('t', runtime.clone()),
            ('h', xdg("HOME")),
            ('E', configuration.clone()),
            ('C', xdg("XDG_CACHE_HOME").or_else(|| home(".cache"))),
        ];
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let specifiers = specifiers.into_iter();
        let specifiers = specifiers.filter_map(|(letter, path)| Some((letter, text(path?))));
        let below = |base: &Option<PathBuf>, name: &str| base.as_ref().map(|base| base.join(name));
        let own = below(&configuration, "systemd/user");
        let directories = [
            below(&configuration, "systemd/user.control"),
            below(&runtime, "systemd/user.control"),
            below(&runtime, "systemd/transient"),
            below(&runtime, "systemd/generator.early"),
            own.clone(),
            Some("/etc/xdg/systemd/user".into()),
            Some("/etc/systemd/user".into()),
            below(&runtime, "systemd/user"),
            Some("/run/systemd/user".into()),
            below(&runtime, "systemd/generator"),
            below(&data, "systemd/user"),
            Some("/usr/local/share/systemd/user".into()),
            Some("/usr/share/systemd/user".into()),
            Some("/usr/local/lib/systemd/user".into()),
            Some("/usr/lib/systemd/user".into()),
            below(&runtime, "systemd/generator.late"),
        ];
        Self {
            directories: directories.into_iter().flatten().collect(),
            own: own.unwrap_or_else(|| "/etc/systemd/user".into()),
            is_user: true,
            specifiers: specifiers.collect(),
        }
    }
}

/// A setting of the section `[Service]`, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) path: PathBuf,
    pub(super) line: Line,
}

/// A service unit with its drop-ins.
#[derive(Clone, Debug)]
pub struct Unit {
    /// The name, with its ending: where an alias was asked for, that of the unit
    /// that it stands for.
    pub name: String,
    /// The file that defines it.
    pub path: PathBuf,
    /// Whether a user's manager runs it.
    pub(super) is_user: bool,
    /// The values of those that depend on the manager alone.
    pub(super) specifiers: HashMap<char, String>,
    pub(super) settings: Vec<Setting>,
}

/// More than any unit.
const LARGEST: u64 = 1 << 20;

impl Unit {
    /// Reads the unit `name` of `root`, without the drop-in `without` that we wrote.
    ///
    /// # Errors
    /// There is none, it is masked, or it cannot be read.
    pub fn read(root: &Root, paths: &Paths, name: &str, without: &str) -> Result<Self, Error> {
        let name = full_name(name)?;
        let not_found = || Error::NotFound {
            near: near(root, paths, &name),
            name: name.clone(),
        };
        let (path, real) = find(root, paths, &name)?.ok_or_else(not_found)?;
        let text = read(root, &path)?;
        if text.is_empty() {
            return Err(Error::Masked { name });
        }
        let mut settings = Vec::new();
        add(&mut settings, &path, &text);
        for drop_in in drop_ins(root, &paths.directories, &real) {
            let text = match read(root, &drop_in) {
                Ok(text) => text,
                // A link that leads nowhere, or a directory: systemd goes on.
                Err(Error::Io { source, .. })
                    if matches!(
                        source.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::IsADirectory
                    ) =>
                {
                    continue;
                }
                Err(error) => return Err(error),
            };
            let is_named_so = drop_in.file_name().is_some_and(|one| one == without);
            if !(is_named_so && dropin::is_ours(text.as_bytes())) {
                add(&mut settings, &drop_in, &text);
            }
        }
        Ok(Self {
            name: real,
            path,
            is_user: paths.is_user,
            specifiers: paths.specifiers.clone(),
            settings,
        })
    }

    /// One with the settings `lines`, which lie in no file.
    #[cfg(test)]
    pub(super) fn with(name: &str, lines: &str) -> Self {
        let path = PathBuf::from(name);
        let mut settings = Vec::new();
        add(&mut settings, &path, &format!("[Service]\n{lines}"));
        Self {
            name: name.to_owned(),
            path,
            is_user: false,
            specifiers: Paths::system().specifiers,
            settings,
        }
    }

    /// The files in which something of it stands, in the order of reading.
    pub fn files(&self) -> Vec<&Path> {
        let mut files: Vec<&Path> = self.settings.iter().map(|one| one.path.as_path()).collect();
        files.dedup();
        files
    }

    /// The values of the list `key`: an empty one takes away those before.
    pub(super) fn list(&self, key: &str) -> Vec<&Setting> {
        let mut list = Vec::new();
        for setting in self.settings.iter().filter(|one| one.line.key == key) {
            if setting.line.value.is_empty() {
                list.clear();
            } else {
                list.push(setting);
            }
        }
        list
    }

    /// The value of `key`: the last one, where it is not empty.
    pub(super) fn value(&self, key: &str) -> Option<&Setting> {
        let mut settings = self.settings.iter().rev();
        let setting = settings.find(|one| one.line.key == key)?;
        (!setting.line.value.is_empty()).then_some(setting)
    }

    /// The words of the list `key`, each with its setting.
    pub(super) fn words(&self, key: &str) -> Vec<(String, &Setting)> {
        let list = self.list(key).into_iter();
        let words = list.flat_map(|setting| {
            let words = syntax::words(&setting.line.value).unwrap_or_default();
            words.into_iter().map(move |word| (word, setting))
        });
        words.collect()
    }

    /// The value of `key` with its specifiers replaced.
    pub(super) fn text(&self, key: &str) -> Option<Result<String, Unknown>> {
        let setting = self.value(key)?;
        Some(expand(self, &setting.line.value))
    }

    pub(super) fn is_yes(&self, key: &str) -> bool {
        self.value(key)
            .is_some_and(|one| syntax::is_yes(&one.line.value))
    }
}

fn add(settings: &mut Vec<Setting>, path: &Path, text: &str) {
    settings.extend(syntax::service_lines(text).into_iter().map(|line| Setting {
        path: path.to_owned(),
        line,
    }));
}

/// `name` with the ending `.service`.
fn full_name(name: &str) -> Result<String, Error> {
    const ENDINGS: [&str; 10] = [
        "socket",
        "target",
        "timer",
        "path",
        "mount",
        "automount",
        "swap",
        "slice",
        "scope",
        "device",
    ];
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    let ending = name.rsplit_once('.').map(|(_, ending)| ending);
    let is_other = ending.is_some_and(|ending| ENDINGS.contains(&ending));
    let full = if ending == Some("service") {
        name.to_owned()
    } else {
        format!("{name}.service")
    };
    if name.is_empty() || !name.chars().all(is_allowed) || is_other || full.len() > 255 {
        return Err(Error::Name(name.to_owned()));
    }
    Ok(full)
}

/// `INSTANCE` of `NAME@INSTANCE.service`.
pub(super) fn instance(name: &str) -> Option<&str> {
    let (_, rest) = name.split_once('@')?;
    let instance = rest.strip_suffix(".service").unwrap_or(rest);
    (!instance.is_empty()).then_some(instance)
}

/// `NAME@.service` for `NAME@INSTANCE.service`.
pub(super) fn template(name: &str) -> Option<String> {
    instance(name)?;
    let (prefix, _) = name.split_once('@')?;
    Some(format!("{prefix}@.service"))
}

/// `name`, or the instance of it that `like` is one of, where it is a template.
pub(super) fn instantiated(name: &str, like: &str) -> String {
    match (name.strip_suffix("@.service"), instance(like)) {
        (Some(prefix), Some(instance)) => format!("{prefix}@{instance}.service"),
        _ => name.to_owned(),
    }
}

/// The file that defines `name`, and the name of that unit: another one where
/// `name` is an alias.
fn find(root: &Root, paths: &Paths, name: &str) -> Result<Option<(PathBuf, String)>, Error> {
    for file in [Some(name.to_owned()), template(name)]
        .into_iter()
        .flatten()
    {
        for directory in &paths.directories {
            let path = directory.join(&file);
            if is_masked(root, &path) {
                return Ok(Some((path, name.to_owned())));
            }
            let real = match root.canonical(&path) {
                Ok(real) => real,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => return Err(Error::Io { path, source }),
            };
            let real_name = real.file_name().unwrap_or_default().to_string_lossy();
            // A link that leads out of the load path has its own name.
            let is_unit = |directory: &PathBuf| {
                let directory = root.canonical(directory);
                directory.is_ok_and(|one| Some(one.as_path()) == real.parent())
            };
            let is_alias = real_name != file && paths.directories.iter().any(is_unit);
            let real_name = if is_alias { &real_name } else { name };
            return Ok(Some((path, instantiated(real_name, name))));
        }
    }
    Ok(None)
}

/// Whether `path` is a link to `/dev/null`, by its text: that may not be there.
fn is_masked(root: &Root, path: &Path) -> bool {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return false;
    };
    let target = root
        .pinned(parent)
        .and_then(|directory| fs::read_link(directory.path.join(name)));
    target.is_ok_and(|target| target == Path::new("/dev/null"))
}

/// The content of `path`; nothing where that is `/dev/null`.
fn read(root: &Root, path: &Path) -> Result<String, Error> {
    let fail = |source| Error::Io {
        path: path.to_owned(),
        source,
    };
    if is_masked(root, path) {
        return Ok(String::new());
    }
    let mut text = Vec::new();
    let file = root.open(path).map_err(fail)?;
    file.take(LARGEST + 1)
        .read_to_end(&mut text)
        .map_err(fail)?;
    if text.len() as u64 > LARGEST {
        return Err(Error::TooLarge(path.to_owned()));
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The names in a directory of `root`; none where it is not there.
pub(super) fn entries(root: &Root, directory: &Path) -> Vec<OsString> {
    let Ok(pinned) = root.pinned(directory) else {
        return Vec::new();
    };
    let entries = fs::read_dir(&pinned.path).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name()).collect()
}

/// Names of units that are near `name`.
fn near(root: &Root, paths: &Paths, name: &str) -> Vec<String> {
    let directories = paths.directories.iter();
    let all = directories
        .flat_map(|directory| entries(root, directory))
        .filter_map(|name| name.into_string().ok())
        .filter(|one| one.ends_with(".service") && one != name);
    nearness::near(name, all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_get_their_ending() {
        assert_eq!(full_name("nginx").expect("a name"), "nginx.service");
        assert_eq!(full_name("a@b.service").expect("a name"), "a@b.service");
        assert_eq!(full_name("foo.bar").expect("a name"), "foo.bar.service");
        for name in ["", "a/b", "a.socket", "a b"] {
            assert!(full_name(name).is_err(), "{name}");
        }
    }
}
