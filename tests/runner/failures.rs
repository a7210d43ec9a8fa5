//! Copies that fail, and ends of all kinds.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::load::{Load, Talk, ask};
use crate::supervised::{Runner, command_line, free_port, local, threaded, wait_for};

fn kill(pid: u32) {
    signal(pid, Signal::KILL);
}

pub fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("a process"), signal).expect("it runs");
}

/// The servers below the runner.
pub fn servers(runner: &Runner) -> Vec<u32> {
    let all = runner.processes().into_iter();
    all.filter(|pid| command_line(*pid).is_some_and(|line| line.contains("threaded.py")))
        .collect()
}

#[test]
fn a_copy_that_is_killed_is_started_again_and_the_others_serve() {
    let port = free_port();
    let (script, text) = (threaded(), port.to_string());
    let command = ["python3", script.to_str().expect("UTF-8"), &text];
    let runner = Runner::start(&["-n", "3"], &command);
    let load = Load::start(16, local(port), Talk::Http);
    for round in 1..=4 {
        sleep(Duration::from_millis(200));
        kill(servers(&runner)[round % 3]);
        wait_for("all serve again", || {
            let said = runner.said();
            let ready = said.iter().filter(|line| line.contains("ready after"));
            (ready.count() == 3 + round).then_some(())
        });
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
            let is_keeper =
                |pid: &u32| command_line(*pid).is_some_and(|line| line.contains("keep"));
            kill(all.iter().copied().find(is_keeper).expect("a keeper"));
            runner.await_line("its keeper was killed");
            assert_eq!(runner.stop(), Some(0));
        }
        wait_for("all have ended", || {
            let left = all.iter().filter(|pid| command_line(**pid).is_some());
            (left.count() == 0).then_some(())
        });
    }
}

#[test]
fn when_the_runner_and_the_keepers_are_killed_the_servers_end() {
    let port = free_port();
    let (script, text) = (threaded(), port.to_string());
    let command = ["python3", script.to_str().expect("UTF-8"), &text];
    let mut runner = Runner::start(&["-n", "2"], &command);
    let all = runner.processes();
    let keepers = all
        .iter()
        .copied()
        .filter(|pid| command_line(*pid).is_some_and(|line| line.starts_with("reuseport: keeper")));
    let keepers: Vec<u32> = keepers.collect();
    assert_eq!((keepers.len(), all.len()), (2, 4));
    // None of them sees the end of another.
    for pid in keepers.iter().copied().chain([runner.child.id()]) {
        signal(pid, Signal::STOP);
    }
    for pid in keepers.iter().copied().chain([runner.child.id()]) {
        kill(pid);
    }
    runner.child.wait().expect("a child");
    wait_for("all have ended", || {
        let left = all.iter().filter(|pid| command_line(**pid).is_some());
        (left.count() == 0).then_some(())
    });
}

#[test]
fn a_new_copy_that_fails_leaves_the_old_one_at_work() {
    let port = free_port();
    let directory = tempfile::tempdir().expect("a directory");
    let trouble = directory.path().join("trouble");
    let (script, text) = (threaded(), port.to_string());
    let trouble_text = trouble.to_str().expect("UTF-8");
    let command = [
        "python3",
        script.to_str().expect("UTF-8"),
        &text,
        trouble_text,
    ];
    let runner = Runner::start(&["-n", "2", "--ready-timeout", "3s"], &command);
    let before = servers(&runner);
    let load = Load::start(32, local(port), Talk::Http);
    for (how, why) in [
        ("exit", "ended with status 3 before it was ready"),
        ("hang", "it does not listen"),
        ("elsewhere", "and not on 127.0.0.1"),
    ] {
        fs::write(&trouble, how).expect("a file");
        let outcome = runner.tell(&["restart"]);
        assert_eq!(outcome.status, Some(1), "{outcome:?}");
        assert!(outcome.stderr.contains("the old one stays"), "{outcome:?}");
        runner.await_line(why);
    }
    let tally = load.end();
    assert_eq!(tally.failed(), 0, "{tally:?}");
    assert_eq!(servers(&runner), before);
    fs::remove_file(&trouble).expect("it is there");
    // A busy machine may not start one in time.
    wait_for("a restart that is done", || {
        (runner.tell(&["restart"]).status == Some(0)).then_some(())
    });
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
    let script = format!(
        "import os,socket,time\n\
         if os.fork(): os._exit(0)\n\
         os.setsid()\n\
         if os.fork(): os._exit(0)\n\
         s=socket.socket(); s.bind(('127.0.0.1',{port})); s.listen()\n\
         while True:\n  c,_=s.accept(); c.recv(100); c.send(b'HTTP/1.1 200 OK\\r\\nContent-Length: 1\\r\\n\\r\\n1'); c.close()"
    );
    let runner = Runner::start(&["-n", "2"], &["python3", "-c", &script]);
    runner.await_line("into the background");
    assert_eq!(ask(local(port), Talk::Http).expect("an answer"), "1");
    runner.restart();
    assert_eq!(ask(local(port), Talk::Http).expect("an answer"), "1");
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
    let status = wait_for("it gives up", || runner.child.try_wait().expect("a child"));
    assert_eq!(status.code(), Some(7), "{:#?}", runner.said());
}

#[test]
fn copies_that_die_during_restarts_lose_no_slot() {
    let port = free_port();
    let (script, text) = (threaded(), port.to_string());
    let command = ["python3", script.to_str().expect("UTF-8"), &text];
    let runner = Runner::start(&["-n", "3"], &command);
    for round in 0..12 {
        // The restart may be off, or one be under way: that is not the question here.
        runner.signal(Signal::HUP);
        sleep(Duration::from_millis(50 + 37 * (round % 4)));
        let all = servers(&runner);
        if let Some(victim) = all.get(usize::try_from(round).unwrap_or(0) % all.len().max(1)) {
            // It may have ended by itself.
            let pid = i32::try_from(*victim).ok().and_then(Pid::from_raw);
            let _ = kill_process(pid.expect("a process"), Signal::KILL);
        }
    }
    wait_for("it comes to rest", || {
        let outcome = runner.tell(&["restart"]);
        (outcome.status == Some(0)).then_some(())
    });
    wait_for("all slots are filled", || {
        let before = servers(&runner);
        sleep(Duration::from_millis(300));
        (before.len() == 3 && servers(&runner) == before).then_some(())
    });
    let load = Load::start(32, local(port), Talk::Http);
    runner.restart();
    let tally = load.end();
    assert_eq!(tally.failed(), 0, "{tally:?} {:#?}", runner.said());
    let answers: Vec<_> = tally.answers.keys().cloned().collect();
    assert_eq!(answers, ["0", "1", "2"]);
    assert_eq!(servers(&runner).len(), 3);
    assert_eq!(runner.stop(), Some(0));
}
