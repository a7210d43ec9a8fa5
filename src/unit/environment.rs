//! The environment that a unit gives to its program, see systemd.exec(5),
//! "Environment".

use std::collections::{HashMap, HashSet};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use rustix::io::Errno;

use super::Unit;
use super::load::{Setting, entries};
use super::specifier::expand;
use super::syntax::words;
use crate::program::Root;
use crate::rules::{Globs, Values, Variable};

/// What a unit's settings `Environment=` amount to; specifiers stand as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    variables: HashMap<String, String>,
    /// Those of `PassEnvironment=`, whose values the running manager alone knows.
    passed: HashSet<String>,
    /// Whether all of the manager's are passed on, as a user's manager does.
    is_inherited: bool,
}

/// What a manager sets by itself, see systemd.exec(5), "Environment Variables in
/// Spawned Processes".
const GIVEN: [&str; 42] = [
    "CACHE_DIRECTORY",
    "CONFIGURATION_DIRECTORY",
    "CREDENTIALS_DIRECTORY",
    "DEBUG_INVOCATION",
    "FDSTORE",
    "HOME",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "LANG",
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LOGNAME",
    "LOGS_DIRECTORY",
    "LOG_NAMESPACE",
    "MAINPID",
    "MANAGERPID",
    "MEMORY_PRESSURE_WATCH",
    "MEMORY_PRESSURE_WRITE",
    "MONITOR_EXIT_CODE",
    "MONITOR_EXIT_STATUS",
    "MONITOR_INVOCATION_ID",
    "MONITOR_SERVICE_RESULT",
    "MONITOR_UNIT",
    "NOTIFY_SOCKET",
    "PATH",
    "PIDFILE",
    "REMOTE_ADDR",
    "REMOTE_PORT",
    "RUNTIME_DIRECTORY",
    "SHELL",
    "STATE_DIRECTORY",
    "SYSTEMD_EXEC_PID",
    "TERM",
    "TRIGGER_PATH",
    "TRIGGER_TIMER_MONOTONIC_USEC",
    "TRIGGER_TIMER_REALTIME_USEC",
    "TRIGGER_UNIT",
    "USER",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "XDG_RUNTIME_DIR",
];

impl Environment {
    /// That of `unit`.
    pub fn of(unit: &Unit) -> Self {
        let passed = unit.words("PassEnvironment").into_iter();
        let mut this = Self {
            variables: HashMap::new(),
            passed: passed.map(|(name, _)| name).collect(),
            is_inherited: unit.is_user,
        };
        for setting in unit.list("Environment") {
            for word in words(&setting.line.value).unwrap_or_default() {
                if let Some((name, value)) = word.split_once('=') {
                    this.set(name, value);
                }
            }
        }
        this
    }

    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// Whether the running manager alone knows the value of `name`.
    pub(super) fn is_passed(&self, name: &str) -> bool {
        let is_passed = self.is_inherited || self.passed.contains(name) || GIVEN.contains(&name);
        is_passed && !self.variables.contains_key(name)
    }

    fn set(&mut self, name: &str, value: &str) {
        self.variables.insert(name.to_owned(), value.to_owned());
    }

    /// The same with specifiers replaced, and what `files` set, which wins.
    pub(super) fn effective(mut self, unit: &Unit, files: &[EnvironmentFile<'_>]) -> Self {
        for value in self.variables.values_mut() {
            if let Ok(expanded) = expand(unit, value) {
                *value = expanded;
            }
        }
        for one in files.iter().flat_map(|file| &file.assignments) {
            self.set(&one.name, &one.value);
        }
        self
    }
}

/// A file that `EnvironmentFile=` names.
#[derive(Debug)]
pub(super) struct EnvironmentFile<'a> {
    pub(super) setting: &'a Setting,
    pub(super) path: PathBuf,
    pub(super) assignments: Vec<Assignment>,
    /// Why it could not be read.
    pub(super) error: Option<io::Error>,
}

/// A line of such a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Assignment {
    pub(super) line: usize,
    pub(super) name: String,
    pub(super) value: String,
}

/// How much of such files is read, together. What is longer is not known.
const LARGEST: u64 = 1 << 20;

