//! A limit is exact, however many processes ask at once.

use std::thread;

use serde_json::Value;

use crate::harness::redis::RedisServer;
use crate::support::program::Place;

/// As many keys as there is room for.
const LIMIT: usize = 10;
/// Client processes, and tasks in each.
const PROCESSES: usize = 4;
const TASKS: usize = 4;
const TENANTS: [&str; 2] = ["acme", "other"];
const RULES: &str = "api_keys: {min_expiry_days: 0, max_expiry_days: 0}";

/// What there is room for.
#[derive(Clone, Copy, Debug)]
enum Room {
    /// Ten keys of one owner.
    Owner,
    /// Ten keys of all tenants and owners together, one of which is the first of all.
    Total,
}

impl Room {
    fn rules(self) -> &'static str {
        match self {
            Self::Owner => "api_keys: {default_limits: {max_keys_per_user: 10}}",
            Self::Total => "api_keys: {global_limits_override: {max_total_keys: 11}}",
        }
    }

    /// Of one task.
    fn row(self, process: usize, task: usize) -> String {
        match self {
            Self::Owner => format!("acme,key {process}-{task},alice\n"),
            Self::Total => format!(
                "{},key {process}-{task},o{process}-{task}\n",
                TENANTS[task % 2]
            ),
        }
    }

    fn refusal(self) -> &'static str {
        match self {
            Self::Owner => "API key limit exceeded: the owner has 10 of 10 keys",
            Self::Total => "API key limit exceeded: the platform has 11 of 11 keys",
        }
    }
}

/// Keys made and rows refused by one client process, which asks for [`TASKS`] keys at once.
fn one_process(plane: &Place, room: Room, number: usize) -> (usize, Vec<String>) {
    let file = format!("{number}.csv");
    let rows: String = (0..TASKS).map(|task| room.row(number, task)).collect();
    std::fs::write(plane.path(&file), format!("tenant,name,owner\n{rows}")).unwrap();
    let ended = plane.run(&["key", "create", "--csv", &file, "-o", "json"]);
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
fn check_exact(planes: &[Place], room: Room) {
    for tenant in TENANTS {
        planes[0].do_it(&["tenant", "create", tenant]);
    }
    let done: Vec<_> = thread::scope(|scope| {
        let plane = |number: usize| &planes[number % planes.len()];
        let run = |number| scope.spawn(move || one_process(plane(number), room, number));
        let running: Vec<_> = (0..PROCESSES).map(run).collect();
        running.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let made: usize = done.iter().map(|(made, _)| made).sum();
    let refused: Vec<&String> = done.iter().flat_map(|(_, refused)| refused).collect();
    let expected = (LIMIT, PROCESSES * TASKS - LIMIT);
    assert_eq!((made, refused.len()), expected, "{room:?} {refused:?}");
    for refusal in refused {
        assert!(refusal.contains(room.refusal()), "{refusal}");
    }
    for plane in planes {
        let list = |tenant| plane.do_it(&["key", "list", tenant, "-o", "name"]);
        let there = TENANTS.map(|tenant| list(tenant).lines().count());
        assert_eq!(there.iter().sum::<usize>(), LIMIT, "{there:?}");
    }
}

#[test]
fn sixteen_tasks_in_four_processes_make_ten_keys_on_the_embedded_store() {
    for room in [Room::Owner, Room::Total] {
        let place = Place::bootstrapped();
        place.edit_config(RULES, room.rules());
        let _running = place.serve();
        check_exact(&[place], room);
    }
}

#[test]
fn sixteen_tasks_at_four_control_planes_make_ten_keys_on_redis() {
    for room in [Room::Owner, Room::Total] {
        let redis = RedisServer::start();
        let store = format!("url: \"redis://127.0.0.1:{}\"", redis.port());
        let mut first = Place::with_keyrings();
        first.use_redis(&store);
        first.bootstrap();
        let mut planes = vec![first.peer(), first.peer(), first.peer()];
        planes.iter().for_each(|peer| peer.use_redis(&store));
        planes.insert(0, first);
        let one = |plane: &Place| {
            plane.edit_config(RULES, room.rules());
            plane.serve()
        };
        let _running: Vec<_> = planes.iter().map(one).collect();
        check_exact(&planes, room);
    }
}
