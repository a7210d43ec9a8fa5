//! The way to the shim: what a user must be able to enter and to read.

use std::path::{Path, PathBuf};

use super::user::User;
use crate::finding::{Finding, Severity};
use crate::program::{Root, Status};

/// The directories above the shim, and the shim.
#[derive(Debug, Default)]
pub(super) struct Way {
    steps: Vec<(PathBuf, Status)>,
}

impl Way {
    /// Adds what lies between `top` and `path`, two paths in `root`, and both of
    /// them, with what links lead through; nothing of what is not there. `root` lies
    /// at `place`, for messages.
    pub(super) fn add(&mut self, root: &Root, place: &Path, top: &Path, path: &Path) {
        let real = root.canonical(path);
        let real = real.iter().flat_map(|real| real.ancestors());
        let mut steps: Vec<&Path> = path.ancestors().chain(real).collect();
        steps.retain(|step| step.starts_with(top));
        // The ones above first: what closes them closes all.
        steps.sort_by_key(|step| step.components().count());
        for step in steps {
            let shown = match step.strip_prefix("/") {
                Ok(below) if place != Path::new("/") => place.join(below),
                _ => step.to_owned(),
            };
            if let Ok(status) = root.status(step)
                && !self.steps.iter().any(|(known, _)| *known == shown)
            {
                self.steps.push((shown, status));
            }
        }
    }

    /// What keeps `user` from reading the shim.
    pub(super) fn judge(&self, user: &User) -> Option<Finding> {
        let id = user.credentials.user;
        if id == 0 {
            return None;
        }
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
