//! What a copy writes: the last lines, and what the shim tells of failed binds.

use std::collections::VecDeque;
use std::io::{PipeReader, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::Failure;

/// The lines that are kept, and the bytes of each.
const MOST_LINES: usize = 20;
const LONGEST_LINE: usize = 400;
const MOST_FAILURES: usize = 64;

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<String>,
    failures: Vec<Failure>,
}

/// The output of a copy, read by a thread of its own so that the copy never
/// waits for us.
#[derive(Clone, Debug)]
pub(super) struct Output(Arc<Mutex<Kept>>);

impl Output {
    /// Reads `pipe` to its end. The shim's lines are kept among the others where
    /// `with_shim` says so.
    pub(super) fn follow(mut pipe: PipeReader, with_shim: bool) -> Self {
        let this = Self(Arc::default());
        let kept = Arc::clone(&this.0);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            let mut line = Vec::new();
            while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                for byte in &buffer[..count] {
                    if *byte == b'\n' {
                        add(&kept, &line, with_shim);
                        line.clear();
                    } else if line.len() < LONGEST_LINE {
                        line.push(*byte);
                    }
                }
            }
            if !line.is_empty() {
                add(&kept, &line, with_shim);
            }
        });
        this
    }

    /// The last lines.
    pub(super) fn lines(&self) -> Vec<String> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.lines.iter().cloned().collect()
    }

    /// The binds that failed so far.
    pub(super) fn failures(&self) -> Vec<Failure> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.failures.clone()
    }
}

fn add(kept: &Mutex<Kept>, line: &[u8], with_shim: bool) {
    let line = String::from_utf8_lossy(line);
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    let bind = bind(&line);
    if let Some(failure) = bind.and_then(|(address, done)| failure(address, done))
        && kept.failures.len() < MOST_FAILURES
        && !kept.failures.contains(&failure)
    {
        kept.failures.push(failure);
    }
    if bind.is_none() || with_shim {
        if kept.lines.len() == MOST_LINES {
            kept.lines.pop_front();
        }
        kept.lines.push_back(line.trim_end().to_owned());
    }
}

/// The address of a bind and what was done there, where `line` is the shim's:
/// `reuseport: NAME[PID]: bind ADDRESS: DONE; bind failed: ERROR (WHY)`.
fn bind(line: &str) -> Option<(&str, &str)> {
    let (_, rest) = line.strip_prefix("reuseport: ")?.split_once("]: bind ")?;
    rest.split_once(": ")
}

fn failure(address: &str, done: &str) -> Option<Failure> {
    let (_, error) = done.split_once("; bind failed: ")?;
    Some(Failure {
        address: address.to_owned(),
        error: error.split(' ').next().unwrap_or(error).to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shim_tells_of_failed_binds() {
        let line = "reuseport: nginx[7]: bind [::]:80: SO_REUSEPORT set; bind failed: EADDRINUSE (usually: whoever)";
        let (address, done) = bind(line).expect("the shim's");
        let expected = Failure {
            address: "[::]:80".into(),
            error: "EADDRINUSE".into(),
        };
        assert_eq!(failure(address, done), Some(expected));
        let line = "reuseport: nginx[7]: bind 0.0.0.0:80: SO_REUSEPORT set";
        assert_eq!(bind(line), Some(("0.0.0.0:80", "SO_REUSEPORT set")));
        assert_eq!(failure("0.0.0.0:80", "SO_REUSEPORT set"), None);
        assert_eq!(bind("reuseport: is a word"), None);
    }

    #[test]
    fn the_last_lines_are_kept_and_long_ones_cut() {
        let kept = Mutex::default();
        for number in 0..100 {
            add(&kept, format!("line {number}").as_bytes(), false);
        }
        let kept = kept.into_inner().expect("not poisoned");
        assert_eq!(kept.lines.len(), MOST_LINES);
        assert_eq!(kept.lines.back().map(String::as_str), Some("line 99"));
    }
}
