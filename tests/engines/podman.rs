//! Podman's service.

use reuseport::image::engine::{Format, Kind};

use crate::docker::{gives_and_takes_whole_images, shows_single_files};
use crate::{daemon, fixture};

#[test]
fn podman_is_known_for_what_it_is() {
    let Some(podman) = daemon::podman("podman_is_known_for_what_it_is") else {
        return;
    };
    fixture::load(&podman, "redis:known", fixture::config());
    let engine = podman.engine();
    assert_eq!(engine.kind(), Kind::Podman);
    let image = engine.image("redis:known").expect("the image");
    assert_eq!(engine.format(&image), Format::DockerArchive);
    let name = "redis:known".parse().expect("a name");
    assert_eq!(
        engine.sibling(&name, &image, "known-reuseport"),
        "localhost/redis:known-reuseport"
    );
    let error = engine.image("redis:knwon").expect_err("not there");
    let message = error.to_string();
    assert!(message.contains("it has localhost/redis:"), "{message}");
}

#[test]
fn podman_shows_single_files() {
    let Some(podman) = daemon::podman("podman_shows_single_files") else {
        return;
    };
    shows_single_files(&podman);
}

#[test]
fn podman_gives_and_takes_whole_images() {
    let Some(podman) = daemon::podman("podman_gives_and_takes_whole_images") else {
        return;
    };
    gives_and_takes_whole_images(&podman, "localhost/redis:whole");
}
