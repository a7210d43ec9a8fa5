//! The runner itself: what comes is taken, what is due is done, and then it sleeps.

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, wait};

use super::control::{self, Control, Request, Wanted};
use super::copy::{Copy, Held, Word};
use super::endpoint::Endpoint;
use super::event::{Event, copies};
use super::metrics::Counts;
use super::notify::{self, Manager};
use super::orphans::Orphan;
use super::pid_file::PidFile;
use super::roll::Roll;
use super::scale::Scaling;
use super::signals::{self, Signals};
use super::slots::Slot;
use super::steering::Group;
use super::terminal::{Hup, Terminal};
use super::{Error, Plan};
use crate::process::{self, Protocol};

/// How long the last copy may have connections when the runner ends.
const LAST: Duration = Duration::from_secs(1);

/// How many sockets of a copy are taken before others are looked after.
const AT_ONCE: usize = 64;

/// The end of a runner.
#[derive(Debug)]
pub(super) struct Ending {
    status: u8,
}

pub(super) struct Supervisor<'a> {
    pub(super) plan: Plan,
    log: &'a mut dyn FnMut(&Event),
    pub(super) copies: Vec<Copy>,
    pub(super) slots: Vec<Slot>,
    pub(super) groups: Vec<Group>,
    pub(super) roll: Option<Roll>,
    /// Whether another restart was asked for when none could begin.
    pub(super) is_roll_wanted: bool,
    pub(super) scaling: Option<Scaling>,
    pub(super) ending: Option<Ending>,
    pub(super) control: Control,
    pub(super) manager: Manager,
    endpoint: Option<Endpoint>,
    pub(super) counts: Counts,
    /// Listeners of copies that have died, kept for the next one.
    pub(super) orphans: Vec<Orphan>,
    /// Listeners that are being closed, the next one last.
    pub(super) closing: Vec<Held>,
    /// How many copies have been started.
    pub(super) generation: u64,
    /// Whether every slot has had a copy that was ready.
    pub(super) is_up: bool,
    /// Whether a copy is about to be started.
    pub(super) is_opening: bool,
    signals: Signals,
    terminal: Terminal,
    next_watchdog: Option<Instant>,
}

/// Runs the copies of `plan`, and tells `log` what happens, until it is told to end.
/// Gives the exit status.
///
/// # Errors
/// Nothing was started.
pub fn run(plan: Plan, log: &mut dyn FnMut(&Event)) -> Result<u8, Error> {
    let control = Control::open(&control::directory(), &plan.name)?;
    let terminal = Terminal::of_this_process();
    let signals = Signals::new().map_err(|error| Error::io("signals", error))?;
    set_child_subreaper(Some(getpid())).map_err(|error| Error::io("a subreaper", error))?;
    let endpoint = plan.metrics.as_ref().map(Endpoint::open).transpose()?;
    // It goes when this function ends, by any way.
    let pid_file = plan.pid_file.as_deref().map(PidFile::write);
    let _pid_file = pid_file.transpose()?;
    let manager = Manager::from_environment();
    let mut supervisor = Supervisor {
        slots: (0..plan.copies).map(Slot::new).collect(),
        plan,
        log,
        copies: Vec::new(),
        groups: Vec::new(),
        roll: None,
        is_roll_wanted: false,
        scaling: None,
        ending: None,
        control,
        endpoint,
        counts: Counts::default(),
        orphans: Vec::new(),
        closing: Vec::new(),
        generation: 0,
        is_up: false,
        is_opening: false,
        signals,
        terminal,
        next_watchdog: manager.watchdog.map(|_| Instant::now()),
        manager,
    };
    supervisor.say_where_metrics_are();
    let status = supervisor.serve();
    // Nobody is left but strays of keepers that were killed.
    kill_strays(&[]);
    Ok(status)
}

