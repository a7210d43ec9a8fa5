//! OCI and Docker images: what names them, where they lie, and what they become.
//!
//! Stores ([`store`]) read and write; edits are pure functions from the bytes of
//! one image to those of another, and can be called on any.

pub mod check;
pub mod contents;
pub mod descriptor;
pub mod digest;
pub mod edit;
pub mod engine;
pub mod error;
pub mod json;
pub mod layer;
mod node;
pub mod packing;
mod path;
pub mod platform;
pub mod progress;
pub mod reference;
pub mod registry;
pub mod store;
pub mod tar;
pub mod transfer;
pub mod transform;
pub mod tree;
pub mod validate;

pub use descriptor::{Compression, Descriptor, Family, Kind};
pub use digest::Digest;
pub use error::Error;
pub use platform::Platform;
pub use reference::{Name, Reference};
pub use store::{Destination, Item, Source, StoreId};
