//! The processes of a trial, as this program is started for them.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, set_parent_process_death_signal};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Outcome, Plan, Refusal, STAGE_NAME, conduct, copy, isolation, netlink, stage};

/// What the first process of the new namespaces is to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) plan: Plan,
    /// The machine's addresses.
    pub(super) addresses: Vec<IpAddr>,
    /// The machine's settings that decide which binds succeed: file and value.
    pub(super) settings: Vec<(PathBuf, String)>,
    /// Whether a user namespace had to be made.
    pub(super) is_user: bool,
}

/// Does what a process of a trial is to do, and gives its exit status; `None`
/// where `arguments` are not those of such a process.
pub fn enter(arguments: &[OsString]) -> Option<u8> {
    let [name, step] = arguments else {
        return None;
    };
    if name != STAGE_NAME {
        return None;
    }
    let outcome = match step.to_str() {
        Some("leave") => order().and_then(leave),
        Some("conduct") => order().and_then(|order| {
            follow_parent()?;
            conduct::conduct(&order).map(Some)
        }),
        Some("copy") => return Some(copy::keep(io::stdin())),
        _ => return None,
    };
    Some(match outcome.transpose().map(|outcome| say(&outcome)) {
        None | Some(Ok(())) => 0,
        Some(Err(_)) => 1,
    })
}

fn order<T: DeserializeOwned>() -> Result<T, Refusal> {
    serde_json::from_reader(io::stdin()).map_err(|error| Refusal::new("the trial's order", &error))
}

/// Leaves the caller's namespaces and starts the process that conducts the
/// trial, which says its outcome itself.
fn leave(plan: Plan) -> Result<Option<super::Report>, Refusal> {
    follow_parent()?;
    let failed = |error: io::Error| Refusal::new("the trial could not be started", &error);
    let addresses = netlink::addresses().map_err(failed)?;
    let settings = settings();
    let is_user = isolation::leave()?;
    // Becoming another in a user namespace makes the kernel forget this.
    follow_parent()?;
    let order = Order {
        plan,
        addresses,
        settings,
        is_user,
    };
    let mut child = stage("conduct", &order)
        .and_then(|mut command| command.spawn())
        .map_err(failed)?;
    child.wait().map_err(failed)?;
    Ok(None)
}

/// The settings of this network namespace that decide which binds succeed, which a
/// new one does not take over.
fn settings() -> Vec<(PathBuf, String)> {
    const NAMES: [&str; 4] = [
        "ipv4/ip_unprivileged_port_start",
        "ipv4/ip_nonlocal_bind",
        "ipv6/ip_nonlocal_bind",
        "ipv6/bindv6only",
    ];
    let paths = NAMES.map(|name| Path::new("/proc/sys/net").join(name));
    // Where one is missing, the kernel is older, or has no IPv6.
    let read = |path: PathBuf| Some((path.clone(), fs::read_to_string(path).ok()?));
    paths.into_iter().filter_map(read).collect()
}

/// Ends this process when its parent ends, however that comes about.
fn follow_parent() -> Result<(), Refusal> {
    let failed = |error| Refusal::new("the trial could not be started", &io::Error::from(error));
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(failed)?;
    // The parent may have ended before that: the pipe says so.
    let stdout = io::stdout();
    let mut pipe = [PollFd::new(&stdout, PollFlags::OUT)];
    poll(&mut pipe, Some(&Timespec::default())).map_err(failed)?;
    if pipe[0].revents().contains(PollFlags::ERR) {
        return Err(Refusal::new("the trial was given up", &"its caller ended"));
    }
    Ok(())
}

fn say(outcome: &Outcome) -> io::Result<()> {
    let text = serde_json::to_vec(outcome)?;
    let mut stdout = io::stdout().lock();
    stdout.write_all(&text)?;
    stdout.flush()
}
