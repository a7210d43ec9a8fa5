//! Real container engines: Docker's daemon and Podman's service, started here.

mod command;
mod compose;
mod daemon;
mod docker;
mod fixture;
mod podman;
mod runner;
mod serve;

#[path = "../servers/port.rs"]
mod port;
#[allow(dead_code, reason = "the port's part of it is used here")]
#[path = "../servers/sockets.rs"]
mod sockets;
#[path = "../support/mod.rs"]
mod support;
