//! The trial itself, as the first process of its namespaces conducts it.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::ops::RangeInclusive;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

use super::copy::{self, Running};
use super::stage::Order;
use super::{
    Copy, Outcome, Refusal, Report, ShimSource, Socket, State, files, netlink, traffic, watch,
};
use crate::environment::{self, Environment};
use crate::preload::{self, LD_PRELOAD};
use crate::rules::{Assignments, Variable};
use crate::shim;

/// How often the copies are looked at.
const PAUSE: Duration = Duration::from_millis(20);

/// For how long nothing new may be bound until a copy counts as started.
const SETTLED: Duration = Duration::from_millis(250);

/// For how long the first copy is watched after the traffic: servers may bind one
/// address long after another.
const LATE: Duration = Duration::from_secs(1);

/// For how long the second copy is watched when it is known that it cannot get
/// what it wants.
const HOPELESS: Duration = Duration::from_millis(1500);

/// How long the traffic may take.
const TRAFFIC: Duration = Duration::from_secs(15);

/// How long copies that run on the machine's own files have for ending in order.
const GRACE: Duration = Duration::from_secs(3);

/// The ports that the kernel chooses from in the trial: the fewer, the better are
/// they told from those that a server chooses.
const EPHEMERAL: RangeInclusive<u16> = 61_440..=65_535;

pub(super) fn conduct(order: &Order) -> Outcome {
    let mut report = Report::default();
    let plan = &order.plan;
    let open_files = raise_limit();
    files::make_private()?;
    if plan.is_isolated() {
        report.notes = files::isolate(order.is_user)?;
    } else {
        files::mount_proc()?;
    }
    set_up_network(order, &mut report)?;
    if plan.is_isolated() {
        files::protect_settings()?;
    }
    let shim = match &plan.shim {
        ShimSource::Host(path) => path.clone(),
        ShimSource::Isolated(name) => {
            let architecture = shim::architecture(name);
            let bytes = architecture.and_then(shim::embedded);
            files::put_shim(bytes.map_err(|error| Refusal::new("the shim", &error))?)?
        }
    };

    let inherited: Environment = std::env::vars_os().collect();
    let given = Assignments::from_environment(&plan.environment);
    let assignments = given.or(Assignments::from_environment(&inherited));
    let interface = assignments.get(Variable::Interface).unwrap_or_default();
    if !interface.is_empty() && interface != "lo" {
        report.notes.push(format!(
            "there is no interface {} in the trial, only lo: binds to it fail",
            interface.display()
        ));
    }
    let with_shim_output = assignments
        .get(Variable::Debug)
        .is_some_and(|value| !value.is_empty() && value != "0");
    let list = environment::get(&inherited, LD_PRELOAD);
    let list = preload::merge(list, &plan.first, &shim, shim::is_shim_file);
    let mut environment = plan.environment.clone();
    environment::set(&mut environment, LD_PRELOAD, list);
    environment::set(&mut environment, Variable::Debug.name(), "1".into());

    let trial = Trial {
        copy: copy::Order {
            program: plan.program.clone(),
            arguments: plan.arguments.clone(),
            environment,
            is_user: order.is_user,
            with_shim_output,
            open_files,
        },
        assignments,
        deadline: Instant::now() + plan.timeout,
        is_isolated: plan.is_isolated(),
    };
    trial.run(&mut report)?;
    Ok(report)
}

/// Raises the limit of open files as far as it goes: each mount of the machine takes
/// one for a while, and so does each connection. Gives what it was.
fn raise_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let current = limit.maximum;
    // It stays as it is.
    let _ = setrlimit(Resource::Nofile, Rlimit { current, ..limit });
    limit.current
}

/// Brings lo up, with the machine's addresses on it.
fn set_up_network(order: &Order, report: &mut Report) -> Result<(), Refusal> {
    let failed = |error| {
        Refusal::new("the loopback interface of a new network namespace", &error)
            .hint(super::isolation::hint())
    };
    netlink::raise_loopback().map_err(failed)?;
    for address in &order.addresses {
        if let Err(error) = netlink::add_to_loopback(*address) {
            report.notes.push(format!(
                "the address {address} is not there in the trial: {error}"
            ));
        }
    }
    for (path, value) in &order.settings {
        let _ = fs::write(path, value);
    }
    // Where one of these is missing, the kernel is older than the setting.
    let range = format!("{} {}", EPHEMERAL.start(), EPHEMERAL.end());
    let _ = fs::write("/proc/sys/net/ipv4/ip_local_port_range", range);
    if order.is_user {
        let _ = fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
    }
    Ok(())
}

/// What a socket is known by.
type Key = (String, std::net::SocketAddr);

struct Trial {
    copy: copy::Order,
    assignments: Assignments,
    deadline: Instant,
    is_isolated: bool,
}

