//! Copies that fail, and ends of all kinds.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::thread::sleep;
use std::time::Duration;

use rustix::process::Signal;

use crate::load::{Load, Talk, ask};
use crate::supervised::{Runner, Trouble, answering, left, local, signal, threaded, troubled};
use crate::support::{free_port, wait_for};

fn kill(pid: u32) {
    assert!(signal(pid, Signal::KILL), "{pid} runs");
}

#[test]
fn a_copy_that_is_killed_is_started_again_and_the_others_serve() {
    let port = free_port();
    let command = threaded(port);
    let runner = Runner::start(&["-n", "3"], &command);
    let load = Load::start(16, local(port), Talk::Http);
    for round in 1..=4 {
        sleep(Duration::from_millis(200));
        kill(runner.servers()[round % 3]);
        runner.await_count("ready after", 3 + round);
    }
    let tally = load.end();
    println!("killed four times: {tally:?}");
    // What it had accepted, and what waited in it: at most what all clients had.
    assert!(tally.failed() <= 4 * 16, "{tally:?}");
    // A steered restart afterwards: the order was not lost.
    let load = Load::start(32, local(port), Talk::Http);
    runner.restart();
    let tally = load.end();
    assert_eq!(tally.failed(), 0, "{tally:?} {:#?}", runner.said());
    let answers: Vec<_> = tally.answers.keys().cloned().collect();
    assert_eq!(answers, ["0", "1", "2"]);
    assert_eq!(runner.stop(), Some(0));
}

#[test]
fn when_the_runner_is_killed_nothing_is_left_running() {
    let port = free_port();
    let script = format!(
        "import os,socket,time\n\
         s=socket.socket(); s.bind(('127.0.0.1',{port})); s.listen()\n\
         if os.fork()==0:\n os.setsid()\n os.fork()\n\
         time.sleep(1000)"
    );
    for victim in ["runner", "keeper"] {
        let mut runner = Runner::start(&["-n", "2"], &["python3", "-c", &script]);
        wait_for("its children", || {
            (runner.processes().len() == 8).then_some(())
        });
        let all = runner.processes();
        if victim == "runner" {
            runner.child.kill().expect("it runs");
            runner.child.wait().expect("a child");
        } else {
            kill(runner.keepers()[0]);
            runner.await_line("its keeper was killed");
            assert_eq!(runner.stop(), Some(0));
        }
        wait_for("all have ended", || (left(&all) == 0).then_some(()));
    }
}

#[test]
fn when_the_runner_and_the_keepers_are_killed_the_servers_end() {
    let port = free_port();
    let command = threaded(port);
    let mut runner = Runner::start(&["-n", "2"], &command);
    let all = runner.processes();
    let keepers = runner.keepers();
    assert_eq!((keepers.len(), all.len()), (2, 4));
    // None of them sees the end of another.
    for pid in keepers.iter().copied().chain([runner.child.id()]) {
        signal(pid, Signal::STOP);
    }
    for pid in keepers.iter().copied().chain([runner.child.id()]) {
        kill(pid);
    }
    runner.child.wait().expect("a child");
    wait_for("all have ended", || (left(&all) == 0).then_some(()));
}

#[test]
fn a_new_copy_that_fails_leaves_the_old_one_at_work() {
    let port = free_port();
    let trouble = Trouble::new();
    let command = troubled(port, &trouble);
    let runner = Runner::start(&["-n", "2", "--ready-timeout", "3s"], &command);
    let before = runner.servers();
    let load = Load::start(32, local(port), Talk::Http);
    for (how, why) in [
        ("exit", "ended with status 3 before it was ready"),
        ("hang", "was not ready within 3 s: it does not listen"),
        ("elsewhere", "and not on 127.0.0.1"),
    ] {
        trouble.begin(how);
        let outcome = runner.tell(&["restart"]);
        assert_eq!(outcome.status, Some(1), "{outcome:?}");
        for words in [
            why,
            "slot 0: the new copy (process ",
            "the old copy serves on",
        ] {
            assert!(outcome.stderr.contains(words), "{words}: {outcome:?}");
        }
        runner.await_line(why);
    }
    let tally = load.end();
    assert_eq!(tally.failed(), 0, "{tally:?}");
    assert_eq!(runner.servers(), before);
    trouble.end();
    // A busy machine may not start one in time.
    wait_for("a restart that is done", || {
        (runner.tell(&["restart"]).status == Some(0)).then_some(())
    });
    assert_eq!(runner.stop(), Some(0));
}

