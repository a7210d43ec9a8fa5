//! A load of clients that make a new connection for each request, and count what
//! becomes of each.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What is asked for, and how the answer is known to be whole.
#[derive(Clone, Copy, Debug)]
pub enum Talk {
    /// HTTP with a `Content-Length`.
    Http,
    /// `PING` of redis.
    Redis,
}

/// What became of all requests.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub good: usize,
    pub refused: usize,
    pub reset: usize,
    /// Answers that were not whole, and connections that were closed without one.
    pub truncated: usize,
    pub late: usize,
    /// The answers, as the servers gave them.
    pub answers: BTreeMap<String, usize>,
    /// The longest time that an answer took.
    pub slowest: Duration,
}

impl Tally {
    pub fn failed(&self) -> usize {
        self.refused + self.reset + self.truncated + self.late
    }

    fn add(&mut self, outcome: io::Result<String>) {
        use io::ErrorKind::{ConnectionRefused, TimedOut, UnexpectedEof, WouldBlock};
        match outcome {
            Ok(answer) => {
                self.good += 1;
                *self.answers.entry(answer).or_default() += 1;
            }
            Err(error) => match error.kind() {
                ConnectionRefused => self.refused += 1,
                UnexpectedEof => self.truncated += 1,
                WouldBlock | TimedOut => self.late += 1,
                _ => self.reset += 1,
            },
        }
    }

    fn merge(&mut self, other: Self) {
        self.good += other.good;
        self.refused += other.refused;
        self.reset += other.reset;
        self.truncated += other.truncated;
        self.late += other.late;
        self.slowest = self.slowest.max(other.slowest);
        for (answer, count) in other.answers {
            *self.answers.entry(answer).or_default() += count;
        }
    }
}

/// Clients at work.
pub struct Load {
    is_over: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Tally>>,
}

impl Load {
    pub fn start(clients: usize, to: SocketAddr, talk: Talk) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let clients = (0..clients).map(|_| {
            let is_over = Arc::clone(&is_over);
            thread::spawn(move || {
                let mut tally = Tally::default();
                while !is_over.load(Ordering::Relaxed) {
                    let started = Instant::now();
                    tally.add(ask(to, talk));
                    tally.slowest = tally.slowest.max(started.elapsed());
                }
                tally
            })
        });
        Self {
            clients: clients.collect(),
            is_over,
        }
    }

    pub fn end(self) -> Tally {
        self.is_over.store(true, Ordering::Relaxed);
        let mut all = Tally::default();
        for client in self.clients {
            all.merge(client.join().expect("a client"));
        }
        all
    }
}

/// Makes one request and gives the answer's body.
pub fn ask(to: SocketAddr, talk: Talk) -> io::Result<String> {
    const PATIENCE: Duration = Duration::from_secs(10);
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    match talk {
        Talk::Http => {
            stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
            let mut text = Vec::new();
            stream.read_to_end(&mut text)?;
            let text = String::from_utf8_lossy(&text).into_owned();
            let cut = || io::Error::from(io::ErrorKind::UnexpectedEof);
            let (head, body) = text.split_once("\r\n\r\n").ok_or_else(cut)?;
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                let is_it = name.eq_ignore_ascii_case("content-length");
                is_it.then(|| value.trim().parse::<usize>().ok())?
            });
            if length != Some(body.len()) {
                return Err(cut());
            }
            Ok(body.to_owned())
        }
        Talk::Redis => {
            stream.write_all(b"PING\r\n")?;
            let mut answer = [0; 7];
            stream.read_exact(&mut answer)?;
            Ok(String::from_utf8_lossy(&answer).trim().to_owned())
        }
    }
}
