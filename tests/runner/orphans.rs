//! What becomes of connections that wait in the queue of a copy that dies.

use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::load::{Talk, ask};
use crate::rolling::{is_apart, is_apart_with};
use crate::supervised::{Runner, local, signal, threaded};
use crate::support::{free_port, wait_for};

/// Stops the first of `copies` copies, makes `clients` requests, kills it while some
/// of them wait in it, and gives the answers and what the runner said.
fn kill_one_with_a_queue(copies: &str, clients: usize) -> (Vec<Option<String>>, Vec<String>) {
    let port = free_port();
    let command = threaded(port);
    let runner = Runner::start(&["-n", copies], &command);
    let victim = runner.servers()[0];
    signal(victim, Signal::STOP);
    let clients: Vec<_> = (0..clients)
        .map(|_| thread::spawn(move || ask(local(port), Talk::Http).ok()))
        .collect();
    let waiting = || {
        let all = runner.look();
        let members = all[0]["members"].as_array().expect("members").iter();
        members
            .map(|one| one["queue"].as_u64().expect("a queue"))
            .sum::<u64>()
    };
    let expected = if copies == "1" { clients.len() } else { 1 };
    wait_for("they wait", || (waiting() >= expected as u64).then_some(()));
    // What the others have is answered.
    thread::sleep(Duration::from_millis(300));
    signal(victim, Signal::KILL);
    let answers = clients.into_iter().map(|one| one.join().expect("a client"));
    let answers = answers.collect();
    runner.await_line("is started again");
    wait_for("all serve again", || {
        let copies: usize = copies.parse().expect("a number");
        (runner.servers().len() == copies && TcpStream::connect(local(port)).is_ok()).then_some(())
    });
    let said = runner.said();
    assert_eq!(runner.stop(), Some(0));
    (answers, said)
}

/// How many connections that waited have had the fate `text`, by a line.
pub fn waited(line: &str, text: &str) -> Option<usize> {
    let (before, after) = line.split_once(" that waited ")?;
    let (_, fate) = after.split_once(' ')?;
    let number = before.rsplit(' ').nth(1)?;
    fate.starts_with(text)
        .then(|| number.parse().expect("a number"))
}

/// The same by one of the lines.
fn number(said: &[String], text: &str) -> usize {
    let found = said.iter().find_map(|line| waited(line, text));
    found.unwrap_or_else(|| panic!("{text}: {said:#?}"))
}

#[test]
fn what_waits_in_a_copy_that_dies_is_counted_as_lost() {
    if !is_apart("orphans::what_waits_in_a_copy_that_dies_is_counted_as_lost") {
        return;
    }
    let (answers, said) = kill_one_with_a_queue("2", 24);
    let failed = answers.iter().filter(|one| one.is_none()).count();
    assert!(failed > 0);
    let lost = number(&said, "lost");
    // It may have accepted some.
    assert!(lost <= failed && failed <= lost + 2, "{failed} {said:#?}");
}

#[test]
fn what_waits_is_given_to_others_where_the_kernel_does_that() {
    let test = "orphans::what_waits_is_given_to_others_where_the_kernel_does_that";
    if !is_apart_with(test, "1") {
        return;
    }
    let (answers, said) = kill_one_with_a_queue("2", 24);
    let failed = answers.iter().filter(|one| one.is_none()).count();
    // Those that it had accepted.
    assert!(failed <= 2, "{failed} {said:#?}");
    assert!(number(&said, "given to other copies") > 0);
}

#[test]
fn what_waits_in_the_only_copy_is_kept_for_the_next() {
    let test = "orphans::what_waits_in_the_only_copy_is_kept_for_the_next";
    if !is_apart_with(test, "1") {
        return;
    }
    let (answers, said) = kill_one_with_a_queue("1", 12);
    let failed = answers.iter().filter(|one| one.is_none()).count();
    assert!(failed <= 2, "{failed} {said:#?}");
    let kept = number(&said, "kept");
    let given = number(&said, "given to it");
    assert!(kept > 0 && given >= kept, "{said:#?}");
}
