//! Damage that nobody reads is found by a control plane that looks for it, slowly, and is left as it is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ::redis::cmd;
use keystile::check::Entry;
use keystile::check::background::Pace;
use tokio_util::sync::CancellationToken;

use super::world::World;
use crate::harness::{PATIENCE, wait_until};

const PACE: Pace = Pace {
    ask_every: Duration::from_millis(5),
    every: Duration::from_secs(60 * 60),
    rest: 1,
    look_again_after: Duration::from_millis(50),
};

fn met(world: &World, entry: Entry) -> u64 {
    let counts = world.control.damage().counts();
    counts.into_iter().find(|(of, _)| *of == entry).unwrap().1
}

/// Words of a command, in which `T` is the tenant, `K` its live key and `L` where that is found; and what is damaged.
const HARMS: &[(&[&str], Entry)] = &[
    (&["HSET", "ks:t:{T}", "b", "garbage"], Entry::Tenant),
    (&["HSET", "ks:k:{T}:keys", "K", "garbage"], Entry::Key),
    (&["HSET", "ks:i:{L}", "b", "garbage"], Entry::Index),
    (&["HSET", "ks:k:{T}:owners", "*", "77"], Entry::Counts),
    (&["DEL", "ks:k:{T}:lookups"], Entry::Lists),
    (
        &["SET", "ks:i:{00000000000000000000000000000000}", "x"],
        Entry::Index,
    ),
    (&["SET", "ks:{ks:tenants}:total", "99"], Entry::Counts),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn damage_that_nobody_reads_is_told_of_and_left_as_it_is() {
    for (number, (words, entry)) in HARMS.iter().enumerate() {
        let world = World::new().await;
        let tenant = world.tenant(&format!("t{number}")).await;
        world.tenant("whole").await;
        let words: Vec<String> = words
            .iter()
            .map(|word| match *word {
                "K" => tenant.live.id.to_string(),
                word => word
                    .replace("{T}", &format!("{{{}}}", tenant.id))
                    .replace("{L}", &format!("{{{}}}", tenant.live.lookup)),
            })
            .collect();
        let what = words.join(" ");
        let mut harm = cmd(&words[0]);
        harm.arg(&words[1..]);
        let _: ::redis::Value = world.ask(&harm).await;
        let before = world.dump(&words[1]).await;
        let stop = CancellationToken::new();
        let looking = tokio::spawn(world.background(PACE).run(stop.clone()));
        wait_until(&what, async || met(&world, *entry) != 0).await;
        stop.cancel();
        looking.await.unwrap();
        assert_eq!(world.dump(&words[1]).await, before, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_control_plane_of_many_looks_and_finds_nothing_in_a_whole_store_that_is_changed() {
    let world = Arc::new(World::new().await);
    let tenant = world.tenant("acme").await;
    let stop = CancellationToken::new();
    let looks = Pace {
        every: Duration::from_millis(500),
        ..PACE
    };
    let running = [0, 1, 2].map(|_| tokio::spawn(world.background(looks).run(stop.clone())));
    // Beside it keys are made and revoked, as long as some checks take.
    let lease = "ks:{ks:tenants}:lease:check";
    let mut leaders = std::collections::BTreeSet::new();
    let begun = Instant::now();
    while leaders.len() < 5 {
        assert!(begun.elapsed() < PATIENCE, "nobody looks");
        let key = world.key(&tenant.id).await;
        leaders.extend(world.ask::<Option<String>>(cmd("GET").arg(lease)).await);
        world.revoke(&tenant.id, &key.id).await.unwrap();
    }
    stop.cancel();
    for one in running {
        one.await.unwrap();
    }
    let counts = world.control.damage().counts();
    assert!(counts.iter().all(|(_, count)| *count == 0), "{counts:?}");
}
