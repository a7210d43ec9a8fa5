//! The runner as a service: its manager, its metrics, and what it costs when nothing
//! happens.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use rustix::process::Signal;

use crate::supervised::{Runner, local, threaded};
use crate::support::reuseport;
use crate::support::{free_port, wait_for};

/// A service manager's socket.
fn manager(path: &std::path::Path) -> UnixDatagram {
    let manager = UnixDatagram::bind(path).expect("a socket");
    let limit = Some(Duration::from_secs(20));
    manager.set_read_timeout(limit).expect("a timeout");
    manager
}

fn heard(manager: &UnixDatagram) -> String {
    let mut buffer = [0; 256];
    let length = manager.recv(&mut buffer).expect("a message");
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

#[test]
fn a_service_manager_is_told_and_events_can_be_json() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("notify");
    let manager = manager(&path);
    let command = threaded(free_port());
    let variable = format!("NOTIFY_SOCKET={}", path.display());
    let runner = Runner::begin_in(&[&variable], &["-n", "2", "--log-format", "json"], &command);
    let own = runner.child.id();
    assert_eq!(heard(&manager), format!("READY=1\nMAINPID={own}"));
    runner.restart();
    let reloading = heard(&manager);
    let (first, time) = reloading.split_once("\nMONOTONIC_USEC=").expect("a time");
    assert_eq!(first, "RELOADING=1");
    let uptime = fs::read_to_string("/proc/uptime").expect("proc");
    let uptime: f64 = uptime
        .split(' ')
        .next()
        .expect("a word")
        .parse()
        .expect("seconds");
    let time: f64 = time.parse().expect("microseconds");
    assert!(
        (0.0..60.0).contains(&(uptime - time / 1e6)),
        "{time} {uptime}"
    );
    assert_eq!(heard(&manager), "READY=1");
    for line in runner.said() {
        let event: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert!(
            event["event"].is_string() && event["time"].is_number(),
            "{line}"
        );
    }
    assert_eq!(runner.stop(), Some(0));
    assert_eq!(heard(&manager), "STOPPING=1");
}

#[test]
fn a_watchdog_is_told_in_time_and_copies_know_nothing_of_it() {
    let port = free_port();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("notify");
    let manager = manager(&path);
    // It ends where it sees the manager's variables.
    let script = format!(
        "import os,socket,sys,time\n\
         if {{'NOTIFY_SOCKET','WATCHDOG_USEC'}} & set(os.environ): sys.exit(9)\n\
         s=socket.socket(); s.bind(('127.0.0.1',{port})); s.listen(); time.sleep(1000)"
    );
    let variables = [
        &format!("NOTIFY_SOCKET={}", path.display())[..],
        "WATCHDOG_USEC=200000",
    ];
    let runner = Runner::begin_in(&variables, &["-n", "1"], &["python3", "-c", &script]);
    let mut is_ready = false;
    let mut count = 0;
    while !is_ready || count < 5 {
        match &heard(&manager)[..] {
            "WATCHDOG=1" => count += 1,
            text if text.starts_with("READY=1") => is_ready = true,
            text => panic!("{text}"),
        }
    }
    assert_eq!(runner.stop(), Some(0));
}

/// What is served at `/metrics` through `stream`.
fn scrape(mut stream: impl Read + Write) -> String {
    let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
    stream.write_all(request).expect("written");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("UTF-8");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("\r\nContent-Type: application/openmetrics-text; version=1.0.0"));
    assert!(body.ends_with("# EOF\n"), "{body}");
    body.to_owned()
}