impl Supervisor<'_> {
    pub(super) fn say(&mut self, kind: &'static str, slot: Option<usize>, message: String) {
        (self.log)(&Event {
            kind,
            slot,
            message,
        });
    }

    fn say_where_metrics_are(&mut self) {
        let Some(endpoint) = &self.endpoint else {
            return;
        };
        let mut text = format!("metrics at {}", endpoint.address);
        if endpoint.is_open_to_others() {
            text.push_str("; warning: whoever reaches that address may read them");
        }
        self.say("metrics", None, text);
    }

    fn serve(&mut self) -> u8 {
        loop {
            let next = self.advance();
            if let Some(Ending { status }) = &self.ending
                && self.copies.is_empty()
            {
                let status = *status;
                self.control.answer_all(Wanted::Stop, 0, "stopped");
                return status;
            }
            self.sleep(next);
            self.take_all();
        }
    }

    /// Does what is due. Gives when there is more to do.
    fn advance(&mut self) -> Option<Instant> {
        while self.go_on_rolling() {}
        let mut next = [None; 5];
        if self.ending.is_none() {
            next[0] = self.fill_slots();
        } else {
            self.end_last();
        }
        // After what changes the copies' phases, since this says when it is to be
        // done again.
        next[1] = self.look_after();
        self.note_up();
        self.go_on_scaling();
        if self.go_on_rolling() {
            next[1] = Some(Instant::now());
        }
        if let (Some(due), Some(pause)) = (self.next_watchdog, self.manager.watchdog) {
            let now = Instant::now();
            if due <= now {
                self.manager.say("WATCHDOG=1");
                self.next_watchdog = Some(now + pause);
            }
            next[2] = self.next_watchdog;
        }
        next[3] = self.endpoint.as_ref().and_then(Endpoint::next);
        next[4] = self.drop_orphans();
        next.into_iter().flatten().min()
    }

    /// Takes note when every slot has a copy that serves.
    fn note_up(&mut self) {
        let is_serving = |slot: &Slot| {
            let copy = slot.copy.and_then(|copy| self.copy(copy));
            copy.is_some_and(Copy::is_serving)
        };
        let is_full = self.slots.iter().all(is_serving) && self.slots.len() == self.plan.copies;
        if is_full && !self.is_up && self.ending.is_none() {
            self.is_up = true;
            self.say("up", None, serving(self.slots.len()));
            if let Some(text) = self.prospect() {
                self.say("prospect", None, text.to_owned());
            }
            self.manager
                .say(&format!("READY=1\nMAINPID={}", std::process::id()));
        }
    }

    /// What a restart will do; where something cannot be steered, that has been said.
    fn prospect(&self) -> Option<&'static str> {
        if self.plan.stop_first && self.plan.copies == 1 {
            return Some(
                "a restart stops the only copy before it starts the next one (--stop-first): \
                 nobody serves meanwhile",
            );
        }
        let mut keys = self.copies.iter().flat_map(Copy::keys);
        if keys.any(|key| key.protocol == Protocol::Udp) {
            return Some(
                "datagrams are not steered: a restart loses those that wait in a copy that ends",
            );
        }
        self.groups
            .iter()
            .all(|one| one.is_steered)
            .then_some("a restart steers new connections away from a copy before it ends")
    }

    fn sleep(&mut self, next: Option<Instant>) {
        let left = next.map(|next| {
            let left = next.saturating_duration_since(Instant::now());
            // Not a moment too early: there would be nothing to do.
            left + Duration::from_micros(100)
        });
        let limit = left.map(|left| Timespec::try_from(left).unwrap_or(Timespec::default()));
        let mut fds: Vec<BorrowedFd<'_>> = self.signals.fds().chain(self.control.fds()).collect();
        for copy in &self.copies {
            fds.push(copy.control());
            fds.push(copy.door.fd());
            fds.extend(copy.notify.as_ref().map(std::os::fd::AsFd::as_fd));
        }
        let terminal = self.terminal.fd().map(|fd| (fd, PollFlags::empty()));
        let more = self.endpoint.iter().flat_map(Endpoint::fds);
        let more: Vec<_> = more.chain(terminal).collect();
        let mut fds: Vec<PollFd<'_>> = fds
            .iter()
            .map(|fd| PollFd::new(fd, PollFlags::IN))
            .chain(more.iter().map(|(fd, flags)| PollFd::new(fd, *flags)))
            .collect();
        match poll(&mut fds, limit.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            // Out of memory: not in a hurry.
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }

    fn take_all(&mut self) {
        self.terminal.look();
        // Sockets first: a copy that has ended may have handed some.
        let all: Vec<u64> = self.copies.iter().map(|copy| copy.generation).collect();
        for generation in all {
            self.take_sockets(generation);
            let Some(copy) = self.copy_mut(generation) else {
                continue;
            };
            copy.has_notified |= copy.notify.as_ref().is_some_and(notify::says_ready);
            let words: Vec<Word> = copy.words();
            for word in words {
                self.hear(generation, word);
            }
        }
        for request in self.signals.take() {
            match request {
                signals::Request::Reap => reap(),
                signals::Request::Stop if self.ending.is_some() => self.kill_all(),
                signals::Request::Stop => self.end(0),
                signals::Request::Restart => self.obey_hup(),
                signals::Request::State => {
                    let text = self.summary();
                    self.say("state", None, text);
                }
            }
        }
        for (client, request) in self.control.take() {
            self.obey(client, request);
        }
        self.control.tidy();
        if let Some(mut endpoint) = self.endpoint.take() {
            endpoint.serve(|| self.metrics());
            self.endpoint = Some(endpoint);
        }
    }

    /// Takes the sockets that a copy has handed to us.
    pub(super) fn take_sockets(&mut self, generation: u64) {
        // The rest at the next turn: a resolver may bring them without end.
        for _ in 0..AT_ONCE {
            let Some(copy) = self.copy_mut(generation) else {
                return;
            };
            let Some(handed) = copy.door.take(copy.keeper) else {
                return;
            };
            self.take_handed(generation, handed);
        }
    }

    fn obey_hup(&mut self) {
        match self.terminal.hup() {
            Hup::Restart => self.begin_roll_or_later(),
            Hup::Closed if self.ending.is_some() => {}
            Hup::Closed => {
                self.say("closed", None, "its terminal was closed".into());
                self.end(0);
            }
            Hup::Ignored => {
                let text = "its terminal was closed, and it goes on as with nohup";
                self.say("closed", None, text.into());
            }
        }
    }

    fn obey(&mut self, client: usize, request: Request) {
        match request {
            Request::Status => {
                let state = self.state();
                self.control.answer_state(client, &state);
            }
            Request::Restart => match self.begin_roll() {
                Ok(()) => self.control.wait(client, Wanted::Restart),
                Err(why) => self
                    .control
                    .answer(client, 1, &format!("no restart: {why}")),
            },
            Request::Stop => {
                self.control.wait(client, Wanted::Stop);
                if self.ending.is_none() {
                    self.end(0);
                }
            }
            Request::Scale(count) => match self.begin_scaling(count) {
                Ok(()) => self.control.wait(client, Wanted::Scale),
                Err(why) => self.control.answer(client, 1, &format!("no change: {why}")),
            },
        }
    }

    /// Begins to end: all copies but one finish what they have while that one gets
    /// what comes, and then it goes too.
    fn end(&mut self, status: u8) {
        self.say("stopping", None, "ends its copies".to_owned());
        self.manager.say("STOPPING=1");
        self.ending = Some(Ending { status });
        self.abandon_roll();
        self.abandon_scaling();
        for slot in &mut self.slots {
            slot.start_at = None;
        }
        let limit = self.plan.drain_timeout;
        let mut all: Vec<(bool, u64)> = self
            .copies
            .iter()
            .map(|copy| (!copy.is_serving(), copy.generation))
            .collect();
        all.sort_unstable();
        for (_, generation) in all.into_iter().skip(1) {
            self.retire(generation, limit);
        }
    }

    fn end_last(&mut self) {
        if let [copy] = &self.copies[..] {
            let generation = copy.generation;
            let limit = LAST.min(self.plan.drain_timeout);
            self.retire(generation, limit);
        }
    }

    /// Ends with `status`, since it cannot go on.
    pub(super) fn give_up(&mut self, status: u8, why: &str) {
        self.say("gave-up", None, format!("gives up: {why}"));
        self.end(status);
    }

    fn kill_all(&mut self) {
        self.say("killing", None, "kills its copies".to_owned());
        for copy in &mut self.copies {
            copy.kill();
        }
    }

    /// The processes of our own.
    pub(super) fn keepers(&self) -> Vec<u32> {
        self.copies.iter().map(|copy| copy.keeper).collect()
    }
}

