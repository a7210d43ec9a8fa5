//! What the test targets share: the command, places to work in, C programs.

#![allow(dead_code, reason = "each target uses a part of it")]

use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A command of `program` with nothing in its environment but PATH.
pub fn command(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    command.env_clear().env(
        "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    );
    command
}

/// The command under test. Run by a user, it puts its shim below `target`.
pub fn reuseport() -> Command {
    let mut command = command(env!("CARGO_BIN_EXE_reuseport"));
    command.env(
        "XDG_DATA_HOME",
        Path::new(env!("CARGO_TARGET_TMPDIR")).join("data"),
    );
    command
}

/// What a command did.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs `command` to its end.
pub fn run(command: &mut Command) -> Outcome {
    let Output {
        status,
        stdout,
        stderr,
    } = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    Outcome {
        status: status.code(),
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
    }
}

/// Runs `command`, which must succeed and say nothing on standard error, and
/// gives what it prints.
pub fn output(command: &mut Command) -> String {
    let outcome = run(command);
    assert_eq!(
        (outcome.status, outcome.stderr.as_str()),
        (Some(0), ""),
        "{command:?}"
    );
    outcome.stdout
}

/// The shim of this machine's architecture, installed once for all tests.
pub fn shim() -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("shim");
    let printed = output(reuseport().arg("install").arg(&directory));
    PathBuf::from(printed.trim_end())
}

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Looks until something is found. Panics with `what` where that takes too long.
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

/// A port that nobody uses, below those that the kernel chooses from for whoever
/// connects. Neither is the one after it.
pub fn free_port() -> u16 {
    const FIRST: u16 = 20_000;
    const PAIRS: u16 = 6_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Tests of several worktrees may run at once.
    let start = u16::try_from(std::process::id() * 31 % u32::from(PAIRS)).expect("below PAIRS");
    // Where there is no IPv6, that of IPv4.
    let is_v6 = UdpSocket::bind("[::1]:0").is_ok();
    let any: IpAddr = if is_v6 {
        Ipv6Addr::UNSPECIFIED.into()
    } else {
        Ipv4Addr::UNSPECIFIED.into()
    };
    let is_free =
        |port| TcpListener::bind((any, port)).is_ok() && UdpSocket::bind((any, port)).is_ok();
    for _ in 0..PAIRS {
        let next = NEXT.fetch_add(1, Ordering::Relaxed) % PAIRS;
        let port = FIRST + (start + next) % PAIRS * 2;
        if is_free(port) && is_free(port + 1) {
            return port;
        }
    }
    panic!("no port is free");
}

/// Compiles the C program or library `tests/SOURCE` with `compiler` and its
/// flags, below `target`, and gives its path.
pub fn compile(compiler: &str, source: &str, flags: &[&str]) -> PathBuf {
    let name = format!("{compiler}-{}-{}", flags.join(""), source.replace('/', "-"));
    let name = name.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let output = directory.join(name);
    // Several tests may compile the same at once: each makes its own and moves
    // it into place. It is closed here at once: a child that another test starts
    // would hold it open for writing, and whoever executes it get ETXTBSY.
    let own = tempfile::NamedTempFile::new_in(directory).expect("a temporary file");
    let own = own.into_temp_path();
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(source);
    let outcome = run(Command::new(compiler)
        .args(["-Wall", "-Werror", "-O1", "-o"])
        .arg(&own)
        .arg(source)
        .args(flags));
    assert_eq!(outcome.status, Some(0), "{compiler}: {}", outcome.stderr);
    own.persist(&output).expect("the program is moved");
    output
}

/// Keeps the other tests that bind the fixed ports of the tables waiting, in this
/// process and in others, until the result is dropped.
pub fn hold_ports() -> fs::File {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ports.lock");
    let file = fs::File::create(path).expect("a lock file");
    file.lock().expect("the lock");
    file
}

/// Writes an executable file.
///
/// By another process: a descriptor that is open for writing here could be
/// inherited by a child that another test starts just then, and whoever executes
/// the file would get ETXTBSY.
pub fn executable(directory: &Path, name: &str, content: &str) -> PathBuf {
    let path = directory.join(name);
    let script = "printf %s \"$1\" >\"$2\" && chmod 755 \"$2\"";
    output(
        Command::new("sh")
            .args(["-c", script, "sh", content])
            .arg(&path),
    );
    path
}

/// Copies a file that is to be executed, likewise.
pub fn copy(from: impl AsRef<Path>, to: &Path) {
    output(Command::new("cp").arg(from.as_ref()).arg(to));
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Notes that a test cannot run here, and why. `./test` counts and names these.
pub fn skip(test: &str, why: &str) {
    eprintln!("skipped: {test}: {why}");
    if let Some(list) = std::env::var_os("REUSEPORT_SKIPPED") {
        let mut list = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(list)
            .expect("a list");
        writeln!(list, "{test}: {why}").expect("a line");
    }
}
