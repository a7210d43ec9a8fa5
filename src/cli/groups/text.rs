//! The groups as lines.

use std::fmt::Write;

use super::look::{Look, Rates, share};
use crate::cli::report::escaped;
use crate::sockets::{Group, Member, Namespace};

/// All groups, each with its members and warnings.
pub(super) fn all(look: &Look, rates: &Rates) -> String {
    let mut text = String::new();
    for space in look.spaces.iter().filter(|one| !one.groups.is_empty()) {
        if let Some(namespace) = &space.namespace {
            let _ = writeln!(text, "network namespace {}:", name(namespace));
        }
        for group in &space.groups {
            let _ = writeln!(text, "{}", heading(group));
            for member in &group.members {
                let _ = writeln!(text, "  {}", line(look, rates, group, member));
            }
            for warning in &group.warnings {
                let _ = writeln!(text, "  warning: {}", escaped(&warning.to_string()));
            }
        }
    }
    if text.is_empty() {
        text.push_str(match look.port {
            Some(_) => "nobody listens there\n",
            None => "no groups\n",
        });
    }
    text
}

pub(super) fn name(namespace: &Namespace) -> String {
    match &namespace.name {
        Some(name) => format!("{} ({})", escaped(name), namespace.id),
        None => namespace.id.to_string(),
    }
}

pub(super) fn heading(group: &Group) -> String {
    let count = group.members.len();
    format!(
        "{} {}: {count} {}, user {}",
        group.protocol,
        group.address,
        if count == 1 { "socket" } else { "sockets" },
        group.user
    )
}

pub(super) fn connections(count: usize) -> String {
    match count {
        1 => "1 connection".to_owned(),
        _ => format!("{count} connections"),
    }
}

/// Who `member` is: its copy, if it is one, its command and its processes.
pub(super) fn who(look: &Look, member: &Member) -> String {
    let mut text = String::new();
    if let Some(copy) = look.copies.get(&member.inode) {
        let _ = write!(text, "{} slot {} {}, ", copy.runner, copy.slot, copy.state);
    }
    let command = escaped(member.command.as_deref().unwrap_or("?"));
    let processes: Vec<String> = member.processes.iter().map(u32::to_string).collect();
    let _ = write!(text, "{command} {}", processes.join(" "));
    text
}

fn line(look: &Look, rates: &Rates, group: &Group, member: &Member) -> String {
    let mut text = who(look, member);
    if let Some(count) = member.established {
        let _ = write!(text, ", {}", connections(count));
    }
    if let Some(share) = share(group, member) {
        let _ = write!(text, " ({:.0} %)", share * 100.0);
    }
    if let Some(rate) = rates.get(&member.inode) {
        let _ = write!(text, ", {rate:.1} accepted a second");
    }
    match member.limit {
        Some(limit) => {
            let _ = write!(text, ", queue {}/{limit}", member.queue);
        }
        None => {
            let _ = write!(text, ", queue {} bytes", member.queue);
        }
    }
    let drops = member.drops.unwrap_or(0);
    if drops > 0 {
        let _ = write!(text, ", {drops} dropped");
    }
    text
}
