//! `reuseport run`: becomes a program that runs under the shim.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;

use super::complain;
use super::rules::RuleFlags;
use crate::environment::{self, Environment};
use crate::exec;
use crate::preload::{self, LD_PRELOAD};
use crate::program::{self, Chain, Credentials, NotFound, Unreadable};
use crate::rules::Assignments;
use crate::shim::{self, Architecture, Places};

/// The exit statuses of `run` where CMD does not run, as env(1) and nohup(1)
/// have them.
pub(super) mod status {
    /// Whatever keeps us from running CMD but CMD itself.
    pub(in crate::cli) const FAULT: u8 = 125;
    pub(super) const NOT_EXECUTABLE: u8 = 126;
    pub(super) const NOT_FOUND: u8 = 127;
}

/// Run a program under the shim, in this process
///
/// The program keeps this process's id, descriptors, signals and environment,
/// with LD_PRELOAD and the rules' variables added. One that the shim cannot
/// reach is refused.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    rules: RuleFlags,
    /// Run CMD without looking at it first
    #[arg(long)]
    no_check: bool,
    /// The program to run, and its arguments
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true)]
    command: Vec<OsString>,
}

/// Why CMD does not run.
struct Refusal {
    message: String,
    status: u8,
}

impl Refusal {
    fn new(status: u8, message: &dyn fmt::Display) -> Self {
        Self {
            message: message.to_string(),
            status,
        }
    }
}

pub(super) fn run(arguments: Arguments) -> u8 {
    let Err(refusal) = replace_process(arguments);
    complain(&refusal.message, refusal.status)
}

fn replace_process(arguments: Arguments) -> Result<std::convert::Infallible, Refusal> {
    let mut environment: Environment = env::vars_os().collect();
    let given = arguments.rules.assignments();
    given
        .clone()
        .or(Assignments::from_environment(&environment))
        .check()
        .map_err(|error| {
            let variable = error.invalid.variable.name();
            Refusal::new(status::FAULT, &format_args!("{variable}: {error}"))
        })?;

    let command = arguments
        .command
        .first()
        .map_or(OsStr::new(""), OsString::as_os_str);
    let path = find(command, &environment)?;
    let (architecture, first) = if arguments.no_check {
        let native = shim::native().map_err(|error| Refusal::new(status::FAULT, &error))?;
        (native, Vec::new())
    } else {
        examine(&path)?
    };
    let shim = place(architecture, &environment)?;

    let list = environment::get(&environment, LD_PRELOAD);
    let list = preload::merge(list, &first, &shim, shim::is_shim_file);
    environment::set(&mut environment, LD_PRELOAD, list);
    for (variable, value) in given.iter() {
        environment::set(&mut environment, variable.name(), value.to_owned());
    }
    let error = exec::exec(&path, &arguments.command, environment);
    Err(Refusal::new(
        status::NOT_EXECUTABLE,
        &format_args!("{}: {error}", path.display()),
    ))
}

fn find(command: &OsStr, environment: &Environment) -> Result<PathBuf, Refusal> {
    let path = environment::get(environment, "PATH");
    let directory = env::current_dir().unwrap_or_default();
    program::find(command, path, &directory).map_err(|error| {
        let status = if error.exists() {
            status::NOT_EXECUTABLE
        } else {
            status::NOT_FOUND
        };
        let mut message = error.to_string();
        if let NotFound::NotInPath(command) = &error
            && let Some(name) = near_subcommand(&command.to_string_lossy())
        {
            message.push_str("; did you mean: reuseport ");
            message.push_str(&name);
        }
        Refusal::new(status, &message)
    })
}

/// The subcommand whose name is nearest to `word`, if one is near.
fn near_subcommand(word: &str) -> Option<String> {
    let near = |name: &String| strsim::damerau_levenshtein(name, word) <= 2;
    let cli = <super::Cli as clap::CommandFactory>::command();
    let names = cli.get_subcommands().map(|one| one.get_name().to_owned());
    names
        .filter(near)
        .min_by_key(|name| strsim::damerau_levenshtein(name, word))
}

/// The architecture whose shim reaches the program at `path`, and the libraries
/// that must be loaded before it.
fn examine(path: &Path) -> Result<(&'static Architecture, Vec<OsString>), Refusal> {
    let unreadable = |error: &Unreadable| Refusal::new(status::NOT_EXECUTABLE, &error);
    let chain = match program::follow(path) {
        Ok(chain) => chain,
        // A program may be one's to execute and not to read: nothing is certain.
        Err(Unreadable::Io { source, path })
            if source.kind() == io::ErrorKind::PermissionDenied =>
        {
            complain(
                &format_args!("warning: {}: not readable, so not checked", path.display()),
                0,
            );
            let native = shim::native().map_err(|error| Refusal::new(status::FAULT, &error))?;
            return Ok((native, Vec::new()));
        }
        Err(error) => return Err(unreadable(&error)),
    };
    let verdict = program::judge(&chain, Credentials::of_this_process());
    let verdict = verdict.map_err(|error| {
        Refusal::new(
            status::NOT_EXECUTABLE,
            &format_args!("{}: {error}", path.display()),
        )
    })?;
    match verdict {
        Ok(architecture) => Ok((architecture, chain.program.sanitizers())),
        Err(finding) => Err(Refusal::new(status::FAULT, &explain(&chain, &finding))),
    }
}

fn explain(chain: &Chain, finding: &program::Finding) -> String {
    let paths: Vec<_> = chain
        .paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    format!(
        "{}: {}: {finding}; --no-check runs it all the same",
        paths.join(" -> "),
        finding.code()
    )
}

fn place(architecture: &Architecture, environment: &Environment) -> Result<PathBuf, Refusal> {
    let executable = env::current_exe().ok();
    let user = rustix::process::geteuid().as_raw();
    let variable = |name: &str| environment::get(environment, name).map(PathBuf::from);
    let places = Places::new(executable.as_deref(), user, variable);
    shim::place(&places, architecture, shim::embedded(architecture))
        .map_err(|error| Refusal::new(status::FAULT, &error))
}
