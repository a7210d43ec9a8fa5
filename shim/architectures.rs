//! The architectures that the shim is built for, one row each.
//!
//! This table is compiled into the build step and into the program, so that
//! both speak of the same architectures by the same names. A new architecture
//! is a row here and its few lines of assembly in `shim/arch/`.

/// One architecture, under each name that it goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Architecture {
    /// The name in our command line and JSON, as `uname -m` prints it.
    pub name: &'static str,
    /// Go's name for it, which images and Kubernetes use.
    pub go_name: &'static str,
    /// The Rust target that the shim is compiled for.
    pub target: &'static str,
    /// `e_machine` of its ELF files, see elf(5).
    pub elf_machine: u16,
}

/// Every architecture that has a shim.
pub static ARCHITECTURES: [Architecture; 2] = [
    Architecture {
        name: "x86_64",
        go_name: "amd64",
        target: "x86_64-unknown-linux-gnu",
        elf_machine: 62,
    },
    Architecture {
        name: "aarch64",
        go_name: "arm64",
        target: "aarch64-unknown-linux-gnu",
        elf_machine: 183,
    },
];
