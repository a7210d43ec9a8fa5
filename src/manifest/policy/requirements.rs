//! What a pod must be like to get the shim: each as a test, and what to say where it
//! fails. `inject -f` refuses what fails one of them; the policy, which cannot say
//! why, leaves such pods as they are, and with `--warn` another says it.

use super::super::annotations::RULES;
use super::super::names::{ANNOTATION, DIRECTORY, KEPT, VARIABLE};
use super::cel::{list, quoted};
use crate::preload::LD_PRELOAD;
use crate::rules::{self, MAX_GLOBS, MAX_PORT_RANGES, MAX_PREFIXES, Variable};

/// Something that must be so.
#[derive(Debug)]
pub(super) struct Requirement {
    /// An expression on the policy's variables.
    pub(super) test: String,
    /// What is wrong where it is not, and the way out.
    pub(super) message: String,
}

/// A port, in digits alone, see [`rules::PortRange`].
const PORT: &str =
    "(0|[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])";

/// A glob, see [`rules::Globs`]: a bracket that comes first in brackets is a member.
const GLOB: &str = r"(?s)^(\\[^/]|\[(![^/]|[^!/])[^\]/]*\]|[^\\\[/])+$";

/// What all deliveries require.
pub(super) fn requirements(pod: &str) -> Vec<Requirement> {
    let names = format!(
        "{pod}.spec.?initContainers.orValue([]).map(c, c.name) + {pod}.spec.containers.map(c, c.name)"
    );
    let kept = format!("^{KEPT}({LD_PRELOAD}$|{VARIABLE})");
    let there = format!("variables.chosen.all(n, n in {names})");
    let mut all = vec![
        Requirement {
            test: format!("variables.targets.size() > 0 || !{there}"),
            message: format!(
                "its containers are all sidecars, which are passed over: name those that are to get the shim in \
                 the annotation {ANNOTATION}containers"
            ),
        },
        Requirement {
            test: there,
            message: format!(
                "the annotation {ANNOTATION}containers names a container that is not there"
            ),
        },
        Requirement {
            test: format!(
                "{pod}.spec.?os.?name.orValue(\"\") != \"windows\" && variables.system != \"windows\""
            ),
            message: "these pods run on Windows, which has no LD_PRELOAD".into(),
        },
        Requirement {
            test: format!(
                "variables.targets.all(t, t.container.?volumeMounts.orValue([]).all(m,\n  \
                 m.mountPath != {0} && !m.mountPath.startsWith({1})))",
                quoted(DIRECTORY),
                quoted(&format!("{DIRECTORY}/")),
            ),
            message: format!("a container mounts something at {DIRECTORY}, where the shim goes"),
        },
        Requirement {
            test: format!(
                "variables.targets.all(t, t.container.?env.orValue([]).all(e, !e.name.matches({})))",
                quoted(&kept),
            ),
            message: format!(
                "a container has a variable {KEPT}{LD_PRELOAD} or {KEPT}{VARIABLE}*, which the shim needs: \
                 give it another name"
            ),
        },
    ];
    for (name, variable) in RULES {
        if let Some(test) = allows(variable) {
            let key = quoted(&format!("{ANNOTATION}{name}"));
            all.push(Requirement {
                test: format!(
                    "!({key} in variables.annotations) || [string(variables.annotations[{key}])].all(v,\n  \
                     v == \"\" || {test})"
                ),
                message: format!("the annotation {ANNOTATION}{name}: give {}", rules::allowed(variable)),
            });
        }
    }
    all
}

/// The pods are pinned to no architecture but those that there is a shim for.
pub(super) fn architecture(known: &[&str]) -> Requirement {
    Requirement {
        test: format!(
            "variables.arch in {}",
            list([""].into_iter().chain(known.iter().copied()))
        ),
        message: "these pods are pinned to an architecture that there is no shim for".into(),
    }
}

/// What the value `v` of a variable has to be; nothing where anything will do. The
/// same as [`rules::check`] does, but for IPv6 addresses that map IPv4 ones, which
/// `isIP` refuses.
fn allows(variable: Variable) -> Option<String> {
    Some(match variable {
        Variable::Addr => format!(
            "v.split(\",\").size() <= {MAX_PREFIXES} &&\n  \
             v.split(\",\").all(p, isIP(p.trim()) || isCIDR(p.trim()))"
        ),
        Variable::Port => format!(
            "v.split(\",\").size() <= {MAX_PORT_RANGES} &&\n  \
             v.split(\",\").all(p, p.matches({}) &&\n    \
             (!p.contains(\"-\") || int(p.split(\"-\")[0].trim()) <= int(p.split(\"-\")[1].trim())))",
            quoted(&format!(r"^\s*{PORT}(-{PORT})?\s*$")),
        ),
        Variable::Op => {
            format!(
                "v in {}",
                list(["1", "2", "3", "reuseport", "reuseaddr", "both"])
            )
        }
        Variable::Proto => {
            format!(
                "v.split(\",\").all(p, p.trim() in {})",
                list(["tcp", "udp"])
            )
        }
        Variable::Interface => format!(
            "!(v in {}) && v.matches({}) && bytes(v).size() <= 15",
            list([".", ".."]),
            quoted(r"^[^/: \t-\r]+$"),
        ),
        Variable::Program => format!(
            "v.split(\",\").size() <= {MAX_GLOBS} &&\n  v.split(\",\").all(p, p.trim().matches({}))",
            quoted(GLOB),
        ),
        _ => return None,
    })
}
