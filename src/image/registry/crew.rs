//! Several requests at once: what a registry does with one takes longer than the
//! way there, and they do not wait for one another.

use std::fmt;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use super::error::Error;

/// How many requests are under way at once; each has a connection.
const HANDS: usize = 4;

type Job = Box<dyn FnOnce() -> Result<(), Error> + Send>;

/// The way in, and the way out that the threads share.
type Queue = (SyncSender<Job>, Arc<Mutex<Receiver<Job>>>);

/// Threads that do jobs until they are waited for. Dropped before that, they end
/// with what they have begun.
#[derive(Default)]
pub(super) struct Crew {
    jobs: Option<Queue>,
    hands: Vec<JoinHandle<Result<(), Error>>>,
}

impl fmt::Debug for Crew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crew")
            .field("hands", &self.hands.len())
            .finish_non_exhaustive()
    }
}

impl Crew {
    /// Has `job` done, sooner or later; waits where too many wait already, since
    /// they hold what they send.
    pub(super) fn give(&mut self, job: impl FnOnce() -> Result<(), Error> + Send + 'static) {
        let (sender, receiver) = self.jobs.get_or_insert_with(|| {
            let (sender, receiver) = sync_channel(HANDS);
            (sender, Arc::new(Mutex::new(receiver)))
        });
        if self.hands.len() < HANDS {
            let receiver = receiver.clone();
            self.hands.push(thread::spawn(move || work(&receiver)));
        }
        // There is someone at the other end: we hold the receiver as well.
        let _ = sender.send(Box::new(job));
    }

    /// Waits for all jobs.
    ///
    /// # Errors
    /// The first that failed. The others were still done.
    pub(super) fn wait(&mut self) -> Result<(), Error> {
        self.jobs = None;
        let mut outcome = Ok(());
        for hand in self.hands.drain(..) {
            let done = match hand.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            outcome = outcome.and(done);
        }
        outcome
    }
}

fn work(jobs: &Mutex<Receiver<Job>>) -> Result<(), Error> {
    let mut outcome = Ok(());
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(job) => {
                let done = job();
                outcome = outcome.and(done);
            }
            Err(_) => return outcome,
        }
    }
}
