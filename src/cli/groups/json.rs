//! The groups as JSON.

use serde_json::{Value, json};

use super::look::{Look, Rates, Space, share};
use crate::sockets::Group;

/// An array of all groups.
pub(super) fn all(look: &Look, rates: &Rates) -> Value {
    let groups = look
        .spaces
        .iter()
        .flat_map(|space| space.groups.iter().map(move |group| (space, group)));
    groups
        .map(|(space, group)| object(look, space, group, rates))
        .collect()
}

fn object(look: &Look, space: &Space, group: &Group, rates: &Rates) -> Value {
    let members = group.members.iter().map(|member| {
        let copy = look.copies.get(&member.inode);
        json!({
            "inode": member.inode,
            "pids": member.processes,
            "command": member.command,
            "runner": copy.map(|copy| &copy.runner),
            "slot": copy.map(|copy| &copy.slot),
            "generation": copy.map(|copy| &copy.generation),
            "state": copy.map(|copy| &copy.state),
            "established": member.established,
            "share": share(group, member),
            "accepted": copy.and_then(|copy| copy.accepted),
            "accept_rate": rates.get(&member.inode),
            "queue": member.queue,
            "limit": member.limit,
            "drops": member.drops,
        })
    });
    let warnings = group
        .warnings
        .iter()
        .map(|one| json!({"code": one.code(), "message": one.to_string()}));
    let namespace = space
        .namespace
        .as_ref()
        .map(|one| json!({"id": one.id, "name": one.name}));
    json!({
        "namespace": namespace,
        "protocol": group.protocol.to_string(),
        "address": group.address.ip().to_string(),
        "port": group.address.port(),
        "interface": group.interface,
        "user": group.user,
        "members": members.collect::<Value>(),
        "warnings": warnings.collect::<Value>(),
    })
}