/// The value of the sample whose name and labels begin and end so.
fn value(text: &str, name: &str, label: &str) -> Option<f64> {
    let line = text
        .lines()
        .find(|line| line.starts_with(name) && line.contains(label))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

#[test]
fn metrics_are_served_to_a_few_at_once() {
    let (port, at) = (free_port(), free_port());
    let command = threaded(port);
    let place = format!("127.0.0.1:{at}");
    let runner = Runner::start(&["-n", "2", "--metrics", &place], &command);
    runner.await_line(&format!("metrics at http://{place}/metrics"));
    assert_eq!(runner.count("warning"), 0);
    let look = || scrape(TcpStream::connect(local(at)).expect("connects"));
    let before = look();
    let own = format!("runner=\"{}\"", runner.name);
    assert_eq!(
        value(&before, "reuseport_slots{", &own),
        Some(2.0),
        "{before}"
    );
    assert_eq!(
        value(&before, "reuseport_copies{", "state=\"serving\""),
        Some(2.0)
    );
    let queue = format!("address=\"127.0.0.1:{port}\"");
    assert_eq!(
        value(&before, "reuseport_accept_queue_limit{", &queue),
        Some(128.0)
    );
    assert_eq!(value(&before, "reuseport_steered{", &queue), Some(1.0));
    runner.restart();
    // Those who connect and say nothing do not keep others waiting for long.
    let silent: Vec<TcpStream> = (0..40)
        .map(|_| TcpStream::connect(local(at)).expect("connects"))
        .collect();
    let after = look();
    assert_eq!(
        value(
            &after,
            "reuseport_rolling_restarts_total{",
            "outcome=\"done\""
        ),
        Some(1.0),
        "{after}"
    );
    assert_eq!(
        value(&after, "reuseport_copy_starts_total{", &own),
        Some(4.0)
    );
    drop(silent);
    let mut long = TcpStream::connect(local(at)).expect("connects");
    // It may have been closed before all is written.
    let _ = long.write_all(&vec![b'x'; 100_000]);
    let mut answer = Vec::new();
    let _ = long.read_to_end(&mut answer);
    assert_eq!(answer, b"");
    assert_eq!(runner.stop(), Some(0));
}

#[test]
fn metrics_on_a_unix_socket_are_this_users_alone() {
    use std::os::unix::fs::PermissionsExt;
    let command = threaded(free_port());
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("metrics");
    // What a runner that was killed has left.
    drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket"));
    let place = format!("unix:{}", path.display());
    let runner = Runner::start(&["-n", "1", "--metrics", &place], &command);
    let mode = fs::metadata(&path).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = scrape(UnixStream::connect(&path).expect("connects"));
    assert_eq!(
        value(&text, "reuseport_restarting{", ""),
        Some(0.0),
        "{text}"
    );
    let second = crate::support::run(
        reuseport()
            .args([
                "run",
                "-n",
                "1",
                "--name",
                "second",
                "--metrics",
                &place,
                "--",
            ])
            .args(&command),
    );
    assert_eq!(second.status, Some(125), "{second:?}");
    assert!(second.stderr.contains("metrics: unix:"), "{second:?}");
    assert_eq!(runner.stop(), Some(0));
    assert!(!path.exists());
    let runner = Runner::start(&["-n", "1", "--metrics", "0.0.0.0:0"], &command);
    runner.await_line("warning: whoever reaches that address may read them");
    assert_eq!(runner.stop(), Some(0));
}

/// A number of `/proc/PID/status`.
fn field(pid: u32, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let line = line.expect("the field").trim_start_matches(':').trim();
    line.split(' ')
        .next()
        .expect("a word")
        .parse()
        .expect("a number")
}

fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("it runs")
        .count()
}

#[test]
fn it_sleeps_when_nothing_happens_and_asking_leaves_nothing() {
    let command = threaded(free_port());
    let metrics = format!("127.0.0.1:{}", free_port());
    let runner = Runner::start(&["-n", "2", "--metrics", &metrics], &command);
    let own = runner.child.id();
    let keepers = runner.keepers();
    assert_eq!(keepers.len(), 2);
    sleep(Duration::from_millis(300));
    let all = || {
        let pids = keepers.iter().copied().chain([own]);
        pids.map(|pid| field(pid, "voluntary_ctxt_switches"))
            .collect::<Vec<_>>()
    };
    // Commands of other tests ask every runner for its name.
    wait_for("a second in which nobody wakes", || {
        let before = all();
        sleep(Duration::from_secs(1));
        (all() == before).then_some(())
    });
    let threads = fs::read_dir(format!("/proc/{own}/task"))
        .expect("it runs")
        .count();
    assert_eq!(threads, 1);

    let path = runner.control();
    let entries = || {
        fs::read_dir(path.parent().expect("a directory"))
            .expect("it is there")
            .count()
    };
    let ask = || {
        runner.state();
    };
    ask();
    let (open, files, memory) = (descriptors(own), entries(), field(own, "VmRSS"));
    for _ in 0..1000 {
        ask();
    }
    wait_for("all are closed", || {
        (descriptors(own) == open).then_some(())
    });
    assert_eq!(entries(), files);
    let grown = field(own, "VmRSS").saturating_sub(memory);
    assert!(grown < 512, "{grown} KB more than {memory}");
    assert!(
        field(own, "RssAnon") < 10_000,
        "{} KB",
        field(own, "RssAnon")
    );
    assert_eq!(runner.stop(), Some(0));
}

