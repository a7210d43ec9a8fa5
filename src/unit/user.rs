//! Who runs a unit's programs, see systemd.exec(5), "User/Group Identity".

use std::io::Read;
use std::path::Path;

use rustix::process::getgroups;

use super::load::Unit;
use crate::program::{Credentials, Root};

/// A user, with all groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) credentials: Credentials,
    /// Those beside the one in `credentials`.
    groups: Vec<u32>,
    /// Whether modes keep it from nothing: root, or by `AmbientCapabilities=`.
    pub(super) reads_all: bool,
}

/// Those capabilities for which modes keep nothing from being read.
const READING: [&str; 2] = ["CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH"];

/// The user and the group of nobody, and of whom systemd allocates.
const NOBODY: u32 = 65534;

/// More than any list of users.
const LARGEST: u64 = 16 << 20;

/// What `/etc/passwd` says of a user.
#[derive(Debug, Default, PartialEq, Eq)]
struct Account {
    name: String,
    id: u32,
    group: u32,
}

impl User {
    /// Who runs the commands of `unit`; `is_privileged` where they start with all
    /// rights, whatever `User=` says. Names are those of `root`, the system that
    /// systemd runs on, also where the unit has a root of its own. Who cannot be
    /// looked up is one without rights.
    pub(super) fn of(unit: &Unit, root: &Root, is_privileged: bool) -> Self {
        let setting = |key: &str| unit.text(key).and_then(Result::ok);
        let own = Credentials::of_this_process();
        let is_dynamic = unit.is_yes("DynamicUser");
        let no_new_privileges = unit.is_yes("NoNewPrivileges") || is_dynamic;
        // A user's manager has no rights to give.
        let is_privileged = is_privileged && !unit.is_user;
        let may_read = !unit.is_user && held(unit, "AmbientCapabilities", false).contains(&true);
        let bounds = held(unit, "CapabilityBoundingSet", true).contains(&true);
        let with = |user, group, groups| Self {
            reads_all: (user == 0 || may_read) && (bounds || is_privileged),
            credentials: Credentials {
                user,
                group,
                no_new_privileges,
            },
            groups,
        };
        if is_privileged {
            return with(0, 0, Vec::new());
        }
        let text = read(root, "/etc/group");
        let group = setting("Group").and_then(|name| find_group(&text, &name));
        let mut groups = Vec::new();
        let (user, own_group) = if unit.is_user {
            let all = getgroups().unwrap_or_default();
            groups.extend(all.iter().map(|one| one.as_raw()));
            (own.user, own.group)
        } else if let Some(setting) = unit.value("User") {
            let name = super::specifier::expand(unit, &setting.line.value).ok();
            let passwd = read(root, "/etc/passwd");
            let account = name.and_then(|name| find_user(&passwd, &name));
            let account = account.unwrap_or(Account {
                name: String::new(),
                id: NOBODY,
                group: NOBODY,
            });
            // As systemd does, not for root's group.
            if group.unwrap_or(account.group) != 0 {
                groups.extend(groups_of(&text, &account.name));
            }
            (account.id, account.group)
        } else if is_dynamic {
            (NOBODY, NOBODY)
        } else {
            (0, 0)
        };
        let names = unit.words("SupplementaryGroups").into_iter();
        let names = names.filter_map(|(word, _)| super::specifier::expand(unit, &word).ok());
        groups.extend(names.filter_map(|name| find_group(&text, &name)));
        with(user, group.unwrap_or(own_group), groups)
    }

    /// Whether it is in `group`.
    pub(super) fn is_in(&self, group: u32) -> bool {
        self.credentials.group == group || self.groups.contains(&group)
    }
}

/// Which of [`READING`] the setting `key` has; all or none where it is not given,
/// `by_default`.
fn held(unit: &Unit, key: &str, by_default: bool) -> [bool; 2] {
    let mut held: Option<[bool; 2]> = None;
    for setting in unit.list(key) {
        let value = setting.line.value.as_str();
        let (is_inverted, list) = match value.strip_prefix('~') {
            Some(list) => (true, list),
            None => (false, value),
        };
        let lists = |name: &str| {
            list.split_whitespace()
                .any(|one| one.eq_ignore_ascii_case(name))
        };
        let listed = READING.map(lists);
        // The first list is what it says; those after it add or take away.
        let before = held.unwrap_or([is_inverted; 2]);
        held = Some([0, 1].map(|index| {
            if listed[index] {
                !is_inverted
            } else {
                before[index]
            }
        }));
    }
    held.unwrap_or([by_default; 2])
}

