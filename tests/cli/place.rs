//! Where the shim is put, called as a library: places are arguments.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::thread;

use reuseport::shim::{self, NoPlace, Places, embedded, native, place};

use crate::support::{is_root, output, run, skip};

fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// A directory that nobody else can write, on a file system that can execute.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory")
}

/// Places in `directories` for a user who is not root, so that the folders above
/// need not be open to all.
fn places(directories: &[&Path]) -> Places {
    let user = if user() == 0 { 65533 } else { user() };
    Places {
        installed: None,
        directories: directories.iter().map(PathBuf::from).collect(),
        shared: None,
        user,
    }
}

fn placed(places: &Places) -> Result<PathBuf, NoPlace> {
    let native = native().expect("a known architecture");
    place(places, native, embedded(native))
}

fn refusal(places: &Places) -> String {
    placed(places).expect_err("no place").to_string()
}

fn ours() -> &'static [u8] {
    embedded(native().expect("a known architecture")).expect("built")
}

#[test]
fn the_file_is_written_once_and_named_by_its_content() {
    let directory = directory();
    let below = directory.path().join("a/reuseport");
    let places = places(&[&below]);
    let path = placed(&places).expect("a place");
    assert_eq!(path.parent(), Some(below.as_path()));
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .expect("a name");
    assert!(
        name.starts_with("libreuseport-") && name.ends_with(".so"),
        "{name}"
    );
    assert_eq!(fs::read(&path).expect("readable"), ours());
    assert_eq!(
        path.metadata().expect("a file").permissions().mode() & 0o7777,
        0o755
    );
    let written = path.metadata().expect("a file").modified().expect("a time");
    assert_eq!(placed(&places).expect("a place"), path);
    assert_eq!(
        path.metadata().expect("a file").modified().expect("a time"),
        written
    );
}

#[test]
fn a_damaged_file_or_a_link_in_its_place_is_replaced() {
    let directory = directory();
    let places = places(&[directory.path()]);
    let path = placed(&places).expect("a place");
    let elsewhere = directory.path().join("elsewhere");
    fs::write(&elsewhere, "mine").expect("written");
    let damages: [&dyn Fn(); 5] = [
        &|| fs::write(&path, "").expect("written"),
        &|| fs::write(&path, &ours()[..1000]).expect("written"),
        &|| fs::write(&path, [ours(), b"more"].concat()).expect("written"),
        &|| {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("a mode");
        },
        &|| {
            fs::remove_file(&path).expect("removed");
            symlink(&elsewhere, &path).expect("a link");
        },
    ];
    for damage in damages {
        damage();
        assert_eq!(placed(&places).expect("a place"), path);
        assert!(path.symlink_metadata().expect("there").is_file());
        assert_eq!(
            path.metadata().expect("a file").permissions().mode() & 0o7777,
            0o755
        );
        assert_eq!(fs::read(&path).expect("readable"), ours());
    }
    assert_eq!(fs::read(&elsewhere).expect("readable"), b"mine");
}

#[test]
fn ten_at_once_find_one_whole_file() {
    for _ in 0..20 {
        let directory = directory();
        let places = places(&[&directory.path().join("reuseport")]);
        thread::scope(|scope| {
            for _ in 0..10 {
                scope.spawn(|| {
                    let path = placed(&places).expect("a place");
                    assert_eq!(fs::read(path).expect("readable"), ours());
                });
            }
        });
        let left = fs::read_dir(&places.directories[0])
            .expect("a directory")
            .count();
        assert_eq!(left, 1);
    }
}

#[test]
fn places_that_are_not_safe_are_turned_down_by_name() {
    let directory = directory();
    let open = directory.path().join("open");
    fs::create_dir(&open).expect("made");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).expect("a mode");
    let spaced = directory.path().join("a b");
    let file = directory.path().join("file");
    fs::write(&file, "").expect("written");
    let message = refusal(&places(&[
        &open,
        &open.join("below"),
        &spaced,
        &file.join("below"),
    ]));
    let lines: Vec<&str> = message.lines().collect();
    assert_eq!(lines[0], "there is no place for the shim:");
    let writable = format!("{} can be written by others", open.display());
    assert_eq!(lines[1], format!("  {}: {writable}", open.display()));
    assert_eq!(
        lines[2],
        format!("  {}: {writable}", open.join("below").display())
    );
    assert!(lines[3].starts_with(&format!("  {}: its path holds a space", spaced.display())));
    assert!(lines[4].starts_with(&format!("  {}: ", file.join("below").display())));
    // The next place is taken all the same.
    let good = directory.path().join("good");
    assert!(
        placed(&places(&[&open, &good]))
            .expect("a place")
            .starts_with(good)
    );
}

