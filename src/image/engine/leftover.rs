//! What is in an engine only while we work, and is to be gone whatever happens:
//! stopped containers, and tags of images that have not been looked at yet.
//!
//! They go when their owner is dropped. Where a signal ends the process, a thread
//! takes them away first. Where nothing can (SIGKILL, a crash), their names say
//! whose they are, and a later run removes those of the dead.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;
use ureq::http::Method;

use super::client::{Call, Client};
use super::error::EngineError;
use crate::image::digest::Digest;

/// What the names of all of ours start with.
pub(super) const PREFIX: &str = "reuseport-";

/// The repository of images that have not been looked at yet.
pub(super) const PENDING: &str = "reuseport-pending";

/// How long something of a process that cannot be looked for (another machine's,
/// another container's) is left alone, in seconds. No run takes as long.
const AGE_OF_THE_DEAD: i64 = 24 * 60 * 60;

/// Something that is in the engine until this is dropped.
#[derive(Debug)]
pub(super) struct Leftover {
    client: Client,
    /// What removes it.
    path: String,
    number: u64,
}

/// One of those, as the thread that waits for signals sees it.
#[derive(Clone, Debug)]
struct Held {
    number: u64,
    client: Client,
    path: String,
    /// Whether the engine is making it just now.
    is_coming: bool,
}

static HELD: Mutex<Vec<Held>> = Mutex::new(Vec::new());
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// How often it is asked for again, after a signal, whether the engine has made what
/// it was making, and how many times at most.
const PAUSE: Duration = Duration::from_millis(50);
const TIMES: usize = 200;

fn held() -> MutexGuard<'static, Vec<Held>> {
    // The list is whole between any two statements.
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Leftover {
    /// A stopped container called `name`, under the version of the API in `version`.
    /// To be called before the container is made.
    pub(super) fn container(client: &Client, version: &str, name: &str) -> Self {
        Self::new(client, format!("{version}/containers/{name}"))
    }

    /// The tag `name` of an image, likewise.
    pub(super) fn tag(client: &Client, version: &str, name: &str) -> Self {
        Self::new(client, format!("{version}/images/{name}"))
    }

    fn new(client: &Client, path: String) -> Self {
        watch_for_signals();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        held().push(Held {
            number,
            client: client.clone(),
            path: path.clone(),
            is_coming: false,
        });
        Self {
            client: client.clone(),
            path,
            number,
        }
    }

    /// Has the engine make it, by a call that takes no longer than a moment. A signal
    /// in the meantime waits for the engine, which goes on whoever listens.
    pub(super) fn make<T>(&self, make: impl FnOnce() -> T) -> T {
        self.set_coming(true);
        let result = make();
        self.set_coming(false);
        result
    }

    fn set_coming(&self, is_coming: bool) {
        for one in held().iter_mut() {
            if one.number == self.number {
                one.is_coming = is_coming;
            }
        }
    }

    /// Removes it now, and says whether that worked.
    pub(super) fn remove(self) -> Result<(), EngineError> {
        let (client, path) = (self.client.clone(), self.path.clone());
        // Only once: the drop must find nothing to do.
        self.forget();
        remove(&client, &path).map(drop)
    }

    fn forget(&self) -> bool {
        let mut held = held();
        let before = held.len();
        held.retain(|one| one.number != self.number);
        held.len() < before
    }
}

impl Drop for Leftover {
    fn drop(&mut self) {
        if self.forget() {
            // An error is on its way already, or the work is done; a later run
            // tries again.
            let _ = remove(&self.client, &self.path);
        }
    }
}

/// `DELETE /containers/NAME` with its anonymous volumes, or `DELETE /images/NAME`,
/// which takes away the tag, and never an image below the one that it names.
/// `false` where there is no such thing.
fn remove(client: &Client, path: &str) -> Result<bool, EngineError> {
    let call = Call::new(Method::DELETE, path);
    let call = if path.contains("/containers/") {
        call.with("v", "1").with("force", "1")
    } else {
        call.with("noprune", "1")
    };
    match client.done_soon(&call) {
        Err(error) if error.is_not_found() => Ok(false),
        result => result.map(|()| true),
    }
}

/// A name that no other has, and that says whose it is: the machine and its
/// processes' name space, the process, when it started.
pub(super) fn name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let process = process::id();
    let start = start_of(process).unwrap_or_default();
    format!("{PREFIX}{}-{process}-{start}-{count}", realm())
}

/// Whether what is called `name`, which the engine has had for `age` seconds, is of
/// a run that has ended.
pub(super) fn is_dead(name: &str, age: i64) -> bool {
    let Some(rest) = name.strip_prefix(PREFIX) else {
        return false;
    };
    let parts: Vec<&str> = rest.split('-').collect();
    let [realm_of_it, process, start, _] = parts.as_slice() else {
        return false;
    };
    let (Ok(process), Ok(start)) = (process.parse(), start.parse()) else {
        return false;
    };
    if *realm_of_it == realm() {
        start_of(process) != Some(start)
    } else {
        age > AGE_OF_THE_DEAD
    }
}

