//! `reuseport run -n N`: the flags of a runner, and what it says. `restart`, `stop`,
//! `scale`: speaking to one.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, ValueEnum, ValueHint};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;
use serde_json::json;

use super::{answer, complain, status};
use crate::rules::Rules;
use crate::runner::{self, Event, MOST_COPIES, MetricsAddress, Plan, Ready, Request, Steer};

/// The flags of `run` that make it a runner.
#[derive(Args, Debug)]
#[command(next_help_heading = "Several copies")]
pub(super) struct Flags {
    /// Run N supervised copies, or as many as there are CPUs (auto)
    #[arg(short = 'n', long = "copies", value_name = "N|auto", value_parser = copies)]
    copies: Option<usize>,
    /// The name for restart, stop, scale and status [default: CMD's]
    #[arg(long, requires = "copies", value_parser = name)]
    name: Option<String>,
    /// When a copy is ready: listen, notify or http=PATH [default: listen]
    #[arg(long, value_name = "HOW", requires = "copies", value_parser = ready)]
    ready: Option<Ready>,
    /// How long a copy may take until it is ready [default: 30s]
    #[arg(long, value_name = "TIME", requires = "copies", value_parser = time)]
    ready_timeout: Option<Duration>,
    /// By which signal a copy is asked to end [default: TERM]
    #[arg(long, value_name = "SIGNAL", requires = "copies", value_parser = signal)]
    stop_signal: Option<Signal>,
    /// How long a copy may take to end before it is killed [default: 10s]
    #[arg(long, value_name = "TIME", requires = "copies", value_parser = time)]
    kill_after: Option<Duration>,
    /// How long connections of a copy that is to end are waited for [default: 10s]
    #[arg(long, value_name = "TIME", requires = "copies", value_parser = time)]
    drain_timeout: Option<Duration>,
    /// Give up after more than N restarts within TIME
    #[arg(long, value_name = "N/TIME", requires = "copies", value_parser = restarts)]
    max_restarts: Option<(u32, Duration)>,
    /// Stop a copy before its replacement starts, for servers that cannot overlap
    #[arg(long, requires = "copies")]
    stop_first: bool,
    /// By what connections are spread [default: hash]
    #[arg(long, value_name = "HOW", requires = "copies")]
    steer: Option<SteerName>,
    /// Keep each copy on a CPU of its own, to which go the connections that come in
    /// there unless --steer says otherwise
    #[arg(long, requires = "copies")]
    pin: bool,
    /// Pass output on without the slot's number, on a terminal too
    #[arg(long, requires = "copies")]
    raw_output: bool,
    /// Write the runner's process id to this file
    #[arg(long, value_name = "FILE", requires = "copies", value_hint = ValueHint::FilePath)]
    pid_file: Option<PathBuf>,
    /// Serve metrics there over HTTP
    #[arg(long, value_name = "unix:PATH|ADDR:PORT", requires = "copies")]
    metrics: Option<MetricsAddress>,
    /// How events are written on standard error [default: lines]
    #[arg(long, value_name = "FORMAT", requires = "copies")]
    log_format: Option<LogFormat>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SteerName {
    Hash,
    Cpu,
    Random,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum LogFormat {
    #[default]
    Lines,
    Json,
}

fn copies(text: &str) -> Result<usize, String> {
    if text == "auto" {
        let cores = std::thread::available_parallelism();
        return cores.map(usize::from).map_err(|error| error.to_string());
    }
    match text.parse() {
        Ok(count @ 1..=MOST_COPIES) => Ok(count),
        _ => Err(format!("give a number from 1 to {MOST_COPIES}, or auto")),
    }
}

fn name(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_good = text.len() <= 64 && text.chars().all(is_plain) && !text.starts_with(['.', '-']);
    if is_good && !text.is_empty() && !text.chars().all(|c| c.is_ascii_digit()) {
        Ok(text.to_owned())
    } else {
        Err("give up to 64 letters, digits, - _ and ., not all of them digits".into())
    }
}

fn ready(text: &str) -> Result<Ready, String> {
    match text.split_once('=') {
        None if text == "listen" => Ok(Ready::Listen),
        None if text == "notify" => Ok(Ready::Notify),
        Some(("http", path))
            if path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic()) =>
        {
            Ok(Ready::Http(path.to_owned()))
        }
        _ => Err("give listen, notify or http=/PATH".into()),
    }
}

/// A time: `10s`, `500ms`, `2m`; a number alone is seconds.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    const LONGEST: f64 = 86_400.0;
    let (number, unit) = match text.find(|c: char| c.is_ascii_alphabetic()) {
        Some(at) => text.split_at(at),
        None => (text, "s"),
    };
    let factor = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => f64::NAN,
    };
    match number.parse::<f64>().map(|number| number * factor) {
        Ok(seconds @ 0.0..=LONGEST) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("give a time up to a day: 10s, 500ms, 2m".into()),
    }
}

