//! The shim in processes that we wrote for it: what it sets, on which binds, and
//! that it changes nothing else. Needs gcc, musl-gcc and their C libraries.

#[path = "../support/mod.rs"]
mod support;

mod debug;
mod file;
mod process;
mod table;