/// How many paths of a pattern are followed.
const MOST: usize = 1000;

/// Reads the file at `path`.
///
/// # Errors
/// It cannot be read, or is too large.
pub(super) fn read(root: &Root, path: &Path) -> io::Result<Vec<Assignment>> {
    read_within(root, path, &mut { LARGEST })
}

/// The same, of a file that is no larger than what is `left`, which it takes from.
fn read_within(root: &Root, path: &Path, left: &mut u64) -> io::Result<Vec<Assignment>> {
    let mut text = Vec::new();
    root.open(path)?.take(*left + 1).read_to_end(&mut text)?;
    *left = left
        .checked_sub(text.len() as u64)
        .ok_or_else(|| io::Error::from(Errno::FBIG))?;
    Ok(assignments(&String::from_utf8_lossy(&text)))
}

/// The files of `unit`, in order; those that are not there are left out.
pub(super) fn files<'a>(unit: &'a Unit, root: &Root) -> Vec<EnvironmentFile<'a>> {
    let mut files = Vec::new();
    let mut left = LARGEST;
    for setting in unit.list("EnvironmentFile") {
        let Ok(pattern) = expand(unit, setting.line.value.trim_start_matches('-')) else {
            // Judged as a setting that cannot be followed.
            continue;
        };
        let mut add = |path, assignments, error| {
            files.push(EnvironmentFile {
                setting,
                path,
                assignments,
                error,
            });
        };
        let (paths, are_all) = matching(root, Path::new(&pattern));
        for path in paths {
            match read_within(root, &path, &mut left) {
                Ok(assignments) => add(path, assignments, None),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => add(path, Vec::new(), Some(error)),
            }
        }
        if !are_all {
            let error = io::Error::other(format!(
                "it matches more than {MOST} paths, or is no pattern"
            ));
            add(pattern.into(), Vec::new(), Some(error));
        }
    }
    files
}

/// The paths that `pattern` matches, as in glob(7), sorted; a plain path is itself.
/// `false` where there may be others.
fn matching(root: &Root, pattern: &Path) -> (Vec<PathBuf>, bool) {
    let mut are_all = true;
    let mut found = vec![PathBuf::new()];
    for component in pattern.components() {
        let text = component.as_os_str().to_string_lossy();
        if !matches!(component, Component::Normal(_)) || !text.contains(['*', '?', '[']) {
            for path in &mut found {
                path.push(component);
            }
            continue;
        }
        // A comma would begin another pattern; glob(7) has two ways to exclude.
        let pattern = text.replace(',', "?").replace("[^", "[!");
        let mut values = Values::default();
        values.set_first(Variable::Program, pattern.as_bytes());
        let Ok(Some(globs)) = Globs::of(&values) else {
            return (Vec::new(), false);
        };
        let mut next = Vec::new();
        for directory in &found {
            for name in entries(root, directory) {
                let bytes = name.as_encoded_bytes();
                let is_hidden = bytes.starts_with(b".") && !pattern.starts_with('.');
                if !is_hidden && globs.matches(bytes) {
                    next.push(directory.join(&name));
                }
            }
        }
        next.sort();
        are_all &= next.len() <= MOST;
        next.truncate(MOST);
        found = next;
    }
    (found, are_all)
}

/// The assignments of an environment file: one a line, comments after `#` or `;`,
/// values with the quotes and backslashes of a shell.
fn assignments(text: &str) -> Vec<Assignment> {
    let mut found = Vec::new();
    let mut rest = text.chars().peekable();
    let mut line = 1;
    loop {
        while let Some(c) = rest.next_if(char::is_ascii_whitespace) {
            line += usize::from(c == '\n');
        }
        let Some(&first) = rest.peek() else {
            return found;
        };
        let start = line;
        let is_comment = matches!(first, '#' | ';');
        let mut name = String::new();
        while let Some(c) = rest.next_if(|c| *c != '\n' && (is_comment || *c != '=')) {
            name.push(c);
        }
        if is_comment || rest.next_if_eq(&'=').is_none() {
            continue;
        }
        let (value, lines) = value(&mut rest);
        line += lines;
        let name = name.trim_end();
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !name.is_empty() && name.chars().all(is_name) {
            found.push(Assignment {
                line: start,
                name: name.to_owned(),
                value,
            });
        }
    }
}

