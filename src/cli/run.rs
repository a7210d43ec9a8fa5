//! `reuseport run`: becomes a program that runs under the shim.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::complain;
use super::rules::RuleFlags;
use crate::environment::{self, Environment};
use crate::exec;
use crate::finding::{Severity, Verdict};
use crate::preload::{self, LD_PRELOAD};
use crate::program::{Broken, Credentials, Judge, Judgement, Link, Lookup, NotFound, Root};
use crate::rules::Assignments;
use crate::runner::taken;
use crate::shim::{self, Architecture, NoPlace, Places};

/// The exit statuses of `run` where CMD does not run, as env(1) and nohup(1)
/// have them.
pub(super) mod status {
    /// Whatever keeps us from running CMD but CMD itself.
    pub(in crate::cli) const FAULT: u8 = 125;
    pub(super) const NOT_EXECUTABLE: u8 = 126;
    pub(super) const NOT_FOUND: u8 = 127;
}

/// Run a program under the shim, in this process, or several copies of it
///
/// The program keeps this process's id, descriptors, signals and environment,
/// with LD_PRELOAD and the rules' variables added. One that the shim cannot
/// reach is refused. With -n, this process is a runner: it starts copies of the
/// program, starts them again when they end, and replaces them one after another
/// on SIGHUP.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Environment:
  The variables in brackets give a rule where its flag is left out. LD_PRELOAD
  is kept, and the shim comes last in it.

Exit status:
  CMD's own; 125 where the call, the rules or the check keep it from running,
  126 where it cannot be executed, 127 where it is not found.")]
pub(super) struct Arguments {
    #[command(flatten)]
    rules: RuleFlags,
    #[command(flatten)]
    runner: super::runner::Flags,
    /// Run CMD without looking at it first
    #[arg(long)]
    no_check: bool,
    /// The program to run, and its arguments
    #[arg(
        value_name = "CMD",
        required = true,
        trailing_var_arg = true,
        value_hint = ValueHint::CommandWithArguments
    )]
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
    match start(arguments) {
        Ok(status) => status,
        Err(refusal) => complain(&refusal.message, refusal.status),
    }
}

/// Becomes CMD, or runs copies of it to their end.
fn start(arguments: Arguments) -> Result<u8, Refusal> {
    let mut environment: Environment = env::vars_os().collect();
    let given = arguments.rules.assignments();
    let inherited = Assignments::from_environment(&environment);
    let rules = given.clone().or(inherited).check().map_err(|error| {
        let variable = error.invalid.variable.name();
        Refusal::new(status::FAULT, &format_args!("{variable}: {error}"))
    })?;

    let root = Root::host();
    let directory = env::current_dir().unwrap_or_default();
    let path = environment::get(&environment, "PATH");
    let lookup = Lookup {
        root: &root,
        path,
        directory: &directory,
    };
    let subject = if arguments.no_check {
        find(&arguments.command, &lookup).and_then(Subject::unchecked)?
    } else {
        examine(&arguments.command, lookup, &environment)?
    };
    let shim = if arguments.runner.is_runner() {
        place_counting(subject.architecture, &environment)
    } else {
        place(subject.architecture, &environment)
    };
    let shim = shim.map_err(|error| Refusal::new(status::FAULT, &error))?;

    let list = environment::get(&environment, LD_PRELOAD);
    let list = preload::merge(list, &subject.first, &shim, shim::is_shim_file);
    environment::set(&mut environment, LD_PRELOAD, list);
    for (variable, value) in given.iter() {
        environment::set(&mut environment, variable.name(), value.to_owned());
    }
    let path = subject.path;
    if arguments.runner.is_runner() {
        let ours = |name: &OsString| {
            name == LD_PRELOAD || given.iter().any(|(variable, _)| name == variable.name())
        };
        environment.retain(|(name, _)| ours(name));
        // Only the ports that are listed are known before a server binds.
        let proc = "/proc".as_ref();
        if rules.ports.is_empty() {
            let named = numbers(&arguments.command);
            for taken in taken(proc, |port| named.contains(&port)) {
                let text = format!("warning: {taken}: a copy that wants it will not get it");
                complain(&text, 0);
            }
        } else if let [taken, ..] = &taken(proc, |port| rules.selects_port(port))[..] {
            return Err(Refusal::new(status::FAULT, taken));
        }
        let command = super::runner::Command {
            program: path,
            arguments: arguments.command,
            environment,
            rules,
        };
        let outcome = arguments.runner.run(command);
        return outcome.map_err(|error| Refusal::new(status::FAULT, &error));
    }
    let error = exec::exec(&path, &arguments.command, environment);
    Err(Refusal::new(
        status::NOT_EXECUTABLE,
        &format_args!("{}: {error}", path.display()),
    ))
}

/// The numbers in the arguments of `command` that may be ports.
fn numbers(command: &[OsString]) -> Vec<u16> {
    let words = command.iter().skip(1).map(|word| word.to_string_lossy());
    let numbers = words.flat_map(|word| {
        let parts = word.split(|c: char| !c.is_ascii_alphanumeric());
        let parts = parts.filter_map(|part| part.parse().ok());
        parts.collect::<Vec<u16>>()
    });
    numbers.filter(|number| *number != 0).collect()
}

