//! `reuseport inject -f` and `eject -f`: the laws on a corpus in every style that
//! manifests are written in, what comes out of each option, and what is refused.
//! PyYAML and kubectl are the other readers.

#[path = "../support/mod.rs"]
mod support;

mod cel;
mod compose;
mod corpus;
mod evaluated;
mod helm;
mod krm;
mod laws;
mod options;
mod overlap;
mod own;
mod pods;
mod policy;
mod print;
mod random;
mod refusals;
mod schema;
mod tools;
mod unfit;
