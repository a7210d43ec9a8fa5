//! What the kernel says of the sockets of this network namespace.

mod diag;
mod groups;

pub use diag::{Connection, Listener, State, connections, listeners};
pub use groups::{Group, Member, Warning, groups};
