//! The output of the copies, with the number of the slot before each line.

use std::io::{BufRead, BufReader, PipeReader, Write};
use std::thread;

/// The longest piece of a line that is passed on at once.
const LONGEST: usize = 64 * 1024;

/// Passes on what `from` gives, until all who write there have ended. A thread of
/// its own: a terminal that was stopped must stop nothing else.
pub(super) fn pass_on(from: PipeReader, slot: usize, mut to: impl Write + Send + 'static) {
    thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while let Ok(1..) =
            std::io::Read::take(&mut from, LONGEST as u64).read_until(b'\n', &mut line)
        {
            let mut text = format!("[{slot}] ").into_bytes();
            text.append(&mut line);
            if text.last() != Some(&b'\n') {
                text.push(b'\n');
            }
            // Where nobody reads it, the copy is to go on.
            let _ = to.write_all(&text).and_then(|()| to.flush());
        }
    });
}
