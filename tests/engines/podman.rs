//! Podman's service.

use crate::docker::{gives_and_takes_whole_images, shows_single_files};
use crate::port::Port;
use crate::{daemon, fixture, serve};
use reuseport::image::engine::{Engine, Format, Inspected, Kind};
use reuseport::image::transform::Request;
use reuseport::rules::Variable;

/// Puts the shim into the image `from`, as `to`, for the ports `ports`.
fn inject(engine: &Engine, from: &str, to: &str, ports: &str) -> Inspected {
    let image = engine.image(from).expect("the image");
    let mut request = Request::default();
    if !ports.is_empty() {
        request.rules.set(Variable::Port, ports.into());
    }
    let cheap = engine.inject(&image, &request, &[]);
    assert!(cheap.expect("an answer").is_none());
    let made = engine.inject_by_archive(from, &image, &request, &[], to);
    made.expect("it is made")
}

#[test]
fn podman_saves_and_loads() {
    let Some(podman) = daemon::podman("podman_saves_and_loads") else {
        return;
    };
    let engine = podman.engine();
    fixture::load(&podman, "localhost/redis:plain", fixture::config());
    let before = podman.rest();
    let port = Port::free();
    serve::assert_not_shared(&podman, "redis:plain", port.number);

    let base = engine.image("redis:plain").expect("the base");
    let made = inject(&engine, "redis:plain", "localhost/redis:shared", "");
    assert_eq!(made.tags(), ["localhost/redis:shared"]);
    assert_eq!(made.layers().len(), base.layers().len() + 1);
    serve::assert_shared(&podman, "redis:shared", port.number);
    assert_eq!(made.config()["Healthcheck"], base.config()["Healthcheck"]);

    // Once more replaces, and the same input gives the same image.
    let again = inject(&engine, "redis:shared", "localhost/redis:shared", "1");
    assert_ne!(again.id, made.id);
    let third = inject(&engine, "redis:shared", "localhost/redis:shared", "");
    assert_eq!(third.id, made.id);

    let back = engine
        .eject(&made, "localhost/redis:shared")
        .expect("an answer");
    assert_eq!(back, Some(base.clone()));
    assert_eq!(engine.image("redis:shared").expect("it").id, base.id);
    serve::assert_not_shared(&podman, "redis:shared", port.number);

    // Without the base, what comes out is the same, made-up fields included.
    let made = inject(&engine, "redis:plain", "localhost/redis:shared", "");
    podman.ask(&["rmi", "redis:plain"]);
    assert_eq!(
        engine
            .eject(&made, "localhost/redis:back")
            .expect("an answer"),
        None
    );
    let back = engine.eject_by_archive("redis:shared", &made, "localhost/redis:back");
    let back = back.expect("an answer").expect("a shim");
    assert_eq!(back.id, base.id);
    let none = engine.eject_by_archive("redis:back", &back, "localhost/redis:none");
    assert_eq!(none.expect("an answer"), None);
    let names = engine.names().expect("the names");
    assert!(
        !names.iter().any(|name| name.contains("pending")),
        "{names:?}"
    );
    assert_eq!(podman.rest(), before);
}

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
