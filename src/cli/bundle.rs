//! `reuseport inject DIR` and `eject DIR`, where DIR is an OCI runtime bundle.

use std::path::Path;

use super::found::Found;
use super::host::{self, HostFlags};
use super::{answer, complain, status};
use crate::bundle::{self, Bundle};
use crate::program::Root;
use crate::replace::replace_unsynced;
use crate::rules::Assignments;
use crate::shim::{self, Architecture};

/// What is asked for.
pub(super) struct Request<'a> {
    pub(super) directory: &'a Path,
    pub(super) rules: Assignments,
    pub(super) host: &'a HostFlags,
    pub(super) in_place: bool,
    pub(super) no_check: bool,
    pub(super) force: bool,
}

/// What is found of the program of a bundle.
///
/// # Errors
/// The bundle or its root cannot be read.
pub(super) fn found(directory: &Path, bundle: &Bundle) -> Result<Found, bundle::Error> {
    let has_shim = |architecture: &Architecture| shim::embedded(architecture).is_ok();
    let target = directory.display().to_string();
    let verdict = bundle.judge(&has_shim)?;
    Ok(Found::new(target, vec![verdict.program], verdict.findings))
}

pub(super) fn inject(request: Request<'_>) -> u8 {
    try_inject(request).unwrap_or_else(|message| complain(&message, status::FAULT))
}

fn try_inject(request: Request<'_>) -> Result<u8, String> {
    let Request {
        directory,
        rules,
        host,
        in_place,
        no_check,
        force,
    } = request;
    let bundle = Bundle::read(directory).map_err(|error| error.to_string())?;
    let (architecture, first) = if no_check {
        (
            shim::native().map_err(|error| error.to_string())?,
            Vec::new(),
        )
    } else {
        let found = found(directory, &bundle).map_err(|error| error.to_string())?;
        if !host::may_go_on(&found, force) {
            return Ok(status::NO);
        }
        let architecture = found.architecture().map_err(|error| error.to_string())?;
        (architecture, found.first())
    };
    host::check_shim(&Root::host(), host.shim(), architecture)?;
    let text = bundle.inject(host.shim(), &rules, &first);
    Ok(put(&bundle, &text, in_place))
}

pub(super) fn eject(directory: &Path, in_place: bool) -> u8 {
    match Bundle::read(directory) {
        Err(error) => complain(&error, status::FAULT),
        Ok(bundle) if !bundle.has_shim() => complain(
            &format_args!(
                "{}: nothing to eject: it holds no shim",
                directory.display()
            ),
            status::NO,
        ),
        Ok(bundle) => put(&bundle, &bundle.eject(), in_place),
    }
}

/// Writes the new `config.json`, or prints it.
fn put(bundle: &Bundle, text: &[u8], in_place: bool) -> u8 {
    if !in_place {
        return answer(text);
    }
    // Runtimes and engines write theirs so, too: a bundle is made anew, not kept.
    match replace_unsynced(&bundle.path, text, 0o644) {
        Ok(()) => answer(format!("{}\n", bundle.path.display()).as_bytes()),
        Err(error) => complain(
            &format_args!("{}: {error}", bundle.path.display()),
            status::FAULT,
        ),
    }
}
