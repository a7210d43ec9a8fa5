//! The shims that this program carries, one an architecture.

mod note;
mod place;

#[path = "../../shim/architectures.rs"]
mod architectures;

use thiserror::Error;

pub use architectures::{ARCHITECTURES, Architecture};
pub(crate) use note::LARGEST;
pub use note::{is_open_shim, is_shim, is_shim_file};
pub use place::{
    Attempt, NoPlace, Places, Rejection, check_content, check_installed, install, place,
};

/// The name of the shim's file.
pub const FILE_NAME: &str = "libreuseport.so";

/// The shims, in the order of [`ARCHITECTURES`]: `None` where the Rust target
/// was not there when this program was built.
static EMBEDDED: [Option<&[u8]>; ARCHITECTURES.len()] =
    include!(concat!(env!("OUT_DIR"), "/shims.rs"));

/// The same, packed as [`Packed`] says.
static PACKED: [Option<&[u8]>; ARCHITECTURES.len()] =
    include!(concat!(env!("OUT_DIR"), "/packed-shims.rs"));

/// The same for those that count what is accepted.
static COUNTING: [Option<&[u8]>; ARCHITECTURES.len()] =
    include!(concat!(env!("OUT_DIR"), "/counting-shims.rs"));

/// There is no shim for an architecture.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NoShim {
    /// This build of the program has none.
    #[error(
        "this build of reuseport has no shim for {0}: the Rust target {1} was not installed when it was built; \
         rustup target add {1}, and build reuseport again"
    )]
    NotBuilt(&'static str, &'static str),
    /// There is none at all.
    #[error("there is no shim for {0}: reuseport has shims for {names}", names = names())]
    Unknown(String),
}

/// The names of all architectures that have a shim, for people.
pub fn names() -> String {
    ARCHITECTURES.each_ref().map(|one| one.name).join(" and ")
}

/// The architecture that is called `name`, by the kernel or by Go.
///
/// # Errors
/// There is no shim for it.
pub fn architecture(name: &str) -> Result<&'static Architecture, NoShim> {
    let mut all = ARCHITECTURES.iter();
    let found = all.find(|one| one.name == name || one.go_name == name);
    found.ok_or_else(|| NoShim::Unknown(name.to_owned()))
}

/// The architecture that this program is built for.
///
/// # Errors
/// There is no shim for it.
pub fn native() -> Result<&'static Architecture, NoShim> {
    architecture(std::env::consts::ARCH)
}

/// The shim for `architecture`, as the bytes of its file.
///
/// # Errors
/// This build of the program has none.
pub fn embedded(architecture: &Architecture) -> Result<&'static [u8], NoShim> {
    of(&EMBEDDED, architecture)
}

/// A shim, and the same as it ends an archive.
#[derive(Clone, Copy, Debug)]
pub struct Packed<'a> {
    pub shim: &'a [u8],
    /// What an archive holds from the data of its last file, the shim, on: zeros up to
    /// a whole block, and two blocks of zeros. As a deflate stream (RFC 1951).
    pub deflated: &'a [u8],
}

/// The shim for `architecture`, ready to be put into archives.
///
/// # Errors
/// This build of the program has none.
pub fn packed(architecture: &Architecture) -> Result<Packed<'static>, NoShim> {
    Ok(Packed {
        shim: embedded(architecture)?,
        deflated: of(&PACKED, architecture)?,
    })
}

/// The shim for a runner's copies, which counts what they accept.
///
/// # Errors
/// This build of the program has none.
pub fn counting(architecture: &Architecture) -> Result<&'static [u8], NoShim> {
    of(&COUNTING, architecture)
}

fn of(
    shims: &[Option<&'static [u8]>],
    architecture: &Architecture,
) -> Result<&'static [u8], NoShim> {
    let index = ARCHITECTURES.iter().position(|one| one == architecture);
    index
        .and_then(|index| shims[index])
        .ok_or(NoShim::NotBuilt(architecture.name, architecture.target))
}
