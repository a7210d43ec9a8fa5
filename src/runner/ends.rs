//! How copies end: taken out of service, told to end, or by themselves.

use std::fmt::Write;
use std::time::{Duration, Instant};

use super::copy::{End, Phase, Word};
use super::drain::{Drain, own_sockets};
use super::event::copies;
use super::supervisor::{Supervisor, kill_strays};

/// The shortest and the longest time until a copy that has ended is started again.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);

/// The longest where it had served: others need it.
const SERVED: Duration = Duration::from_secs(1);

/// Who has served for so long has not failed at its start.
const PROVEN: Duration = Duration::from_secs(10);

impl Supervisor<'_> {
    /// Takes a copy out of service: new connections go to others, and it ends when
    /// it has finished those that it has.
    pub(super) fn retire(&mut self, generation: u64, limit: Duration) {
        let Some(copy) = self.copy_mut(generation) else {
            return;
        };
        match copy.phase {
            Phase::Serving => {
                copy.phase = Phase::Leaving(Drain::new(limit));
                self.steer();
                if !self.is_steered_away(generation) && !self.is_last(generation) {
                    self.stop(generation);
                }
            }
            Phase::Starting(_) => copy.kill(),
            _ => {}
        }
    }

    /// Whether all copies go, and this one as the last: new connections come to it
    /// as long as it is there.
    fn is_last(&self, generation: u64) -> bool {
        self.ending.is_some() && self.copies.iter().all(|one| one.generation == generation)
    }

    /// Tells a copy to end.
    pub(super) fn stop(&mut self, generation: u64) {
        self.let_go(generation);
        let (signal, patience) = (self.plan.stop_signal.as_raw(), self.plan.kill_after);
        if let Some(copy) = self.copy_mut(generation) {
            copy.stop(signal, patience);
        }
    }

    /// Takes note of what the copy's keeper says.
    pub(super) fn hear(&mut self, generation: u64, word: Word) {
        let Some(copy) = self.copy_mut(generation) else {
            return;
        };
        let slot = copy.slot;
        match word {
            Word::Started(pid) => {
                copy.server = Some(pid);
                self.say("started", Some(slot), format!("process {pid}"));
            }
            Word::Background => {
                let text = "the server has put itself into the background, and is followed there; \
                            a flag of its own that keeps it in the foreground is surer";
                let is_served = || {
                    let own = own_sockets(copy.keeper);
                    !own.is_complete || copy.inodes().any(|inode| own.inodes.contains(&inode))
                };
                match copy.phase {
                    Phase::Serving if !is_served() => {
                        let why = "ended with status 0, and what it has left has none of its \
                                   sockets";
                        self.fail(generation, why.into());
                    }
                    Phase::Starting(_) | Phase::Serving => {
                        self.say("background", Some(slot), text.into());
                    }
                    _ => {}
                }
            }
            Word::Failed(why) => {
                copy.failure = Some(format!("cannot be started: {why}"));
                self.gone(generation, End::of_status(126));
            }
            Word::Gone(end) => self.gone(generation, end),
            Word::Lost => {
                let lost = copy.keeper;
                // It may have been us, for a reason that is known.
                if !matches!(copy.phase, Phase::Stopping(_) | Phase::Killed(_)) {
                    let why = || "has ended: its keeper was killed".into();
                    copy.failure.get_or_insert_with(why);
                }
                // What it had comes to us once it has gone itself, which may be later.
                let mut others = self.keepers();
                others.retain(|keeper| *keeper != lost);
                kill_strays(&others);
                self.gone(generation, End::of_status(137));
            }
        }
    }

    /// All processes of a copy have ended.
    fn gone(&mut self, generation: u64, end: End) {
        let Some(copy) = self.copy_mut(generation) else {
            return;
        };
        let was_asked =
            copy.failure.is_none() && matches!(copy.phase, Phase::Stopping(_) | Phase::Killed(_));
        let (was_serving, was_starting) = (copy.is_serving(), copy.is_starting());
        copy.phase = Phase::Killed(Instant::now());
        // At once: what comes to it from now on is lost.
        self.steer();
        let Some(index) = self
            .copies
            .iter()
            .position(|one| one.generation == generation)
        else {
            return;
        };
        let copy = self.copies.remove(index);
        let fate = self.part_with(copy.slot, copy.held, was_asked);
        self.steer();

        let number = copy.slot;
        let mut text = match &copy.failure {
            Some(why) => why.clone(),
            None if was_starting => format!("{end} before it was ready"),
            None => end.to_string(),
        };
        let process = copy.server.map(|pid| format!("(process {pid}) "));
        let story = format!("{}{text}", process.unwrap_or_default());
        self.note_failure(generation, &story);
        if let Some(fate) = fate {
            let _ = write!(text, "; {fate}");
        }
        self.say(
            if was_asked { "ended" } else { "failed" },
            Some(number),
            text.clone(),
        );
        let proven = was_serving && copy.started.elapsed() >= PROVEN;
        let is_ending = self.ending.is_some();
        let replacement = self.replacement(number, generation);
        let Some(slot) = self.slot_mut(number) else {
            return;
        };
        if slot.copy != Some(generation) {
            // The replacement of one that serves, or one that was replaced.
            return;
        }
        slot.copy = replacement;
        if replacement.is_some() {
            // The restart that is under way has started it already.
            return;
        }
        if slot.is_closing {
            self.slots.retain(|slot| slot.number != number);
            return;
        }
        if is_ending || was_asked {
            return;
        }
        self.counts.failures += 1;
        if self.fail_scaling(number, &story) {
            return;
        }
        let longest = if was_serving { SERVED } else { LONGEST };
        let Some(delay) = self.start_again(number, generation, proven, longest) else {
            return;
        };
        if !self.is_up {
            let status = match (&copy.failure, end.status) {
                (Some(_), _) => 125,
                (None, 0) => 1,
                (None, status) => status,
            };
            let mut why = format!("slot {number} could not be started: {text}");
            // Who kept it from its port is often another copy.
            let others: Vec<u64> = self.copies.iter().map(|one| one.generation).collect();
            for other in others {
                self.take_sockets(other);
                self.search(other);
            }
            let mut others = self.copies.iter();
            if let Some((slot, address)) = others.find_map(|one| Some((one.slot, one.alone?))) {
                let _ = write!(why, "; slot {slot} {}", self.alone(address));
            }
            self.give_up(status, &why);
        } else if let Some(why) = self.too_many_restarts() {
            self.give_up(end.status.max(1), &why);
        } else {
            let text = format!("is started again in {} ms", delay.as_millis());
            self.say("restarts", Some(number), text);
        }
    }

    /// Lets the slot `number`, whose copy `generation` has failed, be filled again, and
    /// gives when.
    fn start_again(
        &mut self,
        number: usize,
        generation: u64,
        is_proven: bool,
        longest: Duration,
    ) -> Option<Duration> {
        let slot = self.slot_mut(number)?;
        slot.restarts += 1;
        slot.hasty = if is_proven { 0 } else { slot.hasty + 1 };
        let delay = backoff(slot.hasty, longest, generation);
        let now = Instant::now();
        slot.start_at = Some(now + delay);
        slot.failures.push(now);
        Some(delay)
    }

    /// Whether copies have failed more often than they may, and how often.
    fn too_many_restarts(&mut self) -> Option<String> {
        let (most, time) = self.plan.max_restarts?;
        for slot in &mut self.slots {
            slot.failures.retain(|at| at.elapsed() <= time);
        }
        let count: usize = self.slots.iter().map(|slot| slot.failures.len()).sum();
        let time = time.as_secs_f64();
        (count > most as usize).then(|| format!("{} ended within {time} s", copies(count)))
    }
}

/// How long to wait after copies have failed `hasty` times in a row: twice as long
/// each time up to `longest`, and not all at the same moment.
fn backoff(hasty: u32, longest: Duration, seed: u64) -> Duration {
    if hasty == 0 {
        return Duration::ZERO;
    }
    let time = SHORTEST
        .saturating_mul(1 << (hasty - 1).min(16))
        .min(longest);
    // From three quarters to five quarters of it.
    let jitter = u32::try_from(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 55).unwrap_or(0);
    time * 3 / 4 + time * jitter / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_end_at_the_longest() {
        assert_eq!(backoff(0, LONGEST, 1), Duration::ZERO);
        for (hasty, time) in [
            (1, 100),
            (2, 200),
            (5, 1600),
            (20, 10_000),
            (u32::MAX, 10_000),
        ] {
            for seed in 0..50 {
                let time = Duration::from_millis(time);
                let range = time * 3 / 4..=time * 5 / 4;
                assert!(
                    range.contains(&backoff(hasty, LONGEST, seed)),
                    "{hasty} {seed}"
                );
            }
        }
    }
}
