//! `reuseport status`: who shares what.

mod json;
mod look;
mod screen;
mod text;
mod watch;

use std::time::Duration;

use clap::Args;

use super::runner::time;
use super::{answer, complain, status};
use look::{Look, Subject};

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
    /// The groups of all network namespaces of this machine, for root
    #[arg(long)]
    all_netns: bool,
    /// Look again each second, or after TIME; a live view on a terminal
    #[arg(
        long,
        value_name = "TIME",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "1s",
        value_parser = pause
    )]
    watch: Option<Duration>,
}

fn pause(text: &str) -> Result<Duration, String> {
    match time(text)? {
        time if time < Duration::from_millis(100) => Err("give 100ms or more".into()),
        time => Ok(time),
    }
}

pub(super) fn run(arguments: &Arguments) -> u8 {
    if arguments.all_netns && !rustix::process::geteuid().is_root() {
        let message = "--all-netns: only root may enter other network namespaces";
        return complain(&message, status::FAULT);
    }
    let subject = Subject::new(arguments.wanted.as_deref(), arguments.all_netns);
    if let Some(pause) = arguments.watch {
        return watch::run(&subject, pause, arguments.json);
    }
    let look = match Look::at(&subject) {
        Ok(look) => look,
        Err(why) => return complain(&why, status::FAULT),
    };
    for why in &look.unseen {
        complain(&format_args!("warning: {why}"), status::DONE);
    }
    let rates = look.rates(None);
    answer(
        if arguments.json {
            format!("{:#}\n", json::all(&look, &rates))
        } else {
            text::all(&look, &rates)
        }
        .as_bytes(),
    )
}
