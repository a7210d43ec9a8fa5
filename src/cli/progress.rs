//! Bars for copies, on a terminal.

use std::io::{self, IsTerminal};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::image::progress::{Meter, Progress, Watcher};

struct Bars(MultiProgress);

struct Bar(ProgressBar);

/// Bars on standard error, which are gone when the copies are done. Where it is no
/// terminal nothing is shown.
pub(super) fn progress() -> Progress {
    if !io::stderr().is_terminal() {
        return Progress::default();
    }
    Progress::new(Bars(MultiProgress::with_draw_target(
        ProgressDrawTarget::stderr(),
    )))
}

impl Watcher for Bars {
    fn begin(&self, what: &str, size: Option<u64>) -> Box<dyn Meter> {
        let (bar, template) = match size {
            Some(size) => (
                ProgressBar::new(size),
                "{prefix} {bar:24} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
            ),
            None => (
                ProgressBar::no_length(),
                "{prefix} {spinner} {bytes} {bytes_per_sec}",
            ),
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("##-"));
        }
        // As much of a digest as tells it from others.
        let what: String = super::report::escaped(what).chars().take(19).collect();
        let bar = self.0.add(bar.with_prefix(what));
        Box::new(Bar(bar))
    }
}

impl Meter for Bar {
    fn advance(&self, bytes: u64) {
        self.0.inc(bytes);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
