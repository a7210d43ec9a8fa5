//! The beginning: what is refused, what makes a copy ready.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::load::{Talk, ask};
use crate::supervised::{Runner, answering, local, threaded};
use crate::support::{command, free_port, is_root, reuseport, run, skip, wait_for};

#[test]
fn bad_input_is_said_before_anything_starts() {
    for (flags, words) in [
        (&["-n", "0"][..], "give a number from 1 to 1024"),
        (&["-n", "10000"], "give a number from 1 to 1024"),
        (&["-n", "x"], "give a number from 1 to 1024"),
        (
            &["-n", "2", "--stop-signal", "TREM"],
            "there is no such signal",
        ),
        (&["-n", "2", "--ready", "http=x"], "http=/PATH"),
        (&["-n", "2", "--ready-timeout", "soon"], "give a time"),
        (&["-n", "2", "--max-restarts", "5"], "5/60s"),
        (&["-n", "2", "--name", "../x"], "give up to 64 letters"),
        (&["--kill-after", "2s"], "--copies"),
        (&["-n", "1024", "--pin"], "--pin: 1024 copies"),
    ] {
        let outcome = run(reuseport()
            .arg("run")
            .args(flags)
            .args(["--", "sleep", "5"]));
        assert_eq!(outcome.status, Some(125), "{outcome:?}");
        assert!(outcome.stderr.contains(words), "{outcome:?}");
    }
}

#[test]
fn a_command_that_cannot_start_or_never_listens_ends_it() {
    for (command, status, words) in [
        (&["false"][..], 1, "ended with status 1"),
        (&["sleep", "100"], 125, "it does not listen"),
    ] {
        let flags = ["-n", "2", "--ready-timeout", "500ms"];
        let flags = [&flags[..], &["--no-check"]].concat();
        let mut runner = Runner::begin(&flags, command);
        assert_eq!(runner.await_end(), Some(status), "{:#?}", runner.said());
        runner.await_line(words);
    }
}

#[test]
fn two_runners_do_not_share_a_name() {
    let command = threaded(free_port());
    let runner = Runner::start(&["-n", "1"], &command);
    let outcome = run(reuseport()
        .env("XDG_RUNTIME_DIR", runner.directory.path())
        .args(["run", "-n", "1", "--name", &runner.name, "--"])
        .args(command));
    assert_eq!(outcome.status, Some(125));
    assert!(outcome.stderr.contains("give another one"), "{outcome:?}");
}

#[test]
fn signals_that_engines_send_end_it_in_order() {
    for signal in [Signal::INT, Signal::QUIT] {
        let runner = Runner::start(&["-n", "2"], &threaded(free_port()));
        assert_eq!(runner.end_by(signal), Some(0), "{signal:?}");
    }
}

#[test]
fn a_copy_is_ready_when_it_says_so() {
    let port = free_port();
    let script = format!(
        "import os,socket,time\n\
         s=socket.socket(); s.bind(('127.0.0.1',{port})); s.listen()\n\
         time.sleep(0.5)\n\
         n=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM)\n\
         n.sendto(b'READY=1',chr(0)+os.environ['NOTIFY_SOCKET'][1:])\n\
         time.sleep(1000)"
    );
    let start = Instant::now();
    let runner = Runner::start(
        &["-n", "1", "--ready", "notify"],
        &["python3", "-c", &script],
    );
    assert!(start.elapsed() > Duration::from_millis(500));
    assert_eq!(runner.stop(), Some(0));
}

#[test]
fn a_copy_is_ready_when_it_answers_itself() {
    let port = free_port();
    // The first 4 requests to each copy fail.
    let script = format!(
        "import os\n\
         from http.server import *\n\
         class H(BaseHTTPRequestHandler):\n\
         \x20count=0\n\
         \x20def do_GET(self):\n\
         \x20\x20H.count+=1\n\
         \x20\x20self.send_response(503 if H.count<5 else 200)\n\
         \x20\x20self.send_header('Content-Length','1')\n\
         \x20\x20self.end_headers()\n\
         \x20\x20self.wfile.write(b'y' if H.count>=5 else b'n')\n\
         HTTPServer(('127.0.0.1',{port}),H).serve_forever()"
    );
    let flags = ["-n", "2", "--ready", "http=/"];
    let runner = Runner::start(&flags, &["python3", "-c", &script]);
    for _ in 0..2 {
        for _ in 0..20 {
            assert_eq!(ask(local(port), Talk::Http).expect("an answer"), "y");
        }
        runner.restart();
    }
    assert_eq!(runner.stop(), Some(0));
}

