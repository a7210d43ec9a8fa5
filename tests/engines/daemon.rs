//! Real container engines, each with all of its files in a folder of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use reuseport::image::engine::{Address, Engine};

use crate::port::Port;
use crate::support;

/// How long an engine may take to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// An engine that runs until the tests have ended.
pub struct Daemon {
    pub socket: PathBuf,
    /// Where Docker listens with TLS, too; the certificates lie beside the socket.
    pub tls: Option<(Port, String)>,
    /// The engine's own client, with what it needs before its command.
    client: Vec<String>,
    /// Ends with this process, however that ends: see [`KEEPER`].
    _keeper: Child,
}

/// Runs the engine until its standard input ends, which is when the process that
/// holds the other end does, ends it by its process id and removes its files.
const KEEPER: &str = r#"
trap '' INT TERM HUP
directory=$1 log=$1/log before=$2
shift 2
"$@" >"$log" 2>&1 &
engine=$!
read -r _
eval "$before" >>"$log" 2>&1
kill "$engine"
wait "$engine"
# Both leave something mounted.
awk -v "start=$directory/" 'index($2, start) == 1 { print $2 }' /proc/mounts | sort -r |
    while read -r mount; do umount "$mount"; done
rm -rf --one-file-system "$directory"
"#;

static DOCKER: Mutex<Option<Daemon>> = Mutex::new(None);
static PODMAN: Mutex<Option<Daemon>> = Mutex::new(None);

/// An engine that no other test uses meanwhile.
pub struct Lease(MutexGuard<'static, Option<Daemon>>);

impl std::ops::Deref for Lease {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        self.0.as_ref().expect("it was started")
    }
}

/// Docker for the test `test`; none where it cannot run, which is noted.
pub fn docker(test: &str) -> Option<Lease> {
    lease(test, &DOCKER, start_docker)
}

/// Podman likewise.
pub fn podman(test: &str) -> Option<Lease> {
    lease(test, &PODMAN, start_podman)
}

fn lease(
    test: &str,
    engine: &'static Mutex<Option<Daemon>>,
    start: fn() -> Daemon,
) -> Option<Lease> {
    if !support::is_root() {
        support::skip(test, "only root can run a container engine");
        return None;
    }
    let mut engine = engine.lock().unwrap_or_else(PoisonError::into_inner);
    engine.get_or_insert_with(start);
    Some(Lease(engine))
}

fn text(path: impl AsRef<Path>) -> String {
    path.as_ref().to_str().expect("UTF-8").to_owned()
}

/// A short path: a socket's name has at most 107 bytes.
fn folder() -> PathBuf {
    let folder = tempfile::Builder::new().prefix("reuseport-").tempdir();
    folder.expect("a folder").keep()
}

/// Makes an authority, and certificates of it for the engine and for who calls.
const CERTIFY: &str = r#"
cd "$1"
openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=authority -keyout ca.key -out ca.pem
for name in engine client; do
    openssl req -newkey rsa:2048 -nodes -subj "/CN=$name" -keyout "$name.key" -out "$name.csr"
    printf 'subjectAltName=IP:127.0.0.1
extendedKeyUsage=serverAuth,clientAuth
' >"$name.ext"
    openssl x509 -req -in "$name.csr" -CA ca.pem -CAkey ca.key -CAcreateserial \
        -extfile "$name.ext" -out "$name.pem"
done
ln -s client.pem cert.pem
ln -s client.key key.pem
"#;

fn start_docker() -> Daemon {
    let directory = folder();
    let below = |name: &str| text(directory.join(name));
    let host = format!("unix://{}", below("sock"));
    let port = Port::free();
    let tls = format!("tcp://127.0.0.1:{}", port.number);
    let mut certify = support::command("sh");
    let certified = support::run(certify.args(["-c", CERTIFY, "sh"]).arg(&directory));
    assert_eq!(certified.status, Some(0), "{}", certified.stderr);
    let engine = [
        "dockerd",
        "--host",
        &host,
        "--data-root",
        &below("data"),
        "--exec-root",
        &below("exec"),
        "--pidfile",
        &below("pid"),
        // Containers share the host's network, as those that share a port do.
        "--bridge=none",
        "--iptables=false",
        "--host",
        &tls,
        "--tlsverify",
        "--tlscacert",
        &below("ca.pem"),
        "--tlscert",
        &below("engine.pem"),
        "--tlskey",
        &below("engine.key"),
    ];
    let client = ["docker", "--host", &host];
    let mut daemon = Daemon::start(&directory, &engine, &client, "");
    daemon.tls = Some((port, tls));
    daemon
}

fn start_podman() -> Daemon {
    let directory = folder();
    let below = |name: &str| text(directory.join(name));
    let url = format!("unix://{}", below("sock"));
    let (root, run, tmp) = (below("root"), below("run"), below("tmp"));
    let local = [
        "podman",
        "--root",
        &root,
        "--runroot",
        &run,
        "--tmpdir",
        &tmp,
        "--runtime",
        "runc",
        "--cgroup-manager",
        "cgroupfs",
        "--events-backend",
        "none",
    ];
    let service = ["system", "service", "--time", "0", &url];
    let engine: Vec<&str> = local.into_iter().chain(service).collect();
    let client = ["podman", "--url", &url];
    // The containers are no children of the service.
    let before = format!("{} rm --all --force", local.join(" "));
    Daemon::start(&directory, &engine, &client, &before)
}

impl Daemon {
    fn start(directory: &Path, engine: &[&str], client: &[&str], before: &str) -> Self {
        let socket = directory.join("sock");
        let keeper = support::command("sh")
            .args(["-c", KEEPER, "sh"])
            .arg(directory)
            .arg(before)
            .args(engine)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh starts");
        let daemon = Self {
            socket,
            tls: None,
            client: client.iter().map(|&word| word.to_owned()).collect(),
            _keeper: keeper,
        };
        let start = Instant::now();
        while let Err(error) = Engine::connect(Address::Unix(daemon.socket.clone())) {
            if start.elapsed() > PATIENCE {
                let log = fs::read_to_string(directory.join("log")).unwrap_or_default();
                panic!("{engine:?} does not start: {error}\n{log}");
            }
            thread::sleep(Duration::from_millis(50));
        }
        daemon
    }

    /// The library's view of it.
    pub fn engine(&self) -> Engine {
        Engine::connect(Address::Unix(self.socket.clone())).expect("it answers")
    }

    /// A command of the engine's own client.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = support::command(&self.client[0]);
        command.args(&self.client[1..]).args(arguments);
        command
    }

    /// Runs it, and gives what it prints.
    pub fn ask(&self, arguments: &[&str]) -> String {
        let outcome = support::run(&mut self.command(arguments));
        assert_eq!(outcome.status, Some(0), "{arguments:?}: {}", outcome.stderr);
        outcome.stdout.trim().to_owned()
    }

    /// The command under test, for this engine.
    pub fn reuseport(&self) -> Command {
        let mut command = support::reuseport();
        command.env("DOCKER_HOST", format!("unix://{}", self.socket.display()));
        command
    }

    /// The containers, running or not, and the images that have no name: what is
    /// to be the same before and after.
    pub fn rest(&self) -> (Vec<String>, Vec<String>) {
        let lines = |text: String| text.lines().map(str::to_owned).collect();
        let images = ["images", "--all", "--quiet", "--filter", "dangling=true"];
        (
            lines(self.ask(&["ps", "--all", "--format", "{{.Names}}"])),
            lines(self.ask(&images)),
        )
    }
}
