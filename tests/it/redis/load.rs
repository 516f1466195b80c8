//! A server dies while requests come: what is in memory works on, what is revoked stays refused, nothing waits long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use keystile::domain::block::Presenter;
use keystile::domain::key::LookupId;
use keystile::store::Store;
use keystile::store::redis::{RedisStore, Topology};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::fleet::{Process, start};
use super::write_and_wait;
use crate::harness::redis::cluster::RedisCluster;
use crate::harness::redis::sentinel::RedisSentinel;
use crate::harness::redis::{Options, RedisServer};
use crate::harness::{let_pass, pass, wait_for, wait_until};
use crate::store_contract::{cluster_topology, redis_address, sentinel_topology};
use crate::support::world::{Made, Seen, World, nobody};

/// As long as a Check waits for the store by default.
const PATIENCE: Duration = Duration::from_millis(40);
/// Within this every answer must be there (DESIGN 4.1).
const ANSWERED_WITHIN: Duration = Duration::from_millis(50);
const KEYS: usize = 60;
/// How many answers there are at least before a failure and after it.
const BEFORE_AND_AFTER: u64 = 2_000;
/// How many of each kind must not be had while a server does not answer.
const OUTAGES: u64 = 20;

#[derive(Default)]
struct Counts {
    asked: AtomicU64,
    /// Keys that nobody had asked for, and could not be had.
    cold_outages: AtomicU64,
    unknown_outages: AtomicU64,
    /// How long each of these took to be told.
    outages_took: Mutex<Vec<Duration>>,
}

impl Counts {
    fn told(&self, seen: &Seen, took: Duration) {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if *seen == Seen::Outage {
            self.outages_took.lock().push(took);
        }
    }

    /// Until so many more have been answered. A task that finds a wrong answer ends, and the others ask on.
    async fn wait_for_more(&self) {
        let asked = || self.asked.load(Ordering::Relaxed);
        let enough = asked() + BEFORE_AND_AFTER;
        wait_until("a load", async || asked() >= enough).await;
    }

    /// Until so many could not be had.
    fn wait_for_outages(&self) {
        wait_for("keys that cannot be had", || {
            let all = [&self.cold_outages, &self.unknown_outages];
            all.iter()
                .all(|count| count.load(Ordering::Relaxed) >= OUTAGES)
        });
    }

    /// Within which time so many of 100 were told.
    fn outages_took(&self, percent: usize) -> Duration {
        let mut all = self.outages_took.lock();
        all.sort_unstable();
        let at = all.len() * percent / 100;
        all.get(at).copied().unwrap_or_default()
    }
}

struct Place {
    world: World,
    live: Vec<Made>,
    revoked: Vec<Made>,
    cold: Vec<Made>,
    /// Cold keys are asked for from when the server fails.
    has_failed: AtomicBool,
    /// Between two rounds of one task.
    pause: Duration,
    _processes: [Process; 2],
}

async fn place(topology: Topology) -> Place {
    let control = start(topology.clone(), "ks:", None).await;
    let sidecar = start(topology, "ks:", Some("one")).await;
    let [writes, reads] = [&control, &sidecar].map(|process| {
        let store: Arc<dyn Store> = Arc::<RedisStore>::clone(&process.store);
        store
    });
    let world = World::over(writes, reads).await;
    let mut made = [Vec::new(), Vec::new(), Vec::new()];
    for keys in &mut made {
        for _ in 0..KEYS {
            keys.push(world.create_key().await);
        }
    }
    let [live, revoked, cold] = made;
    for key in live.iter().chain(&revoked) {
        assert_eq!(world.get(key).await, Seen::Works);
    }
    for key in &revoked {
        world.revoke(key).await;
        // Pushed to the sidecar, which may take a moment.
        let is_revoked = async || world.get(key).await == Seen::Revoked;
        wait_until("a revoked key is refused", is_revoked).await;
    }
    Place {
        world,
        live,
        revoked,
        cold,
        has_failed: AtomicBool::new(false),
        pause: Duration::from_millis(1),
        _processes: [control, sidecar],
    }
}

/// Asks for one key after the other until told to stop; panics at a wrong answer.
async fn ask_on(place: Arc<Place>, counts: Arc<Counts>, first: usize, stop: Arc<AtomicBool>) {
    let see_id = async |id: LookupId| {
        let begun = Instant::now();
        // The bound begins after the answer's own patience and is looked at after it: on a busy machine both end late,
        // and only an answer that waits for more than its patience is found.
        let seen = tokio::select! {
            biased;
            seen = place.world.get_id(id, PATIENCE) => seen,
            () = pass(ANSWERED_WITHIN, "the bound of an answer") => panic!("an answer is late"),
        };
        counts.told(&seen, begun.elapsed());
        seen
    };
    let see = async |key: &Made| see_id(key.lookup).await;
    let mut at = first;
    while !stop.load(Ordering::Relaxed) {
        at += 1;
        assert_eq!(see(&place.live[at % KEYS]).await, Seen::Works, "in memory");
        let revoked = see(&place.revoked[at % KEYS]).await;
        // What is known of a revoked key is known to be so; it may also be asked for again.
        assert!(
            matches!(revoked, Seen::Revoked | Seen::Outage),
            "{revoked:?}"
        );
        if place.has_failed.load(Ordering::Relaxed) {
            match see(&place.cold[at % KEYS]).await {
                Seen::Works => {}
                Seen::Outage => drop(counts.cold_outages.fetch_add(1, Ordering::Relaxed)),
                seen => panic!("a cold key: {seen:?}"),
            }
        }
        match see_id(nobody(at as u64 % 1_000)).await {
            Seen::Unknown => {}
            Seen::Outage => drop(counts.unknown_outages.fetch_add(1, Ordering::Relaxed)),
            seen => panic!("a guess: {seen:?}"),
        }
        pass(place.pause, "other tests want the processor as well").await;
    }
}

