//! What bears the names of ours and is not: it is neither replaced nor taken out.

use reuseport::manifest::{Compose, Delivery, Injection, eject};

use crate::laws::{hold, options, source, text};

/// A pod whose containers are `containers`, with `volumes`.
fn pod(containers: &str, volumes: &str) -> String {
    format!(
        "kind: Pod\nmetadata: {{name: p}}\nspec:\n  containers:\n{containers}  volumes:\n{volumes}"
    )
}

/// One container with `more`.
fn container(more: &str) -> String {
    format!("  - name: a\n    image: x\n{more}")
}

fn take(input: &str) -> String {
    text(eject(&source(input), &[], &[], &Compose::default())).expect("ejected")
}

const PRELOADED: &str = "    env:\n    - {name: LD_PRELOAD, value: /.reuseport/libreuseport.so}\n";
const MOUNTED: &str = "    volumeMounts:\n    - {name: reuseport-shim, mountPath: /.reuseport}\n";
const ELSEWHERE: &str = "    volumeMounts:\n    - {name: reuseport-shim, mountPath: /data}\n";

#[test]
fn what_is_called_as_ours_is_refused_and_never_taken_out() {
    let volumes = "the volumes of these pods";
    let cases = [
        // Mounted elsewhere.
        (
            pod(&container(ELSEWHERE), "  - {name: reuseport-shim, emptyDir: {}}\n"),
            volumes,
        ),
        (
            pod(
                &container(ELSEWHERE),
                "  - {name: reuseport-shim, configMap: {name: mine}}\n",
            ),
            volumes,
        ),
        // Of a kind that no delivery has.
        (
            pod(
                &container(MOUNTED),
                "  - {name: reuseport-shim, persistentVolumeClaim: {claimName: c}}\n",
            ),
            volumes,
        ),
        (
            pod(
                &container(&format!("{PRELOADED}{MOUNTED}")),
                "  - name: reuseport-shim\n    configMap: {name: c, items: [{key: a, path: libreuseport.so}]}\n",
            ),
            volumes,
        ),
        (
            pod(
                &container(&format!("{PRELOADED}{MOUNTED}")),
                "  - {name: reuseport-shim, emptyDir: {}}\n",
            ),
            volumes,
        ),
        // Of one of our kinds, where no container runs under the shim.
        (
            pod(&container(MOUNTED), "  - {name: reuseport-shim, configMap: {name: mine}}\n"),
            volumes,
        ),
        (
            pod(&container(""), "  - {name: reuseport-shim, image: {reference: mine}}\n"),
            volumes,
        ),
        // Without the volume.
        (
            pod(&container(ELSEWHERE), "  - {name: b, emptyDir: {}}\n"),
            "the mounts of container a",
        ),
        (
            "kind: StatefulSet\nmetadata: {name: s}\nspec:\n  volumeClaimTemplates: [{metadata: {name: reuseport-shim}}]\n  template: {spec: {containers: [{name: a, env: [{name: LD_PRELOAD, value: /.reuseport/libreuseport.so}], volumeMounts: [{name: reuseport-shim, mountPath: /.reuseport}]}]}}\n".to_owned(),
            "the volumeClaimTemplates",
        ),
    ];
    for (input, holder) in &cases {
        let error = hold(input, &options()).expect_err(input);
        let said = format!("the name reuseport-shim is taken in {holder}; the shim needs it");
        assert!(error.contains(&said), "{error}\n{input}");
        assert_eq!(take(input), *input);
    }
}

#[test]
fn a_container_that_is_called_as_ours_is_one_of_its_authors() {
    let installer =
        "  initContainers:\n  - name: reuseport-shim\n    image: x\n    command: [sleep, '1']\n";
    let input = pod(&container(""), "  - {name: b, emptyDir: {}}\n") + installer;
    assert_eq!(take(&input), input);
    hold(&input, &options()).expect("the laws");
    let regular = "kind: Pod\nspec: {containers: [{name: reuseport-shim, image: x}]}\n";
    hold(regular, &options()).expect("the laws");
    let by_init = Injection {
        delivery: Delivery::Init("x".into()),
        ..options()
    };
    for input in [input.as_str(), regular] {
        let error = hold(input, &by_init).expect_err("two of one name");
        let said = "the name reuseport-shim is taken in the containers of these pods";
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn what_the_api_server_adds_to_ours_goes_with_it() {
    let plain = "kind: Pod\nspec:\n  containers:\n  - name: a\n    image: x\n";
    for (delivery, before, after) in [
        (
            Delivery::ConfigMap(Some("shim".into())),
            "        name: shim\n",
            "        defaultMode: 420\n        name: shim\n",
        ),
        (
            Delivery::Image("shim".into()),
            "        reference: shim\n",
            "        pullPolicy: Always\n        reference: shim\n",
        ),
    ] {
        let options = Injection {
            delivery,
            ..options()
        };
        let made = hold(plain, &options).expect("the laws");
        let before = before.replace("        ", "      ");
        assert!(made.contains(&before), "{made}");
        let edited = made.replace(&before, &after.replace("        ", "      "));
        assert_eq!(take(&edited), plain);
    }
}

#[test]
fn a_volume_of_ours_that_its_author_mounts_as_well_stays() {
    let plain = "kind: Pod\nspec:\n  containers:\n  - name: a\n    image: x\n";
    let made = hold(
        plain,
        &Injection {
            delivery: Delivery::Image("shim".into()),
            ..options()
        },
    )
    .expect("the laws");
    let theirs =
        "  - name: b\n    image: y\n    volumeMounts: [{name: reuseport-shim, mountPath: /shim}]\n";
    let edited = made.replace("  volumes:\n", &format!("{theirs}  volumes:\n"));
    let expected = format!(
        "{plain}{theirs}  volumes:\n  - name: reuseport-shim\n    image:\n      reference: shim\n"
    );
    assert_eq!(take(&edited), expected);
}

#[test]
fn a_configmap_of_theirs_stays() {
    let map = "kind: ConfigMap\nmetadata: {name: reuseport-shim-mine}\nbinaryData: {libreuseport.so: AA==}\n---\n";
    let input = format!("{map}kind: Pod\nspec: {{containers: [{{name: a}}]}}\n");
    let options = Injection {
        delivery: Delivery::ConfigMap(Some("reuseport-shim-mine".into())),
        ..options()
    };
    hold(&input, &options).expect("the laws");
}

#[test]
fn a_mount_of_a_compose_file_that_is_not_ours_is_refused_and_stays() {
    let input = "services:\n  web:\n    image: x\n    volumes:\n      - {type: volume, source: data, target: /.reuseport}\n";
    let error = hold(input, &options()).expect_err("taken");
    assert!(
        error.contains("container web mounts /.reuseport"),
        "{error}"
    );
    assert_eq!(take(input), input);
}