#[test]
fn those_who_hold_the_control_socket_and_say_nothing_make_way() {
    let command = threaded(free_port());
    let runner = Runner::start(&["-n", "1"], &command);
    let connect = || UnixStream::connect(runner.control()).expect("it listens");
    let held: Vec<UnixStream> = (0..100).map(|_| connect()).collect();
    runner.restart();
    let before = field(runner.child.id(), "voluntary_ctxt_switches");
    sleep(Duration::from_millis(500));
    let after = field(runner.child.id(), "voluntary_ctxt_switches");
    assert!(after - before < 20, "{before} {after}");
    drop(held);
    assert_eq!(runner.stop(), Some(0));
}

#[test]
fn whoever_reads_its_output_may_go_or_stop_reading() {
    let port = free_port();
    let directory = tempfile::tempdir().expect("a directory");
    let mut child = Command::new(env!("CARGO_BIN_EXE_reuseport"))
        .args(["run", "-n", "1", "--name", "reader", "--"])
        .args(threaded(port))
        .env("XDG_RUNTIME_DIR", directory.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    // Nobody reads, and the pipe fills up.
    let serves = || crate::load::ask(local(port), crate::load::Talk::Http).ok();
    wait_for("it serves", serves);
    let pid = rustix::process::Pid::from_child(&child);
    let signal = |signal| rustix::process::kill_process(pid, signal).expect("it runs");
    for _ in 0..3000 {
        signal(Signal::USR1);
        sleep(Duration::from_micros(200));
    }
    assert!(serves().is_some());
    drop(child.stderr.take());
    signal(Signal::HUP);
    sleep(Duration::from_millis(200));
    assert!(serves().is_some());
    signal(Signal::TERM);
    let ended = wait_for("it ends", || child.try_wait().expect("a child"));
    assert_eq!(ended.code(), Some(0));
}

#[test]
fn a_terminal_that_is_closed_ends_it_but_for_nohup() {
    // It is in a session with a terminal of its own. HUP restarts it; then the terminal
    // is closed.
    let script = "import os,pty,signal,sys,time\n\
         log,nohup,command=sys.argv[1],sys.argv[2],sys.argv[3:]\n\
         pid,fd=pty.fork()\n\
         if pid==0:\n\
         \x20if nohup=='yes': signal.signal(signal.SIGHUP,signal.SIG_IGN)\n\
         \x20os.dup2(os.open(log,os.O_WRONLY|os.O_CREAT),2)\n\
         \x20os.execv(command[0],command)\n\
         def wait(text):\n\
         \x20end=time.monotonic()+20\n\
         \x20while not os.path.exists(log) or text not in open(log).read():\n\
         \x20\x20assert time.monotonic()<end,text\n\
         \x20\x20time.sleep(0.01)\n\
         wait('1 copy serves')\n\
         os.kill(pid,signal.SIGHUP)\n\
         wait('replaced 1 copy')\n\
         os.close(fd)\n\
         wait('its terminal was closed')\n\
         if nohup=='yes': os.kill(pid,signal.SIGTERM)\n\
         print(os.waitstatus_to_exitcode(os.waitpid(pid,0)[1]),'as with nohup' in open(log).read())";
    for (nohup, expected) in [("no", "0 False\n"), ("yes", "0 True\n")] {
        let directory = tempfile::tempdir().expect("a directory");
        let log = directory.path().join("log");
        let name = format!("terminal-{}-{nohup}", std::process::id());
        let printed = crate::support::output(
            crate::support::command("python3")
                .args(["-c", script])
                .args([log.to_str().expect("UTF-8"), nohup])
                .args([env!("CARGO_BIN_EXE_reuseport"), "run", "-n", "1"])
                .args(["--name", &name, "--"])
                .args(threaded(free_port()))
                .env("XDG_RUNTIME_DIR", directory.path())
                .env("XDG_DATA_HOME", directory.path()),
        );
        assert_eq!(printed, expected);
    }
}
