//! `reuseport completions` and `reuseport man`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, answer, complain, status};

/// Print the completions for a shell
#[derive(Args, Debug)]
pub(super) struct Completions {
    shell: Shell,
}

/// Print a manual page, in the language of man(1)
///
/// reuseport man | man -l -
#[derive(Args, Debug)]
pub(super) struct Man {
    /// The subcommand whose page is printed; the command's own without it
    #[arg(value_name = "SUBCOMMAND")]
    subcommand: Option<String>,
}

pub(super) fn completions(arguments: &Completions) -> u8 {
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "reuseport", &mut text);
    answer(&text)
}

pub(super) fn man(arguments: &Man) -> u8 {
    // Builds the names and usages of the subcommands.
    let mut command = Cli::command();
    command.build();
    let page = match &arguments.subcommand {
        None => command,
        Some(name) => match command.find_subcommand(name) {
            Some(one) => one
                .clone()
                .name(format!("reuseport-{name}"))
                .version(env!("CARGO_PKG_VERSION")),
            None => return complain(&format_args!("{name}: no such subcommand"), status::FAULT),
        },
    };
    let mut text = Vec::new();
    match clap_mangen::Man::new(page).render(&mut text) {
        Ok(()) => answer(&text),
        Err(error) => complain(&error, status::FAULT),
    }
}
