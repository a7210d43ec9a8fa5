//! A copy of a row's server that runs: as the row's user, in an environment of
//! its own.

use std::fs::{self, File, Permissions};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::row::{Row, User};
use crate::port::Port;
use crate::slot::Slot;
use crate::sockets;

/// What a copy finds its program by.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How long a server may take to serve, or to give up.
const PATIENCE: Duration = Duration::from_secs(25);

/// How long one may go on that has said that its port is in use: some try again.
const AFTERTHOUGHT: Duration = Duration::from_millis(700);

/// Debian's user nobody, and its group.
const NOBODY: u32 = 65534;

/// The file in a copy's directory that its standard output and error go to.
const OUTPUT: &str = "output";

/// What became of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Serving,
    /// It has said that its port is in use.
    InUse,
    /// It ended, or its time is over.
    Lost,
}

/// Killed, with all of its descendants, when dropped.
pub struct Copy<'a> {
    row: &'a Row,
    slot: Slot,
    _others: Others,
    pub command: Vec<String>,
    child: Child,
}

/// What else a copy may need on the network.
pub struct Others {
    /// A port of its own.
    port: Port,
    /// A server that answers nothing, for what passes connections on.
    sink: TcpListener,
}

impl Others {
    pub fn new() -> Self {
        Self {
            port: Port::free(),
            sink: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"),
        }
    }

    fn sink_port(&self) -> String {
        let address = self.sink.local_addr().expect("it is bound");
        address.port().to_string()
    }
}

/// A command that makes its program run by `user`.
pub fn as_user(user: User) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if user != User::Root {
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    }
    if user == User::NobodyForGood {
        command.arg("--no-new-privs");
    }
    command.arg("--");
    command
}

/// The directory of copy `number` with all that its server needs, and the
/// server's command line.
pub fn furnish(row: &Row, port: u16, number: usize, others: &Others) -> (Slot, Vec<String>) {
    let slot = Slot::new(number, port);
    let fill = |text: &str| {
        slot.fill(text)
            .replace("{other}", &others.port.number.to_string())
            .replace("{sink}", &others.sink_port())
    };
    for (name, text) in row.files {
        let path = slot.path(name);
        if let Some(parent) = Path::new(&path).parent() {
            fs::create_dir_all(parent).expect("a writable directory");
        }
        fs::write(&path, fill(text)).expect("a writable directory");
        let mode = if text.starts_with("#!") { 0o755 } else { 0o644 };
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("a file of ours");
    }
    (row.prepare)(&slot);
    fs::set_permissions(slot.directory(), Permissions::from_mode(0o755)).expect("ours");
    if row.user != User::Root {
        chown(slot.directory(), Some(NOBODY), Some(NOBODY)).expect("only root runs this");
    }
    let command = row.command.iter().map(|word| fill(word)).collect();
    (slot, command)
}

/// Gives `command` the environment and the directory of the copy in `slot`.
pub fn settle(command: &mut Command, row: &Row, slot: &Slot) {
    command
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", slot.directory())
        .env("LANG", "C.UTF-8")
        .current_dir(slot.directory())
        .stdin(Stdio::null());
    for (name, value) in row.environment {
        command.env(name, slot.fill(value));
    }
}

impl<'a> Copy<'a> {
    /// Starts copy `number`; `launcher` goes before its command.
    pub fn start(row: &'a Row, launcher: &[&str], port: u16, number: usize) -> Self {
        let others = Others::new();
        let (slot, command) = furnish(row, port, number, &others);
        let output = File::create(slot.path(OUTPUT)).expect("a writable directory");
        let errors = output.try_clone().expect("a free descriptor");
        let words = launcher.iter().map(|word| (*word).to_owned());
        let command: Vec<String> = words.chain(command).collect();
        let mut setpriv = as_user(row.user);
        settle(&mut setpriv, row, &slot);
        let child = setpriv
            .args(&command)
            .stdout(output)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .expect("setpriv can be run");
        Self {
            row,
            slot,
            _others: others,
            command,
            child,
        }
    }

    /// Waits until it is known what becomes of the copy.
    pub fn fate(&mut self) -> Fate {
        let deadline = Instant::now() + PATIENCE;
        let mut in_use_since = None;
        while Instant::now() < deadline {
            let has_ended = !matches!(self.child.try_wait(), Ok(None));
            let (transport, port) = (self.row.transport, self.slot.port);
            if self.says_in_use() {
                let since = *in_use_since.get_or_insert_with(Instant::now);
                if has_ended || since.elapsed() > AFTERTHOUGHT {
                    return Fate::InUse;
                }
            } else if sockets::count_serving(transport, port, self.child.id()) > 0 {
                return Fate::Serving;
            } else if has_ended {
                return Fate::Lost;
            }
            sleep(Duration::from_millis(10));
        }
        Fate::Lost
    }

    fn says_in_use(&self) -> bool {
        let output = self.output().to_lowercase();
        ["in use", "eaddrinuse", "eaddr_in_use"]
            .iter()
            .any(|words| output.contains(words))
    }

    /// The inodes of the sockets that the copy holds.
    pub fn sockets(&self) -> Vec<u64> {
        sockets::held_by(self.child.id())
    }

    pub fn output(&self) -> String {
        let output = fs::read(self.slot.path(OUTPUT)).unwrap_or_default();
        String::from_utf8_lossy(&output).into_owned()
    }

    /// What there is to know about the copy when something went wrong.
    pub fn report(&mut self) -> String {
        let status = match self.child.try_wait() {
            Ok(None) => "running".to_owned(),
            Ok(Some(status)) => status.to_string(),
            Err(error) => error.to_string(),
        };
        let output = self.output();
        let last: Vec<&str> = output.lines().rev().take(20).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        let command = self.command.join(" ");
        format!(
            "  {command}\n  {status}, with the output:\n{}\n",
            last.join("\n")
        )
    }
}

impl Drop for Copy<'_> {
    fn drop(&mut self) {
        // Some of them leave the process group. An error means that one is gone.
        for process in descendants(self.child.id()) {
            _ = Pid::from_raw(process).map(|id| kill_process(id, Signal::KILL));
        }
        _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        _ = self.child.wait();
    }
}

/// The processes that `root` has started, and those that they have started.
fn descendants(root: u32) -> Vec<i32> {
    let threads = fs::read_dir(format!("/proc/{root}/task"));
    let threads = threads.into_iter().flatten().flatten();
    let lists = threads.filter_map(|one| fs::read_to_string(one.path().join("children")).ok());
    let children: Vec<u32> = lists
        .flat_map(|list| list.split_whitespace().map(str::parse).collect::<Vec<_>>())
        .flatten()
        .collect();
    let own = children
        .iter()
        .filter_map(|&child| i32::try_from(child).ok());
    let below = children.iter().flat_map(|&child| descendants(child));
    own.chain(below).collect()
}
