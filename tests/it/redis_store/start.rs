//! How a process starts while Redis is away, empty, or somebody else's.

use std::net::TcpListener;
use std::time::Instant;

use super::{UNKNOWN, ask, at, lasting};
use crate::harness::redis::{Options, RedisServer};
use crate::harness::{PATIENCE, wait_for, write_secret};
use crate::support::client;
use crate::support::program::{Place, Running};

/// Serving and, as it says itself, waiting for its store.
fn wait_until_it_waits(place: &Place, running: &mut Running) {
    wait_for("/readyz to answer", || {
        assert!(running.ended().is_none(), "{}", running.log());
        let (status, text) = place.ops("/readyz")?;
        ((status, text.as_str()) == (503, "not ready: store\n")).then_some(())
    });
}

fn wait_until_ready(place: &Place, running: &mut Running) {
    wait_for("keystile to be ready", || {
        assert!(running.ended().is_none(), "{}", running.log());
        place.is_ready().then_some(())
    });
}

/// Ends that many attempts to connect.
fn see_attempts(port: u16, count: usize) {
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    for _ in 0..count {
        drop(listener.accept().unwrap());
    }
}

fn warnings(running: &Running) -> Vec<String> {
    let log = running.log();
    let warns = |line: &&str| line.contains("\"WARN\"") || line.contains("\"ERROR\"");
    log.lines().filter(warns).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_starts_before_redis_is_ready_once_redis_is_there() {
    let mut redis = lasting();
    let mut control = Place::with_keyrings();
    control.use_redis(&at(&redis));
    control.bootstrap();
    let sidecar = control.sidecar();
    sidecar.use_redis(&at(&redis));
    redis.kill();

    let places = [&control, &sidecar];
    let mut running = places.map(|place| place.start("serve"));
    for (place, running) in places.iter().zip(&mut running) {
        wait_until_it_waits(place, running);
    }
    see_attempts(redis.port(), 12);
    for running in &running {
        let warnings = warnings(running);
        let [only] = warnings.as_slice() else {
            panic!("{warnings:#?}");
        };
        assert!(only.contains("the store cannot be reached"), "{only}");
        assert!(only.contains(&redis.port().to_string()), "{only}");
    }
    let channel = client::tcp(sidecar.authz).await;
    assert_eq!(ask(&channel, UNKNOWN).await, 503);

    redis.restart();
    for (place, running) in places.iter().zip(&mut running) {
        wait_until_ready(place, running);
        let log = running.log();
        assert_eq!(log.matches("cannot be reached").count(), 1, "{log}");
        assert_eq!(log.matches("the store is back").count(), 1, "{log}");
    }
    assert_eq!(ask(&channel, UNKNOWN).await, 401);
    assert_eq!(ask(&channel, &control.admin_token).await, 200);
}

#[test]
fn a_sidecar_waits_for_a_control_plane_to_have_been_there() {
    let redis = RedisServer::start();
    let mut control = Place::with_keyrings();
    control.use_redis(&at(&redis));
    let sidecar = control.sidecar();
    sidecar.use_redis(&at(&redis));
    let mut running = sidecar.start("serve");
    wait_until_it_waits(&sidecar, &mut running);
    wait_for("it to say what for", || {
        let warnings = warnings(&running);
        warnings
            .iter()
            .any(|line| line.contains("start a control plane"))
            .then_some(())
    });
    assert_eq!(redis.cli(&["DBSIZE"]), "0");
    control.bootstrap();
    wait_until_ready(&sidecar, &mut running);
}

#[test]
fn another_installations_keyring_is_refused_now_or_later() {
    let mut redis = lasting();
    let mut first = Place::with_keyrings();
    first.use_redis(&at(&redis));
    first.bootstrap();

    let other = Place::with_keyrings();
    other.use_redis(&at(&redis));
    let foreign = "was made with keyring";
    let bootstrap = other.run(&["bootstrap", "-c", "keystile.yaml"]);
    assert_eq!(bootstrap.code, 78, "{}", bootstrap.stderr);
    let sidecar = other.sidecar();
    sidecar.use_redis(&at(&redis));
    for place in [&other, &sidecar] {
        let refused = place.serve_refused();
        assert_eq!(refused.code, 78, "{}", refused.stderr);
        assert!(refused.stderr.contains(foreign), "{}", refused.stderr);
    }

    redis.kill();
    let mut running = other.start("serve");
    wait_until_it_waits(&other, &mut running);
    redis.restart();
    assert_eq!(running.wait_for_end().code(), Some(78));
    assert!(running.log().contains(foreign), "{}", running.log());
}

#[test]
fn another_vault_is_refused() {
    let redis = RedisServer::start();
    let mut control = Place::with_keyrings();
    control.use_redis(&at(&redis));
    control.bootstrap();
    let other = Place::with_keyrings();
    let vault = "keys/vault.keyring";
    std::fs::copy(other.path(vault), control.path(vault)).unwrap();
    let refused = control.serve_refused();
    assert_eq!(refused.code, 78, "{}", refused.stderr);
    assert!(
        refused
            .stderr
            .contains("the vault keyring given does not open"),
        "{}",
        refused.stderr
    );
}

#[test]
fn a_command_that_needs_the_store_now_says_why_it_cannot_have_it() {
    let mut redis = RedisServer::start_with(Options {
        password: Some("right"),
        ..Options::default()
    });
    let place = Place::with_keyrings();
    write_secret(&place.path("password"), "wrong\n");
    let password = place.path("password").display().to_string();
    place.use_redis(&format!("{}, password_file: {password}", at(&redis)));
    let bootstrap = || place.run(&["bootstrap", "-c", "keystile.yaml"]);
    let refused = |why: &str| {
        let begun = Instant::now();
        let ended = bootstrap();
        assert_eq!(ended.code, 1, "{}", ended.stderr);
        assert!(
            ended
                .stderr
                .contains("cannot use the Redis store 127.0.0.1:"),
            "{}",
            ended.stderr
        );
        assert!(ended.stderr.contains(why), "{}", ended.stderr);
        assert!(begun.elapsed() < PATIENCE, "it waits for ever");
    };
    refused("WRONGPASS");
    std::fs::remove_file(place.path("password")).unwrap();
    refused(&format!("cannot read {password}"));
    write_secret(&place.path("password"), "right");
    redis.kill();
    refused("refused");
    redis.restart();
    assert_eq!(bootstrap().code, 0);
}
