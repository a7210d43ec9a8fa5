//! Speaking to runners.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

pub use super::control::Request;
use super::peer::peer;
use super::{control, keeper};
use crate::process;

/// What a runner answers.
#[derive(Clone, Debug, Deserialize)]
pub struct Answer {
    /// The exit status for who asked.
    pub status: u8,
    #[serde(default)]
    pub message: String,
    #[serde(default)]
    pub state: Value,
}

/// A runner of this user that is there.
#[derive(Debug)]
pub struct Runner {
    pub name: String,
    /// `None` for one that this PID namespace does not see.
    pub pid: Option<u32>,
    stream: UnixStream,
}

/// All runners of this user.
pub fn runners() -> Vec<Runner> {
    let entries = fs::read_dir(control::directory()).into_iter().flatten();
    let mut found: Vec<Runner> = entries
        .filter_map(|entry| connect(&entry.ok()?.path()))
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// The processes that are runners, of any user, as their keepers show.
pub fn processes() -> Vec<u32> {
    let proc = Path::new("/proc");
    let is_keeper = |pid: u32| {
        let line = fs::read(proc.join(format!("{pid}/cmdline"))).unwrap_or_default();
        line.split(|byte| *byte == 0).next() == Some(keeper::NAME.as_bytes())
    };
    let all = process::below(proc, 0).unwrap_or_default();
    let keepers = all.iter().filter(|one| is_keeper(one.pid));
    keepers.map(|one| one.parent).collect()
}

fn connect(path: &Path) -> Option<Runner> {
    let name = path
        .file_name()?
        .to_str()?
        .strip_suffix(".sock")?
        .to_owned();
    let stream = UnixStream::connect(path).ok()?;
    Some(Runner {
        name,
        pid: peer(&stream).ok()?.pid,
        stream,
    })
}

/// The runner that `wanted` names, or whose process it is; without it, the only one.
///
/// # Errors
/// There is none, or there are several.
pub fn find(wanted: Option<&str>) -> Result<Runner, String> {
    let mut all = runners();
    let names = |all: &[Runner]| {
        let names: Vec<&str> = all.iter().map(|one| one.name.as_str()).collect();
        names.join(", ")
    };
    match wanted {
        Some(wanted) => {
            let is_it = |one: &Runner| {
                one.name == wanted || one.pid.is_some_and(|pid| pid.to_string() == wanted)
            };
            match all.iter().position(is_it) {
                Some(index) => Ok(all.swap_remove(index)),
                None if all.is_empty() => Err(format!("{}, so none called {wanted}", nobody())),
                None => Err(format!(
                    "no runner in {} is called {wanted}; there are: {}",
                    control::directory().display(),
                    names(&all)
                )),
            }
        }
        None => match all.len() {
            0 => Err(nobody()),
            1 => Ok(all.swap_remove(0)),
            _ => Err(format!(
                "there are several runners, name one: {}",
                names(&all)
            )),
        },
    }
}

/// That there is no runner, and where one would be.
fn nobody() -> String {
    let directory = control::directory();
    format!(
        "no runner of this user is there (no control socket answers in {})",
        directory.display()
    )
}

/// Asks `runner`, and waits until it is done.
///
/// # Errors
/// It has ended.
pub fn ask(runner: Runner, request: Request) -> io::Result<Answer> {
    let mut stream = runner.stream;
    let mut text = serde_json::to_vec(&request)?;
    text.push(b'\n');
    stream.write_all(&text)?;
    let mut line = String::new();
    if BufReader::new(stream).read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_str(&line)?)
}