/// What is to be run.
struct Subject {
    path: PathBuf,
    /// The architecture whose shim reaches it.
    architecture: &'static Architecture,
    /// The libraries that must be loaded before the shim.
    first: Vec<OsString>,
}

impl Subject {
    /// A program of which nothing is known.
    fn unchecked(path: PathBuf) -> Result<Self, Refusal> {
        let native = shim::native().map_err(|error| Refusal::new(status::FAULT, &error))?;
        Ok(Self {
            path,
            architecture: native,
            first: Vec::new(),
        })
    }
}

fn not_found(error: &NotFound) -> Refusal {
    let status = if error.exists() {
        status::NOT_EXECUTABLE
    } else {
        status::NOT_FOUND
    };
    let mut message = error.to_string();
    if let NotFound::NotInPath(command) = error
        && let Some(name) = near_subcommand(&command.to_string_lossy())
    {
        message.push_str("; did you mean: reuseport ");
        message.push_str(&name);
    }
    Refusal::new(status, &message)
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

/// The file that `command` names.
fn find(command: &[OsString], lookup: &Lookup<'_>) -> Result<PathBuf, Refusal> {
    let command = command.first().map_or(OsStr::new(""), OsString::as_os_str);
    lookup.find(command).map_err(|error| not_found(&error))
}

/// Judges `command`, and refuses it where the shim certainly cannot act.
fn examine(
    command: &[OsString],
    lookup: Lookup<'_>,
    environment: &Environment,
) -> Result<Subject, Refusal> {
    let credentials = Credentials::of_this_process();
    let judge = Judge::new(lookup, credentials, |name| {
        environment::get(environment, name)
    });
    // Whether there is a shim is the affair of placing it, which knows better.
    let judgement = judge.judge(command, &|_| true);
    let chain = &judgement.chain;

    // What a wrapper would run is its own to find or not to find.
    let is_wrapped = chain
        .links
        .iter()
        .any(|(_, link)| matches!(link, Link::Wrapper(_)));
    match &chain.broken {
        Some(Broken::NotFound(error)) if chain.links.is_empty() => return Err(not_found(error)),
        // A program may be one's to execute and not to read: nothing is certain.
        Some(Broken::Io { source, path }) if source.kind() == io::ErrorKind::PermissionDenied => {
            complain(
                &format_args!("warning: {}: not readable, so not checked", path.display()),
                0,
            );
        }
        Some(broken) if !is_wrapped => {
            return Err(Refusal::new(status::NOT_EXECUTABLE, broken));
        }
        Some(_) => {}
        None if judgement.verdict() == Verdict::Fails => {
            return Err(Refusal::new(status::FAULT, &explain(&judgement)));
        }
        None => {}
    }
    let path = match (chain.links.first(), &chain.broken) {
        (Some((path, _)), _) | (None, Some(Broken::Io { path, .. })) => path.clone(),
        _ => return find(command, &lookup).and_then(Subject::unchecked),
    };
    let mut subject = Subject::unchecked(path)?;
    if let Some(architecture) = judgement.architecture {
        subject.architecture = architecture;
    }
    if let Some((_, program)) = chain.program() {
        subject.first = program.sanitizers();
    }
    Ok(subject)
}

fn explain(judgement: &Judgement) -> String {
    let links = judgement.chain.links.iter();
    let paths: Vec<_> = links.map(|(path, _)| path.display().to_string()).collect();
    let errors = judgement
        .findings
        .iter()
        .filter(|one| one.severity == Severity::Error);
    let errors: Vec<_> = errors.map(ToString::to_string).collect();
    format!(
        "{}: {}; --no-check runs it all the same",
        paths.join(" -> "),
        errors.join("; ")
    )
}

/// The path of the shim on this machine.
pub(super) fn place(
    architecture: &Architecture,
    environment: &Environment,
) -> Result<PathBuf, NoPlace> {
    let places = places(environment);
    shim::place(&places, architecture, shim::embedded(architecture))
}

/// The path of the shim for a runner's copies: that which counts what they accept,
/// or the other where there is no place for it but one is installed.
fn place_counting(
    architecture: &Architecture,
    environment: &Environment,
) -> Result<PathBuf, NoPlace> {
    let mut places = places(environment);
    // An installation has the other.
    let installed = places.installed.take();
    let counting = shim::place(&places, architecture, shim::counting(architecture));
    counting.or_else(|_| {
        places.installed = installed;
        shim::place(&places, architecture, shim::embedded(architecture))
    })
}

fn places(environment: &Environment) -> Places {
    let executable = env::current_exe().ok();
    let user = rustix::process::geteuid().as_raw();
    let variable = |name: &str| environment::get(environment, name).map(PathBuf::from);
    Places::new(executable.as_deref(), user, variable)
}
