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

/// The values of our variables in `environment`.
///
/// # Safety
/// `environment` is null-terminated and holds C strings, all unchanged for as
/// long as the result is used.
pub unsafe fn values<'a>(mut environment: Environment) -> Values<'a> {
    let mut values = Values::default();
    // SAFETY: by the caller, each entry up to the null is a C string.
    unsafe {
        while !(*environment).is_null() {
            if let Some(variable) = variable(*environment) {
                let value = (*environment).add(variable.name().len() + 1);
                values.set_first(variable, bytes(value));
            }
            environment = environment.add(1);
        }
    }
    values
}

/// The variable of ours that `entry` sets. Its name is compared in place: most
/// entries are told apart by their first byte, and none is measured.
///
/// # Safety
/// `entry` is a C string.
unsafe fn variable(entry: *const c_char) -> Option<Variable> {
    let sets = |variable: &Variable| {
        let mut place = entry.cast::<u8>();
        for &byte in variable.name().as_bytes() {
            // SAFETY: no name holds a 0, so that `place` is not past one.
            unsafe {
                if *place != byte {
                    return false;
                }
                place = place.add(1);
            }
        }
        // SAFETY: as above.
        unsafe { *place == b'=' }
    };
    // SAFETY: a C string has a first byte.
    if !matches!(unsafe { *entry.cast::<u8>() }, b'L' | b'S') {
        return None;
    }
    Variable::ALL.into_iter().find(sets)
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
