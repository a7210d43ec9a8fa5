//! `--watch`: the same again and again, on a terminal as a live view.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use super::look::{Look, Subject};
use super::{json, screen, text};
use crate::cli::{complain, status};

/// Looks every `pause` until it is told to end, or nobody reads any more.
pub(super) fn run(subject: &Subject, pause: Duration, as_json: bool) -> u8 {
    let outcome = if io::stdout().is_terminal() && io::stdin().is_terminal() && !as_json {
        on_terminal(subject, pause)
    } else {
        as_lines(subject, pause, as_json)
    };
    match outcome {
        Ok(()) => status::DONE,
        Err(why) => complain(&why, status::FAULT),
    }
}

/// Each look as text with an empty line after it, or as one line of JSON.
fn as_lines(subject: &Subject, pause: Duration, as_json: bool) -> Result<(), String> {
    let mut before: Option<Look> = None;
    loop {
        let look = Look::at(subject)?;
        let rates = look.rates(before.as_ref());
        let text = if as_json {
            format!("{}\n", json::all(&look, &rates))
        } else {
            format!("{}\n", text::all(&look, &rates))
        };
        let mut output = io::stdout().lock();
        match output
            .write_all(text.as_bytes())
            .and_then(|()| output.flush())
        {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(format!("standard output: {error}")),
        }
        drop(output);
        before = Some(look);
        std::thread::sleep(pause);
    }
}

fn on_terminal(subject: &Subject, pause: Duration) -> Result<(), String> {
    // What is wrong from the start is said where it can be read.
    let first = Look::at(subject)?;
    let is_over = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
        let registered = signal_hook::flag::register(signal, Arc::clone(&is_over));
        registered.map_err(|error| format!("signals: {error}"))?;
    }
    let mut terminal =
        ratatui::try_init().map_err(|error| format!("the terminal cannot be used: {error}"))?;
    let outcome = show(&mut terminal, subject, pause, first, &is_over);
    ratatui::restore();
    outcome
}

fn show(
    terminal: &mut DefaultTerminal,
    subject: &Subject,
    pause: Duration,
    mut look: Look,
    is_over: &AtomicBool,
) -> Result<(), String> {
    let failed = |error: io::Error| format!("the terminal: {error}");
    let mut rates = look.rates(None);
    let mut next = Instant::now() + pause;
    loop {
        terminal
            .draw(|frame| screen::draw(frame, &look, &rates))
            .map_err(failed)?;
        // A signal does not always wake it.
        let left = next.saturating_duration_since(Instant::now());
        if event::poll(left.min(Duration::from_secs(1))).map_err(failed)?
            && let Event::Key(key) = event::read().map_err(failed)?
            && key.kind == KeyEventKind::Press
        {
            let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
            match key.code {
                KeyCode::Char('q') | KeyCode::Esc => return Ok(()),
                KeyCode::Char('c') if is_control => return Ok(()),
                _ => {}
            }
        }
        if is_over.load(Ordering::Relaxed) {
            return Ok(());
        }
        if Instant::now() >= next {
            let new = Look::at(subject)?;
            rates = new.rates(Some(&look));
            look = new;
            next = Instant::now() + pause;
        }
    }
}
