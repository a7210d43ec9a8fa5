//! OCI runtime bundles: a directory that holds `config.json`, see the OCI runtime
//! specification.
//!
//! The edit is a pure function on that file: the shim's directory is mounted
//! read-only, and `process.env` names it. `eject(inject(x))` is `x`, to the byte,
//! however it is laid out: what taking out cannot know is written down in an
//! annotation.

mod edit;
mod judge;
mod seccomp;
mod text;
mod view;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;
use thiserror::Error;

use crate::image::json::Document;
use crate::rules::Assignments;
use edit::{is_at_our_place, is_our_mount};
pub use judge::Verdict;

/// The name of the file.
pub const CONFIG: &str = "config.json";

/// More than any bundle's.
const LARGEST: u64 = 16 << 20;

/// The most mounts, and masked paths, of a bundle.
const MOST_MOUNTS: usize = 4096;

/// Why a directory is no bundle that could be changed.
#[derive(Debug, Error)]
pub enum Error {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: larger than {LARGEST} bytes", .0.display())]
    TooLarge(PathBuf),
    #[error("{}: no JSON: {source}", path.display())]
    Json {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("{}: {what}", path.display())]
    Shape { path: PathBuf, what: &'static str },
    #[error("{}: the program's root {}: {source}", path.display(), root.display())]
    Root {
        path: PathBuf,
        root: PathBuf,
        source: io::Error,
    },
}

/// Whether `directory` is a bundle.
pub fn is_bundle(directory: &Path) -> bool {
    directory.join(CONFIG).is_file()
}

/// A bundle, read.
#[derive(Debug)]
pub struct Bundle {
    /// The path of `config.json`.
    pub path: PathBuf,
    config: Config,
}

/// The content of `config.json`.
#[derive(Clone, Debug)]
struct Config {
    text: String,
    /// What the text says; and how new text is to be spelt.
    document: Document,
}

impl Config {
    fn parse(text: String) -> Result<Self, serde_json::Error> {
        let document = Document::parse(text.as_bytes())?;
        Ok(Self { text, document })
    }

    fn tree(&self) -> &Value {
        &self.document.tree
    }

    /// The same text, made to say `tree`.
    fn with(&self, tree: &Value) -> Self {
        let text = text::rewrite(&self.text, self.tree(), tree, &self.document);
        // Read again, since a later run finds the spelling by this text alone.
        Self::parse(text).expect("what was rewritten is JSON")
    }

    /// Without the shim.
    fn ejected(&self) -> Self {
        let (tree, before) = edit::eject(self.tree());
        let this = self.with(&tree);
        let mut text = this.text.clone();
        for (path, raw) in before {
            text = text::replace(&text, path, &raw).unwrap_or(text);
        }
        match Self::parse(text) {
            Ok(restored) if *restored.tree() == tree => restored,
            _ => this,
        }
    }
}

/// The members of `config.json` that are edited.
const EDITED: [&[&str]; 3] = [&["process", "env"], &["mounts"], &["annotations"]];

impl Bundle {
    /// Reads the bundle in `directory`.
    ///
    /// # Errors
    /// There is no `config.json`, or it is not that of a Linux container.
    pub fn read(directory: &Path) -> Result<Self, Error> {
        let path = directory.join(CONFIG);
        let fail = |source| Error::Io {
            path: path.clone(),
            source,
        };
        let mut bytes = Vec::new();
        let file = File::open(&path).map_err(fail)?;
        file.take(LARGEST + 1)
            .read_to_end(&mut bytes)
            .map_err(fail)?;
        if bytes.len() as u64 > LARGEST {
            return Err(Error::TooLarge(path));
        }
        let text = String::from_utf8(bytes).map_err(|error| fail(io::Error::other(error)))?;
        let config = match Config::parse(text) {
            Ok(config) => config,
            Err(source) => return Err(Error::Json { path, source }),
        };
        let this = Self { path, config };
        this.check_shape()?;
        Ok(this)
    }