#[test]
fn a_new_copy_that_dies_while_the_old_one_drains_gives_it_back() {
    let port = free_port();
    let runner = Runner::start(&["-n", "1"], &threaded(port));
    let before = runner.servers();
    // Held, so that the old copy is not done.
    let mut held = TcpStream::connect(local(port)).expect("it serves");
    held.write_all(b"GET").expect("written");
    std::thread::scope(|scope| {
        let restart = scope.spawn(|| runner.tell(&["restart"]));
        runner.await_count("slot 0: ready after", 2);
        wait_for("the old one drains", || {
            let state = runner.state();
            let mut copies = state["copies"].as_array()?.iter();
            copies.any(|copy| copy["state"] == "draining").then_some(())
        });
        let new = runner
            .servers()
            .into_iter()
            .find(|pid| !before.contains(pid));
        signal(new.expect("the new one"), Signal::KILL);
        let outcome = restart.join().expect("a client");
        assert_eq!(outcome.status, Some(1), "{outcome:?}");
        assert!(
            outcome.stderr.contains("the old copy serves on"),
            "{outcome:?}"
        );
    });
    drop(held);
    let load = Load::start(4, local(port), Talk::Http);
    runner.restart();
    let tally = load.end();
    assert_eq!(tally.failed(), 0, "{tally:?}");
    assert_eq!(runner.stop(), Some(0));
}

#[test]
fn a_server_that_ignores_term_is_killed() {
    let port = free_port();
    let script = format!(
        "import signal,socket,time\n\
         signal.signal(signal.SIGTERM,signal.SIG_IGN)\n\
         s=socket.socket(); s.bind(('127.0.0.1',{port})); s.listen()\n\
         time.sleep(1000)"
    );
    let runner = Runner::start(
        &["-n", "1", "--kill-after", "300ms"],
        &["python3", "-c", &script],
    );
    runner.restart();
    runner.await_line("is killed");
    assert_eq!(runner.stop(), Some(0));
}

#[test]
fn a_server_in_the_background_is_followed() {
    let port = free_port();
    let command = answering(&format!(
        "if os.fork(): os._exit(0)\n\
         os.setsid()\n\
         if os.fork(): os._exit(0)\n\
         s=socket.socket(); s.bind(('127.0.0.1',{port})); s.listen()"
    ));
    let runner = Runner::start(&["-n", "2"], &command);
    runner.await_line("into the background");
    assert_eq!(ask(local(port), Talk::Http).expect("an answer"), "1");
    runner.restart();
    assert_eq!(ask(local(port), Talk::Http).expect("an answer"), "1");
    assert_eq!(runner.stop(), Some(0));
}

#[test]
fn what_a_test_of_the_configuration_listens_on_is_not_the_servers() {
    let port = free_port();
    // As `nginx -t` does.
    let test = format!(
        "import os,socket,sys,time\n\
         s=socket.socket(); s.bind(('127.0.0.1',{port})); s.listen()"
    );
    let [_, _, server] = answering(&format!(
        "time.sleep(0.3)\n\
         s=socket.socket(); s.bind(('127.0.0.1',{port})); s.listen()"
    ));
    let script = format!("python3 -c \"{test}\"; exec python3 -c \"{server}\"");
    let runner = Runner::start(&["-n", "2"], &["sh", "-c", &script]);
    for _ in 0..2 {
        let state = runner.state();
        for copy in state["copies"].as_array().expect("copies") {
            assert_eq!(
                copy["sockets"].as_array().map(Vec::len),
                Some(1),
                "{state:#}"
            );
        }
        let load = Load::start(8, local(port), Talk::Http);
        runner.restart();
        assert_eq!(load.end().failed(), 0);
    }
    assert_eq!(runner.stop(), Some(0));
}

