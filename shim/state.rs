//! What the shim knows of its process: the rules, parsed once.
//!
//! No lock guards it. The first to come claims the one static place and
//! publishes it when it is filled; whoever comes in between, another thread or
//! a signal handler, parses for itself on its own stack. After the claim of a
//! thread that fork(2) did not copy, each bind of the child does the latter.
#![allow(unsafe_code, reason = "one static place, published by an atomic")]

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::sync::atomic::AtomicU8;
use core::sync::atomic::Ordering::{Acquire, Release};

use crate::arch::{self, number};
use crate::debug;
use crate::environ::{self, Environment, Found};
use crate::program;
use crate::reason::Reason;
use crate::rules::{Globs, Interface, Rules};
use crate::runner::Runner;

/// What the shim knows of its process.
pub struct State {
    pub rules: Rules,
    /// Why no bind of this process is acted on, if none is.
    pub idle: Option<Reason>,
    /// The process's name, see `PR_GET_NAME` in prctl(2): zero-padded, and
    /// filled only where debug lines are asked for.
    pub name: [u8; NAME],
    /// The runner that is handed the sockets, if this is a copy of one.
    pub runner: Runner,
}

impl State {
    /// The state before the environment has been read.
    pub const NEW: Self = Self {
        rules: Rules::EMPTY,
        idle: None,
        name: [0; NAME],
        runner: Runner::NONE,
    };

    fn stage(&self) -> u8 {
        if self.idle.is_some()
            || self.rules.interface != Interface::Any
            || self.rules.debug
            || self.runner.is_some()
        {
            LONG
        } else if self.rules.select_any() {
            SHORT
        } else {
            LISTED
        }
    }
}

/// `TASK_COMM_LEN`.
const NAME: usize = 16;

struct Place(UnsafeCell<State>);

// SAFETY: written by the one who finds CLAIMED at 0, and read only once STAGE is
// no longer EMPTY.
unsafe impl Sync for Place {}

static PLACE: Place = Place(UnsafeCell::new(State::NEW));
static CLAIMED: AtomicU8 = AtomicU8::new(0);
static STAGE: AtomicU8 = AtomicU8::new(EMPTY);

const EMPTY: u8 = 0;
/// The state is there: take [`Path::Long`], [`Path::Listed`], [`Path::Short`].
const LONG: u8 = 1;
const LISTED: u8 = 2;
const SHORT: u8 = 3;

/// The state, where it has been published.
#[inline(always)]
pub fn published() -> Option<&'static State> {
    if STAGE.load(Acquire) == EMPTY {
        return None;
    }
    // SAFETY: STAGE is set after the place was filled, and nothing writes to
    // it from then on.
    Some(unsafe { &*PLACE.0.get() })
}

/// How much there is to do at a bind.
pub enum Path {
    /// The rules select any bind to a port but 0, and set options alone.
    Short(&'static Rules),
    /// The rules list what they select, and set options alone.
    Listed(&'static Rules),
    /// The state is not there, nothing is to be done in this process, or there
    /// is an interface to set, a line to write or a runner to tell.
    Long,
}

/// The path that a bind takes in this process.
#[inline(always)]
pub fn path() -> Path {
    // SAFETY: as in published.
    let rules = || unsafe { &(*PLACE.0.get()).rules };
    match STAGE.load(Acquire) {
        SHORT => Path::Short(rules()),
        LISTED => Path::Listed(rules()),
        _ => Path::Long,
    }
}

/// Publishes the state, or fills `own` where another thread is about to do so.
/// `from_loader` is the environment that a constructor is passed, or null.
/// Gives `None` where there is no environment to read.
#[cold]
pub fn establish(own: &mut MaybeUninit<State>, from_loader: Environment) -> Option<&State> {
    let environment = environ::current(from_loader);
    if environment.is_null() {
        return None;
    }
    // SAFETY: this is the process's environment. Nobody may change it while it
    // is read: the constructor runs before the program, and a program that
    // binds in one thread while another calls setenv(3) has that race already.
    let found = unsafe { environ::values(environment) };
    if arch::swap(&CLAIMED, 1) == 0 {
        // SAFETY: the claim above succeeds once, so that this is the only
        // reference until STAGE is set.
        let state = fill(unsafe { &mut *PLACE.0.get() }, &found, true);
        STAGE.store(state.stage(), Release);
        return Some(state);
    }
    // Between the caller's look and ours the state may have been published.
    published().or_else(|| Some(fill(own.write(State::NEW), &found, false)))
}

/// Parses what was `found` into `state`, which is [`State::NEW`]; says on standard
/// error what is wrong with them where that is asked for and `loud`.
fn fill<'a>(state: &'a mut State, found: &Found<'_>, loud: bool) -> &'a State {
    let values = &found.values;
    state.runner.fill(found.runner);
    let programs = Globs::of(values);
    let passed_over = matches!(programs, Ok(Some(globs)) if !program::is_listed(globs));
    let outcome = programs.and(state.rules.fill(values));
    let rules = &state.rules;
    state.idle = if outcome.is_err() {
        Some(Reason::RulesDoNotParse)
    } else if passed_over {
        Some(Reason::ProgramNotListed)
    } else if rules.asks_for_nothing() {
        Some(Reason::NothingAsked)
    } else {
        None
    };
    if rules.debug {
        state.name = process_name();
        if loud && let Err(invalid) = outcome.and(rules.check_interface()) {
            let value = values.get(invalid.variable).unwrap_or_default();
            debug::invalid(&state.name, invalid, value);
        }
    }
    state
}

fn process_name() -> [u8; NAME] {
    const PR_GET_NAME: usize = 16;
    let mut name = [0; NAME];
    let arguments = [PR_GET_NAME, name.as_mut_ptr().expose_provenance(), 0];
    // SAFETY: prctl(2) with PR_GET_NAME writes NAME bytes.
    let outcome = unsafe { arch::syscall3(number::PRCTL, arguments) };
    outcome.map_or([b'?'; NAME], |_| name)
}
