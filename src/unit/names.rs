//! Finding the drop-ins of a unit by all of its names.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::load::{entries, instance, instantiated, template};
use crate::program::Root;

/// Adds the names of units whose drop-ins are those of `name`, too, the most
/// particular first: its own, its template's, those of its dashes.
fn add_drop_in_names(name: &str, names: &mut Vec<String>) {
    names.push(name.to_owned());
    if let Some(template) = template(name) {
        add_drop_in_names(&template, names);
    }
    let stem = name.strip_suffix(".service").unwrap_or(name);
    let prefix = stem.split_once('@').map_or(stem, |(prefix, _)| prefix);
    let prefix = prefix.strip_suffix('-').unwrap_or(prefix);
    if let Some((shorter, _)) = prefix.rsplit_once('-') {
        let instance = instance(name).map_or(String::new(), |one| format!("@{one}"));
        add_drop_in_names(&format!("{shorter}-{instance}.service"), names);
    }
}

/// What lies in a directory of the load path.
struct Listing<'a> {
    directory: &'a Path,
    /// The names of directories with drop-ins.
    drop_ins: HashSet<String>,
    /// Links, and the names that they lead to.
    links: Vec<(String, String)>,
}

impl<'a> Listing<'a> {
    fn read(root: &Root, directory: &'a Path) -> Option<Self> {
        let pinned = root.pinned(directory).ok()?;
        let mut this = Self {
            directory,
            drop_ins: HashSet::new(),
            links: Vec::new(),
        };
        for entry in fs::read_dir(&pinned.path).ok()?.flatten() {
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if name.ends_with(".service.d") || name == "service.d" {
                this.drop_ins.insert(name);
            } else if name.ends_with(".service")
                && entry.file_type().is_ok_and(|kind| kind.is_symlink())
                && let Ok(target) = fs::read_link(pinned.path.join(&name))
                && let Some(target) = target.file_name()
            {
                let target = target.to_string_lossy().into_owned();
                this.links.push((name, target));
            }
        }
        Some(this)
    }
}

/// `name` and all names that are links to it.
fn names(listings: &[Listing<'_>], name: &str) -> Vec<String> {
    let mut names = vec![name.to_owned()];
    let mut next = 0;
    while let Some(known) = names.get(next).cloned() {
        next += 1;
        let template = template(&known);
        for (from, to) in listings.iter().flat_map(|one| &one.links) {
            let alias = if *to == known {
                from.clone()
            } else if Some(to) == template.as_ref() {
                instantiated(from, &known)
            } else {
                continue;
            };
            if instance(&alias) == instance(name) && !names.contains(&alias) {
                names.push(alias);
            }
        }
    }
    names
}

/// The drop-ins of the unit `name`, in the order in which they are read. Of those
/// with the same file name, the one in the best directory counts.
pub(super) fn drop_ins(root: &Root, directories: &[PathBuf], name: &str) -> Vec<PathBuf> {
    let listings = directories.iter();
    let listings: Vec<_> = listings
        .filter_map(|one| Listing::read(root, one))
        .collect();
    let mut found: BTreeMap<OsString, PathBuf> = BTreeMap::new();
    let mut look = |listing: &Listing<'_>, name: &str| {
        let name = format!("{name}.d");
        if !listing.drop_ins.contains(&name) {
            return;
        }
        let directory = listing.directory.join(name);
        for file in entries(root, &directory) {
            let ending = Path::new(&file).extension();
            if ending.is_some_and(|one| one == "conf") {
                let path = directory.join(&file);
                found.entry(file).or_insert(path);
            }
        }
    };
    for name in names(&listings, name) {
        let mut names = Vec::new();
        add_drop_in_names(&name, &mut names);
        for listing in &listings {
            for name in &names {
                look(listing, name);
            }
        }
    }
    for listing in &listings {
        look(listing, "service");
    }
    found.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drop_ins_of_prefixes_count() {
        let mut names = Vec::new();
        add_drop_in_names("b-c-d@one.service", &mut names);
        let expected = [
            "b-c-d@one",
            "b-c-d@",
            "b-c-",
            "b-",
            "b-c-@one",
            "b-c-@",
            "b-",
            "b-@one",
            "b-@",
        ];
        assert_eq!(names, expected.map(|one| format!("{one}.service")));
    }

    #[test]
    fn a_name_has_its_aliases() {
        let link = |from: &str, to: &str| (format!("{from}.service"), format!("{to}.service"));
        let listing = Listing {
            directory: Path::new("/"),
            drop_ins: HashSet::new(),
            links: vec![
                link("a", "b"),
                link("c", "a"),
                link("x@", "y@"),
                link("z@1", "y@"),
                link("z@2", "y@"),
            ],
        };
        let names = |name: &str| names(std::slice::from_ref(&listing), name).join(" ");
        assert_eq!(names("b.service"), "b.service a.service c.service");
        assert_eq!(names("y@1.service"), "y@1.service x@1.service z@1.service");
        assert_eq!(names("y@.service"), "y@.service x@.service");
    }
}
