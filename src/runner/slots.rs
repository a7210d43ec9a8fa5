//! Slots: each is to have a copy that serves.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::copy::{Copy, Phase};
use super::drain::Look;
use super::group::Key;
use super::probe::Probe;
use super::supervisor::Supervisor;
use super::{Ready, handoff};
use crate::process::{self, Protocol};

/// When a start is tried again that failed for want of processes or descriptors.
const AGAIN: Duration = Duration::from_secs(5);

/// For how long nothing new may be listened on until a first copy has all.
const SETTLED: Duration = Duration::from_millis(100);

/// When that is enough, whatever comes.
const LATEST: Duration = Duration::from_secs(1);

/// How many copies are asked for an answer at once.
const MOST_PROBES: usize = 16;

/// How often a copy that starts is looked at from outside.
const PAUSE: Duration = Duration::from_millis(50);

/// The numbered place of a copy.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) number: usize,
    /// The copy that fills it, by its generation.
    pub(super) copy: Option<u64>,
    /// When the next one is to be started.
    pub(super) start_at: Option<Instant>,
    /// When copies have ended of themselves.
    pub(super) failures: Vec<Instant>,
    /// How often in a row that was before it had served for long.
    pub(super) hasty: u32,
    pub(super) restarts: u64,
    /// What its last copy listened on.
    pub(super) keys: Vec<Key>,
    /// Whether it goes when its copy has gone.
    pub(super) is_closing: bool,
}

impl Slot {
    pub(super) fn new(number: usize) -> Self {
        Self {
            number,
            copy: None,
            start_at: Some(Instant::now()),
            failures: Vec::new(),
            hasty: 0,
            restarts: 0,
            keys: Vec::new(),
            is_closing: false,
        }
    }
}

