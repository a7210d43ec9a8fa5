//! `reuseport [RULES] CMD…` is `reuseport run [RULES] -- CMD…` where CMD is no
//! subcommand.

use std::ffi::OsString;

use clap::Command;

/// A command line, with `run` written out.
pub(super) struct Expanded {
    pub(super) arguments: Vec<OsString>,
    /// Whether it is `run`, whose exit statuses differ.
    pub(super) is_run: bool,
    /// Why it cannot be meant.
    pub(super) refusal: Option<String>,
}

/// Writes out `run` in `arguments`, the command line of `cli`.
pub(super) fn expand(mut arguments: Vec<OsString>, cli: &Command) -> Expanded {
    let is_subcommand =
        |word: &OsString| word == "help" || cli.get_subcommands().any(|one| word == one.get_name());
    let own_flags = ["-h", "--help", "-V", "--version"];
    let (is_run, is_short) = match arguments.get(1) {
        None => (false, false),
        Some(word) if own_flags.iter().any(|flag| word == flag) => (false, false),
        Some(word) if is_subcommand(word) => (word == "run", false),
        Some(_) => (true, true),
    };
    let mut refusal = None;
    if is_short {
        // Flags before a subcommand's name: is that a program's name, or are the
        // flags the subcommand's?
        let run = cli.find_subcommand("run");
        if let Some(word) = run.and_then(|run| first_word(&arguments[1..], run))
            && is_subcommand(word)
        {
            let word = word.display();
            refusal = Some(format!(
                "{word}: the flags of a subcommand come after it: reuseport {word} ...; \
                 a program of that name comes after --: reuseport ... -- {word}"
            ));
        }
        arguments.insert(1, "run".into());
    }
    Expanded {
        arguments,
        is_run,
        refusal,
    }
}

/// The first of `arguments` that is neither a flag of `run` nor the value of
/// one; `None` where `--` comes before it.
fn first_word<'a>(arguments: &'a [OsString], run: &Command) -> Option<&'a OsString> {
    let mut arguments = arguments.iter();
    loop {
        let argument = arguments.next()?;
        let text = argument.to_string_lossy();
        let Some(flag) = text.strip_prefix("--") else {
            return Some(argument).filter(|_| !text.starts_with('-'));
        };
        if flag.is_empty() {
            return None;
        }
        let mut flags = run.get_arguments();
        let takes_value = flags
            .find(|one| one.get_long() == Some(flag))
            .is_some_and(|one| one.get_action().takes_values());
        if takes_value {
            arguments.next();
        }
    }
}
