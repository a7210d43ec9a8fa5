//! The command line: parses, calls the library, renders what it says.

mod bundle;
mod cdi;
mod check;
mod digest_file;
mod eject;
mod engine;
mod found;
mod groups;
mod host;
mod image;
mod inject;
mod install;
mod krm;
mod live;
mod look;
mod manifest;
mod manual;
mod pid;
mod policy;
mod print;
mod progress;
mod report;
mod rules;
mod run;
mod runner;
mod shorthand;
mod target;
mod unit;
mod validate;

use std::ffi::OsString;
use std::io::{self, Write};

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

use crate::exec;

/// The exit statuses of the command, but for `run`'s own (`run::status`).
mod status {
    pub(super) const DONE: u8 = 0;
    /// The answer is no.
    pub(super) const NO: u8 = 1;
    /// The call or its input is at fault, and nothing was changed.
    pub(super) const FAULT: u8 = 2;
}

/// Run any Linux server, unmodified, more than once on one port.
#[derive(Debug, Parser)]
#[command(
    name = "reuseport",
    version,
    arg_required_else_help = true,
    override_usage = "reuseport [RULES] [--] CMD [ARG]...\n       reuseport SUBCOMMAND ...",
    after_help = "reuseport [RULES] [--] CMD is short for reuseport run [RULES] -- CMD.\n\
                  A program that has the name of a subcommand: reuseport -- install ..."
)]
struct Cli {
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    Run(Box<run::Arguments>),
    Restart(runner::Restart),
    Stop(runner::Stop),
    Scale(runner::Scale),
    Status(groups::Arguments),
    Check(check::Arguments),
    Inject(Box<inject::Arguments>),
    Eject(eject::Arguments),
    Validate(validate::Arguments),
    Cdi(cdi::Arguments),
    Policy(policy::Arguments),
    Krm(krm::Arguments),
    Install(install::Arguments),
    Completions(print::Completions),
    Man(print::Man),
}

/// Runs the command with `arguments`, the first of which is its own name, and
/// gives its exit status. May be called again: nothing is kept.
pub fn run(arguments: Vec<OsString>) -> u8 {
    exec::fill_standard_descriptors();
    if let Some(status) =
        crate::live::enter(&arguments).or_else(|| crate::runner::enter(&arguments))
    {
        return status;
    }
    let expanded = shorthand::expand(arguments, &Cli::command());
    let fault = if expanded.is_run {
        run::status::FAULT
    } else {
        status::FAULT
    };
    if let Some(message) = expanded.refusal {
        return complain(&message, fault);
    }
    match Cli::try_parse_from(expanded.arguments) {
        Ok(Cli { command }) => match command {
            Subcommands::Run(arguments) => run::run(*arguments),
            Subcommands::Restart(arguments) => runner::restart(&arguments),
            Subcommands::Stop(arguments) => runner::stop(&arguments),
            Subcommands::Scale(arguments) => runner::scale(&arguments),
            Subcommands::Status(arguments) => groups::run(&arguments),
            Subcommands::Check(arguments) => check::run(arguments),
            Subcommands::Inject(arguments) => inject::run(*arguments),
            Subcommands::Eject(arguments) => eject::run(&arguments),
            Subcommands::Validate(arguments) => validate::run(&arguments),
            Subcommands::Cdi(arguments) => cdi::run(&arguments),
            Subcommands::Policy(arguments) => policy::run(arguments),
            Subcommands::Krm(arguments) => krm::run(&arguments),
            Subcommands::Install(arguments) => install::run(&arguments),
            Subcommands::Completions(arguments) => print::completions(&arguments),
            Subcommands::Man(arguments) => print::man(&arguments),
        },
        Err(error) => {
            // Where not even that can be written, the status says it.
            let _ = error.print();
            match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => status::DONE,
                _ => fault,
            }
        }
    }
}

/// Says `message` on standard error and gives `status`.
fn complain(message: &dyn std::fmt::Display, status: u8) -> u8 {
    let _ = writeln!(io::stderr(), "reuseport: {message}");
    status
}

/// Writes the answer of a command to standard output.
fn answer(text: &[u8]) -> u8 {
    let mut output = io::stdout().lock();
    match output.write_all(text).and_then(|()| output.flush()) {
        Ok(()) => status::DONE,
        Err(error) => complain(&format_args!("standard output: {error}"), status::FAULT),
    }
}
