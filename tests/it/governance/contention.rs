//! A limit is exact, however many processes ask at once.

use std::thread;

use crate::harness::redis::RedisServer;
use crate::support::program::Place;

/// As many keys as there is room for.
const LIMIT: usize = 10;
/// Client processes at once: so many groups, and so many in each.
const GROUPS: usize = 4;
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

    /// The tenant and the owner of one task's key.
    fn place(self, group: usize, task: usize) -> (&'static str, String) {
        match self {
            Self::Owner => ("acme", "alice".to_owned()),
            Self::Total => (TENANTS[task % 2], format!("o{group}-{task}")),
        }
    }

    fn refusal(self) -> &'static str {
        match self {
            Self::Owner => "API key limit exceeded: the owner has 10 of 10 keys",
            Self::Total => "API key limit exceeded: the platform has 11 of 11 keys",
        }
    }
}

/// Asks for one key; why it was refused, if it was. A table would be held against the limits before it is sent, and
/// nothing of it sent when some rows are too many: here each client asks for itself.
fn one_client(plane: &Place, room: Room, (group, task): (usize, usize)) -> Option<String> {
    let (tenant, owner) = room.place(group, task);
    let name = format!("key {group}-{task}");
    let ended = plane.run(&["key", "create", tenant, "--name", &name, "--owner", &owner]);
    (ended.code != 0).then_some(ended.stderr)
}

#[track_caller]
fn check_exact(planes: &[Place], room: Room) {
    for tenant in TENANTS {
        planes[0].do_it(&["tenant", "create", tenant]);
    }
    let tasks = (0..GROUPS).flat_map(|group| (0..TASKS).map(move |task| (group, task)));
    let done: Vec<Option<String>> = thread::scope(|scope| {
        let plane = |group: usize| &planes[group % planes.len()];
        let run = |at: (usize, usize)| scope.spawn(move || one_client(plane(at.0), room, at));
        let running: Vec<_> = tasks.map(run).collect();
        running.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let refused: Vec<&String> = done.iter().flatten().collect();
    let made = done.len() - refused.len();
    let expected = (LIMIT, GROUPS * TASKS - LIMIT);
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
fn sixteen_processes_at_one_control_plane_make_ten_keys_on_the_embedded_store() {
    for room in [Room::Owner, Room::Total] {
        let place = Place::bootstrapped();
        place.edit_config(RULES, room.rules());
        let _running = place.serve();
        check_exact(&[place], room);
    }
}

#[test]
fn sixteen_processes_at_four_control_planes_make_ten_keys_on_redis() {
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
