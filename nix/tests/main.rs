//! The flake, offline: with the Nix that is installed, and on Debian 12 with that
//! of Debian 13 too, against a stand-in for nixpkgs (stub/). docs/nix.md says what
//! that does not show.

#[path = "../../tests/support/mod.rs"]
mod support;

mod flake;
mod image;
mod lab;
mod module;
mod package;
mod vm;
