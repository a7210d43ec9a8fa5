//! `reuseport check`: will the shim work there, and why.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::engine;
use super::found::Found;
use super::host::HostFlags;
use super::image::{self, Refusal};
use super::live;
use super::report::{Options, coloured_for_stdout, escaped_json};
use super::unit::{self, UnitFlags};
use super::{answer, complain, pid, status};
use crate::bundle::{self, Bundle};
use crate::environment::{self, Environment};
use crate::image::check::check;
use crate::image::contents::Picture;
use crate::image::registry::Client;
use crate::image::{Platform, Reference};
use crate::nearness;
use crate::program::{Broken, Code, Credentials, Judge, Judgement, Lookup, NotFound, Root};
use crate::shim::{self, Architecture};

/// Say whether the shim will work in a program, and why
///
/// TARGET is a program: a path if it holds a slash, else looked up in PATH. With
/// -- it is a command line, which is followed through wrappers (tini, gosu, env)
/// and scripts to the program that it runs. With --pid it is a running process,
/// whose sockets are asked for the option. With --live the command line is
/// tried: two copies are started under the shim, apart from this machine's
/// network, processes and files, and both must listen and be reached.
///
/// With a transport (oci:DIR:TAG), TARGET is an image, of which each platform is
/// looked at; a directory that holds config.json is an OCI runtime bundle; --unit
/// names a systemd service.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// Look at programs of the root file system in this directory
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Print one JSON array, an object a target
    #[arg(long)]
    json: bool,
    /// Print nothing: the exit status is the answer
    #[arg(short, long, conflicts_with = "json")]
    quiet: bool,
    /// Exit with 1 where it is uncertain
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    transport: image::Transport,
    /// Look at running processes, and whether their sockets have the option
    #[arg(
        long, value_name = "PID", num_args = 1..,
        conflicts_with_all = ["root", "targets", "command", "unit"],
    )]
    pid: Vec<u32>,
    #[command(flatten)]
    live: live::Flags,
    #[command(flatten)]
    unit: UnitFlags,
    #[command(flatten)]
    host: HostFlags,
    /// The programs
    #[arg(value_name = "TARGET", required_unless_present_any = ["command", "pid", "unit"])]
    targets: Vec<OsString>,
    /// A command line, instead of programs
    #[arg(last = true, value_name = "CMD", conflicts_with = "targets")]
    command: Vec<OsString>,
}

pub(super) fn run(arguments: Arguments) -> u8 {
    let Arguments {
        json,
        quiet,
        strict,
        ..
    } = arguments;
    let live = match arguments.live.options(!arguments.command.is_empty()) {
        Ok(live) => live,
        Err(message) => return complain(&message, status::FAULT),
    };
    if !arguments.pid.is_empty() {
        return pid::run(
            &arguments.pid,
            Options {
                json,
                quiet,
                strict,
            },
        );
    }
    let root = match &arguments.root {
        None => Root::host(),
        Some(path) => match Root::new(path) {
            Ok(root) => root,
            Err(error) => {
                return complain(
                    &format_args!("--root: {}: {error}", path.display()),
                    status::FAULT,
                );
            }
        },
    };
    let environment: Environment = env::vars_os().collect();
    let directory = if root.is_host() {
        env::current_dir().unwrap_or_default()
    } else {
        "/".into()
    };
    let client = arguments.transport.client();
    let judge = judge(&root, &environment, &directory);
    let commands: Vec<Vec<OsString>> = if arguments.command.is_empty() {
        arguments
            .targets
            .iter()
            .map(|target| vec![target.clone()])
            .collect()
    } else {
        vec![arguments.command.clone()]
    };
    let mut all: Vec<Found> = Vec::new();
    let mut unread = status::DONE;
    if let Some(name) = &arguments.unit.unit {
        let shim = arguments.host.shim();
        match unit::found(name, &arguments.unit, &root, shim) {
            Ok(judged) => all.push(judged.found),
            Err(error) => unread = complain(&error, status::FAULT),
        }
    }
    for command in &commands {
        let target = command.join(OsStr::new(" ")).to_string_lossy().into_owned();
        if arguments.command.is_empty() && root.is_host() {
            match elsewhere(&target, &client) {
                Some(Ok(found)) => {
                    all.extend(found);
                    continue;
                }
                Some(Err(refusal)) => {
                    unread = unread.max(refusal.say());
                    continue;
                }
                None => {}
            }
        }
        let has_shim = |architecture: &Architecture| shim::embedded(architecture).is_ok();
        let mut judgement = judge.judge(command, &has_shim);
        suggest(&mut judgement, &root, &environment);
        let mut found = Found::new(target, vec![judgement], Vec::new());
        if let Some(live) = &live
            && let Err(message) = live.try_command(command, &mut found, &environment)
        {
            return complain(&message, status::FAULT);
        }
        all.push(found);
    }
    let worst = all.iter().map(|one| one.exit_status(strict));
    let worst = worst.max().unwrap_or(status::DONE).max(unread);
    if quiet {
        return worst;
    }
    let mut text = String::new();
    if json {
        let array: Value = all.iter().map(Found::json).collect();
        text = escaped_json(&format!("{array:#}\n"));
    } else {
        for one in &all {
            one.write(&mut text);
        }
    }
    answer(&coloured_for_stdout(&text)).max(worst)
}

