//! Error numbers as the kernel returns them.

/// An error number, see errno(3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    pub const EINVAL: Self = Self(22);
    pub const EADDRINUSE: Self = Self(98);

    /// The symbolic name of an error that bind(2), setsockopt(2) or
    /// getsockopt(2) is known to return; the numbers are those of
    /// asm-generic, which every architecture of ours uses.
    pub fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            1 => "EPERM",
            9 => "EBADF",
            12 => "ENOMEM",
            13 => "EACCES",
            14 => "EFAULT",
            19 => "ENODEV",
            22 => "EINVAL",
            88 => "ENOTSOCK",
            92 => "ENOPROTOOPT",
            95 => "EOPNOTSUPP",
            97 => "EAFNOSUPPORT",
            98 => "EADDRINUSE",
            99 => "EADDRNOTAVAIL",
            _ => return None,
        })
    }
}
