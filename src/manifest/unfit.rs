//! Why a workload is not made fit for overlap, or its containers not repeated.

use thiserror::Error;

/// What stands in the way, and what would make it possible.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Unfit {
    #[error(
        "a {kind} starts no new pod before the old one stops, whatever it says; \
         --surge-ready is for DaemonSets and Deployments: leave it out with --workload"
    )]
    Kind { kind: String },
    #[error(
        "its pods have a network each, so that updates overlap as they are, unless a hostPort keeps two of them \
         from a node; --surge-ready is for pods with hostNetwork: true: set that, or leave it out with --workload"
    )]
    OwnNetwork,
    #[error(
        "the strategy {found} starts no new pod before the old one stops; make it RollingUpdate, \
         take it out, or choose others with --workload"
    )]
    Strategy { found: String },
    #[error(
        "it refers to the port {port} of {workload} by the name, which goes with the entry in ports; \
         give the number: {number}"
    )]
    NamedPort {
        port: String,
        number: u64,
        workload: String,
    },
    #[error(
        "there are {} to be repeated: {}; say which with --container",
        there.len(), there.join(", ")
    )]
    Several { there: Vec<String> },
    #[error(
        "{container} is an init container, which runs before the others and ends; \
         choose another with --container"
    )]
    Init { container: String },
    #[error("a container that is to be repeated needs a name; give it one")]
    Nameless,
    #[error("a copy of {container} is to be called {name}, and {why}; rename {other}")]
    Name {
        container: String,
        name: String,
        why: &'static str,
        other: String,
    },
    #[error(
        "each of {count} copies of {container} would write to volume {volume}, {what}; \
         mount it with readOnly: true, make it ReadWriteMany, or give up --shards there"
    )]
    Volume {
        container: String,
        volume: String,
        count: usize,
        what: &'static str,
    },
    #[error(
        "{probe} of {container} calls a port that all copies share, and any of them answers; \
         leave it to the first with --shard-probes first, or give a command that tells of one copy \
         alone with --shard-probes exec=CMD"
    )]
    Probe { container: String, probe: String },
    #[error(
        "{hook} of {container} {why}, and would reach another copy as well; \
         write one that acts within its own container (sleep, a signal to its own process), or take it out"
    )]
    Hook {
        container: String,
        hook: String,
        why: String,
    },
    #[error(
        "{quantity} of {resource} is not to be split into {count}: {why}; \
         change it, or leave resources as they are, without --split-resources"
    )]
    Quantity {
        resource: String,
        quantity: String,
        count: usize,
        why: &'static str,
    },
}
