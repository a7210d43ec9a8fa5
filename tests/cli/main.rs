//! The command alone: what it prints, the status it ends with, the files that it
//! leaves.

#[path = "../support/mod.rs"]
mod support;

mod install;
mod place;
mod print;
mod run;