#[test]
fn where_it_may_be_mapped_is_asked_of_the_mount() {
    if !is_root() {
        skip(
            "where_it_may_be_mapped_is_asked_of_the_mount",
            "only root can mount",
        );
        return;
    }
    let directory = directory();
    let program = env!("CARGO_BIN_EXE_reuseport");
    // Both places of root's are covered by mounts of this shell's own namespace.
    let script = "mount -t tmpfs -o noexec,mode=755 none /var/lib && \
                  mount -t tmpfs -o mode=755 none /run && exec \"$0\" sh -c 'echo $LD_PRELOAD'";
    let mut unshare = crate::support::command("unshare");
    let printed = output(unshare.args(["--mount", "sh", "-c", script, program]));
    assert!(
        printed.starts_with("/run/reuseport/libreuseport-"),
        "{printed}"
    );

    let script = "mount -t tmpfs -o noexec,mode=755 none /var/lib && \
                  mount -t tmpfs -o ro none /run && exec \"$0\" true";
    let mut unshare = crate::support::command("unshare");
    let outcome = run(unshare.args(["--mount", "sh", "-c", script, program]));
    assert_eq!(outcome.status, Some(125));
    let noexec = "\n  /var/lib/reuseport: it is on a file system mounted noexec";
    assert!(outcome.stderr.contains(noexec), "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("\n  /run/reuseport: Read-only"),
        "{}",
        outcome.stderr
    );
    drop(directory);
}

#[test]
fn root_wants_every_folder_open_to_all() {
    let directory = directory();
    let closed = directory.path().join("closed");
    fs::create_dir(&closed).expect("made");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("a mode");
    let mut places = places(&[&closed.join("reuseport")]);
    places.user = 0;
    if is_root() {
        let message = refusal(&places);
        assert!(
            message.contains("cannot be entered by other users"),
            "{message}"
        );
    }
}

#[test]
fn an_installed_shim_comes_first_if_it_is_one() {
    let directory = directory();
    let [bin, lib] = ["bin", "lib"].map(|name| directory.path().join(name));
    fs::create_dir(&bin).expect("made");
    let installed = shim::install(&[(lib, ours())])
        .expect("installed")
        .remove(0);
    let user = if user() == 0 { 65533 } else { user() };
    let mut places = Places::new(Some(&bin.join("reuseport")), user, |_| None);
    assert_eq!(placed(&places).expect("a place"), installed);

    places.directories = vec![directory.path().join("data")];
    places.shared = None;
    // Cut off anywhere, it would kill the program rather than load.
    for length in [500, 4096, ours().len() - 1] {
        fs::write(&installed, &ours()[..length]).expect("written");
        assert!(
            placed(&places)
                .expect("a place")
                .starts_with(&places.directories[0])
        );
    }
    fs::write(&installed, "no shim").expect("written");
    assert!(
        placed(&places)
            .expect("a place")
            .starts_with(&places.directories[0])
    );
    places.directories.clear();
    let message = refusal(&places);
    assert!(
        message.contains("libreuseport.so: it is no shim for "),
        "{message}"
    );
}

#[test]
fn users_have_the_places_of_the_xdg_specification() {
    let variables = |name: &str| {
        let value = match name {
            "HOME" => "/home/me",
            "XDG_CACHE_HOME" => "/cache",
            "XDG_RUNTIME_DIR" => "relative",
            _ => return None,
        };
        Some(PathBuf::from(value))
    };
    let places = Places::new(None, 1000, variables);
    let expected = ["/home/me/.local/share/reuseport", "/cache/reuseport"];
    assert_eq!(places.directories, expected.map(PathBuf::from));
    let expected = ["/var/lib/reuseport", "/run/reuseport"];
    assert_eq!(
        Places::new(None, 0, variables).directories,
        expected.map(PathBuf::from)
    );
}

#[test]
fn a_user_without_a_place_takes_the_one_that_root_has_written() {
    let directory = directory();
    let mut places = places(&[]);
    let shared = directory.path().join("shared");
    places.shared = Some(shared.clone());
    assert!(placed(&places).is_err());
    let root = Places {
        directories: vec![shared.clone()],
        shared: None,
        ..places.clone()
    };
    let written = placed(&root).expect("a place");
    assert_eq!(placed(&places).expect("the same"), written);
    fs::write(&written, "damaged").expect("written");
    assert!(placed(&places).is_err());
    assert_eq!(fs::read(&written).expect("readable"), b"damaged");
}

#[test]
fn an_installed_shim_that_ld_preload_cannot_name_is_turned_down() {
    let directory = directory();
    let prefix = directory.path().join("sp ace");
    shim::install(&[(prefix.join("lib"), ours())]).expect("installed");
    let user = if user() == 0 { 65533 } else { user() };
    let mut places = Places::new(Some(&prefix.join("bin/reuseport")), user, |_| None);
    places.shared = None;
    fs::create_dir(prefix.join("bin")).expect("made");
    let message = refusal(&places);
    assert!(message.contains("its path holds a space"), "{message}");
}
