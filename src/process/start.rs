//! How a process was started: what the kernel noted when it executed its
//! program.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use crate::environment::{self, Environment};
use crate::preload::LD_PRELOAD;

/// The parts of `/proc/N/status` that matter here, see proc_pid_status(5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Status {
    /// The process of a thread.
    pub(super) process: u32,
    pub(super) parent: u32,
    /// The effective user.
    pub(super) user: u32,
    pub(super) state: u8,
    /// Whether it has memory of its own. Kernel threads and processes that have
    /// ended do not.
    pub(super) has_memory: bool,
}

impl Status {
    /// The state of a process that has ended, and whose parent has not asked.
    const ZOMBIE: u8 = b'Z';
    const DEAD: u8 = b'X';

    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(text);
        let field = |name: &str, index: usize| {
            let mut lines = text.lines();
            let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            value.split_whitespace().nth(index)
        };
        Some(Self {
            process: field("Tgid", 0)?.parse().ok()?,
            parent: field("PPid", 0)?.parse().ok()?,
            user: field("Uid", 1)?.parse().ok()?,
            state: *field("State", 0)?.as_bytes().first()?,
            has_memory: field("VmSize", 0).is_some(),
        })
    }

    pub(super) fn has_ended(self) -> bool {
        matches!(self.state, Self::ZOMBIE | Self::DEAD)
    }
}

/// Whether the kernel asked the loader for secure mode (`AT_SECURE`), see
/// getauxval(3). `vector` is `/proc/N/auxv`, pairs of words of the process's own
/// size. `None` where it does not say.
pub(super) fn is_secure(vector: &[u8], is_64_bit: bool) -> Option<bool> {
    const AT_SECURE: u64 = 23;
    let size = if is_64_bit { 8 } else { 4 };
    let words: Vec<u64> = vector.chunks_exact(size).map(word).collect();
    let pair = words.chunks_exact(2).find(|pair| pair[0] == AT_SECURE)?;
    Some(pair[1] != 0)
}

/// The number that `bytes`, four or eight of them, are on this machine.
fn word(bytes: &[u8]) -> u64 {
    match (bytes.try_into(), bytes.try_into()) {
        (Ok(long), _) => u64::from_ne_bytes(long),
        (_, Ok(short)) => u32::from_ne_bytes(short).into(),
        _ => 0,
    }
}

/// The environment that a process was started with, as far as it can be known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Started {
    /// What is still there of it.
    pub environment: Environment,
    /// The process has put something else in its place, as servers do that show
    /// a title in ps(1). What is not found then may have been there.
    pub is_overwritten: bool,
}

impl Started {
    /// Parses `/proc/N/environ`, see proc_pid_environ(5): the memory that held
    /// the environment when the program was executed, whatever it holds by now.
    pub(super) fn parse(memory: &[u8]) -> Self {
        let entries = memory.strip_suffix(b"\0").unwrap_or(memory);
        let mut started = Self {
            environment: Vec::new(),
            // The kernel ends each entry by a zero, the last one too.
            is_overwritten: entries.len() == memory.len() && !memory.is_empty(),
        };
        if memory.is_empty() {
            return started;
        }
        for entry in entries.split(|&byte| byte == 0) {
            match entry.iter().position(|&byte| byte == b'=') {
                Some(length) if length > 0 => {
                    let [name, value] = [&entry[..length], &entry[length + 1..]]
                        .map(|part| OsString::from_vec(part.to_vec()));
                    started.environment.push((name, value));
                }
                _ => started.is_overwritten = true,
            }
        }
        started
    }

    /// The value of `LD_PRELOAD`.
    pub fn preload(&self) -> Option<OsString> {
        environment::get(&self.environment, LD_PRELOAD).map(ToOwned::to_owned)
    }

    /// How many descriptors, from 3 on, a service manager passed, see
    /// sd_listen_fds(3).
    pub fn passed_descriptors(&self) -> u32 {
        let value = environment::get(&self.environment, "LISTEN_FDS");
        let number = value.and_then(|value| value.to_str()?.parse().ok());
        number.unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_parsed_and_nonsense_is_none() {
        let text = b"Name:\tTgid:\t9\nState:\tZ (zombie)\nTgid:\t12\nPid:\t14\nPPid:\t1\n\
                     Uid:\t1000\t0\t0\t0\nVmSize:\t    3060 kB\n";
        let status = Status::parse(text).expect("a status");
        assert_eq!((status.process, status.parent, status.user), (12, 1, 0));
        assert!(status.has_ended() && status.has_memory);
        for length in 0..text.len() {
            Status::parse(&text[..length]);
        }
        assert_eq!(Status::parse(b"\xff\n:\n"), None);
    }

    #[test]
    fn secure_mode_is_read_in_both_sizes() {
        let words = |words: &[u64]| -> Vec<u8> {
            words.iter().flat_map(|word| word.to_ne_bytes()).collect()
        };
        let short: Vec<u8> = [6_u32, 23, 23, 1, 0, 0]
            .iter()
            .flat_map(|word| word.to_ne_bytes())
            .collect();
        assert_eq!(is_secure(&words(&[23, 1, 0, 0]), true), Some(true));
        assert_eq!(is_secure(&words(&[9, 23, 23, 0]), true), Some(false));
        assert_eq!(is_secure(&words(&[9, 23, 0, 0]), true), None);
        assert_eq!(is_secure(&short, false), Some(true));
        assert_eq!(is_secure(b"abc", true), None);
    }

    #[test]
    fn an_environment_that_was_overwritten_is_known_as_such() {
        let parsed = |memory: &[u8]| {
            let started = Started::parse(memory);
            (started.environment.len(), started.is_overwritten)
        };
        assert_eq!(parsed(b""), (0, false));
        assert_eq!(parsed(b"A=1\0B=\0"), (2, false));
        assert_eq!(parsed(b"\0\0\0\0"), (0, true));
        assert_eq!(parsed(b"er process\0\0B=2\0"), (1, true));
        assert_eq!(parsed(b"A=1\0B=2"), (2, true));
    }
}
