//! `reuseport status`: who shares what.

use std::collections::HashMap;
use std::fmt::Write;

use clap::Args;
use serde_json::{Value, json};

use super::report::escaped;
use super::{answer, complain, status};
use crate::runner::{self, Request};
use crate::sockets::{self, Group, Member};

/// Say who shares which address and port
///
/// Lists the groups of this network namespace: sockets of one address and port
/// among which the kernel spreads what comes, with their queues and drops, and the
/// copies of runners of this user. Sockets that share with nobody are listed where
/// their port is named, or where they are a runner's.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// Only this port, or only what this runner's copies have
    #[arg(value_name = "PORT|NAME")]
    wanted: Option<String>,
    /// Write JSON, an array of groups
    #[arg(long)]
    json: bool,
}

/// What a runner says of a socket.
struct Copy {
    runner: String,
    slot: Value,
    generation: Value,
    state: String,
}

pub(super) fn run(arguments: &Arguments) -> u8 {
    let port: Option<u16> = arguments.wanted.as_ref().and_then(|text| text.parse().ok());
    let name = arguments.wanted.as_deref().filter(|_| port.is_none());
    let copies = match copies(name) {
        Ok(copies) => copies,
        Err(why) => return complain(&why, status::FAULT),
    };
    // They hold what their copies have.
    let runners: Vec<u32> = runner::runners().iter().map(|one| one.pid).collect();
    let groups = match sockets::groups("/proc".as_ref(), &runners) {
        Ok(groups) => groups,
        Err(error) => return complain(&format_args!("sock_diag: {error}"), status::FAULT),
    };
    let is_wanted = |group: &Group| {
        let is_own = group
            .members
            .iter()
            .any(|one| copies.contains_key(&one.inode));
        match (port, name) {
            (Some(port), _) => group.address.port() == port,
            (None, Some(_)) => is_own,
            (None, None) => is_own || group.members.len() > 1,
        }
    };
    let groups: Vec<Group> = groups.into_iter().filter(is_wanted).collect();
    if arguments.json {
        let all: Value = groups.iter().map(|group| object(group, &copies)).collect();
        return answer(format!("{all:#}\n").as_bytes());
    }
    let mut text = String::new();
    for group in &groups {
        write(&mut text, group, &copies);
    }
    if groups.is_empty() {
        text.push_str(match port {
            Some(_) => "nobody listens there\n",
            None => "no groups\n",
        });
    }
    answer(text.as_bytes())
}

/// The sockets of the copies of all runners, or of the one called `name`, by inode.
fn copies(name: Option<&str>) -> Result<HashMap<u64, Copy>, String> {
    let runners = match name {
        Some(name) => vec![runner::find(Some(name))?],
        None => runner::runners(),
    };
    let mut found = HashMap::new();
    for runner in runners {
        let name = runner.name.clone();
        // One that ends meanwhile has no copies.
        let Ok(reply) = runner::ask(runner, Request::Status) else {
            continue;
        };
        for copy in reply.state["copies"].as_array().into_iter().flatten() {
            for inode in copy["inodes"].as_array().into_iter().flatten() {
                let copy = Copy {
                    runner: name.clone(),
                    slot: copy["slot"].clone(),
                    generation: copy["generation"].clone(),
                    state: copy["state"].as_str().unwrap_or_default().to_owned(),
                };
                found.extend(inode.as_u64().map(|inode| (inode, copy)));
            }
        }
    }
    Ok(found)
}

/// What is odd about the group beyond what its sockets show: members that are not
/// of the runner whose group it is.
fn strangers<'a>(group: &'a Group, copies: &HashMap<u64, Copy>) -> Vec<&'a Member> {
    let (own, others): (Vec<_>, Vec<_>) = group
        .members
        .iter()
        .partition(|one| copies.contains_key(&one.inode));
    if own.is_empty() { own } else { others }
}

fn write(text: &mut String, group: &Group, copies: &HashMap<u64, Copy>) {
    let count = group.members.len();
    let _ = writeln!(
        text,
        "{} {}: {count} {}, user {}",
        group.protocol,
        group.address,
        if count == 1 { "socket" } else { "sockets" },
        group.user
    );
    for member in &group.members {
        let _ = write!(text, "  ");
        if let Some(copy) = copies.get(&member.inode) {
            let _ = write!(text, "{} slot {} {}, ", copy.runner, copy.slot, copy.state);
        }
        let command = escaped(member.command.as_deref().unwrap_or("?"));
        let processes: Vec<String> = member.processes.iter().map(u32::to_string).collect();
        let _ = write!(text, "{command} {}", processes.join(" "));
        if let Some(count) = member.established {
            let _ = write!(text, ", {count} connections");
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
        text.push('\n');
    }
    for stranger in strangers(group, copies) {
        let _ = writeln!(
            text,
            "  warning: the socket {} is not a copy's",
            stranger.inode
        );
    }
    for warning in &group.warnings {
        let _ = writeln!(text, "  warning: {warning}");
    }
}

fn object(group: &Group, copies: &HashMap<u64, Copy>) -> Value {
    let members = group.members.iter().map(|member| {
        let copy = copies.get(&member.inode);
        json!({
            "inode": member.inode,
            "pids": member.processes,
            "command": member.command,
            "runner": copy.map(|copy| &copy.runner),
            "slot": copy.map(|copy| &copy.slot),
            "generation": copy.map(|copy| &copy.generation),
            "state": copy.map(|copy| &copy.state),
            "established": member.established,
            "queue": member.queue,
            "limit": member.limit,
            "drops": member.drops,
        })
    });
    let mut warnings: Vec<Value> = group
        .warnings
        .iter()
        .map(|one| json!({"code": one.code(), "message": one.to_string()}))
        .collect();
    for stranger in strangers(group, copies) {
        let message = format!("the socket {} is not a copy's", stranger.inode);
        warnings.push(json!({"code": "stranger", "message": message}));
    }
    json!({
        "protocol": group.protocol.to_string(),
        "address": group.address.ip().to_string(),
        "port": group.address.port(),
        "interface": group.interface,
        "user": group.user,
        "members": members.collect::<Value>(),
        "warnings": warnings,
    })
}
