//! The process's environment, as environ(7) lays it out.
#![allow(unsafe_code, reason = "walks C strings")]

use core::ffi::c_char;
use core::slice;

use crate::arch;
use crate::rules::{Values, Variable};

arch::weak_symbols! {
    /// The address of the C library's variable `environ`.
    environ = "environ";
}

/// The variable through which a runner tells its copies of itself.
const RUNNER: &str = "LIBREUSEPORT_RUNNER";

/// A C environment: a null-terminated array of C strings.
pub type Environment = *const *const c_char;

/// The process's environment: the C library's, or `from_loader` where the
/// process has no such variable. Null where it is not known (yet).
///
/// musl passes constructors no environment, so that what they are given is
/// junk there: it is used only where there is no C library to ask.
pub fn current(from_loader: Environment) -> Environment {
    let address = environ() as *const Environment;
    if address.is_null() {
        return from_loader;
    }
    // SAFETY: the symbol is the C library's `char **environ`.
    unsafe { *address }
}

/// What an environment has for us.
#[derive(Default)]
pub struct Found<'a> {
    /// The values of the rules' variables.
    pub values: Values<'a>,
    /// The value of the runner's, see `runner`.
    pub runner: &'a [u8],
}

/// A name of ours in an environment.
enum Name {
    Rule(Variable),
    Runner,
}

/// The values of our variables in `environment`.
///
/// # Safety
/// `environment` is null-terminated and holds C strings, all unchanged for as
/// long as the result is used.
pub unsafe fn values<'a>(mut environment: Environment) -> Found<'a> {
    let mut found = Found::default();
    // SAFETY: by the caller, each entry up to the null is a C string.
    unsafe {
        while !(*environment).is_null() {
            match name(*environment) {
                Some(Name::Rule(variable)) => {
                    let value = (*environment).add(variable.name().len() + 1);
                    found.values.set_first(variable, bytes(value));
                }
                Some(Name::Runner) => {
                    found.runner = bytes((*environment).add(RUNNER.len() + 1));
                }
                None => {}
            }
            environment = environment.add(1);
        }
    }
    found
}

/// The variable of ours that `entry` sets. Names are compared in place, and what
/// they share is compared once: most entries are told apart by their first byte,
/// and none is measured.
///
/// # Safety
/// `entry` is a C string.
unsafe fn name(entry: *const c_char) -> Option<Name> {
    let entry = entry.cast();
    // SAFETY: by the caller; the rest of a name follows its beginning.
    unsafe {
        let (rest, shared) = match after(entry, b"LIBREUSEPORT_") {
            Some(rest) => (rest, b"LIBREUSEPORT_".len()),
            None => (after(entry, b"SO_")?, b"SO_".len()),
        };
        let is_later_spelling = shared == b"SO_".len();
        let follows = |name: &str| {
            let differing = name.as_bytes().get(shared..).unwrap_or_default();
            after(rest, differing).is_some_and(|rest| *rest == b'=')
        };
        let mut variables = Variable::ALL.iter().copied();
        let rule = variables.find(|variable| {
            variable.is_later_spelling() == is_later_spelling && follows(variable.name())
        });
        match rule {
            Some(variable) => Some(Name::Rule(variable)),
            None if !is_later_spelling && follows(RUNNER) => Some(Name::Runner),
            None => None,
        }
    }
}

/// What follows `text` in `string`, if that begins with it.
///
/// # Safety
/// `string` is the rest of a C string, and `text` holds no 0.
unsafe fn after(mut string: *const u8, text: &[u8]) -> Option<*const u8> {
    for &byte in text {
        // SAFETY: no byte so far was the terminator, since it was one of `text`.
        unsafe {
            if *string != byte {
                return None;
            }
            string = string.add(1);
        }
    }
    Some(string)
}

/// The bytes of a C string, without its terminator.
///
/// # Safety
/// `string` is a C string that lives and stays unchanged for `'a`.
pub unsafe fn bytes<'a>(string: *const c_char) -> &'a [u8] {
    let mut length = 0;
    // SAFETY: by the caller, a terminator comes before the end of the object.
    unsafe {
        while string.add(length).read_volatile() != 0 {
            length += 1;
        }
        slice::from_raw_parts(string.cast(), length)
    }
}