fn read(root: &Root, path: &str) -> String {
    let mut text = Vec::new();
    if let Ok(file) = root.open(Path::new(path)) {
        let _ = file.take(LARGEST).read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// The user `name`, which may be a number. Root and nobody are what systemd takes
/// them for; a number in no line is itself.
fn find_user(passwd: &str, name: &str) -> Option<Account> {
    let account = |name: &str, id, group| {
        Some(Account {
            name: name.to_owned(),
            id,
            group,
        })
    };
    match name {
        "root" | "0" => return account("root", 0, 0),
        "nobody" | "65534" => return account("nobody", NOBODY, NOBODY),
        _ => {}
    }
    let id = name.parse::<u32>().ok();
    let found = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (one, _) = (fields.next()?, fields.next()?);
        let number = fields.next()?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        let is_it = id.map_or(one == name, |id| id == number);
        is_it.then(|| account(one, number, group))?
    });
    found.or_else(|| account("", id?, id?))
}

/// The number of the group `name`, which may be one.
fn find_group(text: &str, name: &str) -> Option<u32> {
    if let Ok(id) = name.parse() {
        return Some(id);
    }
    let found = groups(text).find(|(one, _, _)| *one == name);
    match (name, found) {
        ("root", _) => Some(0),
        (_, Some((_, id, _))) => Some(id),
        ("nobody" | "nogroup", None) => Some(NOBODY),
        _ => None,
    }
}

/// The numbers of the groups that list the user `name`.
fn groups_of(text: &str, name: &str) -> Vec<u32> {
    let groups = groups(text).filter(|(_, _, members)| {
        let mut members = members.split(',');
        members.any(|one| !name.is_empty() && one == name)
    });
    groups.map(|(_, id, _)| id).collect()
}

/// Name, number and members of each line of `/etc/group`.
fn groups(text: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _) = (fields.next()?, fields.next()?);
        let id = fields.next()?.parse().ok()?;
        Some((name, id, fields.next().unwrap_or_default().trim()))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const PASSWD: &str = "web:x:33:34::/:\nnobody:x:99:99::/:\n\nbad:x:y:1::/:\n";
    const GROUP: &str = "www:x:34:\nssl:x:110:web,db\nlog:x:111:db\nadm:x:4:webx,web\nbad\n";

    fn user(lines: &str) -> User {
        let directory = tempfile::tempdir().expect("a directory");
        fs::create_dir(directory.path().join("etc")).expect("made");
        fs::write(directory.path().join("etc/passwd"), PASSWD).expect("written");
        fs::write(directory.path().join("etc/group"), GROUP).expect("written");
        let root = Root::new(directory.path()).expect("a root");
        User::of(&Unit::with("a.service", lines), &root, false)
    }

    #[test]
    fn users_have_the_groups_that_systemd_gives_them() {
        for (lines, user, group, groups) in [
            ("", 0, 0, &[][..]),
            ("User=web", 33, 34, &[110, 4]),
            ("User=33", 33, 34, &[110, 4]),
            ("User=1000", 1000, 1000, &[]),
            ("User=web\nGroup=log", 33, 111, &[110, 4]),
            ("User=web\nGroup=root", 33, 0, &[]),
            (
                "User=1000\nGroup=7\nSupplementaryGroups=ssl 12\nSupplementaryGroups=none",
                1000,
                7,
                &[110, 12],
            ),
            (
                "DynamicUser=yes\nSupplementaryGroups=ssl",
                NOBODY,
                NOBODY,
                &[110],
            ),
            ("User=unknown", NOBODY, NOBODY, &[]),
            ("User=%H", NOBODY, NOBODY, &[]),
            ("User=nobody\nGroup=nogroup", NOBODY, NOBODY, &[]),
            ("User=root\nGroup=root", 0, 0, &[]),
        ] {
            let found = super::tests::user(lines);
            let ids = (found.credentials.user, found.credentials.group);
            assert_eq!((ids, &found.groups[..]), ((user, group), groups), "{lines}");
        }
    }

    #[test]
    fn root_and_nobody_need_no_list() {
        let directory = tempfile::tempdir().expect("a directory");
        let root = Root::new(directory.path()).expect("a root");
        for (name, id) in [("root", 0), ("nobody", NOBODY), ("other", NOBODY)] {
            let unit = Unit::with("a.service", &format!("User={name}"));
            assert_eq!(User::of(&unit, &root, false).credentials.user, id, "{name}");
        }
        let unit = Unit::with("a.service", "User=web");
        assert_eq!(User::of(&unit, &root, true).credentials.user, 0);
    }
}
