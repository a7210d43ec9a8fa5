//! What really happens to the copies of a row, and what `reuseport check` says.

use std::fmt::Write as _;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::copy::{Copy, Fate, Others, as_user, furnish, settle};
use super::row::{Row, Truth};
use crate::dns;
use crate::port::Port;
use crate::sockets::{self, Transport};

/// What was seen of a row.
pub struct Seen {
    pub without: Truth,
    pub with: Truth,
    /// Whether the shim acted, by what it says itself.
    pub hooked: bool,
    /// `kind` and `libc` of the program that is named, from `check`.
    pub kind: String,
    pub verdict: String,
    /// The codes of errors and warnings, then those of notes, each once.
    pub codes: Vec<String>,
    pub notes: Vec<String>,
    /// What the copies said, for when something is not as expected.
    pub report: String,
}

/// Each copy must get this many clients, of at most `MOST_CLIENTS`: with two
/// copies, the odds that one gets fewer by chance are below 1 to 10^40.
const CLIENTS: usize = 3;
const MOST_CLIENTS: usize = 160;

/// How long a client waits for its connection to be accepted, or answered.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a copy that serves is watched.
const RECONSIDERATION: Duration = Duration::from_millis(150);

/// Puts `row` to the test.
///
/// # Errors
/// Its server does not start at all, or serves nobody.
pub fn of(row: &Row, reuseport: &str) -> Result<Seen, String> {
    let shim: &[&str] = &[reuseport, "run", "--no-check", "--debug", "--"];
    let port = Port::free();
    let mut first = Copy::start(row, shim, port.number, 1);
    if first.fate() != Fate::Serving {
        return Err(format!("the first copy does not serve\n{}", first.report()));
    }
    // Both at once, since servers take their time to start.
    let mut second = Copy::start(row, shim, port.number, 2);
    let mut alone = Copy::start(row, &[], port.number, 3);
    let without = truth(row, &[], &mut alone);
    let mut report = format!("without the shim:\n{}", alone.report());
    drop(alone);
    let with = truth(row, shim, &mut second);
    let mut copies = [first, second];
    if with == Truth::Shares
        && let Err(problem) = share(row, port.number, &copies)
    {
        let [first, second] = &mut copies;
        return Err(format!("{problem}\n{}{}", first.report(), second.report()));
    }
    for copy in &mut copies {
        report.push_str("with the shim:\n");
        report.push_str(&copy.report());
    }
    let acted = format!(":{}: SO_REUSEPORT set", port.number);
    let hooked = copies[0].output().contains(&acted);
    drop(copies);
    let seen = Seen {
        without,
        with,
        hooked,
        kind: String::new(),
        verdict: String::new(),
        codes: Vec::new(),
        notes: Vec::new(),
        report,
    };
    check(row, reuseport, seen)
}

/// What becomes of a second copy. One that says nothing of its port is
/// tried at another.
fn truth(row: &Row, launcher: &[&str], copy: &mut Copy<'_>) -> Truth {
    let fate = match copy.fate() {
        // Some have bound one socket when another is refused.
        Fate::Serving => {
            sleep(RECONSIDERATION);
            copy.fate()
        }
        fate => fate,
    };
    match fate {
        Fate::Serving => Truth::Shares,
        Fate::InUse => Truth::Refused,
        Fate::Lost => {
            let port = Port::free();
            match Copy::start(row, launcher, port.number, 4).fate() {
                Fate::Serving => Truth::Refused,
                Fate::InUse | Fate::Lost => Truth::CannotRunTwice,
            }
        }
    }
}

/// Connects until both copies have got clients.
fn share(row: &Row, port: u16, copies: &[Copy<'_>; 2]) -> Result<(), String> {
    let mut counts = [0; 2];
    for _ in 0..MOST_CLIENTS {
        let copy = match row.transport {
            Transport::Tcp => connect(row, port, copies)?,
            Transport::Udp => ask(port)?,
        };
        counts[copy] += 1;
        if counts.iter().all(|&count| count >= CLIENTS) {
            return Ok(());
        }
    }
    Err(format!("the copies got {counts:?} clients"))
}

/// The copy that accepts a connection: the kernel tells which process holds the
/// other end.
fn connect(row: &Row, port: u16, copies: &[Copy<'_>; 2]) -> Result<usize, String> {
    let server = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let connection = TcpStream::connect_timeout(&server, PATIENCE);
    let mut connection = connection.map_err(|error| format!("connecting: {error}"))?;
    let client = connection.local_addr().expect("it is connected").port();
    if row.awaits_data {
        let sent = connection.write_all(b"G");
        sent.map_err(|error| format!("sending: {error}"))?;
    }
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Some(inode) = sockets::accepted(port).get(&client)
            && let Some(copy) = copies.iter().position(|one| one.sockets().contains(inode))
        {
            return Ok(copy);
        }
        sleep(Duration::from_millis(1));
    }
    Err("a connection that neither copy accepts".to_owned())
}

/// The copy that answers a question.
fn ask(port: u16) -> Result<usize, String> {
    let exchange = || {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.connect((Ipv4Addr::LOCALHOST, port))?;
        socket.send(&dns::question("who"))?;
        let mut answer = [0; 512];
        let length = socket.recv(&mut answer)?;
        Ok(answer[..length].to_owned())
    };
    let answer = exchange().map_err(|error: std::io::Error| format!("asking: {error}"))?;
    let address = b"\x0a\x00\x00";
    let place = answer.windows(3).rposition(|window| window == address);
    match place.and_then(|place| answer.get(place + 3)) {
        Some(copy @ 1..=2) => Ok(usize::from(*copy) - 1),
        _ => Err(format!("an answer without the address: {answer:?}")),
    }
}

/// Asks `reuseport check`, as the row's user, in the same environment.
fn check(row: &Row, reuseport: &str, mut seen: Seen) -> Result<Seen, String> {
    let port = Port::free();
    let (slot, command) = furnish(row, port.number, 1, &Others::new());
    let mut check = as_user(row.user);
    settle(&mut check, row, &slot);
    check
        .args([reuseport, "check", "--json", "--"])
        .args(&command);
    let output = check.output().expect("setpriv can be run");
    let answer: Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("check: {error}: {output:?}"))?;
    let answer = &answer[0];
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let program = &answer["program"];
    seen.kind = format!("{} {}", word(&program["kind"]), word(&program["libc"]));
    seen.kind.truncate(seen.kind.trim_end().len());
    seen.verdict = word(&answer["verdict"]);
    for finding in answer["findings"].as_array().into_iter().flatten() {
        let list = match finding["severity"].as_str() {
            Some("note") => &mut seen.notes,
            _ => &mut seen.codes,
        };
        let code = word(&finding["code"]);
        if !list.contains(&code) {
            list.push(code);
        }
    }
    let _ = writeln!(seen.report, "check says: {answer:#}");
    Ok(seen)
}
