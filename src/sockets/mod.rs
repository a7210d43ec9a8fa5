//! What the kernel says of the sockets of this network namespace, and of others.

mod diag;
mod groups;
mod namespace;
mod warning;

pub use diag::{Chooser, Connection, Listener, State, connections, listeners};
pub use groups::{Group, Member, View, groups};
pub use namespace::{Namespace, namespaces};
pub use warning::{Warning, is_skewed};
