//! Copies that are killed all the time.

use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::load::{Load, Talk};
use crate::orphans::waited;
use crate::rolling::is_apart;
use crate::supervised::{Runner, local, signal};
use crate::support::{compile, free_port, wait_for};

const COPIES: usize = 24;
const CLIENTS: usize = 8;

/// The servers that the runner lets serve.
fn serving(runner: &Runner) -> Vec<u32> {
    let state = runner.state();
    let copies = state["copies"].as_array().expect("copies").iter();
    let serving = copies.filter(|copy| copy["state"] == "serving");
    serving
        .filter_map(|copy| u32::try_from(copy["pid"].as_u64()?).ok())
        .collect()
}

#[test]
fn copies_killed_all_the_time_lose_only_what_they_held() {
    if !is_apart("storm::copies_killed_all_the_time_lose_only_what_they_held") {
        return;
    }
    // Seconds; benches/crashes takes a minute.
    let time = std::env::var("REUSEPORT_STORM").ok();
    let time = time.and_then(|text| text.parse().ok()).unwrap_or(5);
    let port = free_port();
    let program = compile("gcc", "runner/storm.c", &[]);
    let text = port.to_string();
    let command = [program.to_str().expect("UTF-8"), &text];
    // The first answers of each copy are for the runner alone: as long as it has the
    // group's order right, no client sees them.
    let runner = Runner::start(&["-n", &COPIES.to_string(), "--ready", "http=/"], &command);
    let load = Load::start(CLIENTS, local(port), Talk::Http);
    let (start, mut killed) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_secs(time) {
        sleep(Duration::from_millis(100));
        let all = serving(&runner);
        // Where nobody serves, what comes goes to those that start: not tested here.
        if all.len() < 4 {
            continue;
        }
        let victim = all[killed * 7 % all.len()];
        // It may have been one that ends.
        killed += usize::from(signal(victim, Signal::KILL));
    }
    // The last one is noticed, too.
    sleep(Duration::from_millis(500));
    let tally = load.end();
    let said = runner.said();
    let lost: usize = said.iter().filter_map(|line| waited(line, "lost")).sum();
    println!(
        "killed {killed} in {time} s: {} of {} requests failed, {lost} of them waited: {tally:?}",
        tally.failed(),
        tally.good + tally.failed()
    );
    assert_eq!(tally.answers.keys().collect::<Vec<_>>(), ["y"]);
    assert_eq!(runner.count("not steered"), 0, "{said:#?}");
    // Each had accepted one at most; a second may have been on its way.
    assert!(tally.failed() <= lost + 2 * killed, "{said:#?}");
    assert_eq!((tally.refused, tally.late), (0, 0));
    wait_for("no slot is lost", || {
        let all = runner.look();
        let members = all[0]["members"].as_array()?;
        let serving = members.iter().filter(|one| one["state"] == "serving");
        (serving.count() == COPIES && members.len() == COPIES).then_some(())
    });
    let load = Load::start(CLIENTS, local(port), Talk::Http);
    runner.restart();
    let tally = load.end();
    assert_eq!(tally.failed(), 0, "{tally:?} {:#?}", runner.said());
    assert_eq!(tally.answers.keys().collect::<Vec<_>>(), ["y"]);
    assert_eq!(runner.stop(), Some(0));
}
