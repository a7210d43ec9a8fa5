//! Registries: a real one, and servers that misbehave.

#[path = "../support/mod.rs"]
mod support;

mod command;
mod distribution;
mod faults;
mod image;
mod login;
mod proxy;
mod real;
mod redirects;
mod server;
mod tls;
mod uploads;
