//! Putting a shim on disk, where the program and any user that it becomes can
//! read and map it, and nobody else can write it.

use std::fmt;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use object::Endianness;
use object::elf::FileHeader64;
use object::read::elf::FileHeader;
use rustix::fs::StatVfsMountFlags;
use sha2::{Digest, Sha256};
use tempfile::{Builder, NamedTempFile};
use thiserror::Error;

use super::{Architecture, FILE_NAME, NoShim, is_shim};
use crate::mount;
use crate::preload;

/// Where a shim may lie, best first, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// A file that an installation put there, used as it is.
    pub installed: Option<PathBuf>,
    /// Directories of ours; made where they are missing.
    pub directories: Vec<PathBuf>,
    /// Where root puts it, for users who have no place of their own: looked at,
    /// never written.
    pub shared: Option<PathBuf>,
    /// The effective user id. Root may start servers that become anyone.
    pub user: u32,
}

impl Places {
    /// The places of this machine for the user `user`: beside the program at
    /// `executable`, then root's or the user's own directories, by the XDG Base
    /// Directory Specification, with the variables that `variable` knows.
    pub fn new(
        executable: Option<&Path>,
        user: u32,
        variable: impl Fn(&str) -> Option<PathBuf>,
    ) -> Self {
        let installed = executable.and_then(|executable| {
            Some(executable.parent()?.parent()?.join("lib").join(FILE_NAME))
        });
        // The specification says that relative paths are to be ignored.
        let xdg = |name| variable(name).filter(|path| path.is_absolute());
        let home = |below: &str| xdg("HOME").map(|home| home.join(below));
        let directories = if user == 0 {
            ["/var/lib", "/run"].map(|path| Some(path.into())).to_vec()
        } else {
            vec![
                xdg("XDG_DATA_HOME").or_else(|| home(".local/share")),
                xdg("XDG_CACHE_HOME").or_else(|| home(".cache")),
                xdg("XDG_RUNTIME_DIR"),
            ]
        };
        let directories = directories
            .into_iter()
            .flatten()
            .map(|path| path.join("reuseport"));
        Self {
            installed,
            directories: directories.collect(),
            shared: (user != 0).then(|| "/var/lib/reuseport".into()),
            user,
        }
    }
}

/// A place that was tried, and why it was turned down.
#[derive(Debug)]
pub struct Attempt {
    pub path: PathBuf,
    pub why: Rejection,
}

/// Why a place was turned down.
#[derive(Debug, Error)]
pub enum Rejection {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}: {1}")]
    At(PathBuf, io::Error),
    #[error("it is on a file system mounted noexec")]
    NoExec,
    #[error("its path holds a space, a colon or a dollar sign, which LD_PRELOAD gives a meaning")]
    Unnameable,
    #[error("{0} belongs to another user")]
    Owner(PathBuf),
    #[error("{0} can be written by others")]
    Writable(PathBuf),
    #[error("{0} cannot be entered by other users, one of which the program may become")]
    Closed(PathBuf),
    #[error("it is not a file that every user can read")]
    Unreadable,
    #[error("it is cut off: install it again")]
    CutOff,
    #[error("it is no shim for {0}")]
    Foreign(&'static str),
}

/// No place could be found for the shim, or there is no shim to put there.
#[derive(Debug, Error)]
pub struct NoPlace {
    /// Every place that was tried.
    pub attempts: Vec<Attempt>,
    /// Why there is none to put anywhere, if that is so.
    pub missing: Option<NoShim>,
}

impl fmt::Display for NoPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.missing {
            Some(missing) => missing.fmt(f)?,
            None if self.attempts.is_empty() => f.write_str(
                "there is no place for the shim: none of HOME, XDG_DATA_HOME, XDG_CACHE_HOME \
                 and XDG_RUNTIME_DIR is set",
            )?,
            None => f.write_str("there is no place for the shim:")?,
        }
        for Attempt { path, why } in &self.attempts {
            write!(f, "\n  {}: {why}", path.display())?;
        }
        if self.missing.is_none() {
            f.write_str(
                "\nput it where you like, by reuseport install DIR, and run: \
                 LD_PRELOAD=DIR/libreuseport.so CMD",
            )?;
        }
        Ok(())
    }
}

