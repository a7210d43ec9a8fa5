//! OCI and Docker images: what names them, where they lie, and what they become.
//!
//! Stores ([`store`]) read and write; edits are pure functions from the bytes of
//! one image to those of another, and can be called on any.

pub mod descriptor;
pub mod digest;
pub mod engine;
pub mod error;
pub mod platform;
pub mod reference;
pub mod store;

pub use descriptor::{Compression, Descriptor, Family, Kind};
pub use digest::Digest;
pub use error::Error;
pub use platform::Platform;
pub use reference::{Name, Reference};
pub use store::{Destination, Item, Source, StoreId};
