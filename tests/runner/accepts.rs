//! What the copies have accepted, as their shim counts it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::load::{Talk, ask};
use crate::status::look_in;
use crate::supervised::{Runner, answering, local};
use crate::support::{command, compile, free_port, output, wait_for};

/// How many connections each member of the only group has accepted.
fn accepted(runner: &Runner) -> Vec<Option<u64>> {
    let groups = look_in(runner, &[&runner.name]);
    let members = groups[0]["members"].as_array().expect("members").iter();
    members.map(|one| one["accepted"].as_u64()).collect()
}

#[test]
fn each_connection_is_counted_once_and_waiting_threads_can_be_cancelled() {
    let program = compile("gcc", "runner/cancel.c", &["-pthread", "-fexceptions"]);
    let port = free_port();
    let text = port.to_string();
    let runner = Runner::start(&["-n", "2"], &[program.to_str().expect("UTF-8"), &text]);
    runner.await_count("cleaned", 2);
    runner.await_count("was cancelled", 2);
    assert_eq!(accepted(&runner), [Some(0), Some(0)]);
    for _ in 0..40 {
        let mut stream = TcpStream::connect(local(port)).expect("they listen");
        let patience = Some(Duration::from_secs(30));
        stream.set_read_timeout(patience).expect("a time");
        stream.write_all(b"?").expect("written");
        let mut answer = [0];
        stream.read_exact(&mut answer).expect("an answer");
    }
    let counts = accepted(&runner);
    let sum: Option<u64> = counts.iter().copied().sum();
    assert_eq!((counts.len(), sum), (2, Some(40)), "{counts:?}");
    // A new copy begins at 0.
    runner.restart();
    wait_for("the old copies are gone", || {
        (accepted(&runner) == [Some(0), Some(0)]).then_some(())
    });
    assert_eq!(runner.stop(), Some(0));
}

#[test]
fn where_files_may_not_grow_nothing_is_counted_and_nothing_killed() {
    let program = compile("gcc", "runner/cancel.c", &["-pthread", "-fexceptions"]);
    let text = free_port().to_string();
    let script = format!("ulimit -f 0; exec {} {text}", program.display());
    let runner = Runner::start(&["-n", "1"], &["sh", "-c", &script]);
    assert_eq!(accepted(&runner), [None]);
    assert_eq!(runner.stop(), Some(0));
}

#[test]
fn what_listens_before_it_goes_into_the_background_is_counted() {
    let port = free_port();
    let directory = tempfile::tempdir().expect("a directory");
    let begin = directory.path().join("begin");
    let command = answering(&format!(
        "while not os.path.exists('{}'): time.sleep(0.01)\n\
         s=socket.socket(); s.bind(('127.0.0.1',{port})); s.listen()\n\
         if os.fork(): os._exit(0)\n\
         os.setsid()",
        begin.display()
    ));
    let runner = Runner::begin(&["-n", "1"], &command);
    runner.await_line("slot 0: process ");
    let first = runner.state()["copies"][0]["pid"]
        .as_u64()
        .expect("it runs");
    let first = u32::try_from(first).expect("a process");
    // It hears of the socket when who listened has gone.
    runner.signal(Signal::STOP);
    std::fs::write(&begin, "").expect("a file");
    let process = format!("/proc/{first}");
    wait_for("it has gone", || {
        (!Path::new(&process).exists()).then_some(())
    });
    runner.signal(Signal::CONT);
    runner.await_line("1 copy serves");
    assert_eq!(ask(local(port), Talk::Http).expect("an answer"), "1");
    assert_eq!(accepted(&runner), [Some(1)]);
    assert_eq!(runner.stop(), Some(0));
}

#[test]
fn the_shim_of_copies_has_two_hooks_more_and_unwind_tables() {
    let program = compile("gcc", "runner/cancel.c", &["-pthread", "-fexceptions"]);
    let text = free_port().to_string();
    let runner = Runner::start(&["-n", "1"], &[program.to_str().expect("UTF-8"), &text]);
    let groups = look_in(&runner, &[&runner.name]);
    let pid = &groups[0]["members"][0]["pids"][0];
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("it runs");
    let paths = maps
        .lines()
        .filter_map(|line| line.split_whitespace().nth(5));
    let mut shims = paths.filter(|path| path.contains("/libreuseport-"));
    let shim = shims.next().expect("the shim");
    let symbols = output(command("readelf").args(["--dyn-syms", "--wide", shim]));
    let mut hooks: Vec<&str> = symbols
        .lines()
        .filter(|line| line.contains(" GLOBAL ") && !line.contains(" UND "))
        .filter_map(|line| line.split_whitespace().last())
        .collect();
    hooks.sort_unstable();
    assert_eq!(hooks, ["accept", "accept4", "bind", "listen", "syscall"]);
    let segments = output(command("readelf").args(["--segments", "--wide", shim]));
    assert!(segments.contains("GNU_EH_FRAME"), "{segments}");
    assert_eq!(runner.stop(), Some(0));
}
