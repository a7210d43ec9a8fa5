//! What is worth knowing of workloads that share ports, though the shim goes into
//! them all the same.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::Value;

use super::container::Chosen;
use super::delivery::Delivery;
use super::error::Position;
use super::fit::Fitness;
use super::workload::Workload;
use crate::finding::{Finding, Severity};

/// A finding of a workload, and where that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    pub at: Position,
    /// `KIND/NAME`.
    pub workload: String,
    pub container: Option<String>,
    /// Shared by all that it is true of.
    pub finding: Arc<Finding>,
}

/// A workload that gets the shim.
pub(super) struct Subject<'v> {
    pub(super) workload: &'v Workload,
    pub(super) object: &'v Value,
    pub(super) spec: &'v Value,
    pub(super) chosen: &'v [&'v Chosen],
    pub(super) delivery: &'v Delivery,
    pub(super) fitness: Fitness,
}

/// Gathers advice over all documents of a call.
#[derive(Debug, Default)]
pub(super) struct Adviser {
    advice: Vec<Advice>,
    /// The findings so far, by their messages.
    known: HashMap<String, Arc<Finding>>,
    /// The Pod Security levels that namespaces enforce.
    levels: BTreeMap<String, String>,
    /// Workloads with pods on the host's network, by each port that they name.
    users: BTreeMap<u64, BTreeSet<Option<i64>>>,
    sharing: Vec<(u64, usize)>,
    hosts: Vec<(Option<String>, Advice)>,
}

/// An architecture was taken for granted.
pub(super) fn architecture_assumed() -> Finding {
    Finding::new(
        Severity::Warning,
        "arch-assumed",
        "no architecture is said: the ConfigMap carries the shim for amd64, and on other nodes the loader passes over it",
    )
    .hint("say it with --arch, or pin the pods with nodeSelector kubernetes.io/arch")
}

impl Adviser {
    /// Adds a finding of a workload at `at`, by its title, or of one of its containers.
    pub(super) fn add(
        &mut self,
        at: &Position,
        workload: String,
        container: Option<&str>,
        finding: Finding,
    ) {
        let advice = self.advice(at, workload, container, finding);
        self.advice.push(advice);
    }

    fn advice(
        &mut self,
        at: &Position,
        workload: String,
        container: Option<&str>,
        finding: Finding,
    ) -> Advice {
        let finding = match self.known.get(&finding.message) {
            Some(known) if **known == finding => Arc::clone(known),
            _ => {
                let message = finding.message.clone();
                let finding = Arc::new(finding);
                self.known.insert(message, Arc::clone(&finding));
                finding
            }
        };
        Advice {
            at: at.clone(),
            workload,
            container: container.map(ToOwned::to_owned),
            finding,
        }
    }

    /// Takes note of a Namespace.
    pub(super) fn namespace(&mut self, object: &Value) {
        let metadata = &object["metadata"];
        let level = metadata["labels"]["pod-security.kubernetes.io/enforce"].as_str();
        if let (Some(name), Some(level)) = (metadata["name"].as_str(), level) {
            self.levels.insert(name.to_owned(), level.to_owned());
        }
    }

    /// Judges a workload.
    pub(super) fn workload(&mut self, subject: &Subject, at: &Position) {
        let Subject {
            workload,
            object,
            spec,
            chosen,
            delivery,
            fitness,
        } = subject;
        let is_host = spec["hostNetwork"] == Value::Bool(true);
        let containers: Vec<&Value> = spec["containers"]
            .as_array()
            .into_iter()
            .flatten()
            .collect();
        let ports: BTreeSet<u64> = containers
            .iter()
            .flat_map(|one| one["ports"].as_array().into_iter().flatten())
            .filter_map(|port| port["hostPort"].as_u64().or(port["containerPort"].as_u64()))
            .collect();
        let mut found: Vec<(Option<&str>, Finding)> = Vec::new();
        if is_host && !ports.is_empty() && !fitness.surges {
            found.push((None, host_ports(&ports)));
            let probed = containers
                .iter()
                .filter_map(|one| Some((one["name"].as_str()?, named_probe(one)?)));
            found.extend(probed.map(|(name, port)| (Some(name), named_port(&port))));
        }
        if workload.kind == "DaemonSet" && is_host && !overlaps(&object["spec"]) && !fitness.surges
        {
            found.push((None, no_overlap()));
        }
        let replicas = object["spec"]["replicas"].as_u64().unwrap_or(1);
        if replicas > 1 && !is_host && chosen.len() < 2 && !fitness.is_repeated {
            found.push((None, nothing_shared(replicas)));
        }
        if is_host {
            found.push((None, migration()));
        }
        let users: BTreeSet<Option<i64>> = containers
            .iter()
            .filter(|one| chosen.iter().any(|two| one["name"] == two.name.as_str()))
            .map(|one| user(one).or_else(|| user(spec)))
            .collect();
        if chosen.len() > 1 && users.len() > 1 {
            found.push((None, users_differ("containers of this pod")));
        }
        if is_host {
            for port in ports {
                let all = self.users.entry(port).or_default();
                all.extend(users.iter().copied());
                self.sharing.push((port, self.advice.len() + found.len()));
                let whose = format!("pods with port {port}");
                found.push((None, users_differ(&whose)));
            }
        }
        match delivery {
            Delivery::Host(_) => {
                let advice = self.advice(at, workload.title(), None, host_path());
                self.hosts.push((workload.namespace.clone(), advice));
            }
            Delivery::Image(_) => found.push((None, image_volume())),
            _ => {}
        }
        for (container, finding) in found {
            self.add(at, workload.title(), container, finding);
        }
    }