impl Trial {
    fn run(&self, report: &mut Report) -> Result<(), Refusal> {
        let mut first = Running::start(&self.copy)?;
        let mut keys = self.await_settled(&mut first)?;
        let mut second = None;
        if !keys.is_empty() && first.exit().is_none() {
            let mut copy = Running::start(&self.copy)?;
            loop {
                self.await_like(&mut copy, &first)?;
                self.compare(&mut first, &mut copy, report)?;
                if !self.has_more(&mut first, &keys)? {
                    break;
                }
                keys = self.await_settled(&mut first)?;
            }
            second = Some(copy);
        } else {
            report.copies = vec![self.describe(&mut first)?];
        }
        if !self.is_isolated {
            end(&mut [Some(first), second])?;
        }
        Ok(())
    }

    /// Describes both copies, with what each gets of the traffic.
    fn compare(
        &self,
        first: &mut Running,
        second: &mut Running,
        report: &mut Report,
    ) -> Result<(), Refusal> {
        let mut copies = vec![self.describe(first)?, self.describe(second)?];
        (report.traffic, report.unreached) = traffic::send(
            [first.keeper(), second.keeper()],
            [&copies[0].sockets, &copies[1].sockets],
            Instant::now() + TRAFFIC,
        )
        .map_err(watching)?;
        // One may have ended by what came.
        for (copy, running) in copies.iter_mut().zip([first, second]) {
            copy.exit = running.exit();
            copy.output = running.output().lines();
        }
        report.copies = copies;
        Ok(())
    }

    /// Whether the copy gets other sockets than `keys` soon, and there is time for
    /// them.
    fn has_more(&self, copy: &mut Running, keys: &BTreeSet<Key>) -> Result<bool, Refusal> {
        let limit = self.deadline.min(Instant::now() + LATE);
        while copy.exit().is_none() && Instant::now() < limit {
            if !self.keys(copy)?.is_subset(keys) {
                return Ok(true);
            }
            sleep(PAUSE);
        }
        Ok(false)
    }

    fn describe(&self, running: &mut Running) -> Result<Copy, Refusal> {
        Ok(Copy {
            exit: running.exit(),
            sockets: watch::sockets(running.keeper(), &self.assignments).map_err(watching)?,
            failures: running.output().failures(),
            output: running.output().lines(),
        })
    }

    /// The sockets of a copy that take what comes to an address, but those whose
    /// port the kernel chose.
    fn keys(&self, copy: &Running) -> Result<BTreeSet<Key>, Refusal> {
        let open = watch::open(copy.keeper()).map_err(watching)?;
        let may_be_chosen = |port| EPHEMERAL.contains(&port);
        let mut keys: BTreeSet<Key> = open
            .iter()
            .map(|one| (one.protocol.to_string(), one.address))
            .collect();
        if keys
            .iter()
            .any(|(_, address)| may_be_chosen(address.port()))
        {
            // A server may listen there as well: its sockets say more of that.
            let sockets = watch::sockets(copy.keeper(), &self.assignments).map_err(watching)?;
            keys.retain(|(protocol, address)| {
                let is_it = |one: &Socket| (&one.protocol, one.address) == (protocol, *address);
                !may_be_chosen(address.port()) || sockets.iter().any(is_it)
            });
        }
        Ok(keys)
    }

    /// Waits until the copy has sockets and makes no new ones, or has ended, or
    /// the time is over. Gives the sockets.
    fn await_settled(&self, copy: &mut Running) -> Result<BTreeSet<Key>, Refusal> {
        let mut known = BTreeSet::new();
        let mut since = Instant::now();
        loop {
            let now = self.keys(copy)?;
            if now != known {
                (known, since) = (now, Instant::now());
            }
            let is_settled = !known.is_empty() && since.elapsed() >= SETTLED;
            if is_settled || copy.exit().is_some() || Instant::now() >= self.deadline {
                return Ok(known);
            }
            sleep(PAUSE);
        }
    }

    /// Waits until `copy` has the sockets that `other` has, has ended, or the
    /// time is over; not for what cannot be.
    fn await_like(&self, copy: &mut Running, other: &Running) -> Result<(), Refusal> {
        let started = Instant::now();
        let sockets = watch::sockets(other.keeper(), &self.assignments).map_err(watching)?;
        let is_hopeless = |state| matches!(state, State::Bypassed | State::OutsideRules);
        let is_hopeless = sockets.iter().any(|one| is_hopeless(one.state));
        let deadline = if is_hopeless {
            self.deadline.min(started + HOPELESS)
        } else {
            self.deadline
        };
        loop {
            let wanted = self.keys(other)?;
            let has_all = self.keys(copy)?.is_superset(&wanted);
            if has_all || copy.exit().is_some() || Instant::now() >= deadline {
                return Ok(());
            }
            sleep(PAUSE);
        }
    }
}

fn watching(error: impl fmt::Display) -> Refusal {
    Refusal::new("the copies could not be watched", &error)
}

/// Ends the copies in order, so that they remove what they have put on the
/// machine.
fn end(copies: &mut [Option<Running>]) -> Result<(), Refusal> {
    for copy in copies.iter().flatten() {
        for pid in watch::processes(copy.keeper()).map_err(watching)? {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
        }
    }
    let limit = Instant::now() + GRACE;
    while Instant::now() < limit && copies.iter_mut().flatten().any(|one| one.exit().is_none()) {
        sleep(PAUSE);
    }
    Ok(())
}
