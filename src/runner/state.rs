//! What a runner says of itself.

use serde_json::{Value, json};

use super::supervisor::Supervisor;

impl Supervisor<'_> {
    /// The object of `reuseport status NAME --json`.
    pub(super) fn state(&self) -> Value {
        let mut copies: Vec<_> = self.copies.iter().collect();
        copies.sort_by_key(|copy| (copy.slot, copy.generation));
        let copies = copies.iter().map(|copy| {
            let sockets = copy
                .inodes()
                .map(|inode| json!({"inode": inode, "accepted": copy.accepted(inode)}));
            json!({
                "slot": copy.slot,
                "generation": copy.generation,
                "pid": copy.server,
                "keeper": copy.keeper,
                "state": copy.phase.name(),
                "uptime": copy.started.elapsed().as_secs_f64(),
                "sockets": sockets.collect::<Value>(),
            })
        });
        let groups = self.groups.iter().map(|group| {
            json!({
                "address": group.key.address.to_string(),
                "steered": group.is_steered,
            })
        });
        let restarts: u64 = self.slots.iter().map(|slot| slot.restarts).sum();
        json!({
            "name": self.plan.name,
            "pid": std::process::id(),
            "slots": self.slots.len(),
            "restarting": self.roll.is_some(),
            "failures": restarts,
            "orphaned": {"held": self.orphans.len(), "given": self.counts.given, "lost": self.counts.lost},
            "copies": copies.collect::<Value>(),
            "groups": groups.collect::<Value>(),
        })
    }

    /// The same in a few words, for a log.
    pub(super) fn summary(&self) -> String {
        let mut copies: Vec<_> = self.copies.iter().collect();
        copies.sort_by_key(|copy| (copy.slot, copy.generation));
        let copies = copies.iter().map(|copy| {
            let pid = copy.server.map_or("-".to_owned(), |pid| pid.to_string());
            format!("{} {} {pid}", copy.slot, copy.phase.name())
        });
        let copies: Vec<String> = copies.collect();
        let slots = match self.slots.len() {
            1 => "1 slot".to_owned(),
            count => format!("{count} slots"),
        };
        format!("{slots}: {}", copies.join(", "))
    }
}
