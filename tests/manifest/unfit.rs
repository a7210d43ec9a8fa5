//! What `--surge-ready` and `--shards` refuse, and what only seems to stand in their
//! way.

use reuseport::manifest::inject;

use crate::laws::{hold, source, text};
use crate::overlap::fit;
use crate::refusals::refused;

const POD: &str = "kind: Deployment\nmetadata: {name: w}\nspec:\n  template:\n    metadata: {labels: {app: w}}\n    spec:\n      hostNetwork: true\n      containers:\n      - name: a\n        ports: [{containerPort: 80, name: http}]\n";

/// A workload whose container has `more` as well.
pub fn pod(more: &str) -> String {
    let more = more.lines().map(|line| format!("        {line}\n"));
    POD.to_owned() + &more.collect::<String>()
}

#[test]
fn what_cannot_surge_is_named_with_the_way_out() {
    let surge = |cases: &[(&str, &str)]| refused(&["--surge-ready"], cases);
    let service = |selector: &str, port: &str| {
        format!(
            "{POD}---\nkind: Service\nmetadata: {{name: s}}\nspec:\n  selector: {selector}\n  ports:\n  - port: 80\n    targetPort: {port}\n"
        )
    };
    let policy = |rules: &str| {
        format!(
            "kind: NetworkPolicy\nmetadata: {{name: np}}\nspec:\n  podSelector: {{}}\n  {rules}\n---\n{POD}"
        )
    };
    let monitor = "kind: PodMonitor\nmetadata: {name: m, namespace: other}\nspec: {namespaceSelector: {any: true}, selector: {matchLabels: {app: w}}, podMetricsEndpoints: [{port: http}]}\n---\n";
    surge(&[
        (
            &POD.replace("      hostNetwork: true\n", ""),
            "--surge-ready: there is no DaemonSet and no Deployment with hostNetwork: true",
        ),
        (
            &POD.replace("kind: Deployment", "kind: StatefulSet"),
            "--surge-ready: there is no DaemonSet",
        ),
        (
            &POD.replace(
                "spec:\n  template",
                "spec:\n  strategy: {type: Recreate}\n  template",
            ),
            "4:20: document 1, .spec.strategy.type: Deployment/w: the strategy Recreate starts no new pod before the old one stops; make it RollingUpdate",
        ),
        (
            &service("{app: w}", "http"),
            "document 2, .spec.ports[0].targetPort: Service/s: it refers to the port http of Deployment/w by the name, which goes with the entry in ports; give the number: 80",
        ),
        (
            &policy("ingress: [{ports: [{port: 1}, {port: http}]}]"),
            "document 1, .spec.ingress[0].ports[1].port: NetworkPolicy/np: it refers to the port http",
        ),
        (
            &policy("egress: [{to: [{podSelector: {}}], ports: [{port: http}]}]"),
            "document 1, .spec.egress[0].ports[0].port: NetworkPolicy/np: it refers to the port http",
        ),
        (
            &format!("{monitor}{POD}"),
            "document 1, .spec.podMetricsEndpoints[0].port: PodMonitor/m: it refers to the port http",
        ),
        (
            "kind: DaemonSet\nspec: {template: {spec: {nodeSelector: {kubernetes.io/arch: amd64}, hostNetwork: true, containers: [{name: a, ports: [&p {containerPort: 1}]}, {name: b, ports: [*p]}]}}}\n",
            ".spec.template.spec.containers[0].ports: this cannot be edited as it is written",
        ),
    ]);
    // Those that are named are held to it.
    let named = ["--surge-ready", "--workload", "Deployment/w"];
    refused(
        &named,
        &[(
            &POD.replace("      hostNetwork: true\n", ""),
            "document 1, .spec.template.spec.hostNetwork: Deployment/w: its pods have a network each, so that updates overlap as they are, unless a hostPort keeps two of them from a node; --surge-ready is for pods with hostNetwork: true",
        )],
    );
    refused(
        &["--surge-ready", "--workload", "Job/w"],
        &[(
            &POD.replace("kind: Deployment", "kind: Job"),
            "document 1, .kind: Job/w: a Job starts no new pod before the old one stops",
        )],
    );
    // What selects other pods, or names no port that goes, is no matter.
    for input in [
        service("{app: other}", "http"),
        service("{app: w}", "80"),
        service("{app: w}", "\"80\""),
        policy("egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8}}], ports: [{port: http}]}]"),
        format!("{POD}---\nkind: Service\nmetadata: {{name: s, namespace: other}}\nspec: {{selector: {{app: w}}, ports: [{{targetPort: http}}]}}\n")
            .replace("metadata: {name: w}", "metadata: {name: w, namespace: here}"),
    ] {
        let made = inject(&source(&input), &fit()[0]);
        text(made).expect("injected");
    }
}

const FIRST: [&str; 4] = ["--shards", "2", "--shard-probes", "first"];

/// A refusal of the workload, at a path of its pods.
fn at(path: &str, rest: &str) -> String {
    format!("document 1, .spec.template.spec.{path}: Deployment/w: {rest}")
}

