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
    let text = fs::read(proc.join(format!("{pid}/stat"))).ok()?;
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
