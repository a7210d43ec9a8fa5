//! What is said of servers.

use super::{User, codes, fixture, reached, tried, tried_by};
use crate::support::compile;

#[test]
fn a_server_that_shares_works() {
    let (status, answer) = tried(&[], &["redis-server", "--port", "6380"]);
    assert_eq!(
        (status, &answer["verdict"]),
        (Some(0), &"works".into()),
        "{answer:#}"
    );
    // On IPv4 and on IPv6.
    assert_eq!(reached(&answer), 2);
    let sockets = answer["live"]["copies"][1]["sockets"]
        .as_array()
        .expect("sockets");
    assert!(
        sockets.iter().all(|one| one["state"] == "hooked"),
        "{sockets:?}"
    );
}

#[test]
fn datagrams_are_counted_as_well() {
    let dnsmasq = [
        "dnsmasq",
        "-k",
        "-C",
        "/dev/null",
        "-p",
        "5353",
        "-u",
        "root",
    ];
    let (status, answer) = tried(&[], &dnsmasq[..if super::is_root() { 8 } else { 6 }]);
    assert_eq!(
        (status, &answer["verdict"]),
        (Some(0), &"works".into()),
        "{answer:#}"
    );
    let udp = |one: &&serde_json::Value| one["protocol"] == "udp";
    let traffic = answer["live"]["traffic"].as_array().expect("traffic");
    assert_eq!(traffic.iter().filter(udp).count(), 2, "{traffic:?}");
    assert_eq!(reached(&answer), 4);
}

#[test]
fn a_user_needs_no_privilege_even_for_a_low_port() {
    let (status, answer) = tried_by(
        &mut User::new().command(),
        &[],
        &["redis-server", "--port", "80"],
    );
    assert_eq!(
        (status, &answer["verdict"]),
        (Some(0), &"works".into()),
        "{answer:#}"
    );
    assert_eq!(reached(&answer), 2);
}

#[test]
fn short_queues_are_filled_again_and_again() {
    // A backlog of 5.
    let (_, answer) = tried(&[], &[&fixture(), "plain", "8000"]);
    assert_eq!(answer["verdict"], "works", "{answer:#}");
    assert_eq!(reached(&answer), 1);
}

#[test]
fn one_that_waits_for_the_client_to_speak_is_spoken_to() {
    let (_, answer) = tried(&[], &[&fixture(), "deferred", "8000"]);
    assert_eq!(answer["verdict"], "works", "{answer:#}");
}

#[test]
fn a_socket_that_is_bound_late_is_seen() {
    let (_, answer) = tried(&[], &[&fixture(), "late", "8000"]);
    assert_eq!(answer["verdict"], "fails", "{answer:#}");
    assert_eq!(codes(&answer), ["bypassed"]);
}

#[test]
fn a_multicast_address_ends_no_trial() {
    let (_, answer) = tried(&[], &[&fixture(), "group", "8000"]);
    assert_eq!(codes(&answer), ["no-traffic"], "{answer:#}");
    let traffic = answer["live"]["traffic"].as_array().expect("traffic");
    assert_eq!(traffic.len(), 2, "{answer:#}");
}

#[test]
fn a_server_that_goes_into_the_background_is_followed() {
    let (_, answer) = tried(&[], &[&fixture(), "background", "8000"]);
    assert_eq!(answer["verdict"], "works", "{answer:#}");
}

#[test]
fn a_bind_past_the_c_library_fails() {
    let (status, answer) = tried(&[], &[&fixture(), "raw", "8000"]);
    assert_eq!((status, codes(&answer)), (Some(1), vec!["bypassed"]));
    assert_eq!(answer["live"]["copies"][1]["output"][0], "address in use");
}

#[test]
fn a_static_program_fails() {
    let program = compile("cc", "live/server.c", &["-static"]);
    let program = program.to_str().expect("UTF-8");
    let (status, answer) = tried(&[], &[program, "plain", "8000"]);
    assert_eq!(
        (status, codes(&answer)),
        (Some(1), vec!["bypassed", "static"])
    );
}

