//! The way to the shim: what a user must be able to enter and to read.

use std::path::{Path, PathBuf};

use rustix::fs::{FsWord, statfs};

use super::judge::error;
use super::load::Unit;
use super::user::User;
use crate::finding::{Finding, Severity};
use crate::program::{Root, Status};

/// The directories above the shim, and the shim.
#[derive(Debug, Default)]
pub(super) struct Way {
    steps: Vec<(PathBuf, Status)>,
    /// The shim at the end.
    pub(super) shim: Option<PathBuf>,
    /// The type of the file system on which the shim lies, see statfs(2).
    file_system: Option<FsWord>,
}

/// The type of the file system on which `path` of `root` lies.
fn file_system(root: &Root, path: &Path) -> Option<FsWord> {
    let pinned = root.pinned(path).ok()?;
    Some(statfs(&pinned.path).ok()?.f_type)
}

impl Way {
    /// Adds what lies between `top` and `path`, two paths in `root`, and both of
    /// them, with what links lead through; nothing of what is not there. `root` lies
    /// at `place`, for messages.
    pub(super) fn add(&mut self, root: &Root, place: &Path, top: &Path, path: &Path) {
        let shown = |path: &Path| match path.strip_prefix("/") {
            Ok(below) if place != Path::new("/") => place.join(below),
            _ => path.to_owned(),
        };
        let real = root.canonical(path).unwrap_or_else(|_| path.to_owned());
        let mut steps: Vec<&Path> = path.ancestors().chain(real.ancestors()).collect();
        steps.retain(|step| step.starts_with(top));
        // The ones above first: what closes them closes all.
        steps.sort_by_key(|step| step.components().count());
        for step in steps {
            let shown = shown(step);
            if let Ok(status) = root.status(step)
                && !self.steps.iter().any(|(known, _)| *known == shown)
            {
                self.steps.push((shown, status));
            }
        }
        self.file_system = file_system(root, path);
        // Links of another root would lead elsewhere.
        let is_same = place == Path::new("/");
        self.shim = Some(shown(if is_same { path } else { &real }));
    }

    /// What keeps the shim from being opened by RestrictFileSystems=, which names
    /// types of file systems. The type on which `program` of `root` lies must be
    /// allowed, since it starts; which others are is not looked up.
    pub(super) fn judge_file_system(
        &self,
        unit: &Unit,
        root: &Root,
        program: &Path,
    ) -> Option<Finding> {
        let setting = *unit.list("RestrictFileSystems").first()?;
        let of_program = file_system(root, program)?;
        if self.file_system? == of_program {
            return None;
        }
        let what = "may keep the shim from being opened: it lies on another type of file system \
                    than the program";
        let hint = "allow that type, or install the shim on the program's file system";
        let mut finding = error("shim-unreadable", setting, what, hint);
        finding.severity = Severity::Warning;
        Some(finding)
    }

    /// What keeps `user` from reading the shim.
    pub(super) fn judge(&self, user: &User) -> Option<Finding> {
        if user.reads_all {
            return None;
        }
        let id = user.credentials.user;
        for (path, status) in &self.steps {
            let shift = if status.user == id {
                6
            } else if user.is_in(status.group) {
                3
            } else {
                0
            };
            let (needed, what, mode) = if status.is_directory {
                (1, "entered", "a+x")
            } else {
                (4, "read", "a+r")
            };
            if status.mode >> shift & needed == 0 {
                let path = path.display();
                let message = format!("{path} cannot be {what} by the user {id} who runs it");
                let finding = Finding::new(Severity::Error, "shim-unreadable", message);
                return Some(finding.hint(format!("chmod {mode} {path}")));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_of_its_file_system_may_close_the_shim() {
        let root = Root::host();
        // A tmpfs, or whatever it is, and procfs.
        let program = std::env::temp_dir();
        let severity = |lines: &str, shim: &Path| {
            let unit = Unit::with("a.service", lines);
            let mut way = Way::default();
            way.add(&root, Path::new("/"), Path::new("/"), shim);
            let found = way.judge_file_system(&unit, &root, &program);
            found.map(|one| (one.code, one.severity))
        };
        let shim = Path::new("/proc/self/maps");
        let expected = Some(("shim-unreadable", Severity::Warning));
        assert_eq!(severity("RestrictFileSystems=ext4 tmpfs", shim), expected);
        assert_eq!(severity("", shim), None);
        assert_eq!(severity("RestrictFileSystems=ext4", &program), None);
        let emptied = "RestrictFileSystems=ext4\nRestrictFileSystems=";
        assert_eq!(severity(emptied, shim), None);
    }
}
