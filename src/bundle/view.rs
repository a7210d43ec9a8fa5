//! The files that the process of a bundle will see: its root, and what is mounted
//! over it.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::judge::Capabilities;
use crate::program::{Files, Head, Root, Status, Step, walk};

/// The files of a bundle, as its process sees them.
#[derive(Debug)]
pub(super) struct View {
    /// In the order in which they are mounted, the root first.
    mounts: Vec<Mount>,
    users: Mapping,
    groups: Mapping,
    capabilities: Option<Capabilities>,
    /// The mount that something was looked for in and that cannot be looked into.
    unknown: Cell<Option<usize>>,
    /// What was found at paths whose parents are resolved: the target of a link. Most
    /// lookups share their directories.
    links: RefCell<HashMap<PathBuf, Option<PathBuf>>>,
}

#[derive(Debug)]
struct Mount {
    destination: PathBuf,
    what: What,
    is_nosuid: bool,
}

#[derive(Debug)]
enum What {
    /// A directory or a file of the host.
    Host(PathBuf, OnceCell<io::Result<Place>>),
    /// A file system that begins empty, or holds no programs.
    Empty,
    /// Another one, of this type.
    Unknown(String),
}

/// A directory; of it, one file where a file is mounted.
#[derive(Debug)]
struct Place {
    root: Root,
    file: Option<OsString>,
}

impl Place {
    fn of(path: &Path) -> io::Result<Self> {
        let real = fs::canonicalize(path)?;
        match (real.is_dir(), real.parent(), real.file_name()) {
            (false, Some(parent), Some(name)) => Ok(Self {
                root: Root::new(parent)?,
                file: Some(name.to_owned()),
            }),
            _ => Ok(Self {
                root: Root::new(&real)?,
                file: None,
            }),
        }
    }
}

/// `linux.uidMappings` or `gidMappings`: the first in the container, the first on
/// the host, how many.
#[derive(Debug, Default)]
struct Mapping(Vec<[u64; 3]>);

impl Mapping {
    fn of(list: &Value) -> Self {
        let number = |one: &Value, name: &str| one[name].as_u64().unwrap_or_default();
        let list = list.as_array().into_iter().flatten();
        let names = ["containerID", "hostID", "size"];
        Self(
            list.map(|one| names.map(|name| number(one, name)))
                .collect(),
        )
    }

    /// The host's id as the container has it.
    fn inside(&self, id: u32) -> Option<u32> {
        if self.0.is_empty() {
            return Some(id);
        }
        let id = u64::from(id);
        let range = self
            .0
            .iter()
            .find(|[_, host, size]| id.checked_sub(*host).is_some_and(|below| below < *size));
        range.and_then(|[container, host, _]| u32::try_from(container + id - host).ok())
    }
}

/// Where a path leads: to a file of a mount.
struct Found<'a> {
    place: &'a Place,
    /// The path below the mount's directory.
    inside: PathBuf,
    /// The path in the container, links resolved.
    path: PathBuf,
    mount: usize,
}

impl View {
    /// The files that the bundle in `directory` has by its `config` over `root`.
    pub(super) fn new(
        directory: &Path,
        root: PathBuf,
        config: &Value,
        capabilities: Option<Capabilities>,
    ) -> Self {
        let mut this = Self {
            mounts: vec![Mount {
                destination: "/".into(),
                what: What::Host(root, OnceCell::new()),
                is_nosuid: false,
            }],
            users: Mapping::of(&config["linux"]["uidMappings"]),
            groups: Mapping::of(&config["linux"]["gidMappings"]),
            capabilities,
            unknown: Cell::new(None),
            links: RefCell::default(),
        };
        for mount in config["mounts"].as_array().into_iter().flatten() {
            this.mount(directory, mount);
        }
        for path in config["linux"]["maskedPaths"]
            .as_array()
            .into_iter()
            .flatten()
        {
            this.cover(path.as_str().unwrap_or_default(), What::Empty, false);
        }
        this
    }

    fn mount(&mut self, directory: &Path, mount: &Value) {
        const EMPTY: [&str; 11] = [
            "tmpfs",
            "ramfs",
            "proc",
            "sysfs",
            "cgroup",
            "cgroup2",
            "devpts",
            "mqueue",
            "devtmpfs",
            "securityfs",
            "debugfs",
        ];
        let kind = mount["type"].as_str().unwrap_or_default();
        let options = mount["options"].as_array();
        let has = |option: &str| options.is_some_and(|all| all.iter().any(|one| *one == option));
        // What was there is copied into it.
        if kind == "tmpfs" && has("tmpcopyup") {
            return;
        }
        let source = mount["source"].as_str().unwrap_or_default();
        let what = if kind == "bind" || has("bind") || has("rbind") {
            What::Host(directory.join(source), OnceCell::new())
        } else if EMPTY.contains(&kind) {
            What::Empty
        } else {
            What::Unknown(kind.to_owned())
        };
        let destination = mount["destination"].as_str().unwrap_or_default();
        self.cover(destination, what, has("nosuid"));
    }