/// Stands for this boot of this machine, and the name space in which the numbers
/// of processes mean what they mean here.
fn realm() -> &'static str {
    static REALM: OnceLock<String> = OnceLock::new();
    REALM.get_or_init(|| {
        let mut realm = fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let space = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        realm.extend(space.as_os_str().as_bytes());
        Digest::of(&realm).hex()[..8].to_owned()
    })
}

/// When the process started, in the kernel's ticks since boot: proc_pid_stat(5).
fn start_of(process: u32) -> Option<u64> {
    let line = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name before the last parenthesis may hold anything; 20 fields follow it
    // up to the start.
    let (_, fields) = line.rsplit_once(')')?;
    fields.split_whitespace().nth(19)?.parse().ok()
}

/// From now on, signals that end this process first take away what is held.
fn watch_for_signals() {
    static WATCHING: OnceLock<()> = OnceLock::new();
    WATCHING.get_or_init(|| {
        let ignored = ignored_signals();
        let caught = [SIGHUP, SIGINT, SIGTERM]
            .into_iter()
            .filter(|signal| ignored & (1 << (signal - 1)) == 0);
        // Without them, it is as if the process were killed: see the module.
        let Ok(mut signals) = Signals::new(caught) else {
            return;
        };
        let _ = thread::Builder::new()
            .name("leftovers".to_owned())
            .spawn(move || {
                loop {
                    let Some(signal) = signals.wait().next() else {
                        continue;
                    };
                    // Nobody makes or names anything from here on.
                    let held = held();
                    take_away(&held, || signals.pending().next().is_some());
                    let _ = emulate_default_handler(signal);
                }
            });
    });
}

/// Removes all of `held`. For what is still coming the engine is asked again, until
/// it takes too long or another signal `is_urgent`.
fn take_away(held: &[Held], mut is_urgent: impl FnMut() -> bool) {
    for one in held {
        for _ in 0..TIMES {
            let is_gone = !matches!(remove(&one.client, &one.path), Ok(false));
            if is_gone || !one.is_coming || is_urgent() {
                break;
            }
            thread::sleep(PAUSE);
        }
    }
}

/// A set of signals that this process ignores, since its caller did: nohup(1).
fn ignored_signals() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;
    use crate::image::engine::Address;

    /// How often an engine is asked to remove what it has only at the third time.
    fn asked(is_coming: bool, is_urgent: bool) -> usize {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).expect("a socket");
        let engine = thread::spawn(move || {
            let mut count = 0;
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let mut request = [0; 4096];
                let length = stream.read(&mut request).expect("a request");
                if !request[..length].starts_with(b"DELETE ") {
                    return count;
                }
                count += 1;
                let status = if count < 3 { "404 Not Found" } else { "200 OK" };
                let head = "Content-Length: 2\r\nConnection: close";
                let answer = format!("HTTP/1.1 {status}\r\n{head}\r\n\r\n{{}}");
                stream.write_all(answer.as_bytes()).expect("it listens");
            }
            count
        });
        let client = Client::new(Address::Unix(path.clone())).expect("a client");
        let tag = format!("/images/{PENDING}:x");
        let held = Held {
            number: 0,
            client,
            path: tag,
            is_coming,
        };
        take_away(&[held], || is_urgent);
        let mut end = UnixStream::connect(&path).expect("it listens");
        end.write_all(b"END").expect("it listens");
        engine.join().expect("an engine")
    }

    #[test]
    fn what_the_engine_is_making_is_waited_for() {
        assert_eq!(asked(false, false), 1);
        assert_eq!(asked(true, false), 3);
        assert_eq!(asked(true, true), 1);
    }

    #[test]
    fn what_is_coming_is_known() {
        let address = Address::Unix("/nonexistent".into());
        let client = Client::new(address).expect("a client");
        let leftover = Leftover::tag(&client, "", "x");
        let is_coming = || {
            let held = held();
            let mut own = held.iter().filter(|one| one.number == leftover.number);
            own.any(|one| one.is_coming)
        };
        assert!(leftover.make(is_coming));
        assert!(!is_coming());
    }

    #[test]
    fn only_the_dead_are_dead() {
        let mine = name();
        assert!(!is_dead(&mine, i64::MAX), "{mine}");
        assert_ne!(mine, name());
        let of_another = mine.replace(&process::id().to_string(), "4194305");
        assert!(is_dead(&of_another, 0), "{of_another}");
        let far = mine.replace(realm(), "00000000");
        assert!(!is_dead(&far, 60), "{far}");
        assert!(is_dead(&far, AGE_OF_THE_DEAD + 1), "{far}");
        for other in ["redis", "reuseport-redis", "reuseport-a-b-c-d"] {
            assert!(!is_dead(other, i64::MAX), "{other}");
        }
    }
}
