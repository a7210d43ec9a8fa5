//! Runs any Linux server, unmodified, more than once on one port.
//!
//! The library behind the command `reuseport`: the rules, the shim and where it
//! lies, what a program is, and how `LD_PRELOAD` is put together. Edits are pure
//! functions from value to value; what touches the machine takes the place as an
//! argument. Nothing here prints but [`cli`].

pub mod bundle;
pub mod cdi;
pub mod cli;
pub mod environment;
pub mod exec;
pub mod finding;
pub mod image;
pub mod live;
pub mod manifest;
pub mod mount;
mod nearness;
mod netlink;
pub mod preload;
pub mod process;
pub mod program;
pub mod replace;
pub mod rules;
pub mod runner;
pub mod shim;
pub mod sockets;
pub mod unit;
