//! What a runner counts, in the OpenMetrics text format.

use std::borrow::Cow;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::copy::Phase;
use super::supervisor::Supervisor;
use crate::process::Protocol;
use crate::sockets;

/// What has happened since the runner began.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    /// Rolling restarts that replaced all copies, and others.
    pub(super) restarts_done: u64,
    pub(super) restarts_failed: u64,
    /// Copies that have ended of themselves.
    pub(super) failures: u64,
    /// Connections that waited in the queue of a copy that died, and were given to
    /// another one, or lost.
    pub(super) given: u64,
    pub(super) lost: u64,
    /// Connections that were left when a copy was told to end.
    pub(super) late: u64,
}

type Labels = Vec<(&'static str, String)>;
type Gauges = Family<Labels, Gauge>;
type Counters = Family<Labels, Counter>;

impl Supervisor<'_> {
    /// All metrics, as of now.
    pub(super) fn metrics(&self) -> String {
        let name = (Cow::Borrowed("runner"), Cow::Owned(self.plan.name.clone()));
        let mut registry = Registry::with_prefix_and_labels("reuseport", [name].into_iter());
        self.count_copies(&mut registry);
        self.count_sockets(&mut registry);
        self.count_events(&mut registry);
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &registry);
        text
    }

    fn count_copies(&self, registry: &mut Registry) {
        let copies = Gauges::default();
        for state in Phase::NAMES {
            let count = self.copies.iter().filter(|one| one.phase.name() == state);
            let labels = vec![("state", state.to_owned())];
            copies.get_or_create(&labels).set(number(count.count()));
        }
        registry.register("copies", "Copies by what they are about", copies);
        let slots = Gauge::<i64>::default();
        slots.set(number(self.slots.len()));
        registry.register("slots", "Copies that there are to be", slots);
        let is_restarting = Gauge::<i64>::default();
        is_restarting.set(self.roll.is_some().into());
        let help = "Whether a rolling restart is under way";
        registry.register("restarting", help, is_restarting);
        let age = Gauges::default();
        for copy in &self.copies {
            let seconds = copy.started.elapsed().as_secs();
            age.get_or_create(&labels(copy, None))
                .set(i64::try_from(seconds).unwrap_or(i64::MAX));
        }
        registry.register("copy_age_seconds", "Since the copy was started", age);
        let steered = Gauges::default();
        for group in &self.groups {
            let labels = vec![("address", group.key.address.to_string())];
            steered.get_or_create(&labels).set(group.is_steered.into());
        }
        let help = "Whether new connections go where the runner wants";
        registry.register("steered", help, steered);
    }

    fn count_sockets(&self, registry: &mut Registry) {
        let (queue, limit) = (Gauges::default(), Gauges::default());
        let (drops, accepts) = (Counters::default(), Counters::default());
        let all = sockets::listeners(Protocol::Tcp).unwrap_or_default();
        for copy in &self.copies {
            for held in &copy.held {
                let Some(one) = all.iter().find(|one| one.inode == held.inode) else {
                    continue;
                };
                let labels = labels(copy, Some(held.key.address));
                queue.get_or_create(&labels).set(one.queue.into());
                limit.get_or_create(&labels).set(one.limit.into());
                if let Some(count) = held.accepted() {
                    accepts.get_or_create(&labels).inc_by(count);
                }
                if let Some(count) = one.drops {
                    drops.get_or_create(&labels).inc_by(count.into());
                }
            }
        }
        let help = "Connections that wait to be accepted";
        registry.register("accept_queue", help, queue);
        registry.register("accept_queue_limit", "The most that may wait", limit);
        registry.register("accepts", "Connections that were accepted", accepts);
        let help = "What the kernel has dropped at the copy's sockets";
        registry.register("socket_drops", help, drops);
    }

    fn count_events(&self, registry: &mut Registry) {
        let counts = self.counts;
        let restarts = Counters::default();
        for (outcome, count) in [
            ("done", counts.restarts_done),
            ("failed", counts.restarts_failed),
        ] {
            let labels = vec![("outcome", outcome.to_owned())];
            restarts.get_or_create(&labels).inc_by(count);
        }
        registry.register("rolling_restarts", "Rolling restarts", restarts);
        let waiting = Counters::default();
        for (outcome, count) in [("given", counts.given), ("lost", counts.lost)] {
            let labels = vec![("outcome", outcome.to_owned())];
            waiting.get_or_create(&labels).inc_by(count);
        }
        let help = "Connections in the queues of copies that died: given to others, or lost";
        registry.register("orphaned_connections", help, waiting);
        for (name, help, count) in [
            ("copy_starts", "Copies that were started", self.generation),
            (
                "copy_failures",
                "Copies that ended of themselves",
                counts.failures,
            ),
            (
                "undrained_connections",
                "Connections left after --drain-timeout",
                counts.late,
            ),
        ] {
            let counter = Counter::<u64>::default();
            counter.inc_by(count);
            registry.register(name, help, counter);
        }
    }
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn labels(copy: &super::copy::Copy, address: Option<std::net::SocketAddr>) -> Labels {
    let mut labels = vec![
        ("slot", copy.slot.to_string()),
        ("generation", copy.generation.to_string()),
    ];
    labels.extend(address.map(|address| ("address", address.to_string())));
    labels
}
