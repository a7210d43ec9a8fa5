//! A runner under test, and a place for it.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{Outcome, reuseport, run, wait_for};

/// A runner, killed when dropped.
pub struct Runner {
    pub child: Child,
    pub directory: tempfile::TempDir,
    pub lines: Arc<Mutex<Vec<String>>>,
    pub name: String,
}

pub fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// The command of `tests/runner/threaded.py` at `port`.
pub fn threaded(port: u16) -> Vec<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/runner/threaded.py");
    let script = script.to_str().expect("UTF-8").to_owned();
    vec!["python3".into(), script, port.to_string()]
}

/// The same, with a file in which a test says what is to go wrong.
pub fn troubled(port: u16, trouble: &Trouble) -> Vec<String> {
    let mut command = threaded(port);
    command.push(trouble.file().to_str().expect("UTF-8").to_owned());
    command
}

/// A command of Python: `before`, with what opens the socket `s`, and then an answer
/// to each who connects.
pub fn answering(before: &str) -> [String; 3] {
    let script = format!(
        "import os,socket,time\n\
         {before}\n\
         while True:\n  c,_=s.accept(); c.recv(100); \
         c.send(b'HTTP/1.1 200 OK\\r\\nContent-Length: 1\\r\\n\\r\\n1'); c.close()"
    );
    ["python3".into(), "-c".into(), script]
}

impl Runner {
    /// Starts `command` with the runner's flags `flags`, and waits until all copies
    /// serve.
    pub fn start(flags: &[&str], command: &[impl AsRef<OsStr>]) -> Self {
        let runner = Self::begin(flags, command);
        wait_for("all serve", || {
            let count = runner.count("copies serve") + runner.count("copy serves");
            (count > 0).then_some(())
        });
        runner
    }

    pub fn begin(flags: &[&str], command: &[impl AsRef<OsStr>]) -> Self {
        Self::begin_in(&[], flags, command)
    }

    /// The same with more in its environment.
    pub fn begin_in(variables: &[&str], flags: &[&str], command: &[impl AsRef<OsStr>]) -> Self {
        Self::begin_under(&[], variables, flags, command)
    }

    /// The same below another command, `over`.
    pub fn begin_under(
        over: &[&str],
        variables: &[&str],
        flags: &[&str],
        command: &[impl AsRef<OsStr>],
    ) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let name = format!("test-{}", directory.path().display());
        let name: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
        let mut start = match over {
            [] => reuseport(),
            [program, rest @ ..] => {
                let mut start = crate::support::command(program);
                start.args(rest).arg(env!("CARGO_BIN_EXE_reuseport"));
                start
            }
        };
        let mut child = start
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

    /// In how many lines it has said `text`.
    pub fn count(&self, text: &str) -> usize {
        let said = self.said();
        said.iter().filter(|line| line.contains(text)).count()
    }

    /// Waits until that many lines have `text`.
    pub fn await_count(&self, text: &str, count: usize) {
        let what = format!("{count} times: {text}");
        wait_for(&what, || (self.count(text) == count).then_some(()));
    }

    /// Waits until it has said `text`.
    pub fn await_line(&self, text: &str) {
        wait_for(text, || (self.count(text) > 0).then_some(()));
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

    /// The groups that it has sockets in.
    pub fn look(&self) -> Value {
        let outcome = self.tell(&["status", "--json"]);
        assert_eq!(outcome.status, Some(0), "{outcome:?}");
        serde_json::from_str(&outcome.stdout).expect("JSON")
    }

    /// What it says of itself.
    pub fn state(&self) -> Value {
        let mut stream = UnixStream::connect(self.control()).expect("it listens");
        stream.write_all(b"\"status\"\n").expect("written");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("UTF-8");
        let mut answer: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(answer["status"], 0, "{answer}");
        answer["state"].take()
    }

    /// Waits until it has ended by itself, and gives its exit status.
    pub fn await_end(&mut self) -> Option<i32> {
        let child = &mut self.child;
        wait_for("the runner ends", || child.try_wait().expect("a child")).code()
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

    /// Those whose command line has `text`.
    fn processes_of(&self, text: &str) -> Vec<u32> {
        let is_one = |pid: &u32| command_line(*pid).is_some_and(|line| line.contains(text));
        self.processes().into_iter().filter(is_one).collect()
    }

    pub fn keepers(&self) -> Vec<u32> {
        self.processes_of("reuseport: keeper")
    }

    /// The servers that are [`threaded`].
    pub fn servers(&self) -> Vec<u32> {
        self.processes_of("threaded.py")
    }

    /// Tells it to end, and gives its exit status.
    pub fn stop(self) -> Option<i32> {
        self.end_by(Signal::TERM)
    }

    /// The same, by a signal of one's own.
    pub fn end_by(mut self, signal: Signal) -> Option<i32> {
        self.signal(signal);
        self.await_end()
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

/// A file by which a server that is [`troubled`] is told what is to go wrong.
pub struct Trouble {
    directory: tempfile::TempDir,
}

impl Trouble {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        Self { directory }
    }

    pub fn file(&self) -> PathBuf {
        self.directory.path().join("trouble")
    }

    /// From now on, `how`: `exit`, `hang` or `elsewhere`, and the slot if not in all.
    pub fn begin(&self, how: &str) {
        fs::write(self.file(), how).expect("a file");
    }

    /// Waits until a server hangs.
    pub fn await_hang(&self) {
        let marker = self.directory.path().join("trouble.hangs");
        wait_for("one hangs", || marker.exists().then_some(()));
    }

    /// Waits until a server hangs, and lets later ones be well.
    pub fn end_when_one_hangs(&self) {
        self.await_hang();
        self.end();
    }

    pub fn end(&self) {
        fs::remove_file(self.file()).expect("it is there");
    }
}

/// Sends `signal` to `pid`; whether that was there.
pub fn signal(pid: u32, signal: Signal) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("a process"), signal).is_ok()
}

/// How many of `pids` are still there.
pub fn left(pids: &[u32]) -> usize {
    let is_there = |pid: &&u32| command_line(**pid).is_some();
    pids.iter().filter(is_there).count()
}

/// The command line of a process, if it is there.
fn command_line(pid: u32) -> Option<String> {
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
    pub fn start(command: &[impl AsRef<OsStr>]) -> Self {
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
