//! The network namespaces of a machine, and looking at their sockets from inside.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::process;

/// A network namespace, see network_namespaces(7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// The inode number that `/proc/PID/ns/net` shows.
    pub id: u64,
    /// The name that ip-netns(8) knows it by.
    pub name: Option<String>,
    /// Where it can be entered.
    path: PathBuf,
}

/// Where ip-netns(8) keeps what it has named, and Docker what it has not.
const NAMED: [(&str, bool); 2] = [("/run/netns", true), ("/run/docker/netns", false)];

/// All of them that a process of `proc`, which is `/proc`, is in, or that have a name.
pub fn namespaces(proc: &Path) -> Vec<Namespace> {
    let mut found: BTreeMap<u64, Namespace> = BTreeMap::new();
    for (directory, is_name) in NAMED {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = entry.file_name().into_string().ok();
            add(&mut found, entry.path(), name.filter(|_| is_name));
        }
    }
    for one in process::below(proc, 0).unwrap_or_default() {
        add(&mut found, proc.join(format!("{}/ns/net", one.pid)), None);
    }
    found.into_values().collect()
}

fn add(found: &mut BTreeMap<u64, Namespace>, path: PathBuf, name: Option<String>) {
    // One that has ended meanwhile, or a file that is no namespace, is passed over
    // here, or where it is entered.
    if let Ok(metadata) = fs::metadata(&path) {
        let id = metadata.ino();
        let new = Namespace { id, name, path };
        found.entry(id).or_insert(new);
    }
}

impl Namespace {
    /// The namespace of this process.
    ///
    /// # Errors
    /// There is no `/proc`.
    pub fn own(proc: &Path) -> io::Result<Self> {
        let path = proc.join("self/ns/net");
        Ok(Self {
            id: fs::metadata(&path)?.ino(),
            name: None,
            path,
        })
    }

    /// What `look` gives inside.
    ///
    /// # Errors
    /// It may not be entered, or `look` fails.
    pub(super) fn inside<T: Send>(
        &self,
        look: impl FnOnce() -> io::Result<T> + Send,
    ) -> io::Result<T> {
        let file = File::open(&self.path)?;
        // A thread of its own, since it does not come back.
        let enter = || {
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(file.as_fd(), kind)?;
            look()
        };
        thread::scope(|scope| {
            let outcome = scope.spawn(enter).join();
            outcome.unwrap_or_else(|_| Err(io::Error::other("looking there failed")))
        })
    }
}
