//! Finding a unit and its drop-ins, see systemd.unit(5), "Unit File Load Path".

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

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
        }
    }

    /// Those of a user's manager, with the variables that `variable` knows.
    pub fn user(variable: impl Fn(&str) -> Option<PathBuf>) -> Self {
        let xdg = |name| variable(name).filter(|path| path.is_absolute());
        let home = |below: &str| xdg("HOME").map(|home| home.join(below));
        let configuration = xdg("XDG_CONFIG_HOME").or_else(|| home(".config"));
        let data = xdg("XDG_DATA_HOME").or_else(|| home(".local/share"));
        let runtime = xdg("XDG_RUNTIME_DIR");
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
    /// The name, with its ending.
    pub name: String,
    /// The file that defines it.
    pub path: PathBuf,
    /// Whether a user's manager runs it.
    pub(super) is_user: bool,
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
        for drop_in in drop_ins(root, paths, &name, &real) {
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
            name,
            path,
            is_user: paths.is_user,
            settings,
        })
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

/// `NAME@.service` for `NAME@INSTANCE.service`.
fn template(name: &str) -> Option<String> {
    let (prefix, rest) = name.split_once('@')?;
    let instance = rest.strip_suffix(".service")?;
    (!instance.is_empty()).then(|| format!("{prefix}@.service"))
}

/// The file that defines `name`, and the name that it has after its links.
fn find(root: &Root, paths: &Paths, name: &str) -> Result<Option<(PathBuf, String)>, Error> {
    for name in [Some(name.to_owned()), template(name)]
        .into_iter()
        .flatten()
    {
        for directory in &paths.directories {
            let path = directory.join(&name);
            if is_masked(root, &path) {
                return Ok(Some((path, name)));
            }
            let real = match root.canonical(&path) {
                Ok(real) => real,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => return Err(Error::Io { path, source }),
            };
            let real_name = real.file_name().unwrap_or_default().to_string_lossy();
            return Ok(Some((path, real_name.into_owned())));
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

/// The names of the directories with drop-ins for `name`, the most particular
/// first: its own, its template's, those of its dashes, and that of all services.
fn drop_in_names(name: &str) -> Vec<String> {
    let mut names = vec![name.to_owned()];
    names.extend(template(name));
    let stem = name.strip_suffix(".service").unwrap_or(name);
    let stem = stem.split_once('@').map_or(stem, |(stem, _)| stem);
    for (index, _) in stem.rmatch_indices('-') {
        if index + 1 < stem.len() {
            names.push(format!("{}.service", &stem[..=index]));
        }
    }
    names.push("service".to_owned());
    names
}

/// The drop-ins of a unit, in the order in which they are read. Of those with the
/// same file name, the one in the best directory counts.
fn drop_ins(root: &Root, paths: &Paths, name: &str, real: &str) -> Vec<PathBuf> {
    let mut found: BTreeMap<OsString, PathBuf> = BTreeMap::new();
    let mut names = drop_in_names(name);
    // An alias has those of the unit that it stands for, too.
    names.extend(drop_in_names(real));
    for name in names {
        for directory in &paths.directories {
            let directory = directory.join(format!("{name}.d"));
            for file in entries(root, &directory) {
                if Path::new(&file)
                    .extension()
                    .is_some_and(|one| one == "conf")
                {
                    let path = directory.join(&file);
                    found.entry(file).or_insert(path);
                }
            }
        }
    }
    found.into_values().collect()
}

/// The names in a directory of `root`; none where it is not there.
fn entries(root: &Root, directory: &Path) -> Vec<OsString> {
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
        .filter(|one| one.ends_with(".service"));
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

    #[test]
    fn drop_ins_of_prefixes_count() {
        let names = drop_in_names("a-b-c@d.service");
        let expected = ["a-b-c@d", "a-b-c@", "a-b-", "a-"].map(|one| format!("{one}.service"));
        assert_eq!(names[..4], expected);
        assert_eq!(names[4], "service");
    }
}
