//! A copy of a server that runs.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use std::os::unix::process::CommandExt;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::recipes::Server;
use crate::slot::Slot;
use crate::sockets::{self, Transport};
use crate::tools;

/// The program under test.
pub const REUSEPORT: &str = env!("CARGO_BIN_EXE_reuseport");

/// How long a server may take for anything.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The file in a copy's directory that its standard output and error go to.
const OUTPUT: &str = "output";

/// Asks `probe` again and again until it answers, or patience is at its end.
pub fn wait_for<T>(mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = probe() {
            return Some(answer);
        }
        if Instant::now() > deadline {
            return None;
        }
        sleep(Duration::from_millis(2));
    }
}

/// Killed, with all of its process group, when dropped.
pub struct RunningCopy {
    slot: Slot,
    transport: Transport,
    command: Vec<String>,
    child: Child,
}

impl RunningCopy {
    /// Starts the copy of `server` that is to fill the slot `number`; `launcher`
    /// goes before its command.
    pub fn start(server: &Server, launcher: &[&str], port: u16, number: usize) -> Self {
        let program = server.command[0];
        if !program.starts_with('{') {
            tools::require(program, server.package);
        }
        let slot = Slot::new(number, port);
        for (name, text) in server.files {
            slot.write(name, text);
        }
        (server.prepare)(&slot);
        let words = launcher.iter().chain(server.command);
        let command: Vec<String> = words.map(|word| slot.fill(word)).collect();
        let child = spawn(&command, &slot);
        Self {
            slot,
            transport: server.transport,
            command,
            child,
        }
    }

    /// Waits until the copy serves at its port through `sockets` sockets.
    ///
    /// # Errors
    /// It ends, or takes too long.
    pub fn wait_until_serving(&mut self, sockets: usize) -> Result<(), String> {
        let (transport, port) = (self.transport, self.slot.port);
        let result = wait_for(|| {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(Err(format!("it ended: {status}")));
            }
            let count = sockets::count_serving(transport, port, self.child.id());
            (count >= sockets).then_some(Ok(()))
        });
        result
            .unwrap_or_else(|| Err(format!("it does not serve within {PATIENCE:?}")))
            .map_err(|problem| format!("{problem}\n{}", self.report()))
    }

    /// Waits until the copy has failed because its port is in use.
    ///
    /// # Errors
    /// It runs on, or ended otherwise.
    pub fn wait_until_refused(&mut self) -> Result<(), String> {
        let status = wait_for(|| self.child.try_wait().ok().flatten());
        let output = self.output().to_lowercase();
        let in_use = output.contains("in use") || output.contains("eaddrinuse");
        if status.is_some_and(|status| !status.success()) && in_use {
            return Ok(());
        }
        let report = self.report();
        Err(format!("it did not fail to bind a port in use\n{report}"))
    }

    /// The inodes of the sockets that the copy holds.
    pub fn sockets(&self) -> Vec<u64> {
        sockets::held_by(self.child.id())
    }

    /// What there is to know about the copy when something went wrong.
    pub fn report(&mut self) -> String {
        let status = match self.child.try_wait() {
            Ok(None) => "running".to_owned(),
            Ok(Some(status)) => status.to_string(),
            Err(error) => error.to_string(),
        };
        let mut report = format!("copy {}: {:?}\n", self.slot.number, self.command);
        let output = self.output();
        write!(report, "status: {status}\noutput:\n{output}").expect("a String takes any text");
        report
    }

    fn output(&self) -> String {
        let output = fs::read(self.slot.path(OUTPUT)).unwrap_or_default();
        String::from_utf8_lossy(&output).into_owned()
    }
}

impl Drop for RunningCopy {
    fn drop(&mut self) {
        // An error means that the group is gone.
        _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        _ = self.child.wait();
    }
}

/// Starts `command` in a process group of its own. It is told to end when the
/// test ends without dropping it, as on an interrupt.
fn spawn(command: &[String], slot: &Slot) -> Child {
    tools::require("setpriv", "util-linux");
    let output = File::create(slot.path(OUTPUT)).expect("a writable directory");
    let errors = output.try_clone().expect("a free descriptor");
    Command::new("setpriv")
        .args(["--pdeathsig", "TERM", "--"])
        .args(command)
        .env("PATH", tools::search_path())
        .current_dir(slot.directory())
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .process_group(0)
        .spawn()
        .expect("setpriv can be run")
}
