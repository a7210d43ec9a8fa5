//! `reuseport krm`: the function for kustomize and kpt.

use std::path::Path;

use clap::{Args, Command, Parser};

use super::image::Refusal;
use super::inject;
use super::manifest::{self, Flags};
use super::rules::RuleFlags;
use super::{answer, complain, status};
use crate::manifest::Injection;
use crate::manifest::krm::{Answer, configuration, function};

/// Put the shim into a ResourceList, as a KRM function of kustomize or kpt
///
/// Takes a ResourceList (config.kubernetes.io/v1) on standard input and prints it with
/// the shim in its workloads. The options are those of `inject -f`, without their
/// dashes, in the `data` of a ConfigMap or the `spec` of another functionConfig; a
/// list is an option that is given again. What there is to say stands in `results`.
#[derive(Args, Debug)]
pub(super) struct Arguments {}

/// `inject -f`, without the program's own name.
#[derive(Parser, Debug)]
#[command(no_binary_name = true, disable_help_flag = true)]
struct Call {
    #[command(flatten)]
    inject: inject::Arguments,
}

/// Options of `inject -f` that say what is read and how the answer is given.
const OTHERS: [&str; 6] = [
    "file",
    "recursive",
    "diff",
    "check",
    "service",
    "scale-ready",
];

pub(super) fn run(_: &Arguments) -> u8 {
    let answered = manifest::read(Path::new("-")).and_then(|source| {
        let given = configuration(&source).map_err(Refusal::fault)?;
        function(&source, &options(&given)).map_err(Refusal::fault)
    });
    match answered {
        Ok(Answer { text, error }) => {
            let written = answer(text.as_bytes());
            error.map_or(written, |error| complain(&error, status::FAULT))
        }
        Err(refusal) => refusal.say(),
    }
}

/// The options of `inject -f` that can be given, and whether they take a value.
fn known() -> Vec<(String, bool)> {
    let command = RuleFlags::augment_args(Flags::augment_args(Command::new("inject")));
    let option = |argument: &clap::Arg| {
        let name = argument.get_long()?;
        let takes_value = argument.get_action().takes_values();
        (!OTHERS.contains(&name)).then(|| (name.to_owned(), takes_value))
    };
    command.get_arguments().filter_map(option).collect()
}

fn options(given: &[(String, Vec<String>)]) -> Result<Injection, String> {
    let known = known();
    let mut arguments = vec!["--file=-".to_owned()];
    for (name, values) in given {
        let Some((_, takes_value)) = known.iter().find(|(one, _)| one == name) else {
            let names: Vec<&str> = known.iter().map(|(name, _)| name.as_str()).collect();
            return Err(format!(
                "there is no option {name}; there are {}",
                names.join(", ")
            ));
        };
        for value in values {
            match (takes_value, value.as_str()) {
                (true, value) => arguments.push(format!("--{name}={value}")),
                (false, "true") => arguments.push(format!("--{name}")),
                (false, "false" | "") => {}
                (false, other) => {
                    return Err(format!("{name}: expected true or false, found {other:?}"));
                }
            }
        }
    }
    let call = Call::try_parse_from(arguments).map_err(|error| {
        let text = error.to_string();
        let line = text.lines().next().unwrap_or_default();
        line.trim_start_matches("error: ").to_owned()
    })?;
    call.inject
        .injection()
        .map_err(|refusal| refusal.message().to_owned())
}
