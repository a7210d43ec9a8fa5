//! An HTTP server that answers as a test wants, and keeps what it was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// What was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    /// Path and query.
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Method and target in one.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }
}

/// What is answered.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// The connection ends after so many bytes of the body.
    cut: Option<usize>,
}

impl Reply {
    pub fn new(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }

    pub fn cut(mut self, after: usize) -> Self {
        self.cut = Some(after);
        self
    }
}

type Answers = dyn Fn(&Asked) -> Reply + Send + Sync;

pub struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// A server whose answers `answers` makes.
    pub fn start(answers: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answers, log): (Arc<Answers>, _) = (Arc::new(answers), asked.clone());
        // It ends with the tests: nothing waits for it.
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (answers, log) = (answers.clone(), log.clone());
                thread::spawn(move || serve(stream, &*answers, &log));
            }
        });
        Self { address, asked }
    }

    /// Host and port.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Everything that was asked so far, in order.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("the list").clone()
    }

    pub fn lines(&self) -> Vec<String> {
        self.asked().iter().map(Asked::line).collect()
    }
}

fn serve(stream: TcpStream, answers: &Answers, log: &Mutex<Vec<Asked>>) -> Option<()> {
    let mut writer = stream.try_clone().ok()?;
    let mut reader = BufReader::new(stream);
    loop {
        let asked = read(&mut reader, &mut writer)?;
        let reply = answers(&asked);
        let head = asked.method == "HEAD";
        log.lock().expect("the list").push(asked);
        write(&mut writer, &reply, head)?;
        if reply.cut.is_some() {
            return None;
        }
    }
}

fn read(reader: &mut impl BufRead, writer: &mut impl Write) -> Option<Asked> {
    let mut line = String::new();
    reader
        .read_line(&mut line)
        .ok()
        .filter(|count| *count > 0)?;
    let mut words = line.split(' ').map(str::to_owned);
    let (method, target) = (words.next()?, words.next()?);
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        headers.push((name.to_owned(), value.to_owned()));
    }
    let mut asked = Asked {
        method,
        target,
        headers,
        body: Vec::new(),
    };
    if asked.header("expect").is_some() {
        writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
    }
    let length = asked
        .header("content-length")
        .map_or(Some(0), |value| value.parse().ok())?;
    reader.take(length).read_to_end(&mut asked.body).ok()?;
    (asked.body.len() as u64 == length).then_some(asked)
}

fn write(writer: &mut impl Write, reply: &Reply, head: bool) -> Option<()> {
    let mut text = format!("HTTP/1.1 {} X\r\n", reply.status);
    let mut headers = reply.headers.clone();
    if !headers.iter().any(|(name, _)| name == "Content-Length") {
        headers.push(("Content-Length".to_owned(), reply.body.len().to_string()));
    }
    for (name, value) in headers {
        text.extend([&name, ": ", &value, "\r\n"]);
    }
    text.push_str("\r\n");
    writer.write_all(text.as_bytes()).ok()?;
    let end = reply.cut.unwrap_or(reply.body.len());
    let body = if head { &[] } else { &reply.body[..end] };
    writer.write_all(body).ok()
}
