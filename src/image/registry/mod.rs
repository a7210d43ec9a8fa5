//! Images in a registry, over its HTTP API (OCI distribution specification 1.1,
//! which is Docker's registry API, version 2).
//!
//! A [`Client`] keeps one connection and one set of tokens for each registry. It
//! asks for nothing twice and pings nothing: a login is looked for when the
//! registry wants one. What may pass is tried again, for a bounded time.
//! Passwords and tokens go to the registry and to the token server that it
//! names, and never to where it redirects.

mod answer;
mod auth;
mod blob;
mod client;
pub mod credentials;
mod crew;
mod error;
mod location;
mod manifest;
mod proxy;
mod retry;
mod store;
mod tags;
mod transport;
mod upload;

pub use blob::Blob;
pub use client::{Client, Options, Repository};
pub use error::{CaFileFault, Error, Fault, Place, Unreached};
pub use proxy::Proxies;
pub use retry::Patience;
pub use store::{RegistryDestination, RegistrySource};
pub use upload::{Mount, Session};