/// Asks before, while and after `fail` happens, and until everything can be had again.
async fn ask_while(place: Place, fail: impl FnOnce(&Counts)) {
    let (place, counts) = (Arc::new(place), Arc::new(Counts::default()));
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    for first in 0..8 {
        let (place, counts, stop) = (Arc::clone(&place), Arc::clone(&counts), Arc::clone(&stop));
        tasks.spawn(ask_on(place, counts, first * 7, stop));
    }
    counts.wait_for_more().await;
    place.has_failed.store(true, Ordering::Relaxed);
    tokio::task::block_in_place(|| fail(&counts));
    for key in &place.cold {
        let works = async || place.world.get_within(key, PATIENCE).await == Seen::Works;
        wait_until("a way back", works).await;
    }
    counts.wait_for_more().await;
    stop.store(true, Ordering::Relaxed);
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    let all = [&counts.asked, &counts.cold_outages, &counts.unknown_outages];
    let [asked, cold, unknown] = all.map(|count| count.load(Ordering::Relaxed));
    let [most, nearly_all] = [90, 99].map(|percent| counts.outages_took(percent));
    let counts = format!(
        "{asked} asked; could not be had: {cold} cold keys, {unknown} guesses; \
         9 of 10 told so within {most:?}, 99 of 100 within {nearly_all:?}"
    );
    // For docs/PERFORMANCE.md: the libtest flag `--nocapture` shows it.
    #[expect(
        clippy::print_stdout,
        reason = "the count of what could not be had is to be reported"
    )]
    {
        println!("{counts}");
    }
    assert!(cold > 0 && unknown > 0, "no failure: {counts}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_is_killed_and_comes_back_after_30_s() {
    let mut server = RedisServer::start_with(Options {
        append_only: true,
        ..Options::default()
    });
    let topology = Topology::Standalone(redis_address(server.port()));
    let place = Place {
        // It goes on for long, and other tests want the processor as well.
        pause: Duration::from_millis(20),
        ..place(topology).await
    };
    ask_while(place, |_| {
        server.kill();
        let_pass(Duration::from_secs(30), "how long the server is away");
        server.restart();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_does_not_answer_for_a_while() {
    let server = RedisServer::start();
    let topology = Topology::Standalone(redis_address(server.port()));
    let place = place(topology).await;
    ask_while(place, |counts| {
        server.pause();
        let_pass(Duration::from_secs(2), "how long the server is silent");
        counts.wait_for_outages();
        server.unpause();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_primary_under_sentinel_is_killed() {
    let mut servers = RedisSentinel::start();
    let place = place(sentinel_topology(&servers)).await;
    ask_while(place, |_| {
        write_and_wait(servers.primary(), "behind_all_others");
        servers.kill_primary();
        servers.wait_for_failover();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_primary_of_a_cluster_is_killed() {
    let mut servers = RedisCluster::start();
    let place = place(cluster_topology(&servers)).await;
    ask_while(place, |_| {
        write_and_wait(
            servers.primary_of("ks:t:{acme}"),
            "behind_all_others_of:{acme}",
        );
        servers.kill_primary_of("ks:t:{acme}");
        servers.wait_for_failover("ks:t:{acme}");
    })
    .await;
}

/// How often the sidecar and the control plane have read an index entry.
fn index_reads(server: &RedisServer) -> u64 {
    server.calls().get("hmget").copied().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn malformed_tokens_and_repeated_guesses_hardly_reach_redis() {
    let server = RedisServer::start();
    let topology = Topology::Standalone(redis_address(server.port()));
    let place = place(topology).await;
    let authorizer = place.world.authorizer(PATIENCE);
    let well_formed = "another-system-made-this-token-0123456789";
    let mistyped = format!("{}x", place.live[0].token);
    let before = tokio::task::block_in_place(|| index_reads(&server));
    for number in 0..10_000 {
        let malformed = [
            mistyped.clone(),
            "short".to_owned(),
            format!("ks_live_{number}"),
        ];
        for token in malformed.iter().map(String::as_str).chain([well_formed]) {
            let found = authorizer
                .authenticate(token.as_bytes(), Presenter::Recognised(None))
                .await
                .unwrap();
            assert!(found.is_err(), "{token} is nobody's");
        }
    }
    let read = tokio::task::block_in_place(|| index_reads(&server)) - before;
    assert!(
        read <= 3,
        "40,000 tokens that are nobody's cost {read} reads"
    );
}
