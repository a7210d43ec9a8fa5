//! The machine's files as the copies see them: everything is there, and what they
//! write goes to memory.
//!
//! Each file system is covered by an overlay, whose upper directory lies in a
//! tmpfs, see the kernel's `Documentation/filesystems/overlayfs.rst`. What cannot
//! be covered is there read-only; what the kernel makes up (proc, sysfs, mqueue)
//! is mounted anew.

mod table;

use std::ffi::CString;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, StatVfsMountFlags, openat, statvfs};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive,
    mount_change, mount_remount, unmount,
};
use rustix::process::{chdir, pivot_root};

use super::{Refusal, isolation};
use crate::image::layer::SHIM_DIRECTORY;
use table::{Mount, Treatment};

/// A directory of root's that all may write. In a user namespace only the upmost
/// directory of an overlay can be so: below, those of others cannot be copied.
const SHARED: &str = "/var/tmp";

/// Keeps what is mounted from here on from the machine.
///
/// # Errors
/// The right to mount is missing.
pub(super) fn make_private() -> Result<(), Refusal> {
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", flags).map_err(|error| refused("a mount namespace", &error.into()))
}

/// Mounts the /proc of this PID namespace.
///
/// # Errors
/// It is not permitted: in a container, parts of /proc are covered.
pub(super) fn mount_proc() -> Result<(), Refusal> {
    fresh("proc", Path::new("/proc"), None).map_err(|error| refused("a new /proc", &error))
}

/// Leaves the machine's files for an overlay of them. Gives what is not as on the
/// machine.
///
/// # Errors
/// The root file system cannot be covered.
pub(super) fn isolate(is_user: bool) -> Result<Vec<String>, Refusal> {
    let failed = |error: io::Error| refused("an overlay of /", &error);
    // One that was removed is not there in the overlay either.
    let directory = std::env::current_dir().unwrap_or_else(|_| "/".into());
    let mounts = table::read(is_user).map_err(failed)?;
    let stage = ["/mnt", "/tmp", "/run", "/var", "/dev"];
    let stage = stage.iter().map(Path::new).find(|one| one.is_dir());
    let stage = stage.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
    let mut cover = Cover {
        points: mounts.iter().map(|one| one.path.clone()).collect(),
        // Opened before anything is mounted over them.
        beneath: open(stage).map_err(failed)?,
        mounts: mounts.into_iter().filter_map(Mounted::open).collect(),
        stage: stage.to_owned(),
        layers: 0,
        is_user,
        notes: Vec::new(),
    };
    fresh("tmpfs", stage, Some("mode=755")).map_err(failed)?;
    let root = stage.join("root");
    fs::create_dir(&root).map_err(failed)?;
    let shared = open(Path::new(SHARED)).ok().filter(|_| is_user);
    cover.all(&root)?;
    if let Some(shared) = shared {
        // Where that is not possible, it is as the rest: not to be written.
        let target = root.join(SHARED.trim_start_matches('/'));
        let _ = cover.overlay(&shared, &target, MountFlags::empty());
    }
    enter(&root, &directory).map_err(failed)?;
    Ok(cover.notes)
}

/// Makes read-only what of /proc sets the whole machine. The settings of the
/// network are the trial's own.
///
/// # Errors
/// It cannot be mounted over.
pub(super) fn protect_settings() -> Result<(), Refusal> {
    const SETTINGS: &str = "/proc/sys";
    const NETWORK: &str = "/proc/sys/net";
    const REQUESTS: &str = "/proc/sysrq-trigger";
    let protect = || -> io::Result<()> {
        let network = open(Path::new(NETWORK));
        for path in [SETTINGS, REQUESTS].map(Path::new) {
            match open(path) {
                Ok(file) => read_only(&file, path)?,
                // A kernel without it.
                Err(error) if is_absent(&error) => {}
                Err(error) => return Err(error),
            }
        }
        if let Ok(network) = network {
            mount_bind(through(&network), NETWORK)?;
        }
        Ok(())
    };
    protect().map_err(|error| refused("a read-only /proc/sys", &error))
}

fn refused(what: &str, error: &io::Error) -> Refusal {
    let refusal = Refusal::new(what, error);
    match error.kind() {
        io::ErrorKind::PermissionDenied => refusal.hint(isolation::hint()),
        _ => refusal.hint(
            "--no-isolation tries it on the machine's own files, which the server may change",
        ),
    }
}

