//! The drop-in that puts the shim into a unit.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::Unit;
use super::environment::Environment;
use super::syntax::quoted;
use crate::preload::{self, LD_PRELOAD};
use crate::rules::Assignments;
use crate::shim;

/// The name of its file.
pub const DROP_IN: &str = "50-reuseport.conf";

/// How a drop-in of ours begins.
const HEADING: &str =
    "# Written by reuseport inject --unit; reuseport eject --unit takes it out again.\n";

/// Whether `text` is a drop-in of ours.
pub fn is_ours(text: &[u8]) -> bool {
    text.starts_with(HEADING.as_bytes())
}

/// The text of the drop-in for `unit`, which is read without it: the shim at
/// `path`, after what LD_PRELOAD holds and after `first`, under `rules`.
pub fn drop_in(unit: &Unit, path: &Path, rules: &Assignments, first: &[OsString]) -> String {
    let environment = Environment::of(unit);
    let list = environment.get(LD_PRELOAD).map(AsRef::as_ref);
    // What is there has its specifiers; ours is to be taken as it is.
    let plain = |text: &OsStr| OsString::from(text.to_string_lossy().replace('%', "%%"));
    let first: Vec<OsString> = first.iter().map(|one| plain(one)).collect();
    let path = PathBuf::from(plain(path.as_os_str()));
    let list = preload::merge(list, &first, &path, shim::is_shim_file);
    let mut text = format!("{HEADING}[Service]\n");
    let mut add = |name: &str, value: &str| {
        text.push_str("Environment=");
        text.push_str(&quoted(&format!("{name}={value}")));
        text.push('\n');
    };
    add(LD_PRELOAD, &list.to_string_lossy());
    for (variable, value) in rules.iter() {
        add(variable.name(), &plain(value).to_string_lossy());
    }
    text
}
