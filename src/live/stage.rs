//! The processes of a trial, as this program is started for them.

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::IpAddr;
use std::process::Stdio;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};

use super::{Outcome, Plan, Refusal, STAGE_NAME, conduct, copy, isolation, netlink, stage};

/// What the first process of the new namespaces is to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) plan: Plan,
    /// The machine's addresses.
    pub(super) addresses: Vec<IpAddr>,
    /// Whether a user namespace had to be made.
    pub(super) is_user: bool,
}

/// Does what a process of a trial is to do, and gives its exit status; `None`
/// where `arguments` are not those of such a process.
pub fn enter(arguments: &[OsString]) -> Option<u8> {
    let [name, step, order] = arguments else {
        return None;
    };
    if name != STAGE_NAME {
        return None;
    }
    let order = order.to_string_lossy();
    let refused = |error: serde_json::Error| Refusal::new("the trial's order", &error);
    let outcome = match step.to_str() {
        Some("leave") => serde_json::from_str(&order)
            .map_err(refused)
            .and_then(leave),
        Some("conduct") => serde_json::from_str(&order)
            .map_err(refused)
            .and_then(|order| {
                Ok(Some(
                    follow_parent().and_then(|()| conduct::conduct(&order))?,
                ))
            }),
        Some("copy") => return Some(copy::keep(&order)),
        _ => return None,
    };
    Some(match outcome.transpose().map(|outcome| say(&outcome)) {
        None | Some(Ok(())) => 0,
        Some(Err(_)) => 1,
    })
}

/// Leaves the caller's namespaces and starts the process that conducts the
/// trial, which says its outcome itself.
fn leave(plan: Plan) -> Result<Option<super::Report>, Refusal> {
    follow_parent()?;
    let failed = |error: io::Error| Refusal::new("the trial could not be started", &error);
    let addresses = netlink::addresses().map_err(failed)?;
    let is_user = isolation::leave()?;
    // Becoming another in a user namespace makes the kernel forget this.
    follow_parent()?;
    let order = Order {
        plan,
        addresses,
        is_user,
    };
    let text = serde_json::to_string(&order).map_err(|error| failed(error.into()))?;
    let mut child = stage("conduct", &text)
        .stdin(Stdio::inherit())
        .spawn()
        .map_err(failed)?;
    child.wait().map_err(failed)?;
    Ok(None)
}

/// Ends this process when its parent ends, however that comes about.
fn follow_parent() -> Result<(), Refusal> {
    let failed = |error| Refusal::new("the trial could not be started", &io::Error::from(error));
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(failed)?;
    // The parent may have ended before that: the pipe says so.
    let stdin = io::stdin();
    let mut pipe = [PollFd::new(&stdin, PollFlags::IN)];
    poll(&mut pipe, Some(&Timespec::default())).map_err(failed)?;
    if pipe[0].revents().contains(PollFlags::HUP) {
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