/// Makes `root` the root directory and lets go of the old one.
fn enter(root: &Path, directory: &Path) -> io::Result<()> {
    chdir(root)?;
    // See the notes of pivot_root(2): the old root ends up over the new one.
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    chdir("/")?;
    // A directory that is not there in the overlay was not there before.
    let _ = chdir(directory);
    Ok(())
}

fn fresh(kind: &str, target: &Path, data: Option<&str>) -> io::Result<()> {
    let data = data.map(CString::new).transpose()?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    let flags = match kind {
        // The shim is to be mapped from it.
        "tmpfs" => flags,
        // It sets the whole machine.
        "sysfs" => flags | MountFlags::NOEXEC | MountFlags::RDONLY,
        _ => flags | MountFlags::NOEXEC,
    };
    Ok(mount(kind, target, kind, flags, data.as_deref())?)
}

/// A mount of the machine, held open.
struct Mounted {
    mount: Mount,
    file: File,
}

impl Mounted {
    /// `None` where another one lies over it.
    fn open(mount: Mount) -> Option<Self> {
        if mount.treatment == Treatment::Skip {
            return None;
        }
        let file = open(&mount.path).ok()?;
        (table::mount_id(&file) == Some(mount.id)).then_some(Self { mount, file })
    }
}

fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(CWD, path, flags, Mode::empty())?.into())
}

