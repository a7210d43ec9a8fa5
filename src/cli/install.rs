//! `reuseport install`: writes shims to disk.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{answer, complain, status};
use crate::shim::{self, ARCHITECTURES, Architecture, NoShim};

/// Write the shim into a directory
///
/// Prints the path of each file that was written.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// The shim for this architecture instead of this machine's
    #[arg(long, value_name = "ARCH", conflicts_with = "all", value_parser = shim::architecture)]
    arch: Option<&'static Architecture>,
    /// The shim for every architecture, each in a directory of its name
    #[arg(long)]
    all: bool,
    /// The directory; made where it is missing
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> u8 {
    let shims = match wanted(arguments) {
        Ok(shims) => shims,
        Err(error) => return complain(&error, status::FAULT),
    };
    match shim::install(&shims) {
        Ok(paths) => {
            let lines = paths.iter().map(|path| format!("{}\n", path.display()));
            answer(lines.collect::<String>().as_bytes())
        }
        Err((path, error)) => complain(&format_args!("{}: {error}", path.display()), status::FAULT),
    }
}

/// Where each shim goes. All are looked up before the first one is written.
fn wanted(arguments: &Arguments) -> Result<Vec<(PathBuf, &'static [u8])>, NoShim> {
    let directory: &Path = &arguments.directory;
    if arguments.all {
        let each = ARCHITECTURES.iter();
        return each
            .map(|one| Ok((directory.join(one.name), shim::embedded(one)?)))
            .collect();
    }
    let architecture = match arguments.arch {
        Some(architecture) => architecture,
        None => shim::native()?,
    };
    Ok(vec![(directory.to_owned(), shim::embedded(architecture)?)])
}