    fn check_shape(&self) -> Result<(), Error> {
        let tree = self.config.tree();
        let fail = |what| {
            Err(Error::Shape {
                path: self.path.clone(),
                what,
            })
        };
        if !tree.is_object() {
            return fail("no JSON object");
        }
        if tree.get("windows").is_some_and(Value::is_object) {
            return fail("the bundle of a Windows container: there is no shim for Windows");
        }
        if tree.get("vm").is_some_and(Value::is_object) {
            return fail("the bundle of a virtual machine: a mount does not reach its files");
        }
        if !tree["process"].is_object() {
            return fail("it has no process: a container without a program of its own");
        }
        if !tree["root"]["path"].is_string() {
            return fail("it has no root.path");
        }
        let is_list = |value: &Value, is_right: fn(&Value) -> bool| {
            let list = value.as_array();
            value.is_null() || list.is_some_and(|list| list.iter().all(is_right))
        };
        if !is_list(&tree["process"]["env"], Value::is_string) {
            return fail("process.env is no list of strings");
        }
        if !is_list(&tree["process"]["args"], Value::is_string) {
            return fail("process.args is no list of strings");
        }
        if !is_list(&tree["mounts"], Value::is_object) {
            return fail("mounts is no list of objects");
        }
        let lists = [&tree["mounts"], &tree["linux"]["maskedPaths"]];
        if lists
            .iter()
            .any(|list| list.as_array().is_some_and(|list| list.len() > MOST_MOUNTS))
        {
            return fail("it has more mounts, or maskedPaths, than any container could have");
        }
        let ids = ["uid", "gid"].map(|name| &tree["process"]["user"][name]);
        let is_id = |id: &&Value| id.as_u64().is_some_and(|id| u32::try_from(id).is_ok());
        if !ids.iter().all(|id| id.is_null() || is_id(id)) {
            return fail("process.user has a uid or gid that is no number from 0 to 4294967295");
        }
        let mut mounts = tree["mounts"].as_array().into_iter().flatten();
        if mounts.any(|mount| is_at_our_place(mount) && !is_our_mount(mount)) {
            return fail("it mounts something else at /.reuseport");
        }
        if !(tree["annotations"].is_null() || tree["annotations"].is_object()) {
            return fail("annotations is no object");
        }
        Ok(())
    }

    /// Whether the shim is in it.
    pub fn has_shim(&self) -> bool {
        edit::has_shim(self.config.tree())
    }

    /// `config.json` with the shim of the host's file `shim`, under `rules`;
    /// `first` must be loaded before it. One that was in it makes way.
    pub fn inject(&self, shim: &Path, rules: &Assignments, first: &[OsString]) -> Vec<u8> {
        let base = self.config.ejected();
        let new = edit::inject(base.tree(), shim, rules, first);
        let injected = base.with(&new);
        if injected.ejected().text == base.text {
            return injected.text.into_bytes();
        }
        // What taking out would not give back is written down, as it is spelt.
        let old = EDITED.map(|path| {
            let raw = text::raw(&base.text, path);
            Value::from_iter(raw.map(str::to_owned))
        });
        let new = edit::with_restore(new, &old);
        base.with(&new).text.into_bytes()
    }

