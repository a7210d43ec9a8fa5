//! Leaving the caller's namespaces, see namespaces(7).
#![allow(unsafe_code, reason = "unshare(2)")]

use std::fs;
use std::io;

use rustix::io::Errno;
use rustix::process::{getegid, geteuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, UnshareFlags, capabilities, clear_ambient_capability_set,
    configure_capability_in_ambient_set, set_capabilities, unshare_unsafe,
};

use super::Refusal;

const NAMESPACES: UnshareFlags = UnshareFlags::NEWNET
    .union(UnshareFlags::NEWNS)
    .union(UnshareFlags::NEWPID)
    .union(UnshareFlags::NEWIPC);

/// What the process that conducts the trial needs in a user namespace: to mount,
/// to bring lo up, and to read processes. An overlay acts with the rights of who
/// mounted it, in directories that it makes with the mode 0.
const NEEDED: [CapabilitySet; 5] = [
    CapabilitySet::SYS_ADMIN,
    CapabilitySet::NET_ADMIN,
    CapabilitySet::SYS_PTRACE,
    CapabilitySet::DAC_OVERRIDE,
    CapabilitySet::FOWNER,
];

/// Leaves the network, mount and IPC namespaces; the next child starts a PID
/// namespace. Whoever may not do so does it in a user namespace that maps the
/// user to itself. Gives whether there is such a one.
///
/// # Errors
/// Neither is permitted.
pub(super) fn leave() -> Result<bool, Refusal> {
    match unshare(NAMESPACES) {
        Ok(()) => return Ok(false),
        Err(error) if error.kind() != io::ErrorKind::PermissionDenied => {
            return Err(Refusal::new("new namespaces", &error).hint(hint()));
        }
        Err(_) => {}
    }
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    let refused = |error: io::Error| Refusal::new("a user namespace", &error).hint(hint());
    unshare(UnshareFlags::NEWUSER).map_err(refused)?;
    let map = |id: u32| format!("{id} {id} 1");
    fs::write("/proc/self/setgroups", "deny").map_err(refused)?;
    fs::write("/proc/self/uid_map", map(user)).map_err(refused)?;
    fs::write("/proc/self/gid_map", map(group)).map_err(refused)?;
    unshare(NAMESPACES).map_err(refused)?;
    keep_capabilities().map_err(|error| refused(error.into()))?;
    Ok(true)
}

fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: the descriptor table is not unshared, and there is no other thread.
    Ok(unsafe { unshare_unsafe(flags) }?)
}

/// Execve(2) takes the capabilities of whoever is not root, but the ambient ones.
fn keep_capabilities() -> Result<(), Errno> {
    let mut sets = capabilities(None)?;
    for one in NEEDED {
        sets.inheritable |= one & sets.permitted;
    }
    set_capabilities(None, sets)?;
    for one in NEEDED {
        configure_capability_in_ambient_set(one, true)?;
    }
    Ok(())
}

/// Undoes that, so that a copy has no more rights than on the machine.
pub(super) fn drop_capabilities() -> io::Result<()> {
    clear_ambient_capability_set()?;
    let sets = capabilities(None)?;
    Ok(set_capabilities(
        None,
        CapabilitySets {
            inheritable: CapabilitySet::empty(),
            ..sets
        },
    )?)
}

/// How to allow what was not permitted.
pub(super) fn hint() -> String {
    let is = |name: &str, value: &str| {
        let setting = fs::read_to_string(format!("/proc/sys/{name}"));
        setting.is_ok_and(|setting| setting.trim() == value)
    };
    let way = if is("kernel/apparmor_restrict_unprivileged_userns", "1") {
        "AppArmor keeps users from namespaces here: \
         sysctl kernel.apparmor_restrict_unprivileged_userns=0, or a profile with `userns,` for reuseport"
    } else if is("kernel/unprivileged_userns_clone", "0") {
        "users may make no namespaces here: sysctl kernel.unprivileged_userns_clone=1"
    } else if is("user/max_user_namespaces", "0") {
        "users may make no namespaces here: sysctl user.max_user_namespaces=10000"
    } else {
        "in a container, the engine's seccomp filter or mounts forbid it: \
         docker run --privileged, or podman run --privileged"
    };
    if geteuid().is_root() {
        return way.to_owned();
    }
    format!("{way}; or run it as root")
}