#[test]
fn too_many_restarts_end_it_with_the_copys_status() {
    let port = free_port();
    let script = format!(
        "import os,socket,time\n\
         s=socket.socket(); s.bind(('127.0.0.1',{port})); s.listen()\n\
         time.sleep(1.5); os._exit(7)"
    );
    let flags = ["-n", "1", "--max-restarts", "1/60s"];
    let mut runner = Runner::start(&flags, &["python3", "-c", &script]);
    assert_eq!(runner.await_end(), Some(7), "{:#?}", runner.said());
}

#[test]
fn copies_that_die_during_restarts_lose_no_slot() {
    let port = free_port();
    let command = threaded(port);
    let runner = Runner::start(&["-n", "3"], &command);
    for round in 0..12 {
        // The restart may be off, or one be under way: that is not the question here.
        runner.signal(Signal::HUP);
        sleep(Duration::from_millis(50 + 37 * (round % 4)));
        let all = runner.servers();
        if let Some(victim) = all.get(usize::try_from(round).unwrap_or(0) % all.len().max(1)) {
            // It may have ended by itself.
            signal(*victim, Signal::KILL);
        }
    }
    wait_for("it comes to rest", || {
        let outcome = runner.tell(&["restart"]);
        (outcome.status == Some(0)).then_some(())
    });
    wait_for("all slots are filled", || {
        let before = runner.servers();
        sleep(Duration::from_millis(300));
        (before.len() == 3 && runner.servers() == before).then_some(())
    });
    let load = Load::start(32, local(port), Talk::Http);
    runner.restart();
    let tally = load.end();
    assert_eq!(tally.failed(), 0, "{tally:?} {:#?}", runner.said());
    let answers: Vec<_> = tally.answers.keys().cloned().collect();
    assert_eq!(answers, ["0", "1", "2"]);
    assert_eq!(runner.servers().len(), 3);
    assert_eq!(runner.stop(), Some(0));
}

#[test]
fn a_copy_that_still_starts_is_replaced_too() {
    let port = free_port();
    let trouble = Trouble::new();
    let runner = Runner::start(&["-n", "2"], &troubled(port, &trouble));
    trouble.begin("hang");
    kill(runner.servers()[0]);
    trouble.end_when_one_hangs();
    let before = runner.servers();
    runner.restart();
    runner.await_line("replaced 2 copies");
    let after = runner.servers();
    assert_eq!((before.len(), after.len()), (2, 2));
    assert!(after.iter().all(|pid| !before.contains(pid)), "{before:?}");
    assert_eq!(runner.stop(), Some(0));
}

#[test]
fn a_slot_without_a_copy_is_filled_by_a_restart() {
    let trouble = Trouble::new();
    let runner = Runner::start(&["-n", "2"], &troubled(free_port(), &trouble));
    let first = runner.servers()[0];
    trouble.begin("exit");
    kill(first);
    // The times between tries get longer.
    wait_for("several have failed", || {
        let said = runner.said();
        let failed = said.iter().filter(|line| line.contains("with status 3"));
        (failed.count() > 2).then_some(())
    });
    let outcome = runner.tell(&["restart"]);
    assert_eq!(outcome.status, Some(1), "{outcome:?}");
    let words = "ended with status 3 before it was ready";
    assert!(outcome.stderr.contains(words), "{outcome:?}");
    trouble.end();
    runner.restart();
    assert_eq!(runner.servers().len(), 2);
    assert_eq!(runner.stop(), Some(0));
}

