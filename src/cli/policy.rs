//! `reuseport policy`: what makes a whole cluster put the shim into its pods.

use clap::{Args, ValueEnum};

use super::rules::RuleFlags;
use super::{answer, complain, status};
use crate::manifest::policy::{Policy, Version, policy};
use crate::manifest::{Delivery, is_label};
use crate::shim::{self, Architecture};

/// Print the Kubernetes policy that puts the shim into the pods of a cluster
///
/// A MutatingAdmissionPolicy does to pods what `inject -f` does to their manifests, as
/// the API server takes them, with no server to run: to pods with the annotation
/// `reuseport.dev/inject: enabled`, never to those of kube-system. The annotations
/// that inject -f obeys choose containers and set rules; RULES are for pods without.
/// Apply what is printed: reuseport policy --namespace web | kubectl apply -f -
#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// Pods without that annotation too, but those that say `disabled`
    #[arg(long)]
    all: bool,
    /// Only in this namespace, for which a ConfigMap is printed; may be given again
    #[arg(long = "namespace", value_name = "NAME", value_parser = namespace)]
    namespaces: Vec<String>,
    /// Only in namespaces with this label; may be given again
    #[arg(long = "namespace-label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// How the file gets into pods: configmap or image=REF
    #[arg(long, value_name = "HOW", default_value = "configmap", value_parser = Delivery::parse)]
    delivery: Delivery,
    /// The architecture of nodes that pods are not pinned to [default: amd64]
    #[arg(long, value_name = "ARCH", value_parser = shim::architecture)]
    arch: Option<&'static Architecture>,
    /// The API's version: v1 since Kubernetes 1.36, v1beta1 since 1.34 where it is on
    #[arg(long, value_name = "VERSION", default_value = "v1", value_enum)]
    api_version: ApiVersion,
    /// Also a policy that warns of pods on the host's network whose ports keep two of
    /// them from a node, and of pods that cannot have the shim
    #[arg(long)]
    warn: bool,
    // Last, since its heading is that of all that follows.
    #[command(flatten)]
    rules: RuleFlags,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ApiVersion {
    V1,
    V1beta1,
}

/// A name as RFC 1123 has it for labels of domains.
fn namespace(text: &str) -> Result<String, String> {
    if is_label(text) {
        Ok(text.to_owned())
    } else {
        Err("a namespace's name is made of a-z, 0-9 and -".into())
    }
}

/// A label, see
/// <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/>.
fn label(text: &str) -> Result<(String, String), String> {
    let is_word = |text: &str| {
        let bytes = text.as_bytes();
        let is_end = |one: Option<&u8>| one.is_some_and(u8::is_ascii_alphanumeric);
        let is_inner = |one: &u8| one.is_ascii_alphanumeric() || b"-_.".contains(one);
        text.len() <= 63
            && is_end(bytes.first())
            && is_end(bytes.last())
            && bytes.iter().all(is_inner)
    };
    let expected = || "expected KEY=VALUE, as in team=web or example.org/tier=edge".to_owned();
    let (key, value) = text.split_once('=').ok_or_else(expected)?;
    let name = match key.split_once('/') {
        Some((prefix, name)) if prefix.split('.').all(|one| namespace(one).is_ok()) => name,
        Some(_) => return Err(expected()),
        None => key,
    };
    if is_word(name) && (value.is_empty() || is_word(value)) {
        Ok((key.to_owned(), value.to_owned()))
    } else {
        Err(expected())
    }
}

pub(super) fn run(arguments: Arguments) -> u8 {
    let mut keys = std::collections::HashSet::new();
    if let Some((key, _)) = arguments.labels.iter().find(|(key, _)| !keys.insert(key)) {
        let message = format_args!(
            "--namespace-label {key} is given twice, and a label has one value: print a policy for each"
        );
        return complain(&message, status::FAULT);
    }
    let options = Policy {
        rules: arguments.rules.assignments(),
        delivery: arguments.delivery,
        all: arguments.all,
        labels: arguments.labels,
        namespaces: arguments.namespaces,
        version: match arguments.api_version {
            ApiVersion::V1 => Version::V1,
            ApiVersion::V1beta1 => Version::V1Beta1,
        },
        warn: arguments.warn,
        architecture: arguments.arch,
    };
    match policy(&options) {
        Ok(text) => answer(text.as_bytes()),
        Err(refused) => complain(&refused, status::FAULT),
    }
}