/// The path of a shim for `architecture` in one of `places`; `embedded` is what
/// it is made of where none is installed. Safe when several do so at once.
///
/// # Errors
/// Every place that was tried, with why it was turned down.
pub fn place(
    places: &Places,
    architecture: &Architecture,
    embedded: Result<&[u8], NoShim>,
) -> Result<PathBuf, NoPlace> {
    let mut attempts = Vec::new();
    if let Some(installed) = &places.installed
        && installed.exists()
    {
        match check_installed(installed, architecture, places.user) {
            Ok(()) => return Ok(installed.clone()),
            Err(why) => attempts.push(Attempt {
                path: installed.clone(),
                why,
            }),
        }
    }
    let bytes = match embedded {
        Ok(bytes) => bytes,
        Err(missing) => {
            return Err(NoPlace {
                attempts,
                missing: Some(missing),
            });
        }
    };
    let name = content_name(bytes);
    for directory in &places.directories {
        match place_in(directory, &name, bytes, places.user) {
            Ok(path) => return Ok(path),
            Err(why) => attempts.push(Attempt {
                path: directory.clone(),
                why,
            }),
        }
    }
    if let Some(shared) = &places.shared {
        let path = shared.join(&name);
        if check_path(&path, places.user).is_ok() && is_there(&path, bytes, places.user) {
            return Ok(path);
        }
    }
    Err(NoPlace {
        attempts,
        missing: None,
    })
}

/// The name of a shim's file among others: new content, new name, so that a
/// process that maps the old one keeps it.
fn content_name(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let hash = digest.iter().take(8);
    let hash = hash.fold(0, |hash: u64, byte| hash << 8 | u64::from(*byte));
    format!("libreuseport-{hash:016x}.so")
}

/// Whether the file at `path` is a shim for `architecture` that programs of
/// `user` may safely load.
///
/// # Errors
/// What keeps it from being one.
pub fn check_installed(
    path: &Path,
    architecture: &Architecture,
    user: u32,
) -> Result<(), Rejection> {
    if !preload::can_name(path) {
        return Err(Rejection::Unnameable);
    }
    check_path(path, user)?;
    let file = File::open(path)?;
    check_file(&file, path, user)?;
    check_content(file, architecture)
}

/// Whether `file` holds a whole shim for `architecture`.
///
/// # Errors
/// It does not.
pub fn check_content(file: File, architecture: &Architecture) -> Result<(), Rejection> {
    let mut bytes = Vec::new();
    file.take(1 << 20).read_to_end(&mut bytes)?;
    let header = FileHeader64::<Endianness>::parse(bytes.as_slice());
    let described = header.and_then(|header| {
        let endian = header.endian()?;
        let sections = u64::from(header.e_shnum(endian)) * u64::from(header.e_shentsize(endian));
        let end = header.e_shoff(endian).saturating_add(sections);
        Ok((header.e_machine(endian).0, end))
    });
    match described {
        // The linker puts the section headers last. A file that ends before them
        // was cut off, and would kill the program with SIGBUS.
        Ok((_, end)) if end > bytes.len() as u64 => Err(Rejection::CutOff),
        Ok((machine, _)) if machine == architecture.elf_machine && is_shim(&bytes) => Ok(()),
        _ => Err(Rejection::Foreign(architecture.name)),
    }
}

fn place_in(directory: &Path, name: &str, bytes: &[u8], user: u32) -> Result<PathBuf, Rejection> {
    if !preload::can_name(directory) {
        return Err(Rejection::Unnameable);
    }
    make_directory(directory, user)?;
    check_path(&directory.join(name), user)?;
    let path = directory.join(name);
    if !is_there(&path, bytes, user) {
        write(&path, bytes)?;
    }
    Ok(path)
}