/// A value up to the end of its line, and how many lines it takes beyond one.
fn value(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> (String, usize) {
    let mut value = String::new();
    let mut lines = 0;
    let mut quote = None;
    // How much of it is not blanks at its end.
    let mut kept = 0;
    while rest.next_if(|c| matches!(c, ' ' | '\t')).is_some() {}
    while let Some(&c) = rest.peek() {
        if c == '\n' && quote.is_none() {
            break;
        }
        rest.next();
        lines += usize::from(c == '\n');
        match (c, quote) {
            ('"' | '\'', None) => quote = Some(c),
            (c, Some(open)) if c == open => {
                quote = None;
                kept = value.len();
            }
            ('\\', None | Some('"')) => match rest.next() {
                Some('\n') => lines += 1,
                Some(next) => {
                    // In double quotes, it quotes what a shell gives a meaning.
                    if quote.is_some() && !matches!(next, '"' | '\\' | '`' | '$') {
                        value.push('\\');
                    }
                    value.push(next);
                    kept = value.len();
                }
                None => {}
            },
            (c, _) => {
                value.push(c);
                if quote.is_some() || !c.is_ascii_whitespace() {
                    kept = value.len();
                }
            }
        }
    }
    value.truncate(kept);
    (value, lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_as_systemd_reads_them() {
        let text = "# A=0\n;A=1\\\nA=2\n\nB = \"x y\" \nC='a\\b'd \\\n e\nexport D=1\nE\n\
                    F=\"1\n2\" # no comment\nG=\nH=a\\ b\n";
        let found = assignments(text);
        let found: Vec<_> = found
            .iter()
            .map(|one| (one.line, one.name.as_str(), one.value.as_str()))
            .collect();
        assert_eq!(
            found,
            [
                // Since version 254; before, the comment went on.
                (3, "A", "2"),
                (5, "B", "x y"),
                (6, "C", "a\\bd  e"),
                (10, "F", "1\n2 # no comment"),
                (12, "G", ""),
                (13, "H", "a b"),
            ]
        );
    }

    #[test]
    fn patterns_match_the_files_that_are_there() {
        let directory = tempfile::tempdir().expect("a directory");
        for name in ["b.env", "a.env", ".c.env", "d.conf"] {
            std::fs::write(directory.path().join(name), "").expect("written");
        }
        let root = Root::new(directory.path()).expect("a root");
        let matching = |pattern: &str| matching(&root, Path::new(pattern)).0;
        let found = matching("/*.env");
        assert_eq!(found, [Path::new("/a.env"), Path::new("/b.env")]);
        assert_eq!(matching("/x"), [Path::new("/x")]);
        assert!(matching("/[").is_empty());
    }

    #[test]
    fn what_is_not_read_to_its_end_is_said() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |path: &str| directory.path().join(path);
        let root = Root::new(directory.path()).expect("a root");
        let found = |setting: &str| {
            let unit = Unit::with("a.service", setting);
            let files = files(&unit, &root);
            let last = files.last().map(|one| one.error.as_ref());
            let error = last.flatten().map(ToString::to_string);
            (files.len(), error.unwrap_or_default())
        };
        let length = usize::try_from(LARGEST).expect("a length");
        std::fs::write(at("full"), "\n".repeat(length)).expect("written");
        assert_eq!(found("EnvironmentFile=/full"), (1, String::new()));
        std::fs::write(at("long"), "\n".repeat(length + 1)).expect("written");
        let (_, error) = found("EnvironmentFile=/long");
        assert!(error.starts_with("File too large"), "{error}");
        for number in 0..=MOST {
            std::fs::write(at(&format!("{number}.env")), "").expect("written");
        }
        let (count, error) = found("EnvironmentFile=/*.env");
        assert_eq!(count, MOST + 1);
        assert_eq!(error, "it matches more than 1000 paths, or is no pattern");
    }
}
