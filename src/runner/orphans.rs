//! What waits in the listeners of a copy that has died.
//!
//! The runner still holds them. New connections are steered away from them at once.
//! Where `net.ipv4.tcp_migrate_req` is 1, the kernel gives what waits in a listener
//! that closes to another of its group; where no other copy serves, the listener is
//! kept until one does. Else what waits is lost, and counted.

use std::time::{Duration, Instant};

use super::copy::{Held, migrates};
use super::event::waited;
use super::supervisor::Supervisor;

/// How long who waits is kept waiting for the next copy.
const PATIENCE: Duration = Duration::from_secs(10);

/// A listener whose copy has died.
#[derive(Debug)]
pub(super) struct Orphan {
    pub(super) held: Held,
    until: Instant,
}

impl Supervisor<'_> {
    /// Closes the listeners of a copy of the slot `number` that has ended, or keeps
    /// them for the next one. Gives what becomes of the connections that wait in
    /// them, if there are any.
    pub(super) fn part_with(
        &mut self,
        number: usize,
        held: Vec<Held>,
        was_asked: bool,
    ) -> Option<String> {
        let waiting = Self::waiting(&held);
        let serves = |held: &Held| {
            self.copies.iter().any(|copy| {
                copy.is_serving() && copy.held.iter().any(|one| one.key.is_like(&held.key))
            })
        };
        let is_open = |held: &Held| held.fd.is_some();
        let migrates = migrates() && held.iter().all(is_open);
        let others_serve = held.iter().all(serves);
        let is_filled_again = self.ending.is_none()
            && self
                .slots
                .iter()
                .any(|slot| slot.number == number && !slot.is_closing);
        if migrates && !others_serve && is_filled_again && !was_asked && self.is_up {
            let until = Instant::now() + PATIENCE;
            let orphans = held.into_iter().map(|held| Orphan { held, until });
            self.orphans.extend(orphans);
            return (waiting > 0).then(|| waited(waiting, "kept for the next copy"));
        }
        let is_given = migrates && others_serve;
        self.close(held);
        self.count(waiting, is_given);
        match (waiting, is_given) {
            (0, _) => None,
            (_, true) => Some(waited(
                waiting,
                "given to other copies (net.ipv4.tcp_migrate_req)",
            )),
            (_, false) => Some(waited(waiting, "lost")),
        }
    }

    fn count(&mut self, waiting: u32, is_given: bool) {
        if is_given {
            self.counts.given += u64::from(waiting);
        } else {
            self.counts.lost += u64::from(waiting);
        }
    }

    /// Lets go of what was kept, now that a copy of the slot `number` serves.
    pub(super) fn give_orphans(&mut self, number: usize) {
        let all = std::mem::take(&mut self.orphans);
        let (given, kept): (Vec<_>, Vec<_>) = all.into_iter().partition(|orphan| {
            self.copies.iter().any(|copy| {
                let mut held = copy.held.iter();
                copy.is_serving() && held.any(|one| one.key.is_like(&orphan.held.key))
            })
        });
        self.orphans = kept;
        self.let_orphans_go(given, Some(number));
    }

    /// Lets go of what was kept for too long, or for nobody. Gives when that is next.
    pub(super) fn drop_orphans(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let is_over = self.ending.is_some();
        let all = std::mem::take(&mut self.orphans);
        let (late, kept): (Vec<_>, Vec<_>) = all
            .into_iter()
            .partition(|orphan| is_over || orphan.until <= now);
        self.orphans = kept;
        self.let_orphans_go(late, None);
        self.orphans.iter().map(|orphan| orphan.until).min()
    }

    fn let_orphans_go(&mut self, orphans: Vec<Orphan>, to: Option<usize>) {
        if orphans.is_empty() {
            return;
        }
        let held: Vec<Held> = orphans.into_iter().map(|orphan| orphan.held).collect();
        let waiting = Self::waiting(&held);
        self.close(held);
        self.steer();
        self.count(waiting, to.is_some());
        if waiting > 0 {
            let what = if to.is_some() { "given" } else { "lost" };
            let text = match to {
                Some(_) => waited(waiting, "given to it"),
                None => waited(waiting, "lost: no copy came in time"),
            };
            self.say(what, to, text);
        }
    }
}
