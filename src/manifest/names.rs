//! The names under which the shim stands in manifests, and what may be a name there.

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

/// Whether a text is a label of a domain's name (RFC 1123), as the names of namespaces
/// and containers are.
pub fn is_label(text: &str) -> bool {
    text.len() <= 63 && is_part(text)
}

/// Whether a text is a name with dots (RFC 1123), as the names of most objects are:
/// <https://kubernetes.io/docs/concepts/overview/working-with-objects/names/>.
pub fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_part)
}

fn is_part(text: &str) -> bool {
    let is_inner = |one: u8| one.is_ascii_lowercase() || one.is_ascii_digit() || one == b'-';
    !text.is_empty() && text.bytes().all(is_inner) && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_kubernetes_takes() {
        let long = "a".repeat(64);
        for (text, label, subdomain) in [
            ("web", true, true),
            ("0-a", true, true),
            ("a.b-c.1", false, true),
            (&long, false, true),
            ("", false, false),
            ("a b", false, false),
            ("Web", false, false),
            ("-a", false, false),
            ("a-", false, false),
            ("a..b", false, false),
            (".a", false, false),
            ("a_b", false, false),
            (&"a.".repeat(127), false, false),
        ] {
            assert_eq!(
                (is_label(text), is_subdomain(text)),
                (label, subdomain),
                "{text}"
            );
        }
        assert!(is_subdomain(&"a".repeat(253)) && !is_subdomain(&"a".repeat(254)));
    }
}
