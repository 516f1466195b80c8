//! Who guesses keys is refused unasked, everywhere, and nobody else is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use keystile::abuse::{Blocks, Settings};
use keystile::authorizer::{Authorizer, Decision};
use keystile::clock::Clock as _;
use keystile::domain::block::Source;
use keystile::domain::decision::{Denial, DenyReason};
use keystile::domain::request::{AccessRequest, Charge, Credential, Mode, Rule};
use keystile::store::Store;
use keystile::store::redis::{self, Access, RedisStore};
use tokio::task::JoinHandle;

use crate::harness::redis::RedisServer;
use crate::harness::wait_until;
use crate::store_contract::redis_address;
use crate::support::fault_store::Mood;
use crate::support::world::{Made, World};

const STRICT: Settings = Settings {
    max_failures: 5,
    window: Duration::from_secs(60),
    block: Duration::from_secs(60),
    block_max: Duration::from_secs(3600),
    known_keys_pass: true,
    max_sources: 1_000,
};

fn source(text: &str) -> Source {
    text.parse().unwrap()
}

/// A token of the right form that nobody has.
fn guess(number: usize) -> String {
    format!("a-guess-of-the-right-length-{number:08}")
}

async fn ask(authorizer: &Authorizer, token: &str, from: Source) -> Result<(), Denial> {
    let request = AccessRequest {
        rule: Rule::default(),
        shadow: None,
        credential: Credential::One(token.as_bytes()),
        ambiguity: None,
        source: None,
        caller: Some(from),
        time_left: None,
        charge: Charge::Cost,
        proven: None,
    };
    match authorizer.authorize(&request).await.expect("a decision") {
        Decision::Allow(_) => Ok(()),
        Decision::Deny(denial) => Err(denial),
    }
}

async fn reason(authorizer: &Authorizer, token: &str, from: Source) -> Option<DenyReason> {
    let answer = ask(authorizer, token, from).await;
    answer.err().map(|denial| denial.reason)
}