#[test]
fn servers_out_of_reach_are_found_from_outside() {
    // They set the option themselves, and run without the shim.
    let port = free_port();
    let server = answering(&format!(
        "s=socket.socket(); s.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEPORT,1)\n\
         s.bind(('127.0.0.1',{port})); s.listen()"
    ));
    let bare = ["env", "-u", "LD_PRELOAD", "-u", "LIBREUSEPORT_RUNNER"];
    let command = [&bare.map(str::to_owned)[..], &server].concat();
    let runner = Runner::start(&["-n", "2"], &command);
    runner.restart();
    assert!(
        !runner
            .said()
            .iter()
            .any(|line| line.contains("not steered"))
    );
    assert_eq!(ask(local(port), Talk::Http).expect("an answer"), "1");
    assert_eq!(runner.stop(), Some(0));
}

#[test]
fn hup_restarts_and_usr1_tells_the_state() {
    let command = threaded(free_port());
    let runner = Runner::start(&["-n", "1", "--pid-file", "pid"], &command);
    let file = runner.directory.path().join("pid");
    let text = std::fs::read_to_string(&file).expect("a pid file");
    assert_eq!(text.trim(), runner.child.id().to_string());
    runner.signal(Signal::HUP);
    runner.await_line("replaced 1 copy");
    runner.signal(Signal::USR1);
    runner.await_line("1 slot: 0 serving");
    assert_eq!(runner.tell(&["stop"]).status, Some(0));
    wait_for("no pid file", || (!file.exists()).then_some(()));
}

#[test]
fn who_has_taken_the_port_is_said() {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = socket.local_addr().expect("an address").port();
    let command = threaded(port);
    let outcome = run(reuseport()
        .args(["run", "-n", "2", "--port", &port.to_string(), "--"])
        .args(&command));
    let own = std::process::id();
    assert_eq!(outcome.status, Some(125), "{outcome:?}");
    // Where no port is listed, one that CMD names may be meant.
    let guessed = run(reuseport().args(["run", "-n", "2", "--"]).args(&command));
    assert_ne!(guessed.status, Some(0), "{guessed:?}");
    let words = format!("warning: tcp 127.0.0.1:{port} is taken by ");
    assert!(guessed.stderr.contains(&words), "{guessed:?}");
    let words = format!("(process {own}, user ");
    assert!(outcome.stderr.contains(&words), "{outcome:?}");
    assert!(
        outcome.stderr.contains("without SO_REUSEPORT"),
        "{outcome:?}"
    );
}

#[test]
fn a_copy_may_be_stopped_before_its_replacement_starts() {
    let port = free_port();
    let directory = tempfile::tempdir().expect("a directory");
    let lock = directory.path().join("lock");
    // A lock for each slot, as of a server that cannot overlap with itself.
    let command = answering(&format!(
        "import fcntl\n\
         f=open('{}'+os.environ['REUSEPORT_SLOT'],'w')\n\
         fcntl.flock(f,fcntl.LOCK_EX|fcntl.LOCK_NB)\n\
         s=socket.socket(); s.bind(('127.0.0.1',{port})); s.listen()",
        lock.display()
    ));
    let runner = Runner::start(&["-n", "2"], &command);
    assert_eq!(runner.tell(&["restart"]).status, Some(1));
    assert_eq!(runner.stop(), Some(0));
    let runner = Runner::start(&["-n", "2", "--stop-first"], &command);
    let load = crate::load::Load::start(4, local(port), Talk::Http);
    runner.restart();
    let tally = load.end();
    // With another copy there, nothing is lost all the same.
    assert_eq!(tally.failed(), 0, "{tally:?}");
    assert_eq!(runner.stop(), Some(0));
}

#[test]
fn a_pinned_copy_gets_what_comes_in_on_its_cpu() {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    let set = sched_getaffinity(None).expect("the CPUs");
    let cpus: Vec<usize> = (0..CpuSet::MAX_CPU)
        .filter(|cpu| set.is_set(*cpu))
        .collect();
    let port = free_port();
    let command = threaded(port);
    let count = cpus.len().min(4);
    let runner = Runner::start(&["-n", &count.to_string(), "--pin"], &command);
    for _ in 0..2 {
        for (slot, cpu) in cpus.iter().take(count).enumerate() {
            // What this thread sends to lo comes in where it runs.
            let answers: Vec<String> = std::thread::scope(|scope| {
                let ask = || {
                    let mut own = CpuSet::new();
                    own.set(*cpu);
                    sched_setaffinity(None, &own).expect("a CPU of ours");
                    (0..8)
                        .map(|_| ask(local(port), Talk::Http).expect("an answer"))
                        .collect()
                };
                scope.spawn(ask).join().expect("a client")
            });
            assert_eq!(answers, vec![slot.to_string(); 8]);
        }
        runner.restart();
    }
    let pinned = runner.processes().into_iter().filter_map(|pid| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let name = text.lines().next()?.ends_with("python3");
        let list = text
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
        name.then(|| list.trim().to_owned())
    });
    let mut pinned: Vec<String> = pinned.collect();
    pinned.sort_unstable();
    let mut expected: Vec<String> = cpus.iter().take(count).map(usize::to_string).collect();
    expected.sort_unstable();
    assert_eq!(pinned, expected);
    let outcome = runner.tell(&["scale", "1024"]);
    assert_eq!(outcome.status, Some(1), "{outcome:?}");
    assert!(outcome.stderr.contains("one a CPU"), "{outcome:?}");
    assert_eq!(runner.stop(), Some(0));
}

