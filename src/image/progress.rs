//! How far copies are: told to whoever wants to show it.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

use super::descriptor::Descriptor;

/// Shows copies.
pub trait Watcher: Send + Sync {
    /// A copy of `what` begins, of `size` bytes where that is known. It has ended
    /// when the result is dropped.
    fn begin(&self, what: &str, size: Option<u64>) -> Box<dyn Meter>;
}

/// Shows one copy.
pub trait Meter: Send {
    /// So many bytes more have been read.
    fn advance(&self, bytes: u64);
}

/// Who is told of copies; by default nobody.
#[derive(Clone, Default)]
pub struct Progress(Option<Arc<dyn Watcher>>);

/// What is over before anyone could read of it, in bytes.
const SHORT: u64 = 1 << 20;

impl Progress {
    pub fn new(watcher: impl Watcher + 'static) -> Self {
        Self(Some(Arc::new(watcher)))
    }

    /// `inner`, which holds the bytes of `blob`: copying it is shown.
    pub fn of_blob<R: Read>(&self, blob: &Descriptor, inner: R) -> Watched<R> {
        self.of(&blob.digest().to_string(), Some(blob.size()), inner)
    }

    /// `inner`, which holds `what`, of `size` bytes: copying it is shown.
    pub fn of<R: Read>(&self, what: &str, size: Option<u64>, inner: R) -> Watched<R> {
        let watcher = self.0.as_ref();
        let watcher = watcher.filter(|_| size.is_none_or(|size| size >= SHORT));
        Watched {
            inner,
            meter: watcher.map(|watcher| watcher.begin(what, size)),
        }
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress").finish_non_exhaustive()
    }
}

/// A reader that tells how far it is.
pub struct Watched<R> {
    inner: R,
    meter: Option<Box<dyn Meter>>,
}

impl<R> fmt::Debug for Watched<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").finish_non_exhaustive()
    }
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if let Some(meter) = &self.meter {
            meter.advance(count as u64);
        }
        Ok(count)
    }
}