/// A process that counts failures, over a connection of its own.
struct Sidecar {
    authorizer: Authorizer,
    blocks: Arc<Blocks>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn connect(server: &RedisServer, access: Access) -> (Arc<RedisStore>, JoinHandle<()>) {
    let settings = redis::Settings::standalone(redis_address(server.port()));
    let store = RedisStore::new(settings, access);
    store.connect().await.unwrap();
    let task = tokio::spawn(Arc::clone(&store).run());
    wait_until("every primary is tracked", async || store.tracks().is_ok()).await;
    (store, task)
}

async fn sidecar(server: &RedisServer, world: &World) -> Sidecar {
    let (store, running) = connect(server, Access::Read).await;
    let store: Arc<dyn Store> = store;
    let blocks = Blocks::new(STRICT, Arc::<dyn Store>::clone(&store));
    let sharing = tokio::spawn(Arc::clone(&blocks).run(Arc::clone(&world.clock) as _));
    Sidecar {
        authorizer: world.strict_authorizer(&blocks),
        blocks,
        tasks: vec![running, sharing],
    }
}

async fn fleet(server: &RedisServer) -> (World, [Sidecar; 2], JoinHandle<()>) {
    let (control, running) = connect(server, Access::Write).await;
    let control: Arc<dyn Store> = control;
    let world = World::over(Arc::clone(&control), control).await;
    let sidecars = [sidecar(server, &world).await, sidecar(server, &world).await];
    wait_until("all blocks are read", async || {
        let read = server.calls().get("hgetall").copied();
        read.unwrap_or(0) >= 2 * u64::from(Source::PARTS)
    })
    .await;
    (world, sidecars, running)
}

/// What the server was asked since, but for proofs that a connection lives, comparisons of clocks and our own looks.
fn commands_since(server: &RedisServer, before: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let mut calls = server.calls();
    calls.retain(|name, calls| {
        *calls -= before.get(name).copied().unwrap_or(0);
        *calls > 0 && !["ping", "info", "time"].contains(&name.as_str())
    });
    calls
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_guesses_cost_redis_less_than_ten_commands() {
    let server = RedisServer::start();
    let (world, [one, two], control) = fleet(&server).await;
    let (guesser, other) = (source("192.0.2.66"), source("192.0.2.67"));
    let key = world.create_key().await;
    // What it does in the background is not the sidecars' doing.
    control.abort();
    let (before, begun) = (server.calls(), Instant::now());
    for number in 0..100_000 {
        let expected = if number < 5 {
            DenyReason::InvalidApiKey
        } else {
            DenyReason::TemporarilyBlocked
        };
        let found = reason(&one.authorizer, &guess(number), guesser).await;
        assert_eq!(found, Some(expected), "guess {number}");
    }
    wait_until("the other sidecar has heard of it", async || {
        two.blocks.wait(guesser, world.clock.now()).is_some()
    })
    .await;
    let commands = commands_since(&server, &before);
    // And each sidecar looks once a second whether it is still the same store.
    let looks = 2 * (begun.elapsed().as_secs() + 1);
    assert!(commands.values().sum::<u64>() < 10 + looks, "{commands:?}");

    let refused = ask(&two.authorizer, &guess(7), guesser).await.unwrap_err();
    assert_eq!(refused.reason, DenyReason::TemporarilyBlocked);
    assert_eq!(refused.retry_after, Some(STRICT.block));
    let invalid = Some(DenyReason::InvalidApiKey);
    assert_eq!(reason(&one.authorizer, &guess(7), other).await, invalid);
    assert_eq!(reason(&one.authorizer, &key.token, other).await, None);
    world.clock.advance(STRICT.block);
    assert_eq!(
        reason(&one.authorizer, &guess(7), guesser).await,
        invalid,
        "it is over"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_that_is_cleared_is_over_on_every_sidecar() {
    let server = RedisServer::start();
    let (world, [one, two], _running) = fleet(&server).await;
    let now = world.clock.now();
    let addresses = ["192.0.2.1", "192.0.2.2", "2001:db8::/64"].map(source);
    for from in addresses {
        for number in 0..5 {
            reason(&one.authorizer, &guess(number), from).await;
        }
    }
    wait_until("the other sidecar has heard of all", async || {
        two.blocks.live(now) == 3
    })
    .await;
    // As a control plane does, which counts nothing itself.
    let (store, _task) = connect(&server, Access::Write).await;
    let store: Arc<dyn Store> = store;
    let control = Blocks::new(Settings::default(), Arc::<dyn Store>::clone(&store));
    let listed = control.list(now).await.unwrap();
    assert_eq!(
        listed.iter().map(|block| block.source).collect::<Vec<_>>(),
        addresses
    );
    assert_eq!(control.clear(Some(addresses[0]), now).await.unwrap(), 1);
    for sidecar in [&one, &two] {
        wait_until("both know", async || sidecar.blocks.live(now) == 2).await;
        assert_eq!(sidecar.blocks.wait(addresses[0], now), None);
    }
    assert_eq!(control.clear(None, now).await.unwrap(), 2);
    for sidecar in [&one, &two] {
        wait_until("both know", async || sidecar.blocks.live(now) == 0).await;
    }
    assert_eq!(control.list(now).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_each_sidecar_counts_for_itself() {
    let mut server = RedisServer::start();
    let (_world, [one, _two], _running) = fleet(&server).await;
    server.kill();
    let from = source("192.0.2.1");
    for _ in 0..5 {
        // Refused by its form: nobody has to be asked.
        let refused = reason(&one.authorizer, "short", from).await;
        assert_eq!(refused, Some(DenyReason::InvalidApiKey));
    }
    let refused = reason(&one.authorizer, "short", from).await;
    assert_eq!(refused, Some(DenyReason::TemporarilyBlocked));
}

/// A world on one embedded store, and a key that is in memory.
async fn alone(settings: Settings) -> (World, Authorizer, Made) {
    let world = World::new().await;
    let blocks = Blocks::new(settings, Arc::<dyn Store>::clone(&world.store.beneath()));
    let authorizer = world.strict_authorizer(&blocks);
    let key = world.create_key().await;
    assert_eq!(
        reason(&authorizer, &key.token, source("192.0.2.9")).await,
        None
    );
    (world, authorizer, key)
}

#[tokio::test]
async fn keys_in_memory_keep_working_behind_the_address_of_a_guesser() {
    let nat = source("192.0.2.1");
    let blocked = Some(DenyReason::TemporarilyBlocked);
    for known_keys_pass in [true, false] {
        let (world, authorizer, known) = alone(Settings {
            known_keys_pass,
            ..STRICT
        })
        .await;
        let fresh = world.create_key().await;
        for number in 0..5 {
            reason(&authorizer, &guess(number), nat).await;
        }
        let reads = world.store.reads();
        let expected = if known_keys_pass { None } else { blocked };
        assert_eq!(reason(&authorizer, &known.token, nat).await, expected);
        assert_eq!(
            reason(&authorizer, &fresh.token, nat).await,
            blocked,
            "nobody asks for it"
        );
        assert_eq!(reason(&authorizer, "short", nat).await, blocked);
        assert_eq!(world.store.reads(), reads, "the store was not asked");
        world.clock.advance(STRICT.block);
        assert_eq!(reason(&authorizer, &fresh.token, nat).await, None);
    }
}

#[tokio::test]
async fn only_invalid_keys_are_failures() {
    let (world, authorizer, key) = alone(Settings {
        max_failures: 1,
        ..STRICT
    })
    .await;
    let from = source("192.0.2.1");
    let end = world.clock.now().plus(Duration::from_secs(1));
    let expired = world.create_key_until(Some(end)).await;
    world.clock.advance(Duration::from_secs(2));
    assert_eq!(
        reason(&authorizer, &expired.token, from).await,
        Some(DenyReason::ApiKeyExpired)
    );
    let plain = AccessRequest {
        rule: Rule::default(),
        shadow: None,
        credential: Credential::None,
        ambiguity: None,
        source: None,
        caller: Some(from),
        time_left: None,
        charge: Charge::Cost,
        proven: None,
    };
    let demanding = AccessRequest {
        rule: Rule {
            mode: Mode::Required,
            features: "video",
            scopes: "",
            cost: 1,
        },
        credential: Credential::One(key.token.as_bytes()),
        ..plain.clone()
    };
    for request in [&plain, &demanding] {
        let answer = authorizer.authorize(request).await.unwrap();
        assert!(matches!(answer, Decision::Deny(_)), "{answer:?}");
    }
    world.store.be(Mood::Failing);
    let unknown = AccessRequest {
        credential: Credential::One(b"a-guess-while-the-store-is-away"),
        ..plain.clone()
    };
    assert!(authorizer.authorize(&unknown).await.is_err());
    world.store.be(Mood::Well);
    assert_eq!(
        reason(&authorizer, &guess(1), from).await,
        Some(DenyReason::InvalidApiKey)
    );
    assert_eq!(
        reason(&authorizer, &guess(1), from).await,
        Some(DenyReason::TemporarilyBlocked)
    );
}
