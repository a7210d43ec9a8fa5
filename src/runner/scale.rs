//! Changing the number of copies: slots are added at the end, or the last ones taken
//! away.

use super::control::Wanted;
use super::copy::Copy;
use super::event::copies;
use super::slots::Slot;
use super::supervisor::{Supervisor, serving};

/// A change under way.
#[derive(Debug)]
pub(super) struct Scaling {
    /// How many copies there were.
    before: usize,
    /// Why there are not to be more, after all.
    failure: Option<String>,
}

impl Supervisor<'_> {
    /// Begins to make it `count` copies.
    ///
    /// # Errors
    /// Why that cannot be.
    pub(super) fn begin_scaling(&mut self, count: usize) -> Result<(), String> {
        let most = self.plan.most();
        if count == 0 || count > most {
            let why = if self.plan.cpus.is_empty() {
                ""
            } else {
                ", one a CPU (--pin)"
            };
            return Err(format!("the number of copies is from 1 to {most}{why}"));
        }
        if let Some(what) = self.busy() {
            return Err(what.to_owned());
        }
        let before = self.plan.copies;
        // Those that go may be all that serve.
        let stays = |slot: &&Slot| slot.number < count.min(before);
        let mut waits = self
            .slots
            .iter()
            .filter(stays)
            .filter(|slot| !self.serves(slot));
        if count < before
            && let Some(slot) = waits.next()
        {
            return Err(format!(
                "slot {}, which is to stay, does not serve",
                slot.number
            ));
        }
        let text = format!("from {before} to {}", copies(count));
        self.say("scale", None, text);
        self.scaling = Some(Scaling {
            before,
            failure: None,
        });
        self.plan.copies = count;
        self.slots.extend((before..count).map(Slot::new));
        self.close_slots(count);
        Ok(())
    }

    /// What is under way that keeps another change from beginning.
    pub(super) fn busy(&self) -> Option<&'static str> {
        if self.ending.is_some() {
            Some("the runner is ending")
        } else if !self.is_up {
            Some("the copies are not ready yet")
        } else if self.roll.is_some() {
            Some("a restart is under way")
        } else if self.scaling.is_some() {
            Some("the number of copies is being changed")
        } else {
            None
        }
    }

    /// Takes away the slots from the number `count` on, with what is in them.
    fn close_slots(&mut self, count: usize) {
        let mut closing = Vec::new();
        for slot in self.slots.iter_mut().filter(|slot| slot.number >= count) {
            slot.is_closing = true;
            slot.start_at = None;
            closing.extend(slot.copy);
        }
        self.slots
            .retain(|slot| !slot.is_closing || slot.copy.is_some());
        let limit = self.plan.drain_timeout;
        for generation in closing {
            self.retire(generation, limit);
        }
    }

    /// Takes note that the copy of the slot `number` has failed, for the reason `why`.
    /// Whether that was a slot of its own, which goes with the others that were added.
    pub(super) fn fail_scaling(&mut self, number: usize, why: &str) -> bool {
        let Some(scaling) = &mut self.scaling else {
            return false;
        };
        let before = scaling.before;
        if number < before {
            return false;
        }
        scaling
            .failure
            .get_or_insert_with(|| format!("slot {number}: the new copy {why}"));
        self.plan.copies = before;
        self.slots.retain(|slot| slot.number != number);
        self.take_back();
        true
    }

    /// Takes away the slots that were added, where they are not all that serve.
    fn take_back(&mut self) {
        let count = self.plan.copies;
        let mut staying = self.slots.iter().filter(|slot| slot.number < count);
        if staying.any(|slot| self.serves(slot)) {
            self.close_slots(count);
        }
    }

    /// Ends the change once all that were added serve and all that were to go have gone.
    pub(super) fn go_on_scaling(&mut self) {
        let Some(scaling) = &self.scaling else {
            return;
        };
        let before = scaling.before;
        if scaling.failure.is_some() {
            self.take_back();
        }
        let count = self.plan.copies;
        let mut added = self.slots.iter().filter(|one| one.number >= before);
        if self.slots.len() != count || !added.all(|slot| self.serves(slot)) {
            return;
        }
        // Others may have ended, and are started again.
        let number = self.slots.iter().filter(|slot| self.serves(slot)).count();
        let state = if number == count {
            serving(count)
        } else {
            format!("{number} of {} serve", copies(count))
        };
        let failure = self.scaling.take().and_then(|one| one.failure);
        self.end_scaling(failure, &state);
    }

    fn serves(&self, slot: &Slot) -> bool {
        let copy = slot.copy.and_then(|copy| self.copy(copy));
        copy.is_some_and(Copy::is_serving)
    }

    fn end_scaling(&mut self, failure: Option<String>, state: &str) {
        self.scaling = None;
        let (status, text) = match failure {
            None => (0, state.to_owned()),
            Some(why) => {
                let text = format!("the change is off: {why}; {state}");
                self.say("scale-failed", None, text.clone());
                (1, text)
            }
        };
        self.control.answer_all(Wanted::Scale, status, &text);
    }

    /// Ends the change that is under way, since the runner ends.
    pub(super) fn abandon_scaling(&mut self) {
        if let Some(scaling) = self.scaling.take() {
            let failure = scaling.failure;
            let failure = failure.unwrap_or_else(|| "the runner is ending".to_owned());
            self.end_scaling(Some(failure), "its copies end");
        }
    }
}
