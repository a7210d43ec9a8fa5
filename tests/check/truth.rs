//! Every ELF file of this machine, against readelf and ldd.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use reuseport::program::{Elf, Linkage};

use crate::support::run;

/// The ELF files below `directories`, each once, however many names it has.
fn elf_files(directories: &[&str]) -> Vec<PathBuf> {
    let mut pending: Vec<PathBuf> = directories.iter().map(PathBuf::from).collect();
    let mut found = BTreeSet::new();
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let kind = entry.file_type().expect("a type");
            if kind.is_dir() {
                pending.push(entry.path());
            } else if kind.is_file() && is_elf(&entry.path()) {
                found.insert(entry.path());
            }
        }
    }
    found.into_iter().collect()
}

fn is_elf(path: &Path) -> bool {
    let mut magic = [0; 4];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    read.is_ok() && &magic == b"\x7fELF"
}

/// What readelf says of a file, in the words of [`ours`].
fn theirs(text: &str) -> String {
    let after = |label: &str| {
        let line = text
            .lines()
            .find_map(|line| line.trim().strip_prefix(label));
        line.unwrap_or_default().trim().to_owned()
    };
    let bracketed = |label: &str| {
        let lines = text.lines().filter(|line| line.contains(label));
        let inner = lines.filter_map(|line| Some(line.split_once('[')?.1.rsplit_once(']')?.0));
        inner.map(str::to_owned).collect::<Vec<_>>()
    };
    let interpreter = text.lines().find_map(|line| {
        let rest = line
            .trim()
            .strip_prefix("[Requesting program interpreter: ")?;
        rest.strip_suffix(']')
    });
    let kind = after("Type:");
    let has_flag = text
        .lines()
        .any(|line| line.contains("(FLAGS_1)") && line.contains(" PIE"));
    let kind = match (kind.split(' ').next().unwrap_or_default(), interpreter) {
        ("EXEC" | "DYN", Some(interpreter)) => format!("dynamic {interpreter}"),
        ("EXEC", None) => "static".into(),
        ("DYN", None) if has_flag => "static-pie".into(),
        ("DYN", None) => "library".into(),
        _ => "other".into(),
    };
    format!(
        "{} {} {kind} needed {:?} rpath {:?} runpath {:?}",
        after("Class:"),
        after("Machine:"),
        bracketed("(NEEDED)"),
        bracketed("(RPATH)"),
        bracketed("(RUNPATH)"),
    )
}

fn ours(elf: &Elf, machine: &str) -> String {
    let kind = match &elf.linkage {
        Linkage::Dynamic(interpreter) => format!("dynamic {}", interpreter.display()),
        Linkage::Static => "static".into(),
        Linkage::StaticPie => "static-pie".into(),
        Linkage::Library => "library".into(),
        Linkage::Other => "other".into(),
    };
    let class = if elf.is_64_bit { "ELF64" } else { "ELF32" };
    let names = |names: &mut dyn Iterator<Item = &std::ffi::OsString>| {
        names
            .map(|name| name.to_string_lossy().into_owned())
            .collect::<Vec<_>>()
    };
    format!(
        "{class} {machine} {kind} needed {:?} rpath {:?} runpath {:?}",
        names(&mut elf.needed.iter()),
        names(&mut elf.rpath.iter()),
        names(&mut elf.runpath.iter()),
    )
}

/// readelf's name of a machine that this table knows.
fn machine(number: u16) -> Option<&'static str> {
    Some(match number {
        0 => "None",
        3 => "Intel 80386",
        62 => "Advanced Micro Devices X86-64",
        183 => "AArch64",
        247 => "Linux BPF",
        _ => return None,
    })
}

#[test]
fn every_elf_file_reads_as_readelf_reads_it() {
    let files = elf_files(&[
        "/usr/bin",
        "/usr/sbin",
        "/usr/lib",
        "/usr/libexec",
        "/lib64",
    ]);
    assert!(files.len() > 1000, "{} files", files.len());
    let mut compared = 0;
    for batch in files.chunks(200) {
        let outcome = run(Command::new("readelf")
            .env("LC_ALL", "C")
            .arg("-hlWd")
            .args(batch));
        let texts: Vec<&str> = outcome.stdout.split("\nFile: ").collect();
        assert_eq!(texts.len(), batch.len() + 1);
        for (path, text) in batch.iter().zip(&texts[1..]) {
            let file = File::open(path).expect("readable");
            let elf = match Elf::read(&file) {
                Ok(elf) => elf,
                // Go's and Python's test data hold files that are damaged on
                // purpose; readelf must not like them either.
                Err(error) => {
                    let alone = run(Command::new("readelf").arg("-hlWd").arg(path));
                    assert!(!alone.stderr.is_empty(), "{}: {error:?}", path.display());
                    continue;
                }
            };
            let Some(machine) = machine(elf.machine) else {
                continue;
            };
            assert_eq!(ours(&elf, machine), theirs(text), "{}", path.display());
            compared += 1;
        }
    }
    println!("{compared} files compared");
    assert!(
        compared * 100 > files.len() * 95,
        "{compared} of {}",
        files.len()
    );
}

#[test]
fn static_and_dynamic_are_what_ldd_says() {
    let files = elf_files(&["/usr/bin", "/usr/sbin"]);
    for path in &files {
        let elf = Elf::read(&File::open(path).expect("readable")).expect("an ELF file");
        if elf.machine != 62 || !elf.is_64_bit || matches!(elf.linkage, Linkage::Other) {
            continue;
        }
        let outcome = run(Command::new("ldd").env("LC_ALL", "C").arg(path));
        let text = outcome.stdout + &outcome.stderr;
        let says_dynamic = text.contains("=>") || text.contains("ld-linux");
        let says_static =
            text.contains("not a dynamic executable") || text.contains("statically linked");
        let is_dynamic = matches!(elf.linkage, Linkage::Dynamic(_));
        match (says_dynamic, says_static) {
            (true, false) if !matches!(elf.linkage, Linkage::Library) => {
                assert!(is_dynamic, "{}: {text}", path.display());
            }
            (false, true) => assert!(
                !is_dynamic || elf.needed.is_empty(),
                "{}: {text}",
                path.display()
            ),
            // ldd has no answer: another C library's program, or a library.
            _ => {}
        }
    }
}