#[test]
fn signals_during_a_restart_ask_for_one_more() {
    let port = free_port();
    let trouble = Trouble::new();
    let runner = Runner::start(&["-n", "1"], &troubled(port, &trouble));
    trouble.begin("hang");
    runner.signal(Signal::HUP);
    trouble.end_when_one_hangs();
    for count in 1..=3 {
        runner.signal(Signal::HUP);
        runner.signal(Signal::USR1);
        runner.await_count("1 slot: ", count);
    }
    runner.await_line("a restart is under way: the copies are replaced after that");
    let hangs = |pid: &u32| {
        let state = runner.state();
        let mut copies = state["copies"].as_array().expect("copies").iter();
        copies.any(|one| one["pid"] == *pid && one["state"] == "starting")
    };
    kill(runner.servers().into_iter().find(hangs).expect("it hangs"));
    runner.await_line("the restart is off: slot 0: the new copy (process ");
    runner.await_line("was ended by SIGKILL before it was ready");
    runner.await_line("replaced 1 copy");
    runner.tell(&["restart"]);
    // The first, the one that was put off, and the last.
    assert_eq!(runner.count("replaces 1 copy"), 3, "{:#?}", runner.said());
    assert_eq!(runner.stop(), Some(0));
}

#[test]
fn a_server_that_ends_with_0_is_not_in_the_background() {
    let port = free_port();
    let directory = tempfile::tempdir().expect("a directory");
    let end = directory.path().join("end");
    // It leaves a process that has none of its sockets.
    let script = format!(
        "import os,socket,time\n\
         if os.fork()==0:\n time.sleep(1000)\n\
         s=socket.socket(); s.bind(('127.0.0.1',{port})); s.listen()\n\
         while not os.path.exists('{0}'): time.sleep(0.01)\n\
         os.unlink('{0}')",
        end.display()
    );
    let runner = Runner::start(&["-n", "1"], &["python3", "-c", &script]);
    fs::write(&end, "").expect("a file");
    runner.await_line("ended with status 0, and what it has left has none of its sockets");
    runner.await_line("is started again");
    runner.await_count("ready after", 2);
    assert_eq!(runner.count("background"), 0);
    assert_eq!(runner.stop(), Some(0));
    let mut runner = Runner::begin(&["-n", "1", "--no-check"], &["true"]);
    assert_eq!(runner.await_end(), Some(1));
    assert_eq!(runner.count("background"), 0, "{:#?}", runner.said());
}

#[test]
fn a_copy_with_several_addresses_that_dies_leaves_all_steered() {
    let port = free_port();
    let before = format!(
        "t=socket.socket(socket.AF_INET6); t.setsockopt(socket.IPPROTO_IPV6,socket.IPV6_V6ONLY,1)\n\
         t.bind(('::1',{port})); t.listen()\n\
         s=socket.socket(); s.bind(('127.0.0.1',{port})); s.listen()"
    );
    let runner = Runner::start(&["-n", "3"], &answering(&before));
    let pid = |number: usize| {
        let state = runner.state();
        u32::try_from(state["copies"][number]["pid"].as_u64().expect("a process")).expect("small")
    };
    for round in 0..3 {
        kill(pid(round));
        runner.await_count("ready after", 4 + round);
    }
    assert_eq!(runner.count("not steered"), 0, "{:#?}", runner.said());
    let state = runner.state();
    let groups = state["groups"].as_array().expect("groups");
    assert!(groups.len() == 2 && groups.iter().all(|one| one["steered"] == true));
    assert_eq!(runner.stop(), Some(0));
}

#[test]
fn a_keeper_that_is_stopped_keeps_nothing_from_ending() {
    let runner = Runner::start(
        &["-n", "2", "--kill-after", "100ms"],
        &threaded(free_port()),
    );
    assert!(signal(runner.keepers()[0], Signal::STOP));
    // The slot gets a new copy all the same.
    runner.restart();
    runner.await_line("its keeper has not killed it in time and is killed");
    assert_eq!(runner.servers().len(), 2);
    let all = runner.processes();
    assert!(signal(runner.keepers()[0], Signal::STOP));
    assert_eq!(runner.stop(), Some(0));
    assert_eq!(left(&all), 0);
}
