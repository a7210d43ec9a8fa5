//! The shim without a changed image: bundles under real runtimes, CDI devices
//! under Podman, units before systemd's own tools.

#[path = "../support/mod.rs"]
mod support;

mod bundle;
mod cdi;
mod docker;
mod kubelet;
mod unit;
mod writers;

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use support::{output, reuseport};

/// A directory with the shim in it, where root's servers may map it.
fn shim_in(directory: &Path) -> PathBuf {
    let directory = directory.join("shim");
    let printed = output(reuseport().arg("install").arg(directory));
    PathBuf::from(printed.trim_end())
}

/// A root file system that holds `program`, the libraries that it needs, and
/// what else runs it.
fn root_with(directory: &Path, program: &str) {
    let listed = output(Command::new("ldd").arg(program));
    let words = listed.split_whitespace();
    let libraries = words.filter(|word| word.starts_with('/'));
    for file in libraries.chain([program]) {
        let copy = directory.join(file.trim_start_matches('/'));
        fs::create_dir_all(copy.parent().expect("a directory")).expect("made");
        support::copy(fs::canonicalize(file).expect("a file"), &copy);
    }
    for name in ["proc", "sys", "dev", "tmp"] {
        fs::create_dir_all(directory.join(name)).expect("made");
    }
}

/// How many sockets listen on `port`, IPv4.
fn listeners(port: u16) -> usize {
    let table = fs::read_to_string("/proc/net/tcp").expect("the table");
    let address = format!(":{port:04X} 00000000:0000 0A");
    table.lines().filter(|line| line.contains(&address)).count()
}

/// Waits until `count` sockets listen on `port`, and that a connection succeeds.
fn await_listeners(port: u16, count: usize) {
    let limit = Instant::now() + Duration::from_secs(20);
    while listeners(port) != count {
        assert!(Instant::now() < limit, "{} listen", listeners(port));
        sleep(Duration::from_millis(20));
    }
    TcpStream::connect(("127.0.0.1", port)).expect("a connection");
}