/// What is found of a target that is no program: an image, each platform of it,
/// or a bundle. `None` where it is a program.
fn elsewhere(target: &str, client: &Client) -> Option<Result<Vec<Found>, Refusal>> {
    let directory = Path::new(target);
    if Reference::has_transport(target) {
        Some(of_image(target, client))
    } else if bundle::is_bundle(directory) {
        let found = Bundle::read(directory).and_then(|one| super::bundle::found(directory, &one));
        Some(found.map(|one| vec![one]).map_err(Refusal::fault))
    } else {
        None
    }
}

/// What an image's LD_PRELOAD comes to depends on how the shim is brought to it.
fn hint_at_devices(found: &mut Found) {
    let code = Code::PreloadAlreadySet.name();
    for one in found.findings.iter_mut().filter(|one| one.code == code) {
        let hint = "inject keeps its entries, and the shim comes after them; a CDI device's \
                    LD_PRELOAD takes their place";
        one.hint = Some(hint.into());
    }
}

fn of_image(target: &str, client: &Client) -> Result<Vec<Found>, Refusal> {
    let reference = image::locate(target)?;
    if let Reference::Engine(name) = &reference {
        let judgement = engine::check(name)?;
        let mut found = Found::new(target.to_owned(), vec![judgement], Vec::new());
        hint_at_devices(&mut found);
        return Ok(vec![found]);
    }
    let read = image::read(reference, &[], client)?;
    let mut all = Vec::new();
    let is_foreign = |picture: &&Picture| picture.platform().is_some_and(|one| one.os != "linux");
    let (foreign, images): (Vec<_>, Vec<_>) =
        read.content.images().into_iter().partition(is_foreign);
    for picture in foreign {
        let name = image::name(target, picture, &read.content);
        let refusal = not_linux(&name, picture.platform().as_ref());
        // Beside others, it is passed over.
        if images.is_empty() {
            return Err(refusal);
        }
        image::say(&format_args!("reuseport: note: {}", refusal.message));
    }
    for picture in images {
        let checked = check(&read.source, picture)?;
        let effort = image::effort(&checked, picture);
        let facts = json!({
            "platform": picture.platform().map(|one| one.to_string()),
            "read": {"layers": checked.layers, "bytes": checked.bytes},
        });
        let target = image::name(target, picture, &read.content);
        let mut found = Found::new(target, vec![checked.judgement], Vec::new());
        hint_at_devices(&mut found);
        found.more = format!("  {effort}\n");
        if let Value::Object(facts) = facts {
            found.facts = facts;
        }
        all.push(found);
    }
    Ok(all)
}

/// The refusal of an image of another system.
pub(super) fn not_linux(target: &str, platform: Option<&Platform>) -> Refusal {
    let platform = platform.map_or_else(String::new, ToString::to_string);
    Refusal::fault(format_args!(
        "{target}: {platform}: not checked: the shim is for programs of Linux"
    ))
}

/// Programs of this machine run as who asks, in who asks's environment; those of
/// another root by default as its root user, with its own PATH.
fn judge<'a>(root: &'a Root, environment: &'a Environment, directory: &'a Path) -> Judge<'a> {
    const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let host = |name: &str| environment::get(environment, name);
    if root.is_host() {
        let lookup = Lookup {
            root,
            path: host("PATH"),
            directory,
        };
        return Judge::new(lookup, Credentials::of_this_process(), host);
    }
    let lookup = Lookup {
        root,
        path: Some(OsStr::new(PATH)),
        directory,
    };
    let credentials = Credentials {
        user: 0,
        group: 0,
        no_new_privileges: false,
    };
    Judge::new(lookup, credentials, |_| None)
}

/// Adds names from PATH that are near one that was not found there.
fn suggest(judgement: &mut Judgement, root: &Root, environment: &Environment) {
    let Some(Broken::NotFound(NotFound::NotInPath(name))) = &judgement.chain.broken else {
        return;
    };
    if !root.is_host() {
        return;
    }
    let name = name.to_string_lossy().into_owned();
    let path = environment::get(environment, "PATH").unwrap_or_default();
    let directories = env::split_paths(path).filter_map(|one| one.read_dir().ok());
    let names = directories
        .flatten()
        .flatten()
        .map(|entry| entry.file_name());
    let names = names.map(|one| one.to_string_lossy().into_owned());
    let near = nearness::near(&name, names);
    if let Some(finding) = judgement
        .findings
        .iter_mut()
        .find(|one| one.code == Code::NotFound.name())
        && !near.is_empty()
    {
        let _ = write!(finding.message, "; did you mean: {}", near.join(", "));
    }
}
