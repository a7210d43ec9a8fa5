//! Which processes stand below which.

use std::fs;
use std::io;
use std::path::Path;

/// A process, as `/proc/N/stat` shows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stat {
    pub(crate) pid: u32,
    pub(crate) parent: u32,
    /// `Z` and `X` for one that has ended.
    pub(crate) state: char,
}

/// The processes below `top` in `proc`, which is `/proc`, that have not ended.
pub(crate) fn below(proc: &Path, top: u32) -> io::Result<Vec<Stat>> {
    let all: Vec<Stat> = super::directory::processes(proc)?
        .into_iter()
        .filter_map(|pid| stat(proc, pid))
        .collect();
    let mut known = vec![top];
    let mut found: Vec<Stat> = Vec::new();
    while let Some(parent) = known.pop() {
        for one in all.iter().filter(|one| one.parent == parent) {
            known.push(one.pid);
            if !matches!(one.state, 'Z' | 'X') {
                found.push(*one);
            }
        }
    }
    Ok(found)
}

/// What there is to know of the process `pid`.
pub(crate) fn stat(proc: &Path, pid: u32) -> Option<Stat> {
    read(&proc.join(format!("{pid}/stat")), pid)
}

/// Whether a thread of `pid` runs, or waits for a processor or a disk.
pub(crate) fn is_running(proc: &Path, pid: u32) -> bool {
    let tasks = fs::read_dir(proc.join(format!("{pid}/task")));
    let mut tasks = tasks.into_iter().flatten().flatten();
    tasks.any(|task| {
        let stat = read(&task.path().join("stat"), pid);
        stat.is_some_and(|stat| matches!(stat.state, 'R' | 'D'))
    })
}

fn read(path: &Path, pid: u32) -> Option<Stat> {
    let text = fs::read(path).ok()?;
    let text = String::from_utf8_lossy(&text);
    // The name, in parentheses, may hold anything.
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    Some(Stat {
        pid,
        state: fields.next()?.chars().next()?,
        parent: fields.next()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn one_that_waits_does_not_run() {
        assert!(is_running("/proc".as_ref(), std::process::id()));
        // cat(1) waits for its input, once it is there to do so.
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .spawn()
            .expect("started");
        while is_running("/proc".as_ref(), child.id()) {
            std::thread::yield_now();
        }
        child.kill().expect("it runs");
        child.wait().expect("an end");
    }
}