fn restarts(text: &str) -> Result<(u32, Duration), String> {
    let wrong = || "give a number and a time: 5/60s".to_owned();
    let (count, limit) = text.split_once('/').ok_or_else(wrong)?;
    Ok((count.parse().map_err(|_| wrong())?, time(limit)?))
}

fn signal(text: &str) -> Result<Signal, String> {
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let found = match name {
        "HUP" => Signal::HUP,
        "INT" => Signal::INT,
        "QUIT" => Signal::QUIT,
        "KILL" => Signal::KILL,
        "USR1" => Signal::USR1,
        "USR2" => Signal::USR2,
        "TERM" => Signal::TERM,
        "WINCH" => Signal::WINCH,
        _ => {
            let number = name.parse().ok().and_then(Signal::from_named_raw);
            return number.ok_or_else(|| {
                "there is no such signal; give TERM, INT, QUIT, HUP, USR1, USR2, WINCH, KILL \
                 or a number"
                    .into()
            });
        }
    };
    Ok(found)
}

/// What the runner is to run.
pub(super) struct Command {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<OsString>,
    pub(super) environment: Vec<(OsString, OsString)>,
    pub(super) rules: Rules,
}

impl Flags {
    pub(super) fn is_runner(&self) -> bool {
        self.copies.is_some()
    }

    /// Runs copies of `command`, and gives the exit status.
    ///
    /// # Errors
    /// Nothing was started.
    pub(super) fn run(self, command: Command) -> Result<u8, String> {
        const READY: Duration = Duration::from_secs(30);
        const END: Duration = Duration::from_secs(10);
        let name = self.name.unwrap_or_else(|| {
            let file = command.program.file_name().unwrap_or_default();
            let file = file.to_string_lossy().into_owned();
            let is_free = runner::runners().iter().all(|one| one.name != file);
            match name(&file) {
                Ok(file) if is_free => file,
                _ => format!("runner-{}", std::process::id()),
            }
        });
        let cpus = if self.pin {
            runner::cpus().map_err(|error| format!("--pin: {error}"))?
        } else {
            Vec::new()
        };
        let plan = Plan {
            program: command.program,
            arguments: command.arguments,
            environment: command.environment,
            copies: self.copies.unwrap_or(1),
            name,
            ready: self.ready.unwrap_or(Ready::Listen),
            ready_timeout: self.ready_timeout.unwrap_or(READY),
            stop_signal: self.stop_signal.unwrap_or(Signal::TERM),
            kill_after: self.kill_after.unwrap_or(END),
            drain_timeout: self.drain_timeout.unwrap_or(END),
            max_restarts: self.max_restarts,
            stop_first: self.stop_first,
            steer: match self.steer {
                None if self.pin => Steer::Cpu,
                None | Some(SteerName::Hash) => Steer::Hash,
                Some(SteerName::Cpu) => Steer::Cpu,
                Some(SteerName::Random) => Steer::Random,
            },
            cpus,
            rules: command.rules,
            prefix: io::stdout().is_terminal() && !self.raw_output,
            pid_file: self.pid_file,
            metrics: self.metrics,
        };
        if plan.copies > plan.most() {
            return Err(format!(
                "--pin: {} copies, and this process may use {} CPUs",
                plan.copies,
                plan.most()
            ));
        }
        let format = self.log_format.unwrap_or_default();
        runner::run(plan, &mut |event| write(format, event)).map_err(|error| error.to_string())
    }
}

