//! `reuseport completions` and `reuseport man`.

use std::io;

use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;

use super::{Cli, answer, complain, manual, status};

/// Print the completions for a shell
#[derive(Args, Debug)]
pub(super) struct Completions {
    shell: Shell,
}

/// Print a manual page, in the language of man(1)
///
/// reuseport man | man -l -, reuseport man run | man -l -
#[derive(Args, Debug)]
pub(super) struct Man {
    /// The subcommand whose page is printed; the command's own without it
    #[arg(value_name = "SUBCOMMAND")]
    subcommand: Option<String>,
}

pub(super) fn completions(arguments: &Completions) -> u8 {
    let command = Cli::command();
    let run = command.find_subcommand("run").expect("it is there");
    // Its flags stand before a command that is no subcommand, too.
    let flags: Vec<_> = run
        .get_arguments()
        .filter(|one| !one.is_positional())
        .cloned()
        .collect();
    let mut text = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut command.args(flags),
        "reuseport",
        &mut text,
    );
    answer(&text)
}

pub(super) fn man(arguments: &Man) -> u8 {
    // Builds the names and usages of the subcommands.
    let mut command = Cli::command().disable_help_subcommand(true);
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
    match render(page, arguments.subcommand.as_deref(), &mut text) {
        Ok(()) => answer(&text),
        Err(error) => complain(&error, status::FAULT),
    }
}

fn render(page: Command, subcommand: Option<&str>, text: &mut Vec<u8>) -> io::Result<()> {
    let has_subcommands = page.has_subcommands();
    let source = concat!("reuseport ", env!("CARGO_PKG_VERSION"));
    let page = clap_mangen::Man::new(page)
        .source(source)
        .manual("reuseport");
    page.render_title(text)?;
    page.render_name_section(text)?;
    page.render_synopsis_section(text)?;
    page.render_description_section(text)?;
    page.render_options_section(text)?;
    if has_subcommands {
        page.render_subcommands_section(text)?;
    }
    text.extend(manual::sections(subcommand).bytes());
    Ok(())
}
