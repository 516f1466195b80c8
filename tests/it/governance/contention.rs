//! A limit is exact, however many processes ask at once.

use std::thread;

use serde_json::Value;

use crate::harness::redis::RedisServer;
use crate::support::program::Place;

/// As many keys as `alice` may have.
const LIMIT: usize = 10;
/// Client processes, and tasks in each.
const PROCESSES: usize = 4;
const TASKS: usize = 4;

/// Keys made and rows refused by one client process, which asks for [`TASKS`] keys of `alice` at once.
fn one_process(plane: &Place, number: usize) -> (usize, Vec<String>) {
    let file = format!("{number}.csv");
    let rows: String = (0..TASKS)
        .map(|task| format!("key {number}-{task},alice\n"))
        .collect();
    std::fs::write(plane.path(&file), format!("name,owner\n{rows}")).unwrap();
    let ended = plane.run(&["key", "create", "acme", "--csv", &file, "-o", "json"]);
    let said: Value = serde_json::from_str(&ended.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", ended.stdout, ended.stderr));
    let many = |name: &str| said[name].as_array().cloned().unwrap_or_default();
    let refused = many("refused");
    (
        many("keys").len(),
        refused.iter().map(Value::to_string).collect(),
    )
}

#[track_caller]
fn check_exact(planes: &[Place]) {
    planes[0].do_it(&["tenant", "create", "acme"]);
    let done: Vec<_> = thread::scope(|scope| {
        let run = |number| scope.spawn(move || one_process(&planes[number % planes.len()], number));
        let running: Vec<_> = (0..PROCESSES).map(run).collect();
        running.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let made: usize = done.iter().map(|(made, _)| made).sum();
    let refused: Vec<&String> = done.iter().flat_map(|(_, refused)| refused).collect();
    assert_eq!(
        (made, refused.len()),
        (LIMIT, PROCESSES * TASKS - LIMIT),
        "{refused:?}"
    );
    for refusal in refused {
        assert!(
            refusal.contains("API key limit exceeded: the owner has 10 of 10 keys"),
            "{refusal}"
        );
    }
    for plane in planes {
        let there = plane.do_it(&["key", "list", "acme", "-o", "name"]);
        assert_eq!(there.lines().count(), LIMIT, "{there}");
    }
}

#[test]
fn sixteen_tasks_in_four_processes_make_ten_keys_on_the_embedded_store() {
    let place = Place::bootstrapped();
    let _running = place.serve();
    check_exact(&[place]);
}

#[test]
fn sixteen_tasks_at_four_control_planes_make_ten_keys_on_redis() {
    let redis = RedisServer::start();
    let store = format!("url: \"redis://127.0.0.1:{}\"", redis.port());
    let mut first = Place::with_keyrings();
    first.use_redis(&store);
    first.bootstrap();
    let peers = || {
        let peer = first.peer();
        peer.use_redis(&store);
        peer
    };
    let mut planes = vec![peers(), peers(), peers()];
    planes.insert(0, first);
    let _running: Vec<_> = planes.iter().map(Place::serve).collect();
    check_exact(&planes);
}