/// Writes an event; where that fails, nobody reads.
fn write(format: LogFormat, event: &Event) {
    let line = match format {
        LogFormat::Lines => format!("reuseport: {event}\n"),
        LogFormat::Json => {
            let time = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            let object = json!({
                "time": time.as_secs_f64(),
                "event": event.kind,
                "slot": event.slot,
                "message": event.message,
            });
            format!("{object}\n")
        }
    };
    // The runner waits for no one who has stopped to read: a pipe that may be written
    // to has room for a line.
    let stderr = io::stderr();
    let mut ready = [PollFd::new(&stderr, PollFlags::OUT)];
    let limit = Timespec {
        tv_sec: 0,
        tv_nsec: 100_000_000,
    };
    if poll(&mut ready, Some(&limit)) == Ok(1) {
        let _ = io::stderr().write_all(line.as_bytes());
    }
}

/// Replace all copies of a runner, one after another
#[derive(Args, Debug)]
pub(super) struct Restart {
    /// The runner's name or process id; may be left out where there is one alone
    runner: Option<String>,
}

/// End a runner and its copies
#[derive(Args, Debug)]
pub(super) struct Stop {
    /// The runner's name or process id; may be left out where there is one alone
    runner: Option<String>,
}

/// Change the number of a runner's copies
#[derive(Args, Debug)]
pub(super) struct Scale {
    /// The runner's name or process id, and the number of copies; the first may be
    /// left out where there is one runner alone
    #[arg(value_name = "[NAME|PID] N", num_args = 1..=2, required = true)]
    words: Vec<String>,
}

pub(super) fn restart(arguments: &Restart) -> u8 {
    ask(arguments.runner.as_deref(), Request::Restart)
}

pub(super) fn stop(arguments: &Stop) -> u8 {
    ask(arguments.runner.as_deref(), Request::Stop)
}

pub(super) fn scale(arguments: &Scale) -> u8 {
    let (runner, count) = match &arguments.words[..] {
        [count] => (None, count),
        [runner, count, ..] => (Some(runner.as_str()), count),
        [] => return status::FAULT,
    };
    match copies(count) {
        Ok(count) => ask(runner, Request::Scale(count)),
        Err(why) => complain(&format_args!("{count}: {why}"), status::FAULT),
    }
}

/// Asks the runner that is meant, and waits until it is done.
fn ask(name: Option<&str>, request: Request) -> u8 {
    let runner = match runner::find(name) {
        Ok(runner) => runner,
        Err(why) => return complain(&why, status::FAULT),
    };
    match runner::ask(runner, request) {
        Ok(reply) if reply.status == status::DONE => {
            answer(format!("{}\n", reply.message).as_bytes())
        }
        Ok(reply) => complain(&reply.message, reply.status),
        Err(error) => complain(&format_args!("the runner has ended: {error}"), status::NO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit_or_are_seconds() {
        for (text, milliseconds) in [
            ("10", 10_000),
            ("1.5s", 1500),
            ("20ms", 20),
            ("2m", 120_000),
        ] {
            assert_eq!(
                time(text),
                Ok(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
        for text in ["", "s", "-1", "1d", "2000h", "nan", "inf"] {
            assert!(time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_are_plain_and_no_process_id() {
        for text in ["nginx", "a.b-c_9"] {
            assert_eq!(name(text).as_deref(), Ok(text));
        }
        for text in ["", "1234", "../x", ".x", "a/b", "a b", "-x"] {
            assert!(name(text).is_err(), "{text}");
        }
    }
}
