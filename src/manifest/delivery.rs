//! How the shim's file gets into a pod.

use serde_json::{Value, json};

use super::names::{DIRECTORY, SHIM};
use crate::image::reference::Name;
use crate::shim::FILE_NAME;

/// How the shim's file gets into a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// By a ConfigMap: one of ours, which is put before the first workload of its
    /// namespace, or one of this name that is there.
    ConfigMap(Option<String>),
    /// By an image mounted as a volume (Kubernetes 1.36, in beta since 1.33), in
    /// whose root the file lies.
    Image(String),
    /// By an init container of an image that holds the command `reuseport`.
    Init(String),
    /// From this directory of the node.
    Host(String),
}

impl Delivery {
    /// `configmap`, `image=REF`, `init=REF` or `host=PATH`, where PATH is the
    /// shim's file or its directory.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (kind, value) = text.split_once('=').unwrap_or((text, ""));
        let given = |what: &str| {
            if value.is_empty() {
                Err(format!("{kind}= needs {what}"))
            } else {
                Ok(value.to_owned())
            }
        };
        match kind {
            "configmap" if !text.contains('=') => Ok(Self::ConfigMap(None)),
            "image" => image(given("an image: image=REF")?).map(Self::Image),
            "init" => image(given("an image: init=REF")?).map(Self::Init),
            "host" => {
                let path = given("a path: host=/opt/reuseport/libreuseport.so")?;
                if !path.starts_with('/') {
                    return Err("the path on the node begins with a slash".into());
                }
                let path = path.trim_end_matches('/');
                let directory = match path.rsplit_once('/') {
                    Some((directory, FILE_NAME)) => directory,
                    Some((_, other)) if other.ends_with(".so") => {
                        return Err(format!("the shim's file is called {FILE_NAME}"));
                    }
                    _ => path,
                };
                if path.split('/').any(|part| part == "..") {
                    return Err("Kubernetes takes no path on the node with .. in it".into());
                }
                if directory.is_empty() {
                    return Err("the root of a node is not mounted into pods".into());
                }
                Ok(Self::Host(directory.to_owned()))
            }
            _ => Err("expected configmap, image=REF, init=REF or host=PATH".into()),
        }
    }

    /// The volume, with `configmap` the name of the ConfigMap of ours.
    pub(super) fn volume(&self, configmap: &str) -> Value {
        let mut volume = json!({"name": SHIM});
        let (kind, source) = match self {
            Self::ConfigMap(name) => {
                let name = name.as_deref().unwrap_or(configmap);
                ("configMap", json!({"name": name}))
            }
            Self::Image(reference) => ("image", json!({"reference": reference})),
            Self::Init(_) => ("emptyDir", json!({})),
            Self::Host(directory) => ("hostPath", json!({"path": directory, "type": "Directory"})),
        };
        volume[kind] = source;
        volume
    }

    /// The mount in a container that runs under the shim.
    pub(super) fn mount() -> Value {
        json!({"name": SHIM, "mountPath": DIRECTORY, "readOnly": true})
    }

    /// The init container, which passes the restricted Pod Security profile:
    /// <https://kubernetes.io/docs/concepts/security/pod-security-standards/>.
    /// It runs as nobody in particular, unless the pod says as whom.
    pub(super) fn init(&self, pod_has_user: bool) -> Option<Value> {
        let Self::Init(image) = self else {
            return None;
        };
        let mut container = json!({
            "name": SHIM,
            "image": image,
            "command": ["reuseport", "install", DIRECTORY],
            "resources": {
                "requests": {"cpu": "10m", "memory": "16Mi"},
                "limits": {"cpu": "100m", "memory": "32Mi"},
            },
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": true,
                "runAsNonRoot": true,
            },
            "volumeMounts": [{"name": SHIM, "mountPath": DIRECTORY}],
        });
        let security = &mut container["securityContext"];
        if !pod_has_user {
            security["runAsUser"] = 65532.into();
        }
        security["seccompProfile"] = json!({"type": "RuntimeDefault"});
        Some(container)
    }
}

/// A reference to an image, as it was given.
fn image(text: String) -> Result<String, String> {
    match text.parse::<Name>() {
        Ok(_) => Ok(text),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_on_the_node_is_the_file_or_its_directory() {
        for path in [
            "/opt/reuseport/libreuseport.so",
            "/opt/reuseport",
            "/opt/reuseport/",
        ] {
            let delivery = Delivery::parse(&format!("host={path}"));
            assert_eq!(delivery, Ok(Delivery::Host("/opt/reuseport".into())));
        }
        for text in [
            "host=",
            "host=opt",
            "host=/",
            "host=/libreuseport.so",
            "host=/a/b.so",
            "image",
            "host=/opt/../etc",
            "init=",
            "init=A",
            "image=a b",
            "image=a:b:c",
            "configmap=x",
            "layer",
        ] {
            assert!(Delivery::parse(text).is_err(), "{text}");
        }
    }
}
