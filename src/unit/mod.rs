//! systemd service units: read as systemd reads them, and the drop-in that puts
//! the shim into one.

mod command;
mod dropin;
mod environment;
mod judge;
mod load;
mod names;
mod sandbox;
mod specifier;
mod syntax;
mod user;
mod variables;
mod way;

use std::io;
use std::path::PathBuf;

use thiserror::Error;

pub use dropin::{DROP_IN, drop_in, is_ours};
pub use environment::Environment;
pub use judge::{Verdict, judge};
pub use load::{Paths, Unit};

/// Why there is no unit to speak of.
#[derive(Debug, Error)]
pub enum Error {
    #[error(
        "'{0}': no name of a service unit: letters, digits and :-_.\\@, with or without .service"
    )]
    Name(String),
    #[error("there is no unit {name}{}", suggestion(near))]
    NotFound { name: String, near: Vec<String> },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: larger than a unit can be", .0.display())]
    TooLarge(PathBuf),
    #[error("{name} is masked: systemctl unmask {name}")]
    Masked { name: String },
    #[error("{}: {name} has no ExecStart=, so that there is no program to run under the shim", path.display())]
    NoExecStart { name: String, path: PathBuf },
    #[error("{}: ExecStart={value}: {what}", path.display())]
    ExecStart {
        path: PathBuf,
        value: String,
        what: &'static str,
    },
}

impl Error {
    /// The name of the unit that is not there, or is masked.
    pub fn absent(&self) -> Option<&str> {
        match self {
            Self::NotFound { name, .. } | Self::Masked { name } => Some(name),
            _ => None,
        }
    }
}

fn suggestion(names: &[String]) -> String {
    if names.is_empty() {
        return String::new();
    }
    format!("; did you mean: {}", names.join(", "))
}
