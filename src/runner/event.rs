//! What happens in a runner, for who writes it down.

use std::fmt;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// A stable word: `started`, `ready`, `ended`, `restart-done`.
    pub kind: &'static str,
    pub slot: Option<usize>,
    pub message: String,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.slot {
            Some(slot) => write!(f, "slot {slot}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

/// So many copies, in words.
pub(super) fn copies(count: usize) -> String {
    match count {
        1 => "1 copy".to_owned(),
        _ => format!("{count} copies"),
    }
}

/// What becomes of connections that waited in a copy, in words.
pub(super) fn waited(count: u32, fate: &str) -> String {
    match count {
        1 => format!("1 connection that waited is {fate}"),
        _ => format!("{count} connections that waited are {fate}"),
    }
}
