//! `reuseport check`: its answers against those of other tools, its output, and
//! what it makes of roots that mean harm.

#[path = "../support/mod.rs"]
mod support;

mod answers;
mod hostile;
mod truth;
