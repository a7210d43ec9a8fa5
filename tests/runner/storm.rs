//! Copies that are killed all the time.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::load::{Load, Talk};
use crate::rolling::is_apart;
use crate::supervised::{Runner, command_line, free_port, local, wait_for};
use crate::support::compile;

/// The servers below the runner.
fn servers(runner: &Runner) -> Vec<u32> {
    let all = runner.processes().into_iter();
    let is_server = |pid: &u32| command_line(*pid).is_some_and(|line| line.contains("storm-c"));
    all.filter(is_server).collect()
}

#[test]
fn copies_killed_all_the_time_lose_only_what_they_held() {
    if !is_apart("storm::copies_killed_all_the_time_lose_only_what_they_held") {
        return;
    }
    const COPIES: usize = 24;
    const CLIENTS: usize = 8;
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
    let mut seen: BTreeMap<u32, u32> = BTreeMap::new();
    while start.elapsed() < Duration::from_secs(time) {
        sleep(Duration::from_millis(100));
        // Those who are there for the third time serve.
        let all = servers(&runner);
        seen.retain(|pid, _| all.contains(pid));
        for pid in all {
            *seen.entry(pid).or_insert(0) += 1;
        }
        let old: Vec<u32> = seen
            .iter()
            .filter(|(_, times)| **times > 2)
            .map(|(pid, _)| *pid)
            .collect();
        let Some(&victim) = old.get(killed * 7 % old.len().max(1)) else {
            continue;
        };
        let pid = i32::try_from(victim).ok().and_then(Pid::from_raw);
        // It may have been one that ends.
        killed += usize::from(kill_process(pid.expect("a process"), Signal::KILL).is_ok());
    }
    // The last one is noticed, too.
    sleep(Duration::from_millis(500));
    let tally = load.end();
    let said = runner.said();
    let lost: usize = said
        .iter()
        .filter(|line| line.contains("that waited are lost"))
        .filter_map(|line| {
            line.split(" connections that waited are lost")
                .next()?
                .rsplit(' ')
                .next()?
                .parse::<usize>()
                .ok()
        })
        .sum();
    println!(
        "killed {killed} in {time} s: {} of {} requests failed, {lost} of them waited: {tally:?}",
        tally.failed(),
        tally.good + tally.failed()
    );
    assert_eq!(tally.answers.keys().collect::<Vec<_>>(), ["y"]);
    assert!(
        !said.iter().any(|line| line.contains("not steered")),
        "{said:#?}"
    );
    // Each had accepted one at most; a second may have been on its way.
    assert!(tally.failed() <= lost + 2 * killed, "{said:#?}");
    assert_eq!((tally.refused, tally.late), (0, 0));
    wait_for("no slot is lost", || {
        let look = runner.tell(&["status", "--json"]).stdout;
        let all: serde_json::Value = serde_json::from_str(&look).ok()?;
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