/// Makes `directory` and what is missing above it. Ours is open to all; what is
/// missing above a user's is made for that user alone, as the XDG Base Directory
/// Specification asks.
fn make_directory(directory: &Path, user: u32) -> Result<(), Rejection> {
    if directory.is_dir() {
        return Ok(());
    }
    if let Some(parent) = directory.parent() {
        let mode = if user == 0 { 0o755 } else { 0o700 };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(parent)?;
    }
    match fs::create_dir(directory) {
        // Whatever the file mode creation mask says.
        Ok(()) => Ok(fs::set_permissions(
            directory,
            Permissions::from_mode(0o755),
        )?),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Whether the right file is there already.
fn is_there(path: &Path, bytes: &[u8], user: u32) -> bool {
    let mut options = OpenOptions::new();
    let Ok(file) = options
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
    else {
        return false;
    };
    let mut found = Vec::with_capacity(bytes.len() + 1);
    check_file(&file, path, user).is_ok()
        && file
            .take(bytes.len() as u64 + 1)
            .read_to_end(&mut found)
            .is_ok()
        && found == bytes
}

/// A regular file, of root or of `user`, that all can read and no other write.
fn check_file(file: &File, path: &Path, user: u32) -> Result<(), Rejection> {
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.mode() & 0o444 != 0o444 {
        return Err(Rejection::Unreadable);
    }
    check_owner(&metadata, path, user)
}

fn check_owner(metadata: &fs::Metadata, path: &Path, user: u32) -> Result<(), Rejection> {
    let owner = metadata.uid();
    if owner != 0 && owner != user && !(metadata.is_dir() && is_unmapped(owner)) {
        return Err(Rejection::Owner(path.to_owned()));
    }
    // Many systems give each user a group of the same number, and directories
    // that this group may write.
    let others = if metadata.gid() == metadata.uid() {
        0o002
    } else {
        0o022
    };
    // Where the sticky bit is set, nobody can replace what is not theirs.
    if metadata.mode() & others != 0 && metadata.mode() & 0o1000 == 0 {
        return Err(Rejection::Writable(path.to_owned()));
    }
    Ok(())
}

/// Whether `owner` stands for the users that a user namespace does not know,
/// see user_namespaces(7). There, `/` and `/home` belong to such a one: the
/// machine's root.
fn is_unmapped(owner: u32) -> bool {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let overflow = read("/proc/sys/kernel/overflowuid").trim() == owner.to_string();
    let all = ["0", "0", "4294967295"];
    overflow && !read("/proc/self/uid_map").split_whitespace().eq(all)
}

/// Whether the directories above `path`, links resolved, are safe: nobody else
/// can put another file in its place, and everyone who must can reach it.
fn check_path(path: &Path, user: u32) -> Result<(), Rejection> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let directory = fs::canonicalize(parent)?;
    if mount::is(&directory, StatVfsMountFlags::NOEXEC)? {
        return Err(Rejection::NoExec);
    }
    for directory in directory.ancestors() {
        let metadata = directory
            .metadata()
            .map_err(|error| Rejection::At(directory.to_owned(), error))?;
        check_owner(&metadata, directory, user)?;
        if user == 0 && metadata.mode() & 0o001 == 0 {
            return Err(Rejection::Closed(directory.to_owned()));
        }
    }
    Ok(())
}

/// Writes `bytes` to `path`, readable and executable by all: whoever looks sees
/// the old file or the new one, whole.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    prepare(directory, bytes)?.persist(path)?;
    Ok(())
}

/// Writes `bytes` to a file in `directory` that goes away unless it is given a
/// name.
fn prepare(directory: &Path, bytes: &[u8]) -> io::Result<NamedTempFile> {
    let mut file = Builder::new()
        .prefix(".libreuseport-")
        .tempfile_in(directory)?;
    file.write_all(bytes)?;
    file.as_file()
        .set_permissions(Permissions::from_mode(0o755))?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// Writes shims, each as [`FILE_NAME`] into its directory, which is made where it
/// is missing, and gives the files' paths. None gets its name before all are on
/// disk.
///
/// # Errors
/// The directory that could not be made or written, and why. No file is there
/// that was not, and no directory of the last level.
pub fn install(shims: &[(PathBuf, &[u8])]) -> Result<Vec<PathBuf>, (PathBuf, io::Error)> {
    let mut made = Vec::new();
    let outcome = install_into(shims, &mut made);
    if outcome.is_err() {
        for directory in made.iter().rev() {
            // What somebody put there meanwhile stays.
            let _ = fs::remove_dir(directory);
        }
    }
    outcome
}

fn install_into(
    shims: &[(PathBuf, &[u8])],
    made: &mut Vec<PathBuf>,
) -> Result<Vec<PathBuf>, (PathBuf, io::Error)> {
    let user = rustix::process::geteuid().as_raw();
    let mut prepared = Vec::new();
    for (directory, bytes) in shims {
        let fail = |error| (directory.clone(), error);
        if !directory.exists() {
            made.push(directory.clone());
        }
        fs::create_dir_all(directory).map_err(fail)?;
        let path = directory.join(FILE_NAME);
        let file = if is_there(&path, bytes, user) {
            None
        } else {
            Some(prepare(directory, bytes).map_err(fail)?)
        };
        prepared.push((path, file));
    }
    let mut paths = Vec::new();
    for (path, file) in prepared {
        if let Some(file) = file {
            file.persist(&path)
                .map_err(|error| (path.clone(), error.error))?;
        }
        paths.push(path);
    }
    Ok(paths)
}
