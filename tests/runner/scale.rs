//! Changing the number of copies where something goes wrong.

use rustix::process::Signal;

use crate::load::{Load, Talk, ask};
use crate::supervised::{Runner, Trouble, local, signal, troubled};
use crate::support::{free_port, wait_for};

#[test]
fn copies_that_fail_to_start_are_taken_back_and_the_reason_said() {
    let port = free_port();
    let trouble = Trouble::new();
    let flags = ["-n", "2", "--ready-timeout", "3s"];
    let runner = Runner::start(&flags, &troubled(port, &trouble));
    let before = runner.servers();
    let load = Load::start(8, local(port), Talk::Http);
    for (how, why) in [
        ("exit", "ended with status 3 before it was ready"),
        ("hang", "was not ready within 3 s: it does not listen"),
    ] {
        trouble.begin(how);
        let outcome = runner.tell(&["scale", "4"]);
        assert_eq!(outcome.status, Some(1), "{outcome:?}");
        for words in ["the change is off: slot ", why, "; 2 copies serve"] {
            assert!(outcome.stderr.contains(words), "{words}: {outcome:?}");
        }
        assert_eq!(runner.state()["slots"], 2);
        assert_eq!(runner.servers(), before);
    }
    trouble.end();
    assert_eq!(runner.tell(&["scale", "3"]).stdout, "3 copies serve\n");
    let tally = load.end();
    assert_eq!(tally.failed(), 0, "{tally:?}");
    assert_eq!(runner.stop(), Some(0));
}

#[test]
fn copies_that_are_all_that_serve_are_not_taken_back() {
    let port = free_port();
    let trouble = Trouble::new();
    let runner = Runner::start(&["-n", "1"], &troubled(port, &trouble));
    trouble.begin("hang 2");
    std::thread::scope(|scope| {
        let change = scope.spawn(|| runner.tell(&["scale", "3"]));
        runner.await_count("ready after", 2);
        trouble.await_hang();
        let [first, _, third] = runner.servers()[..] else {
            panic!("{:#?}", runner.said());
        };
        // The first does not come back, and with the third the change has failed.
        trouble.begin("exit 0");
        signal(first, Signal::KILL);
        runner.await_line("slot 0: ended with status 3");
        signal(third, Signal::KILL);
        runner.await_line("slot 2: was ended by SIGKILL");
        for _ in 0..20 {
            assert_eq!(ask(local(port), Talk::Http).expect("an answer"), "1");
        }
        trouble.end();
        let outcome = change.join().expect("a client");
        assert_eq!(outcome.status, Some(1), "{outcome:?}");
        assert!(outcome.stderr.contains("; 1 copy serves"), "{outcome:?}");
    });
    assert_eq!(ask(local(port), Talk::Http).expect("an answer"), "0");
    assert_eq!(runner.state()["slots"], 1);
    assert_eq!(runner.stop(), Some(0));
}

#[test]
fn one_change_at_a_time_and_others_are_told() {
    let trouble = Trouble::new();
    let runner = Runner::start(&["-n", "1"], &troubled(free_port(), &trouble));
    trouble.begin("hang");
    std::thread::scope(|scope| {
        let first = scope.spawn(|| runner.tell(&["scale", "2"]));
        runner.await_line("from 1 to 2 copies");
        for words in [&["scale", "3"][..], &["restart"]] {
            let outcome = runner.tell(words);
            assert_eq!(outcome.status, Some(1), "{outcome:?}");
            let words = "the number of copies is being changed";
            assert!(outcome.stderr.contains(words), "{outcome:?}");
        }
        // Its own end is not the new one's failure.
        let pids = wait_for("the new one is started", || {
            let pids = runner.servers();
            (pids.len() == 2).then_some(pids)
        });
        let (old, new) = (pids[0], pids[1]);
        // It may not have found the trouble yet.
        signal(new, Signal::STOP);
        trouble.end();
        signal(old, Signal::KILL);
        runner.await_line("is started again");
        signal(new, Signal::KILL);
        let outcome = first.join().expect("a client");
        assert_eq!(outcome.status, Some(1), "{outcome:?}");
        let words = "was ended by SIGKILL before it was ready";
        assert!(outcome.stderr.contains(words), "{outcome:?}");
    });
    wait_for("one serves", || {
        let state = runner.state();
        (state["slots"] == 1 && state["copies"][0]["state"] == "serving").then_some(())
    });
    // Who waits is told of the end as well.
    trouble.begin("hang");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| runner.tell(&["scale", "2"]));
        wait_for("it begins", || (runner.state()["slots"] == 2).then_some(()));
        runner.signal(Signal::TERM);
        let outcome = waiting.join().expect("a client");
        assert_eq!(outcome.status, Some(1), "{outcome:?}");
        assert!(
            outcome.stderr.contains("the runner is ending"),
            "{outcome:?}"
        );
    });
    assert_eq!(runner.stop(), Some(0));
}
