//! The names under which the shim stands in manifests. What bears them is ours.

/// Where the shim is mounted in every container, and its entry in `LD_PRELOAD`.
pub(super) use crate::image::layer::{SHIM as ENTRY, SHIM_DIRECTORY as DIRECTORY};

/// That entry behind others, and before them.
pub(super) const ENTRY_LAST: &str = ":/.reuseport/libreuseport.so";
pub(super) const ENTRY_FIRST: &str = "/.reuseport/libreuseport.so:";

/// `LD_PRELOAD` where what was there before is kept in another variable, which
/// must be defined before this one:
/// <https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/>.
pub(super) const ENTRY_BEHIND_KEPT: &str = "$(KEPT_LD_PRELOAD):/.reuseport/libreuseport.so";

/// What stands before the name of a variable that is kept.
pub(super) const KEPT: &str = "KEPT_";

/// The volume, and the init container that fills it.
pub(super) const SHIM: &str = "reuseport-shim";

/// What the names of our ConfigMaps begin with.
pub(super) const CONFIGMAP: &str = "reuseport-shim-";

/// The annotation of a workload that holds what its text had to lose.
pub(super) const RESTORE: &str = "reuseport.dev/restore";

/// What the names of the annotations that choose begin with.
pub(super) const ANNOTATION: &str = "reuseport.dev/";

/// What the names of the shim's variables begin with.
pub(super) const VARIABLE: &str = "LIBREUSEPORT_";

/// What a record of `LD_PRELOAD` calls the part of it that the image sets.
pub(super) const IMAGE: &str = "image";
