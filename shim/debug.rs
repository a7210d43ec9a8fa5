//! The lines of `LIBREUSEPORT_DEBUG`: one write(2) each, so that the lines of
//! several processes do not mix, from a buffer on the stack.
#![allow(unsafe_code, reason = "system calls")]

use crate::arch::{self, number};
use crate::errno::Errno;
use crate::hooks::Done;
use crate::reason::Reason;
use crate::rules::{Endpoint, Interface, Invalid, Rules, Setting};

/// What becomes of one call of bind(2).
pub struct Report<'a> {
    pub fd: i32,
    /// What it was to bind to, where that could be read.
    pub endpoint: Option<Endpoint>,
    /// What was asked for.
    pub rules: &'a Rules,
    /// What was set, or why nothing was.
    pub done: Result<Done, Reason>,
    /// How the real bind failed, if it did.
    pub failure: Option<Errno>,
}

/// Says what was done before a bind, and how that bind went.
pub fn bind(name: &[u8], report: &Report<'_>) {
    let mut line = Line::new(name);
    line.report(report);
    line.write();
}

/// Says that `value`, which does not parse, makes the shim stand down.
pub fn invalid(name: &[u8], invalid: Invalid, value: &[u8]) {
    let mut line = Line::new(name);
    line.invalid(invalid, value);
    line.write();
}

fn word(setting: Setting) -> &'static [u8] {
    match setting {
        Setting::Leave => b"left",
        Setting::Clear => b"cleared",
        Setting::Set => b"set",
    }
}

/// The longest line, in bytes.
const LONGEST: usize = 400;

/// The most bytes of a value that are shown.
const LONGEST_ITEM: usize = 40;

/// A line being put together; what does not fit is cut off.
struct Line {
    bytes: [u8; LONGEST],
    length: usize,
}

impl Line {
    fn new(name: &[u8]) -> Self {
        // SAFETY: getpid(2) takes no argument and cannot fail.
        let process = unsafe { arch::syscall3(number::GETPID, [0; 3]) };
        let mut line = Self {
            bytes: [0; LONGEST],
            length: 0,
        };
        line.text("reuseport: ");
        line.foreign(name);
        line.text("[");
        line.number(process.unwrap_or(0));
        line.text("]: ");
        line
    }

    fn report(&mut self, report: &Report<'_>) {
        self.text("bind ");
        match report.endpoint {
            Some(endpoint) => self.endpoint(endpoint),
            None => {
                self.text("fd ");
                self.number(report.fd.cast_unsigned() as usize);
            }
        }
        self.text(": ");
        match report.done {
            Ok(done) => self.done(report.rules, &done),
            Err(reason) => self.reason(reason),
        }
        if let Some(errno) = report.failure {
            self.text("; bind failed: ");
            self.errno(errno);
            let is_set = matches!(
                report.done,
                Ok(Done {
                    reuseport: Some(Ok(())),
                    ..
                })
            );
            if errno == Errno::EADDRINUSE && is_set && report.rules.reuseport == Setting::Set {
                self.text(
                    " (usually: whoever bound the port first did so without SO_REUSEPORT, \
                     or under another effective user ID)",
                );
            }
        }
    }

    #[inline(never)]
    fn done(&mut self, rules: &Rules, done: &Done) {
        let device = match &rules.interface {
            Interface::Named(name) => name.as_bytes(),
            _ => b"",
        };
        let mut separator = "";
        for (option, outcome, value) in [
            ("SO_BINDTODEVICE", done.device, device),
            ("SO_REUSEPORT", done.reuseport, word(rules.reuseport)),
            ("SO_REUSEADDR", done.reuseaddr, word(rules.reuseaddr)),
        ] {
            let Some(outcome) = outcome else {
                continue;
            };
            self.text(separator);
            separator = ", ";
            self.text(option);
            match outcome {
                Ok(()) => {
                    self.text(" ");
                    self.foreign(value);
                }
                Err(errno) => {
                    self.text(" failed: ");
                    self.errno(errno);
                }
            }
        }
    }

    fn reason(&mut self, reason: Reason) {
        self.text("nothing set: ");
        self.text(reason.name());
        if let Reason::ProtocolUnknown(errno) = reason {
            self.text(": ");
            self.errno(errno);
        }
    }

    fn invalid(&mut self, invalid: Invalid, value: &[u8]) {
        self.text(invalid.variable.name());
        self.text(" does not parse: \"");
        let item = invalid.text(value);
        self.foreign(item.get(..LONGEST_ITEM).unwrap_or(item));
        self.text("\": ");
        self.text(invalid.flaw.text());
        self.text(if invalid.variable.is_interface() {
            "; binds that match fail with EINVAL"
        } else {
            "; standing down"
        });
    }

    #[inline(never)]
    fn errno(&mut self, errno: Errno) {
        match errno.name() {
            Some(name) => self.text(name),
            None => {
                self.text("error ");
                self.number(errno.0.cast_unsigned() as usize);
            }
        }
    }

