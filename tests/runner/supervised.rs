//! A runner under test, and a place for it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Outcome, reuseport, run};

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A runner, killed when dropped.
pub struct Runner {
    pub child: Child,
    pub directory: tempfile::TempDir,
    pub lines: Arc<Mutex<Vec<String>>>,
    pub name: String,
}

/// A port that is free now.
pub fn free_port() -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    socket.local_addr().expect("an address").port()
}

pub fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// `tests/runner/threaded.py`.
pub fn threaded() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/runner/threaded.py")
}

pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Some(found) = look() {
            return found;
        }
        sleep(Duration::from_millis(5));
    }
    panic!("not within {PATIENCE:?}: {what}");
}

impl Runner {
    /// Starts `command` with the runner's flags `flags`, and waits until all copies
    /// serve.
    pub fn start(flags: &[&str], command: &[&str]) -> Self {
        let runner = Self::begin(flags, command);
        runner.await_line("copies serve");
        runner
    }

    pub fn begin(flags: &[&str], command: &[&str]) -> Self {
        Self::begin_in(&[], flags, command)
    }

    /// The same with more in its environment.
    pub fn begin_in(variables: &[&str], flags: &[&str], command: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let name = format!("test-{}", directory.path().display());
        let name: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
        let mut child = reuseport()
            .args(["run", "--name", &name])
            .args(flags)
            .arg("--")
            .args(command)
            .env("XDG_RUNTIME_DIR", directory.path())
            .envs(variables.iter().filter_map(|one| one.split_once('=')))
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let stderr = child.stderr.take().expect("a pipe");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let to = Arc::clone(&lines);
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                to.lock().expect("not poisoned").push(line);
            }
        });
        Self {
            child,
            directory,
            lines,
            name,
        }
    }

    pub fn said(&self) -> Vec<String> {
        self.lines.lock().expect("not poisoned").clone()
    }

    /// Waits until it has said `text`.
    pub fn await_line(&self, text: &str) {
        let has = || {
            let said = self.said();
            said.iter().any(|line| line.contains(text))
        };
        wait_for(text, || has().then_some(()));
    }

    /// A command to it, and what came of it.
    pub fn tell(&self, words: &[&str]) -> Outcome {
        let mut command = reuseport();
        command.env("XDG_RUNTIME_DIR", self.directory.path());
        command.arg(words[0]).arg(&self.name).args(&words[1..]);
        run(&mut command)
    }

    /// Its control socket.
    pub fn control(&self) -> PathBuf {
        let directory = if crate::support::is_root() {
            PathBuf::from("/run/reuseport")
        } else {
            self.directory.path().join("reuseport")
        };
        directory.join(format!("{}.sock", self.name))
    }

    pub fn restart(&self) {
        let outcome = self.tell(&["restart"]);
        assert_eq!(outcome.status, Some(0), "{outcome:?} {:#?}", self.said());
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// All processes below it.
    pub fn processes(&self) -> Vec<u32> {
        below(self.child.id())
    }

    /// Tells it to end, and gives its exit status.
    pub fn stop(self) -> Option<i32> {
        self.end_by(Signal::TERM)
    }

    /// The same, by a signal of one's own.
    pub fn end_by(mut self, signal: Signal) -> Option<i32> {
        self.signal(signal);
        let status = wait_for("the runner ends", || {
            self.child.try_wait().expect("a child")
        });
        status.code()
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        // The keepers see its end and kill the copies.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("{:#?}", self.said());
        }
    }
}

/// The command line of a process, if it is there.
pub fn command_line(pid: u32) -> Option<String> {
    let text = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let text = String::from_utf8_lossy(&text).replace('\0', " ");
    (!text.is_empty()).then_some(text)
}

fn parent(pid: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(") ")?;
    rest.split(' ').nth(1)?.parse().ok()
}

fn below(top: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("proc").flatten();
    let all = entries.filter_map(|one| one.file_name().to_str()?.parse::<u32>().ok());
    let all: Vec<(u32, u32)> = all.filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let mut known = vec![top];
    let mut index = 0;
    while index < known.len() {
        let from = known[index];
        known.extend(
            all.iter()
                .filter(|(_, up)| *up == from)
                .map(|(pid, _)| *pid),
        );
        index += 1;
    }
    known.split_off(1)
}

/// A copy that is started without a runner, for comparison: told to end when
/// dropped.
pub struct Plain(pub Child);

impl Plain {
    pub fn start(command: &[&str]) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_reuseport"))
            .args(["run", "--"])
            .args(command)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.expect("starts"))
    }

    pub fn terminate(self) {
        drop(self);
    }
}

impl Drop for Plain {
    // Not killed: its workers would stay in the group.
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let _ = self.0.wait();
    }
}