#[test]
fn a_pid_file_is_one_runners_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("pid");
    let flags = ["-n", "1", "--pid-file", file.to_str().expect("UTF-8")];
    let read = || std::fs::read_to_string(&file).expect("a pid file");
    let mut first = Runner::start(&flags, &threaded(free_port()));
    let own = format!("{}\n", first.child.id());
    assert_eq!(read(), own);
    let mut second = Runner::begin(&flags, &threaded(free_port()));
    assert_eq!(second.await_end(), Some(125));
    let words = format!(
        "--pid-file {}: a runner that is there has it: process ",
        flags[3]
    );
    second.await_line(&words);
    assert_eq!(read(), own);
    // What one that was killed has left is stale.
    first.child.kill().expect("it runs");
    first.child.wait().expect("a child");
    assert_eq!(read(), own);
    let third = Runner::start(&flags, &threaded(free_port()));
    assert_eq!(read(), format!("{}\n", third.child.id()));
    assert_eq!(third.stop(), Some(0));
    assert!(!file.exists());
    let mut failed = Runner::begin(&[&flags[..], &["--no-check"]].concat(), &["false"]);
    assert_eq!(failed.await_end(), Some(1));
    assert!(!file.exists());
}

#[test]
fn a_runner_in_a_pid_namespace_of_its_own_obeys_as_any() {
    if !is_root() {
        let test = "start::a_runner_in_a_pid_namespace_of_its_own_obeys_as_any";
        skip(test, "a PID namespace of its own needs root");
        return;
    }
    let apart = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];
    let inside = Runner::begin_under(&apart, &[], &["-n", "1"], &threaded(free_port()));
    inside.await_line("1 copy serves");
    // Neither has a number for the other.
    inside.restart();
    assert_eq!(inside.state()["pid"], 1);
    let mut outside = Runner::start(&["-n", "1"], &threaded(free_port()));
    for word in ["restart", "stop"] {
        let mut command = command(apart[0]);
        command
            .args(&apart[1..])
            .arg(env!("CARGO_BIN_EXE_reuseport"));
        let outcome = run(command.args([word, &outside.name]));
        assert_eq!(outcome.status, Some(0), "{outcome:?}");
    }
    assert_eq!(outside.await_end(), Some(0));
    assert_eq!(inside.tell(&["stop"]).status, Some(0));
}

#[test]
fn a_port_that_the_rules_do_not_list_is_said() {
    let port = free_port();
    let other = free_port().to_string();
    let words = format!(
        "listens on 127.0.0.1:{port} alone, without SO_REUSEPORT: the rule --port, or \
         LIBREUSEPORT_PORT, does not list that port"
    );
    for copies in ["1", "2"] {
        let flags = ["-n", copies, "--port", &other, "--ready-timeout", "5s"];
        let mut runner = Runner::begin(&flags, &threaded(port));
        let status = runner.await_end();
        // The second copy finds the port taken.
        let expected = if copies == "1" { 125 } else { 1 };
        assert_eq!(status, Some(expected), "{:#?}", runner.said());
        runner.await_line(&words);
    }
}

#[test]
fn the_only_copy_that_is_stopped_first_is_no_promise() {
    let runner = Runner::start(&["-n", "1", "--stop-first"], &threaded(free_port()));
    runner.await_line("a restart stops the only copy before it starts the next one");
    runner.restart();
    assert_eq!(runner.stop(), Some(0));
}

#[test]
fn where_runners_are_looked_for_is_said() {
    let directory = tempfile::tempdir().expect("a directory");
    let directory = directory.path().join("none");
    for words in [&["restart", "nobody"][..], &["scale", "nobody", "2"]] {
        let outcome = run(reuseport().env("XDG_RUNTIME_DIR", &directory).args(words));
        assert_eq!(outcome.status, Some(2), "{outcome:?}");
        let place = if is_root() {
            "/run/reuseport".to_owned()
        } else {
            directory.join("reuseport").display().to_string()
        };
        assert!(outcome.stderr.contains("no runner"), "{outcome:?}");
        assert!(outcome.stderr.contains(&place), "{outcome:?}");
    }
}