/// The path of an open file that no mount comes between.
fn through(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

struct Cover {
    /// The directories and files that something is mounted on.
    points: Vec<PathBuf>,
    /// What of these the copies are to see.
    mounts: Vec<Mounted>,
    /// A tmpfs that takes what is written.
    stage: PathBuf,
    /// The directory that it is mounted on.
    beneath: File,
    /// The overlays made so far.
    layers: usize,
    is_user: bool,
    notes: Vec<String>,
}

impl Cover {
    /// Puts all mounts below `root`, in the order in which they were made.
    ///
    /// # Errors
    /// Without `/` and `/proc` there can be no trial.
    fn all(&mut self, root: &Path) -> Result<(), Refusal> {
        for mounted in std::mem::take(&mut self.mounts) {
            let Mounted { mount, file } = &mounted;
            let target = root.join(mount.path.strip_prefix("/").unwrap_or(&mount.path));
            let is_root = mount.path == Path::new("/");
            let done = match &mount.treatment {
                Treatment::Skip => Ok(()),
                Treatment::Fresh(kind) => {
                    let mode = (kind == "tmpfs").then_some("mode=1777");
                    // What a container's engine covered may not be shown anew.
                    fresh(kind, &target, mode).or_else(|error| match kind.as_str() {
                        "proc" => Err(error),
                        _ => mount_bind_recursive(through(file), &target).map_err(Into::into),
                    })
                }
                Treatment::Bind => {
                    mount_bind_recursive(through(file), &target).map_err(io::Error::from)
                }
                Treatment::BindReadOnly => read_only(file, &target),
                // Not bound, where that is possible: its sockets and pipes would
                // still lead to whoever listens there on the machine.
                Treatment::CoverReadOnly => self
                    .overlay(file, &target, MountFlags::RDONLY)
                    .or_else(|_| read_only(file, &target)),
                Treatment::Cover if is_root => self.cover(file, &mount.path, &target),
                Treatment::Cover => self.cover(file, &mount.path, &target).or_else(|error| {
                    self.notes.push(format!(
                        "{} is read-only in the trial: {error}",
                        mount.path.display()
                    ));
                    read_only(file, &target)
                }),
            };
            match done {
                Err(error) if is_root => return Err(refused("an overlay of /", &error)),
                Err(error) if mount.path == Path::new("/proc") => {
                    return Err(refused("a new /proc", &error));
                }
                Err(error) => self.notes.push(left_out(&mount.path, &error)),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// Puts `source`, the directory `path` of the machine, at `target`.
    fn cover(&mut self, source: &File, path: &Path, target: &Path) -> io::Result<()> {
        match self.overlay(source, target, MountFlags::empty()) {
            // In a user namespace, directories with mounts below cannot be
            // covered: they could show what those hide.
            Err(error) if self.is_user && error.kind() == io::ErrorKind::InvalidInput => {
                let is_below = |point: &PathBuf| point.starts_with(path) && point != path;
                if self.points.iter().any(is_below) {
                    self.cover_each(source, path, target)
                } else {
                    Err(error)
                }
            }
            other => other,
        }
    }

    fn overlay(&mut self, source: &File, target: &Path, flags: MountFlags) -> io::Result<()> {
        let layer = self.stage.join(self.layers.to_string());
        self.layers += 1;
        let (upper, work) = (layer.join("upper"), layer.join("work"));
        fs::create_dir(&layer)?;
        fs::create_dir(&work)?;
        fs::create_dir(&upper)?;
        let metadata = fs::metadata(through(source))?;
        fs::set_permissions(&upper, Permissions::from_mode(metadata.mode() & 0o7777))?;
        // A user cannot give away what is shown as root's.
        if !self.is_user {
            chown(&upper, Some(metadata.uid()), Some(metadata.gid()))?;
        }
        let attributes = if self.is_user { ",userxattr" } else { "" };
        let options = format!(
            "lowerdir={},upperdir={},workdir={}{attributes}",
            through(source).display(),
            upper.display(),
            work.display()
        );
        let options = CString::new(options)?;
        Ok(mount(
            "overlay",
            target,
            "overlay",
            flags,
            options.as_c_str(),
        )?)
    }

    /// Makes a directory of its own at `target`, with what is in `source`, the
    /// directory `path` of the machine.
    fn cover_each(&mut self, source: &File, path: &Path, target: &Path) -> io::Result<()> {
        const MOST: usize = 10_000;
        let layer = self.stage.join(self.layers.to_string());
        self.layers += 1;
        fs::create_dir(&layer)?;
        mount_bind(&layer, target)?;
        for entry in fs::read_dir(through(source))?.take(MOST) {
            let entry = entry?;
            let (path, target) = (path.join(entry.file_name()), target.join(entry.file_name()));
            match self.cover_entry(&entry, &path, &target) {
                Err(error) if !is_absent(&error) => self.notes.push(left_out(&path, &error)),
                // What may not be looked at would be of no use to the copies.
                _ => {}
            }
        }
        // As the machine's directory, but for its owner.
        let mode = fs::metadata(through(source))?.mode() & 0o7777;
        fs::set_permissions(target, Permissions::from_mode(mode))
    }

    fn cover_entry(&mut self, entry: &fs::DirEntry, path: &Path, target: &Path) -> io::Result<()> {
        let kind = entry.file_type()?;
        // What is mounted there is put there later.
        let is_point = self.points.iter().any(|point| point == path);
        if kind.is_symlink() {
            symlink(fs::read_link(entry.path())?, target)
        } else if kind.is_dir() {
            fs::create_dir(target)?;
            if is_point {
                return Ok(());
            }
            let source = if path == self.stage {
                self.beneath.try_clone()?
            } else {
                open(&entry.path())?
            };
            self.cover(&source, path, target)
                .or_else(|_| read_only(&source, target))
        } else if kind.is_socket() || kind.is_fifo() {
            // Behind it is somebody on the machine.
            Ok(())
        } else {
            File::create(target)?;
            if is_point {
                return Ok(());
            }
            read_only(&open(&entry.path())?, target)
        }
    }
}

fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{NotFound, PermissionDenied};
    matches!(error.kind(), PermissionDenied | NotFound)
}

fn left_out(path: &Path, error: &io::Error) -> String {
    format!("{} is not there in the trial: {error}", path.display())
}

/// Binds `source` at `target`, not to be written.
fn read_only(source: &File, target: &Path) -> io::Result<()> {
    mount_bind(through(source), target)?;
    let given = statvfs(target)?.f_flag;
    let mut flags = MountFlags::BIND | MountFlags::RDONLY;
    // A user namespace may not take these away.
    for (is, flag) in [
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ] {
        if given.contains(is) {
            flags |= flag;
        }
    }
    Ok(mount_remount(target, flags, "")?)
}

/// Writes a shim where the copies see it, and gives its path.
///
/// # Errors
/// There is no memory left.
pub(super) fn put_shim(bytes: &[u8]) -> Result<PathBuf, Refusal> {
    let path = Path::new(SHIM_DIRECTORY).join(crate::shim::FILE_NAME);
    let write = || {
        fs::create_dir_all(SHIM_DIRECTORY)?;
        fresh("tmpfs", Path::new(SHIM_DIRECTORY), Some("mode=755"))?;
        fs::write(&path, bytes)?;
        fs::set_permissions(&path, Permissions::from_mode(0o755))
    };
    write().map_err(|error: io::Error| refused("the shim", &error))?;
    Ok(path)
}