    /// Puts `what` at `destination`, whose links are followed.
    fn cover(&mut self, destination: &str, what: What, is_nosuid: bool) {
        let path = Path::new("/").join(destination);
        let real = self.find(&path).map(|found| found.path);
        let destination = real.unwrap_or_else(|_| path.components().collect());
        self.unknown.set(None);
        // It may cover what was found.
        self.links.take();
        self.mounts.push(Mount {
            destination,
            what,
            is_nosuid,
        });
    }

    /// What cannot be looked into though something may be there, for people.
    pub(super) fn unknown(&self) -> Option<String> {
        let mount = &self.mounts[self.unknown.get()?];
        let path = mount.destination.display();
        Some(match &mount.what {
            What::Unknown(kind) => format!("{path} is a file system of the type '{kind}'"),
            What::Host(source, _) => format!("{path} is {}", source.display()),
            What::Empty => format!("{path} is empty"),
        })
    }

    /// The mount that `path` lies in: the last one that covers it.
    fn at(&self, path: &Path) -> (usize, &Mount) {
        let mut mounts = self.mounts.iter().enumerate().rev();
        let found = mounts.find(|(_, one)| path.starts_with(&one.destination));
        found.unwrap_or((0, &self.mounts[0]))
    }

    /// The place of the mount `index`, and `path` in it.
    fn inside(&self, index: usize, path: &Path) -> io::Result<(&Place, PathBuf)> {
        let Mount {
            destination, what, ..
        } = &self.mounts[index];
        let place = match what {
            What::Host(source, place) => place.get_or_init(|| Place::of(source)).as_ref(),
            What::Empty => return Err(io::ErrorKind::NotFound.into()),
            What::Unknown(_) => {
                self.unknown.set(Some(index));
                return Err(io::ErrorKind::NotFound.into());
            }
        };
        let place = place.map_err(|error| {
            self.unknown.set(Some(index));
            io::Error::from(error.kind())
        })?;
        let below = path.strip_prefix(destination).unwrap_or(path);
        let inside = match &place.file {
            Some(_) if !below.as_os_str().is_empty() => {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            Some(name) => Path::new("/").join(name),
            None => Path::new("/").join(below),
        };
        Ok((place, inside))
    }

    /// The target of `path` if that is a link; its parent is resolved.
    fn link(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        let (index, mount) = self.at(path);
        // What is mounted on is no link.
        if mount.destination == path {
            return Ok(None);
        }
        if let Some(known) = self.links.borrow().get(path) {
            return Ok(known.clone());
        }
        let (place, inside) = self.inside(index, path)?;
        let (Some(parent), Some(name)) = (inside.parent(), inside.file_name()) else {
            return Ok(None);
        };
        let parent = place.root.pinned(parent)?;
        let target = match fs::read_link(parent.path.join(name)) {
            Ok(target) => Some(target),
            // It is there, and no link.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => None,
            Err(error) => return Err(error),
        };
        let mut links = self.links.borrow_mut();
        links.insert(path.to_owned(), target.clone());
        Ok(target)
    }

    /// Whether something is mounted below `path`, so that it is a directory.
    fn is_above_mount(&self, path: &Path) -> bool {
        let mut mounts = self.mounts.iter();
        mounts.any(|one| one.destination.starts_with(path))
    }

    fn find(&self, path: &Path) -> io::Result<Found<'_>> {
        let (here, ()) = walk(path, (), |here| match self.link(here) {
            Ok(Some(target)) => Ok(Step::Link(target)),
            Ok(None) => Ok(Step::Directory(())),
            // The runtime makes the directories that it mounts on.
            Err(_) if self.is_above_mount(here) => Ok(Step::Directory(())),
            Err(error) => Err(error),
        })?;
        let (mount, _) = self.at(&here);
        let (place, inside) = self.inside(mount, &here)?;
        Ok(Found {
            place,
            inside,
            path: here,
            mount,
        })
    }
}

impl Files for View {
    fn status(&self, path: &Path, _: bool) -> io::Result<Status> {
        const SET_IDS: u32 = 0o6000;
        const OVERFLOW: u32 = 65_534;
        let Found { place, inside, .. } = self.find(path)?;
        let mut status = place.root.status(&inside)?;
        let ids = (
            self.users.inside(status.user),
            self.groups.inside(status.group),
        );
        if ids.0.is_none() || ids.1.is_none() {
            // The kernel takes no notice of them where the owner is not known.
            status.mode &= !SET_IDS;
        }
        status.user = ids.0.unwrap_or(OVERFLOW);
        status.group = ids.1.unwrap_or(OVERFLOW);
        Ok(status)
    }

