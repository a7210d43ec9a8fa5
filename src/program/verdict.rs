//! Whether the shim can reach a program: a first cut, which says no where the
//! answer is certain.

use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::StatVfsMountFlags;

use super::elf::Linkage;
use super::{Chain, Elf};
use crate::mount;
use crate::shim::{self, Architecture};

/// Who runs the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The real user and group ids.
    pub user: u32,
    pub group: u32,
    /// Whether no_new_privs is set, see prctl(2).
    pub no_new_privileges: bool,
}

impl Credentials {
    /// Those of this process.
    pub fn of_this_process() -> Self {
        Self {
            user: rustix::process::getuid().as_raw(),
            group: rustix::process::getgid().as_raw(),
            no_new_privileges: rustix::thread::no_new_privs().unwrap_or(false),
        }
    }
}

/// Why the shim cannot act in a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    Static,
    StaticPie,
    Library,
    SetUser,
    SetGroup,
    FileCapabilities,
    NoShimForArchitecture(String),
}

impl Finding {
    /// The finding's stable name.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Static | Self::StaticPie => "static",
            Self::Library => "not-executable",
            Self::SetUser => "setuid",
            Self::SetGroup => "setgid",
            Self::FileCapabilities => "file-capabilities",
            Self::NoShimForArchitecture(_) => "no-shim-for-arch",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Static | Self::StaticPie => {
                f.write_str("statically linked: no dynamic loader reads LD_PRELOAD")
            }
            Self::Library => f.write_str("a shared library, not a program"),
            Self::SetUser => f.write_str("setuid: the loader ignores LD_PRELOAD"),
            Self::SetGroup => f.write_str("setgid: the loader ignores LD_PRELOAD"),
            Self::FileCapabilities => {
                f.write_str("has file capabilities: the loader ignores LD_PRELOAD")
            }
            Self::NoShimForArchitecture(machine) => {
                write!(
                    f,
                    "there is no shim for its architecture, {machine}: only for {}",
                    shim::names()
                )
            }
        }
    }
}

/// The architecture whose shim reaches the program that `chain` ends with, when
/// it is run as `credentials`.
///
/// # Errors
/// No shim does, for certain. The outer error is one of reading the file's
/// attributes.
pub fn judge(
    chain: &Chain,
    credentials: Credentials,
) -> io::Result<Result<&'static Architecture, Finding>> {
    let program = &chain.program;
    match program.linkage {
        Linkage::Dynamic(_) => {}
        Linkage::Static => return Ok(Err(Finding::Static)),
        Linkage::StaticPie => return Ok(Err(Finding::StaticPie)),
        Linkage::Library => return Ok(Err(Finding::Library)),
    }
    let path = chain.paths.last().map_or(Path::new(""), PathBuf::as_path);
    if let Some(finding) = secure_mode(path, credentials)? {
        return Ok(Err(finding));
    }
    Ok(architecture(program))
}

fn architecture(program: &Elf) -> Result<&'static Architecture, Finding> {
    let same = |one: &&Architecture| program.is_64_bit && one.elf_machine == program.machine;
    let found = shim::ARCHITECTURES.iter().find(same);
    let unknown = || {
        let class = if program.is_64_bit { 64 } else { 32 };
        Finding::NoShimForArchitecture(format!("machine {} of {class} bits", program.machine))
    };
    found.ok_or_else(unknown)
}

/// Why the loader would be in secure mode, see ld.so(8), if it would be.
fn secure_mode(path: &Path, credentials: Credentials) -> io::Result<Option<Finding>> {
    const SET_USER: u32 = 0o4000;
    const SET_GROUP: u32 = 0o2000;
    const GROUP_EXECUTE: u32 = 0o0010;

    let metadata = path.metadata()?;
    let mode = metadata.mode();
    let set_user = mode & SET_USER != 0 && metadata.uid() != credentials.user;
    // Without the right to execute, the bit has another meaning.
    let set_group =
        mode & SET_GROUP != 0 && mode & GROUP_EXECUTE != 0 && metadata.gid() != credentials.group;
    let capabilities = credentials.user != 0 && has_capabilities(path);
    if !(set_user || set_group || capabilities) || mount::is(path, StatVfsMountFlags::NOSUID)? {
        return Ok(None);
    }
    Ok(if capabilities {
        Some(Finding::FileCapabilities)
    } else if credentials.no_new_privileges {
        None
    } else if set_user {
        Some(Finding::SetUser)
    } else {
        Some(Finding::SetGroup)
    })
}

fn has_capabilities(path: &Path) -> bool {
    let mut value = [0_u8; 64];
    rustix::fs::getxattr(path, "security.capability", &mut value).is_ok_and(|length| length > 0)
}
