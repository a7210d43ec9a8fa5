//! A rolling restart: one slot after another gets a new copy, and keeps its old one
//! where that fails.

use std::collections::VecDeque;

use super::control::Wanted;
use super::copy::{Copy, Phase, migrates};
use super::event::copies;
use super::supervisor::Supervisor;

/// A rolling restart under way.
#[derive(Debug)]
pub(super) struct Roll {
    left: VecDeque<usize>,
    step: Option<Step>,
    /// How many copies are to be replaced, and how many have been.
    count: usize,
    done: usize,
    /// The last copy that was started before: it and those before it are old.
    newest_old: u64,
    /// Whether new connections could not be steered away from an old copy.
    is_unsteered: bool,
    /// What became of the new copy, where it failed.
    failure: Option<String>,
}

/// The slot whose turn it is, and its copies by their generations.
#[derive(Clone, Copy, Debug)]
struct Step {
    slot: usize,
    old: Option<u64>,
    new: Option<u64>,
}

impl Supervisor<'_> {
    /// Begins to replace every copy.
    ///
    /// # Errors
    /// Why that cannot be.
    pub(super) fn begin_roll(&mut self) -> Result<(), &'static str> {
        if let Some(what) = self.busy() {
            return Err(what);
        }
        let staying = self.slots.iter().filter(|slot| !slot.is_closing);
        let left: VecDeque<usize> = staying.map(|slot| slot.number).collect();
        let count = left.len();
        self.say("restart", None, format!("replaces {}", copies(count)));
        self.manager.say_reloading();
        self.roll = Some(Roll {
            left,
            step: None,
            count,
            done: 0,
            newest_old: self.generation,
            is_unsteered: false,
            failure: None,
        });
        Ok(())
    }

    /// Begins to replace every copy, now or when what is under way is done: what has
    /// changed since then is to be seen by all copies.
    pub(super) fn begin_roll_or_later(&mut self) {
        if let Err(why) = self.begin_roll()
            && self.ending.is_none()
            && !std::mem::replace(&mut self.is_roll_wanted, true)
        {
            let text = format!("{why}: the copies are replaced after that");
            self.say("restart-later", None, text);
        }
    }

    /// Begins the restart that was put off. Whether it could.
    fn begin_wanted_roll(&mut self) -> bool {
        let begins = self.is_roll_wanted && self.begin_roll().is_ok();
        self.is_roll_wanted &= !begins;
        begins
    }

    /// Goes on with the restart that is under way. Whether something was done.
    pub(super) fn go_on_rolling(&mut self) -> bool {
        let Some(roll) = &mut self.roll else {
            return self.begin_wanted_roll();
        };
        let Some(step) = roll.step else {
            let Some(number) = roll.left.pop_front() else {
                self.end_roll(None);
                return true;
            };
            self.begin_step(number);
            return true;
        };
        let is_there = |generation| self.copy(generation).is_some();
        let old_is_there = step.old.is_some_and(is_there);
        match step.new {
            None if old_is_there => false,
            // The old one was stopped first.
            None => {
                self.fill_step(step);
                true
            }
            Some(new) => match self.copy(new) {
                None => {
                    self.keep_old(step);
                    let failure = self.roll.as_ref().and_then(|roll| roll.failure.clone());
                    let failure = failure.unwrap_or_else(|| "has ended".into());
                    self.end_roll(Some(self.why_off(step, &failure)));
                    true
                }
                Some(copy) if !copy.is_serving() => false,
                Some(_) if !self.slot_holds(step.slot, new) => {
                    let limit = self.plan.drain_timeout;
                    self.put_into(step.slot, Some(new));
                    if let Some(old) = step.old {
                        self.retire(old, limit);
                        self.note_steering(old);
                    }
                    true
                }
                Some(_) if old_is_there => false,
                Some(_) => {
                    if let Some(roll) = &mut self.roll {
                        roll.step = None;
                        roll.done += 1;
                    }
                    true
                }
            },
        }
    }

    /// Takes note of whether new connections could be steered away from the copy `old`.
    fn note_steering(&mut self, old: u64) {
        let listens = self.copy(old).is_some_and(|copy| !copy.held.is_empty());
        let is_unsteered = listens && !self.is_steered_away(old);
        if let Some(roll) = &mut self.roll {
            roll.is_unsteered |= is_unsteered;
        }
    }

    /// Lets the old copy serve on that drained for a new one, which has ended.
    fn keep_old(&mut self, step: Step) {
        if let Some(old) = step.old
            && let Some(copy) = self.copy_mut(old)
            && matches!(copy.phase, Phase::Leaving(_))
        {
            copy.phase = Phase::Serving;
            self.put_into(step.slot, Some(old));
            self.steer();
        }
    }

    /// Starts the new copy of a slot in which no other one serves.
    fn fill_step(&mut self, step: Step) {
        let outcome = self.start_copy(step.slot);
        self.put_into(step.slot, outcome.as_ref().ok().copied());
        self.take_step(step, outcome);
    }

    /// Goes on with `step`, for which a copy was started, or could not be.
    fn take_step(&mut self, step: Step, outcome: Result<u64, String>) {
        match outcome {
            Ok(new) => self.set_step(Step {
                new: Some(new),
                ..step
            }),
            Err(why) => self.end_roll(Some(self.why_off(step, &why))),
        }
    }

    /// Why the restart ends with `step`, and who serves now.
    fn why_off(&self, step: Step, failure: &str) -> String {
        let is_serving = |old| self.copy(old).is_some_and(Copy::is_serving);
        let who = if step.old.is_some_and(is_serving) {
            "the old copy serves on"
        } else {
            "its slot has no copy until one starts"
        };
        let (done, count) = self
            .roll
            .as_ref()
            .map_or((0, 0), |roll| (roll.done, roll.count));
        format!(
            "slot {}: the new copy {failure}; {who}; {done} of {} replaced",
            step.slot,
            copies(count)
        )
    }

    /// Takes note of what became of the copy `generation`, where a restart waits for it.
    pub(super) fn note_failure(&mut self, generation: u64, text: &str) {
        if let Some(roll) = &mut self.roll
            && roll.step.is_some_and(|step| step.new == Some(generation))
        {
            roll.failure = Some(text.to_owned());
        }
    }

    /// The copy that was started to take the place of `old` in the slot `number`.
    pub(super) fn replacement(&self, number: usize, old: u64) -> Option<u64> {
        let step = self.roll.as_ref()?.step?;
        let new = step.new.filter(|new| self.copy(*new).is_some())?;
        (step.slot == number && step.old == Some(old)).then_some(new)
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
        // It may be gone.
        let Some(slot) = slot.filter(|slot| !slot.is_closing) else {
            return;
        };
        let old = slot.copy.and_then(|copy| self.copy(copy));
        let old = old.map(|copy| (copy.generation, copy.is_serving()));
        let newest_old = self.roll.as_ref().map_or(0, |roll| roll.newest_old);
        let (limit, step) = (
            self.plan.drain_timeout,
            Step {
                slot: number,
                old: old.map(|(old, _)| old),
                new: None,
            },
        );
        match old {
            // It was started in place of one that has ended since.
            Some((copy, _)) if copy > newest_old => self.set_step(Step {
                old: None,
                new: Some(copy),
                ..step
            }),
            Some((old, _)) if self.plan.stop_first => {
                self.retire(old, limit);
                self.set_step(step);
            }
            Some((_, true)) => {
                let outcome = self.start_copy(number);
                self.take_step(step, outcome);
            }
            // One that does not serve yet has nothing to finish.
            Some((old, false)) => {
                self.retire(old, limit);
                self.fill_step(step);
            }
            None => self.fill_step(step),
        }
    }

    /// Ends the restart; `why` it is off, where not all were replaced.
    fn end_roll(&mut self, why: Option<String>) {
        let Some(roll) = self.roll.take() else {
            return;
        };
        self.manager.say("READY=1");
        let (status, kind, text) = match why {
            None => {
                self.counts.restarts_done += 1;
                let mut text = format!("replaced {}", copies(roll.count));
                if roll.is_unsteered && !migrates() {
                    text.push_str("; not steered: connections that waited may be lost");
                }
                (0, "restart-done", text)
            }
            Some(why) => {
                self.counts.restarts_failed += 1;
                (1, "restart-failed", format!("the restart is off: {why}"))
            }
        };
        self.say(kind, None, text.clone());
        self.control.answer_all(Wanted::Restart, status, &text);
    }

    /// Ends the restart that is under way, since the runner ends.
    pub(super) fn abandon_roll(&mut self) {
        self.is_roll_wanted = false;
        if self.roll.is_some() {
            self.end_roll(Some("the runner is ending".into()));
        }
    }
}
