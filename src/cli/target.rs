//! What `inject` and `eject` work on, where that is no file of manifests.

use std::path::PathBuf;

use clap::Args;

use super::image::Refusal;
use super::unit;
use crate::program::Root;

/// An image, a bundle, or the system whose unit `--unit` names.
#[derive(Args, Debug)]
pub(super) struct Target {
    /// The unit is of the system in this directory
    #[arg(long, value_name = "DIR", requires = "unit")]
    root: Option<PathBuf>,
    /// The image, or the bundle's directory
    #[arg(
        value_name = "TARGET",
        required_unless_present_any = ["unit", "files"],
        conflicts_with = "unit"
    )]
    pub(super) target: Option<String>,
}

impl Target {
    /// The root of the unit's system.
    ///
    /// # Errors
    /// It is no directory.
    pub(super) fn root(&self) -> Result<Root, Refusal> {
        unit::root(self.root.as_deref()).map_err(Refusal::fault)
    }
}
