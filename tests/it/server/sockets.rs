//! Sockets are taken from nobody, and refused with words that say what to do.

use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};

use nix::unistd::{getegid, geteuid};

use crate::support::client;
use crate::support::program::Place;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checks_are_answered_on_tcp_and_on_the_unix_socket() {
    let place = Place::bootstrapped();
    // Only root can give a file to a group that it is not in.
    let group = if geteuid().is_root() {
        54_321
    } else {
        getegid().as_raw()
    };
    let access = format!("authz:\n  unix_socket: {{mode: \"0620\", group: \"{group}\"}}");
    place.edit_config("authz:", &access);
    let _running = place.serve();
    let socket = place.path("authz.sock");
    let facts = std::fs::metadata(&socket).unwrap();
    assert!(facts.file_type().is_socket());
    assert_eq!((facts.mode() & 0o7777, facts.gid()), (0o620, group));
    for channel in [client::tcp(place.authz).await, client::unix(&socket).await] {
        let key = ("x-api-key", place.admin_token.as_str());
        assert_eq!(client::ask(&channel, &[key]).await, 200);
        assert_eq!(client::ask(&channel, &[]).await, 401);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_a_crash_left_behind_is_replaced() {
    let place = Place::bootstrapped();
    let mut crashed = place.serve();
    crashed.signal("KILL");
    crashed.wait_for_end();
    assert!(place.path("authz.sock").exists(), "left behind");
    let running = place.serve();
    let channel = client::unix(&place.path("authz.sock")).await;
    assert_eq!(client::ask(&channel, &[]).await, 401);
    assert_eq!(running.stop("TERM").0, Some(0));
    assert!(!place.path("authz.sock").exists(), "removed at the end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_in_use_is_refused_and_goes_on_working() {
    let place = Place::bootstrapped();
    let _running = place.serve();
    let socket = place.path("authz.sock");
    let second = Place::bootstrapped();
    let [mine, theirs] = [second.path("authz.sock"), socket.clone()];
    second.edit_config(mine.to_str().unwrap(), theirs.to_str().unwrap());
    let refused = second.serve_refused();
    assert_eq!(refused.code, 1);
    for words in [
        "cannot listen on",
        theirs.to_str().unwrap(),
        "authz.listen",
        "another process is listening",
    ] {
        assert!(
            refused.stderr.contains(words),
            "{words}: {}",
            refused.stderr
        );
    }
    let channel = client::unix(&socket).await;
    assert_eq!(
        client::ask(&channel, &[]).await,
        401,
        "the first still answers"
    );
}

#[test]
fn a_file_in_the_place_of_the_socket_is_left_alone() {
    let place = Place::bootstrapped();
    std::fs::write(place.path("authz.sock"), "precious").unwrap();
    let refused = place.serve_refused();
    assert_eq!(refused.code, 1);
    assert!(
        refused.stderr.contains("not a socket"),
        "{}",
        refused.stderr
    );
    let kept = std::fs::read_to_string(place.path("authz.sock")).unwrap();
    assert_eq!(kept, "precious");
}

#[test]
fn a_port_that_is_taken_is_named_with_the_way_out() {
    for listener in ["authz", "admin", "ops"] {
        let place = Place::bootstrapped();
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let ours = match listener {
            "authz" => place.authz,
            "admin" => place.admin,
            _ => place.ops,
        };
        place.edit_config(&format!("127.0.0.1:{ours}"), &format!("127.0.0.1:{port}"));
        let refused = place.serve_refused();
        assert_eq!(refused.code, 1, "{listener}: {}", refused.stderr);
        let [address, setting] = [format!("127.0.0.1:{port}"), format!("{listener}.listen")];
        for words in ["cannot listen on", &address, &setting] {
            assert!(
                refused.stderr.contains(words),
                "{words}: {}",
                refused.stderr
            );
        }
        assert!(!place.path("authz.sock").exists(), "nothing is left behind");
    }
}

#[test]
fn a_second_program_on_the_same_store_is_refused_and_the_first_goes_on() {
    let place = Place::bootstrapped();
    let running = place.serve();
    // Other ports, so that the store is what they meet at.
    let before = (place.authz, place.admin, place.ops);
    for port in [before.0, before.1, before.2] {
        let free = crate::harness::free_port();
        place.edit_config(&format!("127.0.0.1:{port}"), &format!("127.0.0.1:{free}"));
    }
    let refused = place.serve_refused();
    assert_eq!(refused.code, 1);
    let store = place.path("keystile.redb");
    for words in [store.to_str().unwrap(), "in use by another keystile"] {
        assert!(
            refused.stderr.contains(words),
            "{words}: {}",
            refused.stderr
        );
    }
    assert!(place.is_ready());
    assert_eq!(running.stop("TERM").0, Some(0));
}
