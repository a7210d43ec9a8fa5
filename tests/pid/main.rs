//! `reuseport check --pid`: real processes, and what is said of them.

#[path = "../support/mod.rs"]
mod support;

mod access;
mod process;
mod server;
mod socket;
