//! Why manifests are refused, with where.

use std::fmt;

use thiserror::Error;

use super::unfit::Unfit;

/// A place in the input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The file, as it was named.
    pub file: String,
    /// The document of that file, counted from 1.
    pub document: usize,
    /// Line and column in that file, in characters, counted from 1.
    pub line: usize,
    pub column: usize,
    /// The path in the document, as in `.spec.containers[0].env`; empty where it
    /// is the document itself.
    pub path: String,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            document,
            line,
            column,
            path,
        } = self;
        write!(f, "{file}:{line}:{column}: document {document}")?;
        if !path.is_empty() {
            write!(f, ", {path}")?;
        }
        Ok(())
    }
}

/// The input was refused, and nothing came out of it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{}{fault}", at.as_ref().map(|at| format!("{at}: ")).unwrap_or_default())]
pub struct Error {
    /// Where, unless the call as a whole is at fault.
    pub at: Option<Box<Position>>,
    pub fault: Fault,
}

impl Error {
    pub(super) fn at(at: Position, fault: Fault) -> Self {
        Self {
            at: Some(Box::new(at)),
            fault,
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self { at: None, fault }
    }
}

/// What is wrong.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Fault {
    #[error("this is no YAML: {why}")]
    Syntax { why: String },
    #[error(
        "a line of it is not indented further than its key, as YAML asks within brackets \
         and quotes: indent that by more blanks, or write all of it on one line"
    )]
    Indentation,
    #[error(
        "this is no YAML yet: it holds {{{{ }}}}, as Helm's templates do; render it first: \
         helm template … | reuseport inject -f -"
    )]
    Template,
    #[error(
        "another value of JSON begins here, with no --- before it; make a List of them: \
         jq --slurp '{{apiVersion: \"v1\", kind: \"List\", items: .}}'"
    )]
    JsonStream,
    #[error(
        "this JSON writes characters as two escapes (\\ud83d\\ude00), which YAML does not know, and with a \
         ConfigMap before it the stream is YAML: name one that is there with --configmap, use another \
         --delivery, or write the characters themselves"
    )]
    HalfCharacters,
    #[error(
        "this JSON writes characters as two escapes (\\ud83d\\ude00), which YAML does not know: what is written \
         anew, as the copies of a container are, would not be the same; write the characters themselves"
    )]
    HalfCharactersAnew,
    #[error("the key {key:?} is here twice; leave one of them")]
    DuplicateKey { key: String },
    #[error("a {} is no key of a Kubernetes object", if *is_map { "mapping" } else { "list" })]
    ComplexKey { is_map: bool },
    #[error("an alias refers to what it is part of")]
    Cycle,
    #[error("aliases expand to {nodes} nodes and more; write them out, or use fewer")]
    Bomb { nodes: u64 },
    #[error("more than {deepest} collections lie in one another")]
    TooDeep { deepest: usize },
    #[error("expected a {expected}, found {found}")]
    WrongType {
        expected: &'static str,
        found: &'static str,
    },
    #[error("this container has no name; Kubernetes needs one")]
    NoName,
    #[error(
        "there is another container called {name}; Kubernetes takes each name once: give one of them another"
    )]
    DuplicateName { name: String },
    #[error(
        "container {container} mounts {mount} at /.reuseport, where the shim goes; \
         leave it out with --container, or the workload with the annotation reuseport.dev/inject: disabled"
    )]
    MountTaken { container: String, mount: String },
    #[error("the name {name} is taken in {holder}; the shim needs it: give yours another")]
    NameTaken { name: String, holder: String },
    #[error(
        "these pods run on Windows, which has no LD_PRELOAD; choose others with --workload, \
         or put the annotation reuseport.dev/inject: disabled on the template"
    )]
    Windows,
    #[error(
        "a DaemonSet runs on nodes of every architecture, and a ConfigMap carries the shim for one: \
         say which with --arch, pin it with nodeSelector kubernetes.io/arch, or use --delivery image=REF or init=REF"
    )]
    AnyArchitecture,
    #[error("the image of container {container}: {why}; without --check no image is read")]
    Image { container: String, why: String },
    #[error("{object}: {why}")]
    Unfit { object: String, why: Box<Unfit> },
    #[error(
        "--surge-ready: there is no DaemonSet and no Deployment with hostNetwork: true; set that, \
         or leave the option out: pods with a network each overlap as they are, unless a hostPort keeps two of \
         them from a node"
    )]
    NothingToSurge,
    #[error(
        "--scale-ready: there is no Compose file; for pods on the host's network there is --surge-ready"
    )]
    NothingToScale,
    #[error(
        "{flag} is for the pods of Kubernetes, and there is none: a Compose file gets the shim from its host; leave the flag out"
    )]
    NoPods { flag: &'static str },
    #[error("{0}")]
    NoShim(#[from] crate::shim::NoShim),
    #[error("the annotation {annotation}: {why}")]
    Annotation { annotation: String, why: String },
    #[error(
        "there is no workload {wanted}; {}",
        if there.is_empty() { "there is none at all".to_owned() } else { format!("there are {}", there.join(", ")) }
    )]
    NoWorkload { wanted: String, there: Vec<String> },
    #[error(
        "there is no service {wanted}; {}",
        if there.is_empty() { "there is no Compose file".to_owned() } else { format!("there are {}", there.join(", ")) }
    )]
    NoService { wanted: String, there: Vec<String> },
    #[error(
        "these containers run on Windows, which has no LD_PRELOAD; choose other services with --service"
    )]
    WindowsService,
    #[error(
        "a Compose file gets the shim from the host: use --delivery host=PATH, or none for /opt/reuseport"
    )]
    HostOnly,
    #[error("a Compose file has services and no pods: choose with --service NAME, not --container")]
    NoContainers,
    #[error(
        "Compose leaves out {key} here, for its tag, and what the shim needs with it: write {key}: !override \
         and what is to stay, or choose other services with --service"
    )]
    Reset { key: String },
    #[error("service {name} cannot be made ready to scale: {why}")]
    NotScalable { name: String, why: String },
    #[error(
        "{key} has to make way and is not written here, or not on one line: an anchor brings it in; write it out"
    )]
    NotWritten { key: String },
    #[error("this is no ResourceList, which a KRM function takes (config.kubernetes.io/v1)")]
    NoResourceList,
    #[error("functionConfig: {why}")]
    Configuration { why: String },
    #[error("no workload has a container {wanted}; there are {}", there.join(", "))]
    NoContainer { wanted: String, there: Vec<String> },
    #[error(
        "the text that was to be written does not read as what was meant ({why}); nothing was written. \
         This is a fault of reuseport's: write that part in another style, and please report it"
    )]
    Mismatch { why: &'static str },
    #[error("this cannot be edited as it is written; write it in another style")]
    Unwritable,
}
