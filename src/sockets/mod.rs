//! What the kernel says of the sockets of this network namespace.

mod diag;

pub use diag::{Connection, Listener, State, connections, listeners};
