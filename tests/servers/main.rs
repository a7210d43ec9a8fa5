//! Real servers, unmodified: two copies of each, started by `reuseport` on one
//! port, both get connections.
//!
//! The Debian packages that bring them are listed in `tests/packages`. What
//! is not there is a failure, never a test left out.

mod dns;
mod musl_node;
mod pair;
mod port;
mod recipes;
mod running;
mod slot;
mod sockets;
mod table;
mod tools;

use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use pair::Pair;
use port::Port;
use recipes::Server;
use running::{PATIENCE, RunningCopy};
use sockets::Transport;

/// That one of two copies gets none of so many by chance has a probability of
/// 1 in 10^60. How even the shares are is the kernel's business.
const CLIENTS: usize = 200;

/// Two copies serve, each gets clients, and a third one that is started without
/// the shim is refused: it was the shim that let the second one in.
fn assert_shared(server: &Server) {
    let mut pair = Pair::start(server, server.with_shim);
    let counts = match server.transport {
        Transport::Tcp => pair.share(CLIENTS, server.clients_at_once),
        Transport::Udp => pair.ask(CLIENTS),
    };
    if counts.contains(&0) {
        pair.fail(&format!("the copies got {counts:?} of {CLIENTS} clients"));
    }
    if !server.shares_alone {
        let mut third = RunningCopy::start(server, server.without_shim, pair.port.number, 3);
        if let Err(problem) = third.wait_until_refused() {
            pair.fail(&problem);
        }
    }
}

/// With `launcher` before both commands, the second copy is refused.
fn assert_not_shared(server: &Server, launcher: &str) {
    let port = Port::free();
    let mut first = RunningCopy::start(server, launcher, port.number, 1);
    let mut second = || {
        first.wait_until_serving(1)?;
        let mut second = RunningCopy::start(server, launcher, port.number, 2);
        second.wait_until_refused()?;
        first.wait_until_serving(1)
    };
    if let Err(problem) = second() {
        panic!("{problem}\n{}", first.report());
    }
}

/// Lets the shim act on another port than the server's.
const FOR_ANOTHER_PORT: &str = "{reuseport} --port 1 --";

#[test]
fn python() {
    assert_shared(&recipes::PYTHON);
}

#[test]
fn python_alone_does_not_share() {
    assert_not_shared(&recipes::PYTHON, "");
}

#[test]
fn python_does_not_share_a_port_that_is_not_listed() {
    assert_not_shared(&recipes::PYTHON, FOR_ANOTHER_PORT);
}

#[test]
fn redis() {
    assert_shared(&recipes::REDIS);
}

#[test]
fn redis_alone_does_not_share() {
    assert_not_shared(&recipes::REDIS, "");
}

#[test]
fn redis_does_not_share_a_port_that_is_not_listed() {
    assert_not_shared(&recipes::REDIS, FOR_ANOTHER_PORT);
}

#[test]
fn redis_shares_a_port_that_is_listed() {
    assert_shared(&Server {
        with_shim: "{reuseport} --port {port} --",
        ..recipes::REDIS
    });
}

#[test]
fn netcat() {
    assert_shared(&recipes::NETCAT);
}

#[test]
fn socat() {
    assert_shared(&recipes::SOCAT);
}

#[test]
fn memcached() {
    assert_shared(&recipes::MEMCACHED);
}

#[test]
fn nginx() {
    assert_shared(&recipes::NGINX);
}

#[test]
fn node() {
    assert_shared(&recipes::NODE);
}

#[test]
fn node_on_musl() {
    assert_shared(&recipes::NODE_ON_MUSL);
}

#[test]
fn java() {
    assert_shared(&recipes::JAVA);
}

#[test]
fn busybox() {
    assert_shared(&recipes::BUSYBOX);
}

#[test]
fn c_through_syscall() {
    assert_shared(&recipes::C_THROUGH_SYSCALL);
}

#[test]
fn c_on_musl() {
    assert_shared(&recipes::C_ON_MUSL);
}

#[test]
fn c_on_arm64() {
    assert_shared(&recipes::C_ON_ARM64);
}

#[test]
fn dnsmasq() {
    assert_shared(&recipes::DNSMASQ);
}

#[test]
fn unbound() {
    assert_shared(&recipes::UNBOUND);
}

/// Two listeners of one process, which tell their clients which one they are.
#[test]
fn erlang_listens_twice_in_one_process() {
    let server = &recipes::ERLANG;
    let port = Port::free();
    let mut copy = RunningCopy::start(server, server.with_shim, port.number, 1);
    let mut counts = [0; 2];
    let mut share = || {
        copy.wait_until_serving(2)?;
        for _ in 0..CLIENTS {
            match first_byte(port.number).map_err(|error| error.to_string())? {
                b'1' => counts[0] += 1,
                _ => counts[1] += 1,
            }
        }
        Ok::<_, String>(())
    };
    if let Err(problem) = share() {
        panic!("{problem}\n{}", copy.report());
    }
    assert!(!counts.contains(&0), "the listeners got {counts:?}");
    drop(copy);

    let mut alone = RunningCopy::start(server, server.without_shim, Port::free().number, 1);
    if let Err(problem) = alone.wait_until_refused() {
        panic!("{problem}");
    }
}

fn first_byte(port: u16) -> io::Result<u8> {
    let server = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut connection = TcpStream::connect_timeout(&server, PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    let mut byte = [0];
    connection.read_exact(&mut byte)?;
    Ok(byte[0])
}