    /// All that is to be said, now that everything was seen.
    pub(super) fn finish(mut self) -> Vec<Advice> {
        // What users differ in is known only at the end.
        let drop: BTreeSet<usize> = self
            .sharing
            .iter()
            .filter(|(port, _)| self.users[port].len() < 2)
            .map(|(_, place)| *place)
            .collect();
        let mut place = 0;
        self.advice.retain(|_| {
            place += 1;
            !drop.contains(&(place - 1))
        });
        for (namespace, mut advice) in self.hosts {
            let level = namespace.and_then(|name| self.levels.get(&name));
            if let Some(level) = level.filter(|level| *level != "privileged") {
                advice.finding = Arc::new(pod_security(level));
            }
            self.advice.push(advice);
        }
        self.advice
    }
}

fn host_ports(ports: &BTreeSet<u64>) -> Finding {
    let ports: Vec<String> = ports.iter().map(u64::to_string).collect();
    let message = format!(
        "its pods use the host's network and name port {}: the scheduler puts no two of them on one node",
        ports.join(", ")
    );
    Finding::new(Severity::Warning, "host-port", message)
        .hint("take ports out of the containers; the server listens all the same")
}

fn named_port(port: &str) -> Finding {
    let message =
        format!("a probe names the port {port}, and has to give its number once ports is gone");
    Finding::new(Severity::Warning, "named-port-probe", message)
}

fn no_overlap() -> Finding {
    Finding::new(
        Severity::Warning,
        "no-overlap",
        "an update stops the old pod of a node before it starts the new one",
    )
    .hint("set spec.updateStrategy.rollingUpdate to maxSurge: 1 and maxUnavailable: 0")
}

fn nothing_shared(replicas: u64) -> Finding {
    let message = format!(
        "its {replicas} pods have a network each, and share no port: the shim acts within one pod, or between pods on the host's network"
    );
    Finding::new(Severity::Note, "nothing-shared", message)
        .hint("set hostNetwork: true, or run several copies in one container (reuseport run -n)")
}

fn migration() -> Finding {
    Finding::new(
        Severity::Note,
        "tcp-migrate-req",
        "connections that wait in the queue of a pod that stops are reset",
    )
    .hint("set the sysctl net.ipv4.tcp_migrate_req to 1 on the nodes (Linux 5.14): others take them over")
}

fn users_differ(whose: &str) -> Finding {
    let message = format!(
        "runAsUser differs between {whose}: the kernel shares a port among sockets of one user only"
    );
    Finding::new(Severity::Warning, "user-differs", message).hint("give all of them one runAsUser")
}

fn host_path() -> Finding {
    Finding::new(
        Severity::Note,
        "pod-security",
        "a hostPath volume is allowed by the Pod Security level privileged alone",
    )
}

fn pod_security(level: &str) -> Finding {
    let message = format!(
        "its namespace enforces the Pod Security level {level}, which allows no hostPath volume"
    );
    Finding::new(Severity::Warning, "pod-security", message)
        .hint("use --delivery configmap, image=REF or init=REF")
}

fn image_volume() -> Finding {
    Finding::new(
        Severity::Note,
        "image-volume",
        "image volumes need Kubernetes 1.36 (in beta since 1.33); older clusters drop the field and mount an empty directory",
    )
}

/// Whether an update of a DaemonSet starts the new pod before the old one stops.
fn overlaps(spec: &Value) -> bool {
    let update = &spec["updateStrategy"]["rollingUpdate"];
    let is_none = |value: &Value| {
        matches!(value, Value::Null)
            || *value == 0
            || value.as_str().is_some_and(|one| matches!(one, "0" | "0%"))
    };
    !is_none(&update["maxSurge"])
}

/// The port that a probe of a container calls by a name.
fn named_probe(container: &Value) -> Option<String> {
    let probes = ["livenessProbe", "readinessProbe", "startupProbe"];
    let kinds = ["httpGet", "tcpSocket"];
    let ports = probes
        .iter()
        .flat_map(|probe| kinds.iter().map(|kind| &container[*probe][*kind]["port"]));
    ports
        .filter_map(Value::as_str)
        .map(ToOwned::to_owned)
        .next()
}

/// The user that a container or a pod runs as.
fn user(of: &Value) -> Option<i64> {
    of["securityContext"]["runAsUser"].as_i64()
}