#[test]
fn rules_that_leave_the_port_out_fail() {
    let (status, answer) = tried(&["--port", "8001"], &[&fixture(), "plain", "8000"]);
    assert_eq!((status, codes(&answer)), (Some(1), vec!["outside-rules"]));
    let (status, _) = tried(&["--port", "8000"], &[&fixture(), "plain", "8000"]);
    assert_eq!(status, Some(0));
}

#[test]
fn a_port_that_the_kernel_chose_is_not_missed() {
    // One beside the server's own, which the rules leave out.
    let (status, answer) = tried(&["--port", "8000"], &[&fixture(), "chosen", "8000"]);
    assert_eq!((status, codes(&answer)), (Some(0), vec![]), "{answer:#}");
    assert_eq!(answer["verdict"], "works");
}

#[test]
fn a_high_port_is_not_taken_for_one_that_the_kernel_chose() {
    let (_, answer) = tried(&[], &[&fixture(), "plain", "62000"]);
    assert_eq!(answer["verdict"], "works", "{answer:#}");
    assert_eq!(reached(&answer), 1);
}

#[test]
fn one_that_wants_to_be_alone_is_uncertain_with_its_words() {
    let (status, answer) = tried(&[], &[&fixture(), "alone", "8000"]);
    assert_eq!((status, codes(&answer)), (Some(0), vec!["ended"]));
    let second = &answer["live"]["copies"][1];
    assert_eq!(second["exit"], 3);
    assert_eq!(second["output"][0], "another one is running");
    let (status, _) = tried(&["--strict"], &[&fixture(), "alone", "8000"]);
    assert_eq!(status, Some(1));
}

#[test]
fn one_that_does_not_accept_is_uncertain() {
    let (_, answer) = tried(&[], &[&fixture(), "deaf", "8000"]);
    assert_eq!(answer["verdict"], "uncertain");
    assert!(codes(&answer).contains(&"not-accepting"), "{answer:#}");
}

#[test]
fn one_that_a_connection_ends_is_uncertain() {
    let (_, answer) = tried(&[], &[&fixture(), "brittle", "8000"]);
    assert_eq!(answer["verdict"], "uncertain", "{answer:#}");
    assert!(codes(&answer).contains(&"ended"), "{answer:#}");
}

#[test]
fn one_that_binds_nothing_is_uncertain_when_the_time_is_over() {
    let (status, answer) = tried(&["--timeout", "1"], &["sleep", "100"]);
    assert_eq!(
        (status, codes(&answer)),
        (Some(0), vec!["never-bound", "no-bind"])
    );
    assert_eq!(answer["live"]["copies"].as_array().map(Vec::len), Some(1));
}

#[test]
fn one_that_ends_at_once_is_uncertain_with_its_status() {
    let (_, answer) = tried(&[], &["sh", "-c", "echo no; exit 7"]);
    assert_eq!(answer["verdict"], "uncertain");
    let copy = &answer["live"]["copies"][0];
    assert_eq!(
        (&copy["exit"], &copy["output"][0]),
        (&7.into(), &"no".into())
    );
}

#[test]
fn an_interface_that_is_not_there_is_named() {
    let (_, answer) = tried(&["--interface", "eth7"], &[&fixture(), "plain", "8000"]);
    assert_eq!(answer["verdict"], "uncertain", "{answer:#}");
    let findings = answer["findings"].to_string();
    assert!(findings.contains("no interface eth7"), "{findings}");
}

#[test]
fn a_long_argument_is_no_hindrance() {
    let word = "x".repeat(100_000);
    let (_, answer) = tried(
        &[],
        &["redis-server", "--port", "6380", "--requirepass", &word],
    );
    assert_eq!(answer["verdict"], "works");
}

#[test]
fn what_cannot_be_started_is_not_tried() {
    let (status, answer) = tried(&[], &["no-such-server"]);
    assert_eq!((status, codes(&answer)), (Some(2), vec!["not-found"]));
    assert!(answer["live"].is_null());
}
