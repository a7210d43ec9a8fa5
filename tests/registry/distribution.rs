//! Docker's own registry, started for one test.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::support;

/// One that may be gone when it is dropped.
pub struct Distribution {
    server: Child,
    port: u16,
    directory: TempDir,
}

/// `maya` with the password [`PASSWORD`], hashed by `htpasswd -B`.
const USERS: &str = "maya:$2y$05$B15AGvnj9xYW885pE76HSeqcpDV.aCCbBcePx0jC0l50ccNrsFYb2\n";
pub const PASSWORD: &str = "s3cret-Pa55";

impl Distribution {
    /// One that lets in everyone.
    pub fn open() -> Self {
        Self::start(|_| String::new())
    }

    /// One that lets in maya.
    pub fn for_maya() -> Self {
        Self::start(|directory| {
            let users = directory.join("users");
            fs::write(&users, USERS).expect("the users");
            format!(
                "auth: {{htpasswd: {{realm: r, path: {}}}}}\n",
                users.display()
            )
        })
    }

    /// One with more lines of configuration, which `more` gives for its own
    /// directory. What stands below `http:` begins with two spaces.
    pub fn start(more: impl FnOnce(&Path) -> String) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let more = more(directory.path());
        // A port that was free may be taken by the time it is used.
        for _ in 0..10 {
            let port = TcpListener::bind("127.0.0.1:0")
                .and_then(|listener| listener.local_addr())
                .expect("a port")
                .port();
            let config = format!(
                "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: \
                 {}}}}}\nhttp:\n  addr: 127.0.0.1:{port}\n  secret: x\n{more}",
                directory.path().join("data").display()
            );
            let file = directory.path().join("config.yml");
            fs::write(&file, config).expect("the configuration");
            let mut server = support::command("docker-registry")
                .arg("serve")
                .arg(&file)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("docker-registry is installed");
            if answers(&mut server, port) {
                return Self {
                    server,
                    port,
                    directory,
                };
            }
        }
        panic!("docker-registry does not start");
    }

    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A place for the test's own files.
    pub fn place(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

impl Drop for Distribution {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn answers(server: &mut Child, port: u16) -> bool {
    loop {
        if server.try_wait().expect("its state").is_some() {
            return false;
        }
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            // It was this one, unless this one is gone now.
            thread::sleep(Duration::from_millis(50));
            return server.try_wait().expect("its state").is_none();
        }
        thread::sleep(Duration::from_millis(10));
    }
}
