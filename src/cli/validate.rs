//! `reuseport validate`: holds an image against its own digests.

use clap::Args;
use serde_json::{Value, json};

use super::image::{self, Refusal};
use super::report::escaped;
use super::{answer, status};
use crate::image::store;
use crate::image::validate::{Violation, validate};

/// Say whether images are sound
///
/// Reads every byte: sizes, digests, unpacked layers, history, media types. Prints
/// what is wrong, a line each; nothing where all is well.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// Print one JSON array, an object a target
    #[arg(long)]
    json: bool,
    /// The images
    #[arg(value_name = "IMAGE", required = true)]
    targets: Vec<String>,
}

pub(super) fn run(arguments: &Arguments) -> u8 {
    let mut worst = status::DONE;
    let mut text = String::new();
    let mut list = Vec::new();
    for target in &arguments.targets {
        let found = match examine(target) {
            Ok(found) => found,
            Err(refusal) => {
                worst = worst.max(refusal.say());
                continue;
            }
        };
        if !found.is_empty() {
            worst = worst.max(status::NO);
        }
        let lines: Vec<String> = found.iter().map(ToString::to_string).collect();
        for line in &lines {
            text.push_str(&escaped(&format!("{target}: {line}")));
            text.push('\n');
        }
        list.push(json!({"target": target, "violations": lines}));
    }
    if arguments.json {
        text = super::report::escaped_json(&format!("{:#}\n", Value::from(list)));
    }
    answer(text.as_bytes()).max(worst)
}

fn examine(target: &str) -> Result<Vec<Violation>, Refusal> {
    let reference = image::parse(target)?;
    let mut source = store::open(&reference)?;
    Ok(validate(source.as_mut())?)
}
