//! What the commands share that leave images alone: the shim lies on the host,
//! and what starts a server is told of it.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use super::found::Found;
use super::report::escaped;
use super::{complain, status};
use crate::finding::Verdict;
use crate::program::Root;
use crate::shim::{self, Architecture, Rejection};

/// Where the shim lies by convention.
pub(super) const SHIM_PATH: &str = "/opt/reuseport/libreuseport.so";

/// The flags of these commands.
#[derive(Args, Debug)]
pub(super) struct HostFlags {
    /// The shim on this host, for bundles and units [default: /opt/reuseport/libreuseport.so]
    #[arg(long, value_name = "FILE", value_parser = shim_path)]
    pub(super) shim_path: Option<PathBuf>,
}

impl HostFlags {
    pub(super) fn shim(&self) -> &Path {
        self.shim_path.as_deref().unwrap_or(Path::new(SHIM_PATH))
    }
}

/// The path of a shim: absolute, under the name that it has everywhere, and such
/// that LD_PRELOAD can hold it.
pub(super) fn shim_path(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if !path.is_absolute() {
        return Err("give an absolute path".into());
    }
    if path.file_name() != Some(shim::FILE_NAME.as_ref()) {
        return Err(format!("its name must be {}", shim::FILE_NAME));
    }
    if !crate::preload::can_name(&path) {
        return Err("LD_PRELOAD cannot hold a space, a colon or a dollar sign".into());
    }
    Ok(path)
}

/// Looks whether the shim for `architecture` lies at `path` of `root`, such that
/// a server can map it.
///
/// # Errors
/// What is wrong, and how to put it right.
pub(super) fn check_shim(
    root: &Root,
    path: &Path,
    architecture: &Architecture,
) -> Result<(), String> {
    let found = if root.is_host() {
        let user = rustix::process::geteuid().as_raw();
        shim::check_installed(path, architecture, user)
    } else {
        let file = root.open(path).map_err(Rejection::Io);
        file.and_then(|file| shim::check_content(file, architecture))
    };
    found.map_err(|why| {
        let directory = path.parent().unwrap_or(path).display();
        let other = if architecture.name == std::env::consts::ARCH {
            String::new()
        } else {
            format!("--arch {} ", architecture.name)
        };
        format!(
            "{}: {why}; put it there: reuseport install {other}{directory}, or name it with --shim-path",
            path.display()
        )
    })
}

/// Says on standard error what was found, unless all is well. Gives whether to go
/// on.
pub(super) fn may_go_on(found: &Found, is_forced: bool) -> bool {
    if found.verdict == Verdict::Works {
        return true;
    }
    let mut text = String::new();
    found.write(&mut text);
    let _ = write!(anstream::stderr(), "{text}");
    if found.verdict == Verdict::Fails && !is_forced {
        let target = escaped(&found.target);
        let message =
            format!("{target}: the shim would not act there; --force puts it in all the same");
        complain(&message, status::NO);
        return false;
    }
    true
}