/// That so many copies serve.
pub(super) fn serving(count: usize) -> String {
    format!(
        "{} {}",
        copies(count),
        if count == 1 { "serves" } else { "serve" }
    )
}

/// Collects processes that have ended. As process 1 of a container, those of others
/// come to us as well.
fn reap() {
    while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
}

/// Kills the processes that have come to us because their keeper was killed: all
/// below us but `keepers` and what is below those.
pub(super) fn kill_strays(keepers: &[u32]) {
    let own = std::process::id();
    // As process 1, what others have left behind is not ours to kill.
    if own == 1 {
        return;
    }
    let proc = Path::new("/proc");
    for _ in 0..100 {
        let all = process::below(proc, own).unwrap_or_default();
        let is_stray = |one: &&process::Stat| one.parent == own && !keepers.contains(&one.pid);
        let strays: Vec<u32> = all.iter().filter(is_stray).map(|one| one.pid).collect();
        if strays.is_empty() {
            return;
        }
        for stray in strays {
            let below = process::below(proc, stray).unwrap_or_default();
            for pid in below.iter().map(|one| one.pid).chain([stray]) {
                let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
                let _ = pid.map(|pid| kill_process(pid, Signal::KILL));
            }
        }
        reap();
        std::thread::sleep(Duration::from_millis(5));
    }
}
