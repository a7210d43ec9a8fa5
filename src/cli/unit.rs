//! `reuseport inject --unit`, `eject --unit` and `check --unit`.

use std::env;
use std::fmt::Write;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::found::Found;
use super::host::{self, HostFlags};
use super::{answer, complain, status};
use crate::program::Root;
use crate::replace::replace;
use crate::rules::Assignments;
use crate::shim::{self, Architecture};
use crate::unit::{self, DROP_IN, Paths, Unit};

/// Which unit.
#[derive(Args, Debug)]
pub(super) struct UnitFlags {
    /// A systemd service, as TARGET: NAME, NAME@ or NAME@INSTANCE
    #[arg(long, value_name = "NAME")]
    pub(super) unit: Option<String>,
    /// A unit of this user's manager
    #[arg(long, requires = "unit")]
    pub(super) user: bool,
}

impl UnitFlags {
    fn paths(&self) -> Paths {
        if self.user {
            Paths::user(|name| env::var_os(name).map(PathBuf::from))
        } else {
            Paths::system()
        }
    }
}

/// The root that `--root` names.
///
/// # Errors
/// It is no directory.
pub(super) fn root(path: Option<&Path>) -> Result<Root, String> {
    let Some(path) = path else {
        return Ok(Root::host());
    };
    Root::new(path).map_err(|error| format!("--root: {}: {error}", path.display()))
}

/// What is asked for.
pub(super) struct Request<'a> {
    pub(super) name: &'a str,
    pub(super) flags: &'a UnitFlags,
    pub(super) root: &'a Root,
    pub(super) rules: Assignments,
    pub(super) host: &'a HostFlags,
    pub(super) in_place: bool,
    pub(super) no_check: bool,
    pub(super) force: bool,
}

/// What is found of a unit.
pub(super) struct Judged {
    pub(super) unit: Unit,
    pub(super) found: Found,
    /// The shim that it is to find: in a root of its own, where it has one.
    shim: PathBuf,
}

/// Reads the unit `name` without our drop-in, and judges what it starts.
///
/// # Errors
/// There is no such unit, or it starts nothing.
pub(super) fn found(
    name: &str,
    flags: &UnitFlags,
    root: &Root,
    shim: &Path,
) -> Result<Judged, unit::Error> {
    let unit = Unit::read(root, &flags.paths(), name, DROP_IN)?;
    let has_shim = |architecture: &Architecture| shim::embedded(architecture).is_ok();
    let verdict = unit::judge(&unit, root, shim, &has_shim)?;
    let found = Found::new(unit.name.clone(), verdict.commands, verdict.findings);
    let shim = verdict.shim.unwrap_or_else(|| shim.to_owned());
    Ok(Judged { unit, found, shim })
}

pub(super) fn inject(request: Request<'_>) -> u8 {
    try_inject(request).unwrap_or_else(|message| complain(&message, status::FAULT))
}

fn try_inject(request: Request<'_>) -> Result<u8, String> {
    let Request {
        name,
        flags,
        root,
        rules,
        host,
        in_place,
        no_check,
        force,
    } = request;
    let judged = found(name, flags, root, host.shim()).map_err(|error| error.to_string())?;
    let Judged { unit, found, shim } = judged;
    if !no_check && !host::may_go_on(&found, force) {
        return Ok(status::NO);
    }
    let architecture = found.architecture().map_err(|error| error.to_string())?;
    host::check_shim(root, &shim, architecture)?;
    let text = unit::drop_in(&unit, host.shim(), &rules, &found.first());
    if !in_place {
        return Ok(answer(text.as_bytes()));
    }
    let directory = flags.paths().own;
    let path = write(root, &directory, &unit.name, &text)
        .map_err(|(path, error)| format!("{}: {error}", path.display()))?;
    say_reload(flags, Some(&unit.name));
    Ok(answer(format!("{}\n", path.display()).as_bytes()))
}

