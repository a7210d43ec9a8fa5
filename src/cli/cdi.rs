//! `reuseport cdi`: the shim as a device that container engines can give to any
//! container.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, ValueHint};

use super::host::{self, HostFlags};
use super::rules::RuleFlags;
use super::{answer, complain, status};
use crate::cdi::{self, Device};
use crate::replace::replace;
use crate::shim;

/// Print the Container Device Interface specification for this machine
///
/// With it, `podman run --device reuseport.dev/shim=all IMAGE` runs any image
/// under the shim, unchanged; so do Docker, containerd and CRI-O where CDI is on.
/// The device's variables win over an LD_PRELOAD that the image sets, and over -e.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// One more device, with rules: dns='--port 53 --proto udp'
    #[arg(long, value_name = "NAME=RULES", value_parser = device)]
    device: Vec<Device>,
    /// Print or write YAML instead of JSON
    #[arg(long)]
    yaml: bool,
    /// Write it where engines look for it, and install the shim
    #[arg(long, conflicts_with = "uninstall")]
    install: bool,
    /// Take both away again
    #[arg(long, conflicts_with_all = ["device", "yaml"])]
    uninstall: bool,
    /// Where engines look for it
    #[arg(long, value_name = "DIR", default_value = "/etc/cdi", value_hint = ValueHint::DirPath)]
    spec_dir: PathBuf,
    #[command(flatten)]
    host: HostFlags,
}

/// The flags of a device, as on the command line.
#[derive(Parser, Debug)]
#[command(no_binary_name = true, disable_help_flag = true)]
struct DeviceRules {
    #[command(flatten)]
    rules: RuleFlags,
}

fn device(text: &str) -> Result<Device, String> {
    let (name, rules) = text.split_once('=').unwrap_or((text, ""));
    if !cdi::is_name(name) {
        return Err(format!(
            "'{name}': a device's name is made of letters, digits and _-.:, begins with a \
             letter, and ends with a letter or digit"
        ));
    }
    if name == cdi::ALL {
        return Err(format!("'{name}' is the device with no rules"));
    }
    let parsed = DeviceRules::try_parse_from(rules.split_whitespace()).map_err(|error| {
        let text = error.to_string();
        let line = text.lines().next().unwrap_or_default();
        line.trim_start_matches("error: ").to_owned()
    })?;
    Ok(Device {
        name: name.to_owned(),
        rules: parsed.rules.assignments(),
    })
}

pub(super) fn run(arguments: &Arguments) -> u8 {
    let mut names: Vec<&str> = arguments
        .device
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    names.sort_unstable();
    let mut pairs = names.iter().zip(names.iter().skip(1));
    if let Some((twice, _)) = pairs.find(|(one, next)| one == next) {
        let message = format_args!("--device {twice}: there twice");
        return complain(&message, status::FAULT);
    }
    let shim = arguments.host.shim();
    let directory = shim.parent().unwrap_or(shim);
    if arguments.uninstall {
        return uninstall(&arguments.spec_dir, shim);
    }
    let tree = cdi::specification(directory, &arguments.device);
    let text = if arguments.yaml {
        cdi::yaml(&tree)
    } else {
        format!("{tree:#}\n")
    };
    if !arguments.install {
        return answer(text.as_bytes());
    }
    match install(arguments, directory, &text) {
        Ok(path) => answer(format!("{}\n", path.display()).as_bytes()),
        Err(message) => complain(&message, status::FAULT),
    }
}

/// The file of the specification in `directory`.
fn path(directory: &Path, ending: &str) -> PathBuf {
    directory.join(format!("{}.{ending}", cdi::FILE_STEM))
}

fn install(arguments: &Arguments, directory: &Path, text: &str) -> Result<PathBuf, String> {
    let native = shim::native().map_err(|error| error.to_string())?;
    let bytes = shim::embedded(native).map_err(|error| error.to_string())?;
    shim::install(&[(directory.to_owned(), bytes)])
        .map_err(|(path, error)| format!("{}: {error}", path.display()))?;
    host::check_shim(&crate::program::Root::host(), arguments.host.shim(), native)?;
    let specs = &arguments.spec_dir;
    fs::create_dir_all(specs).map_err(|error| format!("{}: {error}", specs.display()))?;
    let (ending, other) = if arguments.yaml {
        ("yaml", "json")
    } else {
        ("json", "yaml")
    };
    let path_ = path(specs, ending);
    replace(&path_, text.as_bytes(), 0o644)
        .map_err(|error| format!("{}: {error}", path_.display()))?;
    // Engines would find each device twice, and take neither.
    remove(&path(specs, other))?;
    Ok(path_)
}

fn uninstall(specs: &Path, shim: &Path) -> u8 {
    let found = [path(specs, "json"), path(specs, "yaml")];
    let mut removed = Vec::new();
    for file in &found {
        match remove(file) {
            Ok(true) => removed.push(file.as_path()),
            Ok(false) => {}
            Err(message) => return complain(&message, status::FAULT),
        }
    }
    if shim::is_shim_file(shim) {
        match remove(shim) {
            Ok(_) => removed.push(shim),
            Err(message) => return complain(&message, status::FAULT),
        }
        // One that holds something else stays.
        let _ = shim.parent().map(fs::remove_dir);
    }
    if removed.is_empty() {
        let message = format_args!("{}: nothing to uninstall", found[0].display());
        return complain(&message, status::NO);
    }
    let mut lines = Vec::new();
    for path in removed {
        lines.extend(path.as_os_str().as_bytes());
        lines.push(b'\n');
    }
    answer(&lines)
}

/// Removes a file; gives whether it was there.
fn remove(path: &Path) -> Result<bool, String> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}
