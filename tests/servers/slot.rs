//! The place that a copy of a server fills.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tempfile::TempDir;

use crate::running::REUSEPORT;

pub struct Slot {
    pub number: usize,
    pub port: u16,
    /// A directory of the copy's own.
    directory: TempDir,
}

impl Slot {
    pub fn new(number: usize, port: u16) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("reuseport-servers-")
            .tempdir()
            .expect("a directory for temporary files");
        Self {
            number,
            port,
            directory,
        }
    }

    pub fn directory(&self) -> &str {
        self.directory.path().to_str().expect("a UTF-8 path")
    }

    /// The path of the file `name` in the copy's directory.
    pub fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.directory())
    }

    /// The words of a command, filled in. Filling in comes last, so that a path
    /// with a space stays one word.
    pub fn words(&self, command: &str) -> Vec<String> {
        let words = command.split_whitespace();
        words.map(|word| self.fill(word)).collect()
    }

    /// `text` with `{reuseport}`, the path of the program under test, and what
    /// differs between copies: `{port}`, `{slot}` (the number) and `{directory}`.
    pub fn fill(&self, text: &str) -> String {
        text.replace("{reuseport}", REUSEPORT)
            .replace("{port}", &self.port.to_string())
            .replace("{slot}", &self.number.to_string())
            .replace("{directory}", self.directory())
    }

    /// Writes the file `name`, filled in, into the copy's directory.
    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), self.fill(text)).expect("a writable directory");
    }

    /// Makes the file `target` known as `name` in the copy's directory.
    pub fn link(&self, name: &str, target: &Path) {
        symlink(target, self.path(name)).expect("a writable directory");
    }
}