/// A workload whose container writes to a volume.
fn volume(source: &str) -> String {
    let volumes = format!("      volumes: [{{name: d, {source}}}]\n");
    pod("volumeMounts: [{name: d, mountPath: /d}]") + &volumes
}

/// One with a hook before it stops.
fn hook(command: &str) -> String {
    pod(&format!(
        "lifecycle: {{preStop: {{exec: {{command: {command}}}}}}}"
    ))
}

#[test]
fn containers_that_cannot_be_repeated_are_named() {
    let second = POD.to_owned() + "      - name: b\n";
    let taken = POD.to_owned() + "      initContainers:\n      - name: a-2\n";
    let long = POD.replace("name: a\n", &format!("name: {}\n", "a".repeat(62)));
    refused(
        &FIRST,
        &[
            (
                &second,
                &at(
                    "containers",
                    "there are 2 to be repeated: a, b; say which with --container",
                ),
            ),
            (
                &taken,
                &at(
                    "containers[0].name",
                    "a copy of a is to be called a-2, and there is a container of that name; rename a-2",
                ),
            ),
            (&long, "no name is longer than 63 characters"),
        ],
    );
    let init = POD.to_owned() + "      initContainers:\n      - name: i\n";
    let why = "i is an init container, which runs before the others and ends; choose another with --container";
    refused(
        &["--shards", "2", "--container", "i"],
        &[(&init, &at("initContainers[0]", why))],
    );
}

#[test]
fn volumes_that_one_writes_to_are_named() {
    let writes = |what: &str| {
        let why = format!(
            "each of 2 copies of a would write to volume d, {what}; mount it with readOnly: true"
        );
        at("containers[0].volumeMounts[0]", &why)
    };
    let claim = |mode: &str| {
        let volume = volume("persistentVolumeClaim: {claimName: c}");
        format!(
            "{volume}---\nkind: PersistentVolumeClaim\nmetadata: {{name: c}}\nspec: {{accessModes: [{mode}]}}\n"
        )
    };
    // StatefulSets bring claims of their own.
    let templates =
        "  volumeClaimTemplates: [{metadata: {name: d}, spec: {accessModes: [ReadWriteOnce]}}]\n";
    let set = pod("volumeMounts: [{name: d, mountPath: /d}]").replace("Deployment", "StatefulSet");
    refused(
        &FIRST,
        &[
            (
                &volume("persistentVolumeClaim: {claimName: c}"),
                &writes("a PersistentVolumeClaim"),
            ),
            (&claim("ReadWriteOnce"), &writes("a PersistentVolumeClaim")),
            (
                &volume("ephemeral: {volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce]}}}"),
                &writes("a claim of the pod's own"),
            ),
            (&volume("iscsi: {lun: 0}"), &writes("a disk")),
            (
                &(set + templates),
                "would write to volume d, a volumeClaimTemplate",
            ),
        ],
    );
    for input in [
        claim("ReadWriteMany"),
        volume("persistentVolumeClaim: {claimName: c, readOnly: true}"),
        volume("persistentVolumeClaim: {claimName: c}")
            .replace("mountPath: /d", "mountPath: /d, readOnly: true"),
        volume("hostPath: {path: /d}"),
    ] {
        hold(&input, &fit()[2]).expect("the laws");
    }
}

#[test]
fn what_would_reach_another_copy_is_named() {
    let port = "calls a port that all copies share";
    let calls = at(
        "containers[0].lifecycle.preStop",
        &format!(
            "preStop of a {port}, and would reach another copy as well; write one that acts within its own container"
        ),
    );
    refused(
        &FIRST,
        &[
            (
                &hook("[curl, -X, POST, 'http://localhost:80/drain']"),
                &calls,
            ),
            (
                &(hook("[sh, -c, 'pkill -TERM nginx; sleep 5']")
                    + "      shareProcessNamespace: true\n"),
                "looks for processes in the whole pod (shareProcessNamespace)",
            ),
            (
                &pod("lifecycle: {postStart: {tcpSocket: {port: 80}}}"),
                &format!("postStart of a {port}"),
            ),
        ],
    );
    let why = format!(
        "readinessProbe of a {port}, and any of them answers; leave it to the first with --shard-probes first"
    );
    refused(
        &["--shards", "2"],
        &[(
            &pod("readinessProbe: {httpGet: {port: http}}"),
            &at("containers[0].readinessProbe", &why),
        )],
    );
    hold(&hook("[sh, -c, 'kill -QUIT 1; sleep 5']"), &fit()[2]).expect("the laws");
}

#[test]
fn resources_that_have_no_parts_are_named() {
    let gpu = "1 of nvidia.com/gpu is not to be split into 2: a part would be no whole number of them; change it, or leave resources as they are";
    refused(
        &["--shards", "2", "--split-resources"],
        &[
            (
                &pod("resources: {limits: {nvidia.com/gpu: 1}}"),
                &at("containers[0].resources.limits.nvidia.com/gpu", gpu),
            ),
            (
                &pod("resources: {requests: {cpu: much}}"),
                "much of cpu is not to be split into 2: it is no quantity",
            ),
        ],
    );
}
