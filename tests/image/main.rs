//! `reuseport inject`, `eject`, `validate` and `check` on images in layouts and
//! archives. The images are made by hand (build.rs), in every shape that was seen;
//! skopeo and umoci are the other readers.

#[path = "../support/mod.rs"]
mod support;

#[allow(dead_code, reason = "the open registry is used here")]
#[path = "../registry/distribution.rs"]
mod distribution;

mod archives;
mod build;
mod files;
mod hostile;
mod indexes;
mod interrupted;
mod layouts;
mod manifests;
mod registry;
mod tools;