    /// `config.json` without the shim.
    pub fn eject(&self) -> Vec<u8> {
        self.config.ejected().text.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rules::Variable;

    fn bundle(tree: &Value) -> Bundle {
        of(tree.to_string())
    }

    fn of(text: String) -> Bundle {
        let bundle = Bundle {
            path: "config.json".into(),
            config: Config::parse(text).expect("JSON"),
        };
        bundle.check_shape().expect("a bundle");
        bundle
    }

    fn rules(port: &str) -> Assignments {
        let mut rules = Assignments::default();
        rules.set(Variable::Port, port.into());
        rules
    }

    #[test]
    fn what_is_put_in_comes_out_again() {
        let root = json!({"path": "rootfs"});
        for tree in [
            json!({"process": {"args": ["x"]}, "root": root}),
            json!({"process": {"env": null}, "root": root, "mounts": [], "annotations": {}}),
            json!({"root": root, "process": {"env": ["A=b", "LD_PRELOAD=/x.so"], "odd": 1.0},
                   "annotations": {"a": "b"}, "mounts": [{"destination": "/proc"}], "new": [{}]}),
            json!({"root": root, "process": {"env": ["LIBREUSEPORT_PORT=1", "LD_PRELOAD="]}}),
            json!({"root": root, "process": {"env": ["LD_PRELOAD=a  b", "LD_PRELOAD=c"]}}),
        ] {
            let before = bundle(&tree);
            assert!(!before.has_shim());
            let shim = Path::new("/opt/reuseport/libreuseport.so");
            let once = before.inject(shim, &rules("80"), &[]);
            let injected = bundle(&serde_json::from_slice(&once).expect("JSON"));
            assert!(injected.has_shim());
            assert_eq!(
                injected.inject(shim, &rules("80"), &[]),
                once,
                "twice is once"
            );
            let other = injected.inject(shim, &rules("81"), &[]);
            let other = bundle(&serde_json::from_slice(&other).expect("JSON"));
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
            assert_eq!(text(injected.eject()), tree.to_string());
            assert_eq!(text(other.eject()), tree.to_string());
        }
    }

    /// `config.json` as people and tools lay it out, with what is edited last.
    const LAYOUTS: [&str; 9] = [
        "{ \"root\" : {\"path\":\"rootfs\"},\n  \"process\": {\n\"env\": [ \"A=1\",\n \"B=2\" ] } }\n",
        r#"{"root":{"path":"rootfs"},"process":{"env":["LD_PRELOAD=\/x.so"]},"mounts":[ ]}"#,
        "{\"process\":{\"env\":[\r\n\"A=\\u00e9\"]},\r\n\"mounts\":\t[],\"root\":{\"path\":\"x\"}}\r\n\r\n",
        r#"{"process":{"env": null},"mounts":null,"annotations":null,"root":{"path":"x"}}"#,
        r#"{"process":{"env": []},"annotations": { },"root":{"path":"x"}  }"#,
        "{\n    \"root\": {\"path\": \"x\"},\n    \"process\": {\"args\": [\"a\", \"b\"]},\n    \"annotations\": {\n    }\n}",
        r#"{"process":{"env":["LD_PRELOAD=a  b" ,"LD_PRELOAD=c", "X"]},"root":{"path":"x"}, "n": 1e+2}"#,
        r#"{"annotations":{"a":"1"},"annotations":{"b":"2"},"process":{},"root":{"path":"x"}}"#,
        "{\t\"process\":{\"env\" :[\"LD_PRELOAD=a\" , \"B=1\"\n  ,\"LD_PRELOAD=b:c\"\r\n\t]\t,\t\"env2\": []\n  },\n  \"x\"\n: 1\n,\"annotations\"\n:\r\n\t{\n} , \"z\"\n  :\"\\u00e9,{\"\n, \"root\"\n  :\n  {\n\"path\":\n  \"x\"}}\n",
    ];

    #[test]
    fn any_layout_comes_back() {
        for text in LAYOUTS {
            let before = of(text.to_owned());
            let shim = Path::new("/opt/reuseport/libreuseport.so");
            let first = ["libasan.so.8".into()];
            let once = before.inject(shim, &rules("80"), &first);
            let injected = of(String::from_utf8(once.clone()).expect("UTF-8"));
            assert!(injected.has_shim());
            assert_eq!(injected.inject(shim, &rules("80"), &first), once, "{text}");
            let other = injected.inject(shim, &rules("81"), &[]);
            let other = of(String::from_utf8(other).expect("UTF-8"));
            for one in [injected, other] {
                let ejected = String::from_utf8(one.eject()).expect("UTF-8");
                assert_eq!(ejected, text, "{}", one.config.text);
            }
        }
    }

    /// Parts of a `config.json` with tokens apart, which [`laid_out`] joins.
    const MEMBERS: [&[&str]; 5] = [
        &[
            r#""root" : { "path" : "x" }"#,
            r#""root" : { "readonly" : true , "path" : "\u0078" , "z" : [ ] }"#,
        ],
        &[
            r#""process" : { "env" : [ ] , "cwd" : "/" }"#,
            r#""process" : { "args" : [ "a" ] }"#,
            r#""process" : { "args" : [ "a" ] , "env" : null }"#,
            r#""process" : { "env" : [ "A=1" , "LD_PRELOAD=\/x.so" , "\u0042=2" ] }"#,
            r#""process" : { "env" : [ "LD_PRELOAD=" , "LIBREUSEPORT_PORT=1" ] , "n" : 1E+2 }"#,
            r#""process" : { "env" : [ "LD_PRELOAD=a" , "B=1" , "LD_PRELOAD=b:c" ] , "env2" : [ ] }"#,
        ],
        &[
            r#""x" : 1"#,
            r#""mounts" : [ ]"#,
            r#""mounts" : null"#,
            r#""mounts" : [ { "destination" : "/proc" } , { "destination" : "/dev" , "options" : [ ] } ]"#,
        ],
        &[
            r#""y" : { }"#,
            r#""annotations" : { }"#,
            r#""annotations" : null"#,
            r#""annotations" : { "a" : "1" , "\"" : "]}," }"#,
        ],
        &[
            r#""z" : "\u00e9,{""#,
            r#""hooks" : { "prestart" : [ { "path" : "/a" } ] }"#,
        ],
    ];

    /// An object of `members`, with blanks between their tokens by `seed`.
    fn laid_out(members: &[&str], mut seed: u64) -> String {
        const BLANKS: [&str; 8] = ["", "", "", " ", "\n", "\n  ", "\t", "\r\n\t"];
        let text = format!("{{ {} }} ", members.join(" , "));
        let mut laid_out = String::new();
        // In strings, there are blanks of no other kind before punctuation.
        for token in text.split_inclusive(' ') {
            laid_out += token.strip_suffix(' ').unwrap_or(token);
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            laid_out += BLANKS[(seed >> 60) as usize % BLANKS.len()];
        }
        laid_out
    }

    proptest::proptest! {
        #[test]
        fn any_blanks_come_back(
            choice in proptest::array::uniform5(0_usize..24),
            turn in 0_usize..5,
            seed: u64,
        ) {
            let members = MEMBERS.iter().zip(choice);
            let mut members: Vec<&str> =
                members.map(|(list, index)| list[index % list.len()]).collect();
            members.rotate_left(turn);
            let text = laid_out(&members, seed);
            let before = of(text.clone());
            let shim = Path::new("/opt/reuseport/libreuseport.so");
            let once = before.inject(shim, &rules("80"), &[]);
            let injected = of(String::from_utf8(once.clone()).expect("UTF-8"));
            proptest::prop_assert!(injected.has_shim());
            let ejected = String::from_utf8(injected.eject()).expect("UTF-8");
            proptest::prop_assert_eq!(ejected, text);
            proptest::prop_assert_eq!(injected.inject(shim, &rules("80"), &[]), once);
        }
    }

    #[test]
    fn what_is_not_edited_keeps_its_bytes() {
        let text = LAYOUTS[0];
        let once = of(text.to_owned()).inject(Path::new("/s/libreuseport.so"), &rules("80"), &[]);
        let once = String::from_utf8(once).expect("UTF-8");
        let start = "{ \"root\" : {\"path\":\"rootfs\"},\n  \"process\": {\n\"env\": [ \"A=1\",\n \"B=2\",\n ";
        assert!(once.starts_with(start), "{once}");
    }

    #[test]
    fn what_was_added_since_stays() {
        let tree = json!({"process": {}, "root": {"path": "rootfs"}});
        let once = bundle(&tree).inject(Path::new("/s/libreuseport.so"), &rules("80"), &[]);
        let mut edited: Value = serde_json::from_slice(&once).expect("JSON");
        edited["process"]["env"]
            .as_array_mut()
            .expect("a list")
            .push("NEW=1".into());
        let ejected = bundle(&edited).eject();
        let ejected: Value = serde_json::from_slice(&ejected).expect("JSON");
        assert_eq!(ejected["process"]["env"], json!(["NEW=1"]));
        assert!(ejected.get("mounts").is_none());
    }
}