impl Supervisor<'_> {
    pub(super) fn copy_mut(&mut self, generation: u64) -> Option<&mut Copy> {
        self.copies
            .iter_mut()
            .find(|one| one.generation == generation)
    }

    pub(super) fn copy(&self, generation: u64) -> Option<&Copy> {
        self.copies.iter().find(|one| one.generation == generation)
    }

    pub(super) fn slot_mut(&mut self, number: usize) -> Option<&mut Slot> {
        self.slots.iter_mut().find(|slot| slot.number == number)
    }

    /// Starts a copy for the slot `number`; nobody connects to it before it is ready.
    ///
    /// # Errors
    /// What has been said of it.
    pub(super) fn start_copy(&mut self, number: usize) -> Result<u64, String> {
        self.is_opening = true;
        self.steer();
        self.is_opening = false;
        self.generation += 1;
        match Copy::start(&self.plan, self.generation, number) {
            Ok(copy) => {
                self.copies.push(copy);
                Ok(self.generation)
            }
            Err(error) => {
                let text = format!("cannot be started: {error}");
                self.say("failed", Some(number), text.clone());
                Err(text)
            }
        }
    }

    /// Makes `copy` that of the slot `number`; without one, it is tried again.
    pub(super) fn put_into(&mut self, number: usize, copy: Option<u64>) {
        if let Some(slot) = self.slot_mut(number) {
            slot.copy = copy;
            slot.start_at = copy.is_none().then(|| Instant::now() + AGAIN);
        }
    }

    /// Starts the copies that are due. Gives when the next one is.
    pub(super) fn fill_slots(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let due: Vec<usize> = self
            .slots
            .iter()
            .filter(|slot| slot.start_at.is_some_and(|at| at <= now))
            .map(|slot| slot.number)
            .collect();
        for number in due {
            // One that could not be started may have taken others with it.
            if self.slot_mut(number).is_none_or(|slot| slot.is_closing) {
                continue;
            }
            let outcome = self.start_copy(number);
            self.put_into(number, outcome.as_ref().ok().copied());
            if let Err(why) = outcome {
                self.fail_scaling(number, &why);
            }
        }
        self.slots.iter().filter_map(|slot| slot.start_at).min()
    }

    /// Looks after the copies. Gives when there is more to do.
    pub(super) fn look_after(&mut self) -> Option<Instant> {
        let all: Vec<u64> = self.copies.iter().map(|copy| copy.generation).collect();
        let next = all.into_iter().filter_map(|one| self.look_after_one(one));
        next.min()
    }

    fn look_after_one(&mut self, generation: u64) -> Option<Instant> {
        let now = Instant::now();
        let is_leaving = matches!(self.copy(generation)?.phase, Phase::Leaving(_));
        let gets_new = is_leaving && !self.is_steered_away(generation);
        let copy = self.copy_mut(generation)?;
        match &mut copy.phase {
            Phase::Starting(deadline) if *deadline <= now => {
                let why = self.why_not_ready(generation);
                self.fail(generation, why);
                Some(now)
            }
            Phase::Starting(deadline) => {
                let deadline = *deadline;
                if self.is_ready(generation) {
                    // What a test of its configuration listened on is none of it.
                    if !self.let_go_of_closed(generation, None) {
                        self.now_serves(generation);
                    }
                    return Some(now);
                }
                Some(deadline.min(now + PAUSE))
            }
            Phase::Leaving(drain) => {
                let keeper = copy.keeper;
                let inodes: Vec<u64> = copy.held.iter().map(|one| one.inode).collect();
                let mut ports: Vec<u16> =
                    copy.held.iter().map(|one| one.key.address.port()).collect();
                ports.sort_unstable();
                ports.dedup();
                match drain.look(keeper, &ports, &inodes, gets_new) {
                    Look::Wait(next) => return Some(next),
                    Look::Quiet => {}
                    Look::Late { left, is_exact } => {
                        let slot = copy.slot;
                        if is_exact {
                            self.counts.late += left as u64;
                        }
                        let most = if is_exact { "" } else { "up to " };
                        let are = if left == 1 {
                            "connection is"
                        } else {
                            "connections are"
                        };
                        let text = format!("{most}{left} {are} left after --drain-timeout");
                        self.say("late", Some(slot), text);
                    }
                }
                self.stop(generation);
                Some(now)
            }
            Phase::Stopping(deadline) if *deadline <= now => {
                let slot = copy.slot;
                copy.kill();
                self.say(
                    "killed",
                    Some(slot),
                    "did not end in time and is killed".into(),
                );
                Some(now)
            }
            Phase::Killed(deadline) if *deadline <= now => {
                let slot = copy.slot;
                copy.kill_keeper();
                let text = "its keeper has not killed it in time and is killed".into();
                self.say("killed", Some(slot), text);
                Some(now)
            }
            Phase::Stopping(deadline) | Phase::Killed(deadline) => Some(*deadline),
            Phase::Serving => None,
        }
    }

    /// Ends a copy that is of no use.
    pub(super) fn fail(&mut self, generation: u64, why: String) {
        if let Some(copy) = self.copy_mut(generation) {
            copy.failure = Some(why);
            copy.kill();
        }
        self.steer();
    }

    /// The addresses at which a copy of the slot `number` is expected.
    fn expected(&self, number: usize) -> &[Key] {
        let own = self.slots.iter().find(|slot| slot.number == number);
        let mut known = own
            .into_iter()
            .chain(&self.slots)
            .map(|slot| &slot.keys[..]);
        known.find(|keys| !keys.is_empty()).unwrap_or_default()
    }

    fn missing(&self, copy: &Copy) -> Vec<Key> {
        let keys = copy.keys();
        let has = |wanted: &Key| keys.iter().any(|one| one.is_like(wanted));
        let expected = self.expected(copy.slot).iter();
        let (mut missing, found): (Vec<Key>, Vec<Key>) = expected.partition(|wanted| !has(wanted));
        // Among datagram sockets may have been some by which the server asked others.
        if found.iter().any(|one| one.protocol == Protocol::Udp) {
            missing.retain(|one| one.protocol == Protocol::Tcp);
        }
        missing
    }

    fn is_ready(&mut self, generation: u64) -> bool {
        self.search(generation);
        let Some(copy) = self.copy(generation) else {
            return false;
        };
        // Its keeper says so a moment after it runs.
        if copy.server.is_none() {
            return false;
        }
        let is_settled = copy
            .came
            .is_some_and(|(first, last)| last.elapsed() >= SETTLED || first.elapsed() >= LATEST);
        let is_known = !self.expected(copy.slot).is_empty();
        let listens =
            !copy.keys().is_empty() && (is_settled || is_known) && self.missing(copy).is_empty();
        match &self.plan.ready {
            Ready::Listen => listens,
            Ready::Notify => copy.has_notified,
            Ready::Http(path) if listens => {
                let path = path.clone();
                self.is_answering(generation, &path)
            }
            Ready::Http(_) => false,
        }
    }

    /// Asks the copy itself for `path`, through the port that it shares.
    fn is_answering(&mut self, generation: u64, path: &str) -> bool {
        let count = self.copies.iter().filter(|one| one.probe.is_some());
        let is_late = count.count() >= MOST_PROBES;
        let Some(copy) = self.copy_mut(generation) else {
            return false;
        };
        if is_late && copy.probe.is_none() {
            return false;
        }
        let answer = match &copy.probe {
            Some(probe) if probe.has_begun() => probe.answer(),
            Some(_) => None,
            None => Some(false),
        };
        let began = copy.probe.as_ref().map_or(0, |probe| probe.removals);
        let removals = self.copy(generation).map_or(0, |copy| self.removals(copy));
        // Where numbers have changed meanwhile, another copy may have answered.
        let answer = answer.map(|is_well| is_well && began == removals);
        // Its port is nobody else's until the program no longer leads it here.
        let mut answered = None;
        if let Some(is_well) = answer
            && let Some(copy) = self.copy_mut(generation)
        {
            let address = copy.held.first().map(|one| one.key.address);
            let next = match address {
                Some(address) if !is_well => Probe::new(address).ok(),
                _ => None,
            };
            answered = std::mem::replace(&mut copy.probe, next);
        }
        let has_begun = |copy: &Copy| copy.probe.as_ref().is_none_or(Probe::has_begun);
        if answer.is_some() || !self.copy(generation).is_none_or(has_begun) {
            self.steer();
        }
        drop(answered);
        let is_led = self.is_led(generation);
        let removals = self.copy(generation).map_or(0, |copy| self.removals(copy));
        if let Some(copy) = self.copy_mut(generation)
            && let Some(probe) = &mut copy.probe
            && is_led
            && !probe.has_begun()
        {
            probe.removals = removals;
            probe.begin(path);
        }
        answer.unwrap_or(false)
    }

    /// Looks for the sockets of a copy that the shim does not reach.
    pub(super) fn search(&mut self, generation: u64) {
        let Some(copy) = self.copy(generation) else {
            return;
        };
        let has_any = !copy.keys().is_empty();
        if has_any && self.missing(copy).is_empty() {
            return;
        }
        let keeper = copy.keeper;
        let below = process::below("/proc".as_ref(), keeper).unwrap_or_default();
        let pids: Vec<u32> = below.iter().map(|one| one.pid).collect();
        let open = process::open_sockets("/proc".as_ref(), &pids);
        let known = |inode: &u64| copy.held.iter().any(|held| held.inode == *inode);
        let wanted: Vec<u64> = open
            .iter()
            .filter(|one| one.protocol == Protocol::Tcp || !has_any)
            .map(|one| one.inode)
            .filter(|inode| !known(inode))
            .collect();
        if wanted.is_empty() {
            return;
        }
        for fd in handoff::fetch(keeper, &wanted) {
            self.take_socket(generation, fd);
        }
    }

    fn why_not_ready(&self, generation: u64) -> String {
        let time = self.plan.ready_timeout.as_secs_f64();
        let Some(copy) = self.copy(generation) else {
            return String::new();
        };
        let keys = copy.keys();
        let missing = self.missing(copy);
        let what = match (&self.plan.ready, copy.alone) {
            (_, Some(address)) if keys.is_empty() => {
                format!("it {}", self.alone(address))
            }
            _ if keys.is_empty() => "it does not listen".to_owned(),
            _ if !missing.is_empty() => format!(
                "it listens on {}, and not on {}",
                addresses(&keys),
                addresses(&missing)
            ),
            (Ready::Http(path), _) => format!("it does not answer {path} with a status below 400"),
            _ => "it does not say READY=1".to_owned(),
        };
        format!("was not ready within {time} s: {what}")
    }

    /// That a copy listens on `address` and shares it with nobody, and why.
    pub(super) fn alone(&self, address: SocketAddr) -> String {
        let why = if self.plan.rules.selects_port(address.port()) {
            ""
        } else {
            ": the rule --port, or LIBREUSEPORT_PORT, does not list that port"
        };
        format!("listens on {address} alone, without SO_REUSEPORT{why}")
    }

    fn now_serves(&mut self, generation: u64) {
        let Some(copy) = self.copy_mut(generation) else {
            return;
        };
        copy.phase = Phase::Serving;
        let (slot, keys) = (copy.slot, copy.keys());
        let text = format!(
            "ready after {} ms: {}",
            copy.started.elapsed().as_millis(),
            addresses(&keys)
        );
        if let Some(slot) = self.slot_mut(slot) {
            slot.keys = keys;
        }
        self.steer();
        self.give_orphans(slot);
        self.say("ready", Some(slot), text);
    }
}

/// The addresses of `keys`, for whoever reads them.
fn addresses(keys: &[Key]) -> String {
    let all: Vec<String> = keys.iter().map(Key::to_string).collect();
    all.join(", ")
}
