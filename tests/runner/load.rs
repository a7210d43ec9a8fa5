//! A load of clients that make a new connection for each request, and count what
//! becomes of each.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
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
    /// The same, many requests on each connection.
    KeepAlive,
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
    /// Connections that the server closed, while they were idle, just as the next
    /// request was sent: no answer began. Not counted as failed.
    pub closed_idle: usize,
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
        self.closed_idle += other.closed_idle;
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
                let mut kept = None;
                while !is_over.load(Ordering::Relaxed) {
                    let started = Instant::now();
                    match talk {
                        Talk::KeepAlive => ask_again(to, &mut kept, &mut tally),
                        Talk::Http | Talk::Redis => tally.add(ask(to, talk)),
                    }
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
        Talk::Http | Talk::KeepAlive => {
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

/// Makes one request on the connection `kept`, or on a new one.
fn ask_again(to: SocketAddr, kept: &mut Option<BufReader<TcpStream>>, tally: &mut Tally) {
    let is_reused = kept.is_some();
    let mut has_begun = false;
    let outcome = on_kept(to, kept, &mut has_begun);
    if outcome.is_err() {
        *kept = None;
    }
    if outcome.is_err() && is_reused && !has_begun {
        tally.closed_idle += 1;
    } else {
        tally.add(outcome);
    }
}

fn on_kept(
    to: SocketAddr,
    kept: &mut Option<BufReader<TcpStream>>,
    has_begun: &mut bool,
) -> io::Result<String> {
    const PATIENCE: Duration = Duration::from_secs(10);
    let stream = match kept {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            kept.insert(BufReader::new(stream))
        }
    };
    stream
        .get_ref()
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")?;
    let (mut length, mut is_last) = (0, false);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        *has_begun = true;
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(text) = line.strip_prefix("content-length: ") {
            length = text.parse().map_err(io::Error::other)?;
        }
        is_last |= line == "connection: close";
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    if is_last {
        *kept = None;
    }
    Ok(String::from_utf8_lossy(&body).into_owned())
}