/// What is yet to be done; the unit `name` is there.
fn say_reload(flags: &UnitFlags, name: Option<&String>) {
    let systemctl = if flags.user {
        "systemctl --user"
    } else {
        "systemctl"
    };
    let mut message = format!("now: {systemctl} daemon-reload");
    if let Some(name) = name {
        let _ = write!(message, ", and {systemctl} restart {name}");
    }
    complain(&message, status::DONE);
}

/// Writes the drop-in of the unit `name` below `directory` of `root`, and gives
/// its path there.
fn write(
    root: &Root,
    directory: &Path,
    name: &str,
    text: &str,
) -> Result<PathBuf, (PathBuf, io::Error)> {
    let below = directory.join(format!("{name}.d"));
    let fail = |error| (below.clone(), error);
    make(root, &below).map_err(fail)?;
    let pinned = root.pinned(&below).map_err(fail)?;
    let path = below.join(DROP_IN);
    match is_ours(&pinned.path.join(DROP_IN)) {
        Ok(true) => {}
        Ok(false) => {
            let error = io::Error::other("not written by reuseport: give it another name");
            return Err((path, error));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err((path, error)),
    }
    replace(&pinned.path.join(DROP_IN), text.as_bytes(), 0o644)
        .map_err(|error| (path.clone(), error))?;
    Ok(path)
}

/// Whether the file at `path` is one that we wrote. A link is none, since it may lead
/// out of the root.
fn is_ours(path: &Path) -> io::Result<bool> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => fs::File::from(file),
        Err(Errno::LOOP | Errno::NXIO) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    if !file.metadata()?.is_file() {
        return Ok(false);
    }
    let mut beginning = Vec::new();
    file.take(4096).read_to_end(&mut beginning)?;
    Ok(unit::is_ours(&beginning))
}

/// Makes a directory of `root`, and those above it.
fn make(root: &Root, directory: &Path) -> io::Result<()> {
    if root.pinned(directory).is_ok_and(|one| one.path.is_dir()) {
        return Ok(());
    }
    let (Some(parent), Some(name)) = (directory.parent(), directory.file_name()) else {
        return Ok(());
    };
    make(root, parent)?;
    fs::create_dir(root.pinned(parent)?.path.join(name))
}

pub(super) fn eject(name: &str, flags: &UnitFlags, root: &Root) -> u8 {
    let paths = flags.paths();
    let (name, absence) = match Unit::read(root, &paths, name, DROP_IN) {
        Ok(unit) => (unit.name, None),
        Err(error) => match error.absent() {
            // What we wrote may outlive what it was written for.
            Some(name) => (name.to_owned(), Some(error)),
            None => return complain(&error, status::FAULT),
        },
    };
    let below = paths.own.join(format!("{name}.d"));
    let path = below.join(DROP_IN);
    let removed = root.pinned(&below).and_then(|directory| {
        let real = directory.path.join(DROP_IN);
        if !is_ours(&real)? {
            return Ok(false);
        }
        fs::remove_file(&real)?;
        // One that holds other drop-ins stays.
        if let (Some(parent), Some(name)) = (below.parent(), below.file_name()) {
            let _ = fs::remove_dir(root.pinned(parent)?.path.join(name));
        }
        Ok(true)
    });
    match removed {
        Ok(true) => {
            say_reload(flags, absence.is_none().then_some(&name));
            answer(format!("{}\n", path.display()).as_bytes())
        }
        Ok(false) => complain(
            &format_args!("{}: not written by reuseport: it stays", path.display()),
            status::FAULT,
        ),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match absence {
            Some(absence) => complain(&absence, status::FAULT),
            None => complain(
                &format_args!("{name}: nothing to eject: there is no {}", path.display()),
                status::NO,
            ),
        },
        Err(error) => complain(&format_args!("{}: {error}", path.display()), status::FAULT),
    }
}
