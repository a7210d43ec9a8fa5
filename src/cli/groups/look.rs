//! One look at the groups, with what runners say of their copies.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::runner::{self, Request};
use crate::sockets::{self, Group, Member, Namespace, View, Warning};

const PROC: &str = "/proc";

/// What is looked at.
pub(super) struct Subject {
    pub(super) port: Option<u16>,
    name: Option<String>,
    all_namespaces: bool,
}

/// What a runner says of a socket.
#[derive(Clone, Debug)]
pub(super) struct Copy {
    pub(super) runner: String,
    pub(super) slot: Value,
    pub(super) generation: Value,
    pub(super) state: String,
    /// How many connections its process has accepted from it.
    pub(super) accepted: Option<u64>,
    /// For how long the copy has been there.
    age: Duration,
}

/// The groups of one network namespace; that of this process has no name here.
pub(super) struct Space {
    pub(super) namespace: Option<Namespace>,
    pub(super) groups: Vec<Group>,
}

pub(super) struct Look {
    at: Instant,
    pub(super) port: Option<u16>,
    pub(super) spaces: Vec<Space>,
    pub(super) copies: HashMap<u64, Copy>,
    /// Why some namespaces were not seen.
    pub(super) unseen: Vec<String>,
}

/// The connections that each socket, by inode, gives a second.
pub(super) type Rates = HashMap<u64, f64>;

impl Subject {
    pub(super) fn new(wanted: Option<&str>, all_namespaces: bool) -> Self {
        let port = wanted.and_then(|text| text.parse().ok());
        Self {
            port,
            name: wanted.filter(|_| port.is_none()).map(str::to_owned),
            all_namespaces,
        }
    }
}

impl Look {
    /// # Errors
    /// There is no such runner, or the kernel does not say.
    pub(super) fn at(subject: &Subject) -> Result<Self, String> {
        let name = subject.name.as_deref();
        let copies = copies(name)?;
        // They hold what their copies have.
        let own = runner::runners();
        let mut runners: Vec<u32> = own.iter().filter_map(|one| one.pid).collect();
        runners.extend(runner::processes());
        let is_wanted = |group: &Group| {
            let mut members = group.members.iter();
            let is_own = members.any(|one| copies.contains_key(&one.inode));
            match (subject.port, name) {
                (Some(port), _) => group.address.port() == port,
                (None, Some(_)) => is_own,
                (None, None) => is_own || group.members.len() > 1,
            }
        };
        let view = View {
            proc: Path::new(PROC),
            left_out: &runners,
            wanted: &is_wanted,
        };
        let mut spaces = Vec::new();
        let mut unseen = Vec::new();
        let own = sockets::groups(view, None).map_err(|error| format!("sock_diag: {error}"))?;
        spaces.push(Space {
            namespace: None,
            groups: own,
        });
        if subject.all_namespaces {
            let here = Namespace::own(Path::new(PROC)).map_err(|error| error.to_string())?;
            for one in sockets::namespaces(Path::new(PROC)) {
                if one.id == here.id {
                    continue;
                }
                match sockets::groups(view, Some(&one)) {
                    Ok(groups) => spaces.push(Space {
                        namespace: Some(one),
                        groups,
                    }),
                    Err(error) => unseen.push(format!("network namespace {}: {error}", one.id)),
                }
            }
        }
        for group in spaces.iter_mut().flat_map(|space| &mut space.groups) {
            adapt(group, &copies);
        }
        Ok(Self {
            at: Instant::now(),
            port: subject.port,
            spaces,
            copies,
            unseen,
        })
    }

    #[cfg(test)]
    pub(super) fn of(groups: Vec<Group>) -> Self {
        Self {
            at: Instant::now(),
            port: None,
            spaces: vec![Space {
                namespace: None,
                groups,
            }],
            copies: HashMap::new(),
            unseen: Vec::new(),
        }
    }

    /// The rates since `before`; without it, on average since each copy began.
    pub(super) fn rates(&self, before: Option<&Self>) -> Rates {
        let rate = |(inode, copy): (&u64, &Copy)| {
            let now = copy.accepted?;
            let earlier = before.and_then(|look| Some((look.copies.get(inode)?, look.at)));
            let (count, time) = match earlier {
                Some((old, at)) => (
                    now.saturating_sub(old.accepted?),
                    self.at.saturating_duration_since(at),
                ),
                None => (now, copy.age),
            };
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            Some((*inode, f64::from(count) / time.as_secs_f64().max(0.001)))
        };
        self.copies.iter().filter_map(rate).collect()
    }
}

/// The part of the group's connections that `member` has, from 0 to 1.
pub(super) fn share(group: &Group, member: &Member) -> Option<f64> {
    let count = |one: &Member| Some(f64::from(u32::try_from(one.established?).ok()?));
    let sum: f64 = group.members.iter().filter_map(count).sum();
    (sum > 0.0).then_some(count(member)? / sum)
}

/// Adds what only a runner knows to the warnings, and takes away what it means.
fn adapt(group: &mut Group, copies: &HashMap<u64, Copy>) {
    let is_copy = |one: &Member| copies.contains_key(&one.inode);
    if !group.members.iter().any(is_copy) {
        return;
    }
    // By slot; those of others come last.
    group.members.sort_by_key(|one| {
        let copy = copies.get(&one.inode);
        copy.map_or((u64::MAX, u64::MAX), |copy| {
            let number = |value: &Value| value.as_u64().unwrap_or(u64::MAX);
            (number(&copy.slot), number(&copy.generation))
        })
    });
    // A runner with one copy.
    group.warnings.retain(|one| *one != Warning::Alone);
    // A copy that drains is not to have its share.
    let is_serving = |one: &Member| {
        let copy = copies.get(&one.inode);
        copy.is_none_or(|copy| copy.state == "serving")
    };
    if !group.members.iter().all(is_serving) {
        group.warnings.retain(|one| *one != Warning::Skew);
    }
    let strangers = group.members.iter().filter(|one| !is_copy(one));
    let strangers: Vec<Warning> = strangers.map(|one| Warning::Stranger(one.inode)).collect();
    group.warnings.extend(strangers);
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
            for socket in copy["sockets"].as_array().into_iter().flatten() {
                let copy = Copy {
                    runner: name.clone(),
                    slot: copy["slot"].clone(),
                    generation: copy["generation"].clone(),
                    state: copy["state"].as_str().unwrap_or_default().to_owned(),
                    accepted: socket["accepted"].as_u64(),
                    age: Duration::try_from_secs_f64(copy["uptime"].as_f64().unwrap_or(0.0))
                        .unwrap_or_default(),
                };
                found.extend(socket["inode"].as_u64().map(|inode| (inode, copy)));
            }
        }
    }
    Ok(found)
}