    /// An address and port as in RFC 3986: `127.0.0.1:80`, `[::1]:80`.
    #[inline(never)]
    fn endpoint(&mut self, endpoint: Endpoint) {
        match endpoint.address.to_ipv4() {
            Some(address) => {
                let mut separator = "";
                for byte in address.to_be_bytes() {
                    self.text(separator);
                    separator = ".";
                    self.number(byte.into());
                }
            }
            None => {
                self.text("[");
                self.ipv6(endpoint.address.to_ipv6());
                self.text("]");
            }
        }
        self.text(":");
        self.number(endpoint.port.into());
    }

    /// An IPv6 address as RFC 5952 writes it: the longest run of two or more
    /// zero groups, the first of several, is left out.
    #[inline(never)]
    fn ipv6(&mut self, address: u128) {
        let group = |index: u32| (address >> (112 - 16 * index)) & 0xffff;
        let zeros_at = |start: u32| (start..8).take_while(|&index| group(index) == 0).count();
        let mut longest = (0, 1);
        for start in 0..8 {
            if zeros_at(start) > longest.1 {
                longest = (start, zeros_at(start));
            }
        }
        let mut index = 0;
        let mut separator = "";
        while index < 8 {
            if longest.1 > 1 && index == longest.0 {
                self.text("::");
                separator = "";
                index += longest.1 as u32;
                continue;
            }
            self.text(separator);
            separator = ":";
            self.digits::<16>(group(index) as usize);
            index += 1;
        }
    }

    fn number(&mut self, number: usize) {
        self.digits::<10>(number);
    }

    #[inline(never)]
    fn digits<const BASE: usize>(&mut self, number: usize) {
        let mut digits = [0; 20];
        let mut used = 0;
        let mut rest = number;
        for slot in digits.iter_mut().rev() {
            let digit = (rest % BASE) as u8;
            *slot = if digit < 10 {
                b'0' + digit
            } else {
                b'a' - 10 + digit
            };
            used += 1;
            rest /= BASE;
            if rest == 0 {
                break;
            }
        }
        for &digit in digits.iter().skip(digits.len() - used) {
            self.byte(digit);
        }
    }

    /// Text that is not ours, up to its terminator if it has one; what could
    /// change a terminal's state is shown as `?`.
    #[inline(never)]
    fn foreign(&mut self, text: &[u8]) {
        for &byte in text.iter().take_while(|&&byte| byte != 0) {
            let plain = byte == b' ' || byte.is_ascii_graphic();
            self.byte(if plain { byte } else { b'?' });
        }
    }

    #[inline(never)]
    fn text(&mut self, text: &str) {
        for &byte in text.as_bytes() {
            self.byte(byte);
        }
    }

    #[inline(never)]
    fn byte(&mut self, byte: u8) {
        // The last byte is kept for the end of the line.
        if self.length < LONGEST - 1
            && let Some(slot) = self.bytes.get_mut(self.length)
        {
            *slot = byte;
            self.length += 1;
        }
    }

    /// The line as it is written.
    fn finished(&mut self) -> &[u8] {
        if let Some(slot) = self.bytes.get_mut(self.length) {
            *slot = b'\n';
        }
        self.bytes.get(..=self.length).unwrap_or_default()
    }

    fn write(mut self) {
        const STDERR: usize = 2;
        let line = self.finished();
        let arguments = [STDERR, line.as_ptr().expose_provenance(), line.len()];
        // SAFETY: write(2) reads the bytes of `line`. Where it fails there is
        // nobody to tell.
        let _ = unsafe { arch::syscall3(number::WRITE, arguments) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line_of(write: impl FnOnce(&mut Line)) -> String {
        let mut line = Line {
            bytes: [0; LONGEST],
            length: 0,
        };
        write(&mut line);
        let finished = line.finished().strip_suffix(b"\n").expect("ends the line");
        String::from_utf8(finished.to_vec()).expect("ASCII")
    }

    #[test]
    fn ipv6_addresses_are_written_as_the_standard_library_writes_them() {
        for address in [
            "::",
            "::1",
            "1::",
            "2001:db8::1",
            "1:0:0:2::3",
            "1:0:2:0:3:0:4:0",
            "fe80::1:0:0:1",
            "0:0:1::",
            "1:2:3:4:5:6:7:8",
            "0:1:2:3:4:5:6:7",
            "1:2:3:4:5:6:7:0",
            "::2:0:0:0",
        ] {
            let parsed: std::net::Ipv6Addr = address.parse().expect(address);
            assert_eq!(
                line_of(|line| line.ipv6(parsed.to_bits())),
                parsed.to_string()
            );
        }
    }

    #[test]
    fn numbers_have_no_leading_zeros_and_do_not_overflow() {
        for number in [0, 7, 10, 99, 100, 65535, usize::MAX] {
            assert_eq!(line_of(|line| line.number(number)), number.to_string());
        }
    }

    #[test]
    fn a_long_line_is_cut_and_still_ends() {
        let text = "x".repeat(2 * LONGEST);
        assert_eq!(line_of(|line| line.text(&text)).len(), LONGEST - 1);
    }

    #[test]
    fn foreign_bytes_cannot_reach_a_terminal() {
        let line = line_of(|line| line.foreign(b"a\x1b[2J\xff\n\0hidden"));
        assert_eq!(line, "a?[2J??");
    }
}
