//! Containers on the host's network that serve one port.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::daemon::Daemon;

const PATIENCE: Duration = Duration::from_secs(30);

/// That one of two copies gets none of so many by chance has a probability of
/// 1 in 10^60.
const CLIENTS: usize = 200;

/// A running container, removed when this is dropped.
pub struct Container<'a> {
    daemon: &'a Daemon,
    id: String,
}

impl<'a> Container<'a> {
    /// Starts the image's own program on `port`.
    pub fn start(daemon: &'a Daemon, image: &str, port: u16) -> Self {
        let port = port.to_string();
        let mut arguments = vec!["run", "--detach", "--network", "host"];
        // No more than the machine may have itself.
        arguments.extend([
            "--ulimit",
            "nofile=1024:1024",
            "--ulimit",
            "nproc=4096:4096",
        ]);
        arguments.extend([image, "--port", &port]);
        Self {
            daemon,
            id: daemon.ask(&arguments),
        }
    }

    fn logs(&self) -> String {
        let outcome = crate::support::run(&mut self.daemon.command(&["logs", &self.id]));
        outcome.stdout + &outcome.stderr
    }

    pub fn wait_until_serving(&self) {
        let start = Instant::now();
        while !self.logs().contains("Ready to accept connections") {
            assert!(start.elapsed() < PATIENCE, "{}", self.logs());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// It ends by itself: the port is taken.
    pub fn wait_until_refused(&self) {
        assert_eq!(self.daemon.ask(&["wait", &self.id]), "1", "{}", self.logs());
        let logs = self.logs();
        assert!(logs.contains("Address already in use"), "{logs}");
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        let removal = ["rm", "--force", "--volumes", &self.id];
        crate::support::run(&mut self.daemon.command(&removal));
    }
}

/// Which servers answer at `port`, by the number that Redis gives each of its runs.
pub fn runs(port: u16) -> BTreeSet<String> {
    let run = |_| {
        let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a server");
        connection
            .set_read_timeout(Some(PATIENCE))
            .expect("a limit");
        connection
            .write_all(b"INFO server\r\nQUIT\r\n")
            .expect("it reads");
        let mut answer = String::new();
        connection.read_to_string(&mut answer).expect("it answers");
        let run = answer.lines().find_map(|line| line.strip_prefix("run_id:"));
        run.expect("a run").to_owned()
    };
    (0..CLIENTS).map(run).collect()
}

/// Waits until so many servers answer at `port`.
pub fn wait_for_runs(port: u16, count: usize) {
    let start = Instant::now();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        assert!(start.elapsed() < PATIENCE, "nobody listens");
        thread::sleep(Duration::from_millis(50));
    }
    loop {
        let found = runs(port).len();
        if found == count {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{found} of {count}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Two containers of `image` serve one port, and both get clients.
pub fn assert_shared(daemon: &Daemon, image: &str, port: u16) {
    let first = Container::start(daemon, image, port);
    first.wait_until_serving();
    let second = Container::start(daemon, image, port);
    second.wait_until_serving();
    assert_eq!(runs(port).len(), 2, "{}\n{}", first.logs(), second.logs());
}

/// The second container of `image` is refused.
pub fn assert_not_shared(daemon: &Daemon, image: &str, port: u16) {
    let first = Container::start(daemon, image, port);
    first.wait_until_serving();
    Container::start(daemon, image, port).wait_until_refused();
}
