//! A rolling restart: one slot after another gets a new copy, and keeps its old one
//! where that fails.

use std::collections::VecDeque;

use super::supervisor::Supervisor;

/// A rolling restart under way.
#[derive(Debug)]
pub(super) struct Roll {
    left: VecDeque<usize>,
    step: Option<Step>,
    count: usize,
}

/// The slot whose turn it is, and its copies by their generations.
#[derive(Clone, Copy, Debug)]
struct Step {
    slot: usize,
    old: u64,
    new: Option<u64>,
}

impl Supervisor<'_> {
    /// Begins to replace every copy.
    ///
    /// # Errors
    /// Why that cannot be.
    pub(super) fn begin_roll(&mut self) -> Result<(), &'static str> {
        if self.ending.is_some() {
            return Err("the runner is ending");
        }
        if !self.is_up {
            return Err("the copies are not ready yet");
        }
        if self.roll.is_some() {
            return Err("a restart is under way");
        }
        let left: VecDeque<usize> = self.slots.iter().map(|slot| slot.number).collect();
        let count = left.len();
        self.say("restart", None, format!("replaces {count} copies"));
        self.manager.say_reloading();
        self.roll = Some(Roll {
            left,
            step: None,
            count,
        });
        Ok(())
    }

    /// Goes on with the restart that is under way. Whether something was done.
    pub(super) fn go_on_rolling(&mut self) -> bool {
        let Some(roll) = &mut self.roll else {
            return false;
        };
        let Some(step) = roll.step else {
            let Some(number) = roll.left.pop_front() else {
                let count = roll.count;
                self.end_roll(Ok(count));
                return true;
            };
            self.begin_step(number);
            return true;
        };
        let is_there = |generation| self.copies.iter().any(|one| one.generation == generation);
        let old_is_there = is_there(step.old);
        match step.new {
            None if old_is_there => false,
            // The old one was stopped first.
            None => {
                let new = self.start_copy(step.slot);
                if let Some(slot) = self.slot_mut(step.slot) {
                    slot.copy = new;
                    slot.start_at = None;
                }
                match new {
                    Some(_) => self.set_step(Step { new, ..step }),
                    None => self.end_roll(Err("the new copy cannot be started".into())),
                }
                true
            }
            Some(new) => match self.copy(new) {
                None if self.slot_holds(step.slot, new) || !old_is_there => {
                    self.end_roll(Err(format!("slot {}: the new copy has ended", step.slot)));
                    true
                }
                None => {
                    let text =
                        format!("slot {}: the new copy failed, the old one stays", step.slot);
                    self.end_roll(Err(text));
                    true
                }
                Some(copy) if !copy.is_serving() => false,
                Some(_) if !self.slot_holds(step.slot, new) => {
                    let limit = self.plan.drain_timeout;
                    if let Some(slot) = self.slot_mut(step.slot) {
                        slot.copy = Some(new);
                        slot.start_at = None;
                    }
                    self.retire(step.old, limit);
                    true
                }
                Some(_) if old_is_there => false,
                Some(_) => {
                    if let Some(roll) = &mut self.roll {
                        roll.step = None;
                    }
                    true
                }
            },
        }
    }

    /// The copy that was started to take the place of `old` in the slot `number`.
    pub(super) fn replacement(&self, number: usize, old: u64) -> Option<u64> {
        let step = self.roll.as_ref()?.step?;
        let new = step.new.filter(|new| self.copy(*new).is_some())?;
        (step.slot == number && step.old == old).then_some(new)
    }

    fn slot_holds(&self, number: usize, generation: u64) -> bool {
        let mut slots = self.slots.iter();
        slots.any(|slot| slot.number == number && slot.copy == Some(generation))
    }

    fn set_step(&mut self, step: Step) {
        if let Some(roll) = &mut self.roll {
            roll.step = Some(step);
        }
    }

    fn begin_step(&mut self, number: usize) {
        let slot = self.slots.iter().find(|slot| slot.number == number);
        // A slot that is being filled gets a new copy anyway; one may be gone.
        let Some(old) = slot
            .filter(|slot| !slot.is_closing)
            .and_then(|slot| slot.copy)
        else {
            return;
        };
        if self.copy(old).is_none_or(|copy| !copy.is_serving()) {
            return;
        }
        let limit = self.plan.drain_timeout;
        let new = if self.plan.stop_first {
            self.retire(old, limit);
            None
        } else {
            match self.start_copy(number) {
                Some(new) => Some(new),
                None => {
                    self.end_roll(Err("a new copy cannot be started".into()));
                    return;
                }
            }
        };
        self.set_step(Step {
            slot: number,
            old,
            new,
        });
    }

    fn end_roll(&mut self, outcome: Result<usize, String>) {
        self.roll = None;
        self.manager.say("READY=1");
        match outcome {
            Ok(_) => self.counts.restarts_done += 1,
            Err(_) => self.counts.restarts_failed += 1,
        }
        let (status, text) = match outcome {
            Ok(count) => {
                let text = format!("replaced {count} copies");
                self.say("restart-done", None, text.clone());
                (0, text)
            }
            Err(why) => {
                let text = format!("the restart is off: {why}");
                self.say("restart-failed", None, text.clone());
                (1, text)
            }
        };
        self.control
            .answer_all(super::control::Wanted::Restart, status, &text);
    }

    /// Ends the restart that is under way, since the runner ends.
    pub(super) fn abandon_roll(&mut self) {
        if self.roll.is_some() {
            self.end_roll(Err("the runner is ending".into()));
        }
    }
}
