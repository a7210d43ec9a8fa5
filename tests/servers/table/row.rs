//! A program of the table, as data.

use crate::slot::Slot;
use crate::sockets::Transport;

/// A server, how two copies of it are started, and what becomes of them.
pub struct Row {
    /// What the table calls it; no two rows share a name.
    pub name: &'static str,
    /// The Debian packages that bring it.
    pub packages: &'static [&'static str],
    pub language: &'static str,
    /// The command line. `{port}`, `{slot}` and `{directory}` are filled in, see
    /// [`Slot::fill`]; `{other}` is a port of the copy's own, and
    /// `{sink}` that of a server that answers nothing.
    pub command: &'static [&'static str],
    /// Name and text of files in the copy's directory; executable where the text
    /// begins with `#!`.
    pub files: &'static [(&'static str, &'static str)],
    pub environment: &'static [(&'static str, &'static str)],
    /// What else is to be done before a copy starts.
    pub prepare: fn(&Slot),
    pub user: User,
    pub transport: Transport,
    /// It gets a connection only with its first byte, see TCP_DEFER_ACCEPT in
    /// tcp(7).
    pub awaits_data: bool,
    /// What a second copy does without the shim, and with it.
    pub without: Truth,
    pub with: Truth,
    /// Why check says the contrary of what happens, where that is known and
    /// nothing in the program's files would tell.
    pub misjudged: Option<&'static str>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum User {
    Root,
    Nobody,
    /// As root, in a process that can gain no privileges, see prctl(2).
    NobodyForGood,
}

/// What happens to the second of two copies on one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// It serves, and both copies get clients.
    Shares,
    /// It cannot bind.
    Refused,
    /// It does not start, even at another port.
    CannotRunTwice,
}

impl Truth {
    pub fn name(self) -> &'static str {
        match self {
            Self::Shares => "shares",
            Self::Refused => "refused",
            Self::CannotRunTwice => "cannot run twice",
        }
    }
}

impl Row {
    /// A TCP server that shares its port under the shim alone.
    pub const fn new(
        name: &'static str,
        packages: &'static [&'static str],
        language: &'static str,
        command: &'static [&'static str],
    ) -> Self {
        Self {
            name,
            packages,
            language,
            command,
            files: &[],
            environment: &[],
            prepare: |_| {},
            user: User::Root,
            transport: Transport::Tcp,
            awaits_data: false,
            without: Truth::Refused,
            with: Truth::Shares,
            misjudged: None,
        }
    }

    pub const fn files(mut self, files: &'static [(&'static str, &'static str)]) -> Self {
        self.files = files;
        self
    }

    pub const fn environment(mut self, list: &'static [(&'static str, &'static str)]) -> Self {
        self.environment = list;
        self
    }

    pub const fn prepare(mut self, prepare: fn(&Slot)) -> Self {
        self.prepare = prepare;
        self
    }

    pub const fn run_by(mut self, user: User) -> Self {
        self.user = user;
        self
    }

    pub const fn awaits_data(mut self) -> Self {
        self.awaits_data = true;
        self
    }

    /// It answers DNS questions: `who` is 10.0.0.N, where N is the copy's number.
    pub const fn dns(mut self) -> Self {
        self.transport = Transport::Udp;
        self
    }

    /// The shim does not reach it.
    pub const fn out_of_reach(mut self) -> Self {
        self.with = Truth::Refused;
        self
    }

    /// It sets SO_REUSEPORT itself.
    pub const fn shares_alone(mut self) -> Self {
        self.without = Truth::Shares;
        self
    }

    pub const fn misjudged(mut self, why: &'static str) -> Self {
        self.misjudged = Some(why);
        self
    }
}
