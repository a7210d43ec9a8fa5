//! The runner with real servers under a real load: nothing is lost in a rolling
//! restart, and nothing is left when the runner ends.

#[path = "../support/mod.rs"]
mod support;

mod accepts;
mod failures;
mod load;
mod orphans;
mod rolling;
mod scale;
mod service;
mod start;
mod status;
mod storm;
mod supervised;