    fn open(&self, path: &Path, _: bool) -> io::Result<File> {
        let Found { place, inside, .. } = self.find(path)?;
        place.root.open(&inside)
    }

    fn head(&self, path: &Path, _: bool) -> io::Result<Head> {
        Head::of(&self.open(path, true)?)
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        let found = self.find(path)?;
        found.place.root.status(&found.inside)?;
        Ok(found.path)
    }

    fn has_capabilities(&self, path: &Path) -> io::Result<bool> {
        let Found { place, inside, .. } = self.find(path)?;
        let value = place.root.capabilities(&inside)?;
        Ok(match &self.capabilities {
            Some(process) => value.is_some_and(|value| process.are_raised_by(&value)),
            None => value.is_some(),
        })
    }

    fn is_nosuid(&self, path: &Path) -> io::Result<bool> {
        let found = self.find(path)?;
        Ok(self.mounts[found.mount].is_nosuid || found.place.root.is_nosuid(&found.inside)?)
    }

    fn deepen(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use serde_json::json;

    use super::*;

    #[test]
    fn mounts_cover_what_is_below_them() {
        let bundle = tempfile::tempdir().expect("a directory");
        let path = |name: &str| bundle.path().join(name);
        for (name, text) in [
            ("rootfs/bin/a", "root"),
            ("rootfs/opt/a", "root"),
            ("rootfs/data/a", "root"),
            ("rootfs/file", "root"),
            ("source/a", "host"),
            ("source/deep/b", "host"),
            ("one", "host file"),
        ] {
            fs::create_dir_all(path(name).parent().expect("a parent")).expect("made");
            fs::write(path(name), text).expect("written");
        }
        symlink("/opt/../opt/a", path("rootfs/bin/absolute")).expect("a link");
        symlink("../../../../opt", path("rootfs/bin/up")).expect("a link");
        symlink("/file", path("source/out")).expect("a link");
        symlink("loop", path("source/loop")).expect("a link");
        symlink("opt", path("rootfs/link")).expect("a link");
        let config = json!({
            "mounts": [
                {"destination": "/run", "type": "tmpfs", "source": "tmpfs"},
                {"destination": "link", "type": "none", "options": ["rbind"], "source": "source"},
                {"destination": "/file", "type": "bind", "source": path("one")},
                {"destination": "/data", "type": "tmpfs", "options": ["tmpcopyup"]},
                {"destination": "/disk", "type": "ext4", "source": "/dev/x"},
                {"destination": "/gone/", "type": "bind", "source": "none"},
                {"destination": "/opt/deep", "type": "tmpfs"},
            ],
            "linux": {"maskedPaths": ["/opt/masked"]},
        });
        let view = View::new(bundle.path(), path("rootfs"), &config, None);
        let read = |name: &str| {
            let file = view.open(Path::new(name), true).ok()?;
            io::read_to_string(file).ok()
        };
        for (name, text) in [
            ("/bin/a", Some("root")),
            ("/opt/a", Some("host")),
            ("/link/a", Some("host")),
            ("/bin/absolute", Some("host")),
            ("/bin/up/a", Some("host")),
            ("/opt/out", Some("host file")),
            ("/opt/loop", None),
            ("/opt/deep/b", None),
            ("/opt/../file", Some("host file")),
            ("/file/x", None),
            ("/data/a", Some("root")),
            ("/run/a", None),
        ] {
            assert_eq!(read(name).as_deref(), text, "{name}");
        }
        assert_eq!(view.unknown(), None);
        assert_eq!(read("/disk/a"), None);
        assert!(view.unknown().expect("it").contains("'ext4'"));
        assert_eq!(read("/gone/a"), None);
        assert!(view.unknown().expect("it").contains("/none"));
        let found = view.canonical(Path::new("/bin/absolute")).expect("it");
        assert_eq!(found, Path::new("/opt/a"));
    }

    #[test]
    fn owners_are_those_that_the_container_sees() {
        let list = json!([{"containerID": 0, "hostID": 1000, "size": 1},
                          {"containerID": 1, "hostID": 100_000, "size": 65536}]);
        let mapping = Mapping::of(&list);
        let ids = [1000, 100_000, 100_009, 0, 1001].map(|id| mapping.inside(id));
        assert_eq!(ids, [Some(0), Some(1), Some(10), None, None]);
        assert_eq!(Mapping::default().inside(7), Some(7));
    }
}
