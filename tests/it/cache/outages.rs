//! The store gone: what is in memory is used for a while, and never against what is known.

use std::sync::Arc;
use std::time::Duration;

use keystile::authorizer::{Decision, Grant};
use keystile::clock::Clock as _;
use keystile::domain::decision::DenyReason;
use keystile::domain::request::{AccessRequest, Charge, Credential};

use crate::support::fault_store::{Moment, Mood, Read};
use crate::support::world::{Made, Seen, World, nobody};

/// For gets that wait in vain.
const SHORT: Duration = Duration::from_millis(20);
const MOMENT: Duration = Duration::from_millis(1);

#[tokio::test]
async fn a_key_in_memory_is_used_up_to_max_stale_and_not_longer() {
    for mood in [Mood::Failing, Mood::Hanging] {
        let world = World::new().await;
        let key = world.create_key().await;
        assert_eq!(world.get(&key).await, Seen::Works);
        world.store.be(mood);
        world.let_ttl_pass();
        assert_eq!(world.get_within(&key, SHORT).await, Seen::Works, "{mood:?}");
        let rest = world.settings.max_stale - world.settings.ttl;
        world.clock.advance(rest - MOMENT);
        assert_eq!(world.get_within(&key, SHORT).await, Seen::Works, "{mood:?}");
        world.clock.advance(MOMENT);
        assert_eq!(
            world.get_within(&key, SHORT).await,
            Seen::Outage,
            "{mood:?}"
        );
        world.store.be(Mood::Well);
        assert_eq!(world.get(&key).await, Seen::Works, "no restart: {mood:?}");
    }
}

#[tokio::test]
async fn a_key_is_never_used_against_a_known_change() {
    let changed = async |suspend: bool, mood: Mood| {
        let world = World::new().await;
        let key = world.create_key().await;
        assert_eq!(world.get(&key).await, Seen::Works);
        world.store.be(mood);
        if suspend {
            world.suspend().await;
        } else {
            world.revoke(&key).await;
        }
        let during = world.get_within(&key, SHORT).await;
        world.store.be(Mood::Well);
        (during, world.get(&key).await)
    };
    for mood in [Mood::Failing, Mood::Hanging] {
        assert_eq!(changed(false, mood).await, (Seen::Outage, Seen::Revoked));
        assert_eq!(changed(true, mood).await, (Seen::Outage, Seen::Suspended));
    }
}

#[tokio::test]
async fn a_key_that_is_not_in_memory_is_an_outage_and_not_unknown() {
    let world = World::new().await;
    let key = world.create_key().await;
    assert_eq!(world.get_id(nobody(1), SHORT).await, Seen::Unknown);
    for mood in [Mood::Failing, Mood::Hanging] {
        world.store.be(mood);
        assert_eq!(world.get_within(&key, SHORT).await, Seen::Outage);
        assert_eq!(world.get_id(nobody(2), SHORT).await, Seen::Outage);
        let known = world.get_id(nobody(1), SHORT).await;
        assert_eq!(known, Seen::Unknown, "from memory");
    }
    world.clock.advance(world.settings.negative_ttl);
    assert_eq!(world.get_id(nobody(1), SHORT).await, Seen::Outage);
}

#[tokio::test]
async fn an_outage_is_not_remembered() {
    let world = World::new().await;
    let key = world.create_key().await;
    world.store.be(Mood::Failing);
    assert_eq!(world.get(&key).await, Seen::Outage);
    world.store.be(Mood::Well);
    assert_eq!(world.get(&key).await, Seen::Works);
}

#[tokio::test]
async fn a_tenant_that_cannot_be_read_is_an_outage_too() {
    let world = World::new().await;
    let key = world.create_key().await;
    let gate = world.store.hold_next(Read::Tenant, Moment::Before);
    assert_eq!(world.get_within(&key, SHORT).await, Seen::Outage);
    gate.open();
    assert_eq!(world.get(&key).await, Seen::Works);
}

#[tokio::test]
async fn a_key_past_its_expiry_is_refused_though_the_store_is_gone() {
    let world = World::new().await;
    let end = world.clock.now().plus(world.settings.ttl * 2);
    let key = world.create_key_until(Some(end)).await;
    assert_eq!(decide(&world, &key).await, Ok("allowed"));
    world.store.be(Mood::Failing);
    world.let_ttl_pass();
    assert_eq!(decide(&world, &key).await, Ok("allowed"), "stale");
    world.let_ttl_pass();
    assert_eq!(decide(&world, &key).await, Err(DenyReason::ApiKeyExpired));
}

async fn decide(world: &World, key: &Made) -> Result<&'static str, DenyReason> {
    let request = AccessRequest {
        rule: Default::default(),
        credential: Credential::One(key.token.as_bytes()),
        shadow: None,
        ambiguity: None,
        source: None,
        caller: None,
        time_left: None,
        charge: Charge::Cost,
        proven: None,
    };
    let authorizer = world.authorizer(SHORT);
    match authorizer.authorize(&request).await.expect("a decision") {
        Decision::Allow(allowed) => match allowed.grant {
            Grant::Key(_) => Ok("allowed"),
            Grant::Keyless(_) => panic!("the request has a key"),
        },
        Decision::Deny(denial) => Err(denial.reason),
    }
}

#[tokio::test]
async fn whoever_waits_takes_over_when_the_first_gives_up() {
    let world = World::new().await;
    let key = world.create_key().await;
    // Never opened: the first load ends only with the one who leads it.
    let gate = world.store.hold_next(Read::Index, Moment::Before);
    let first = world.start_get(&key);
    gate.reached().await;
    let rest: Vec<_> = (0..10).map(|_| world.start_get(&key)).collect();
    tokio::task::yield_now().await;
    assert_eq!(world.store.reads(), (1, 0), "all wait for the first");
    first.abort();
    for one in rest {
        assert_eq!(one.await.unwrap(), Seen::Works);
    }
    assert_eq!(world.store.reads(), (2, 1));
}

#[tokio::test]
async fn a_load_that_nobody_waits_for_any_more_is_started_anew() {
    let world = World::new().await;
    let key = world.create_key().await;
    world.store.be(Mood::Hanging);
    for _ in 0..3 {
        let all: Vec<_> = (0..10).map(|_| impatient(&world, &key)).collect();
        for one in all {
            assert_eq!(one.await.unwrap(), Seen::Outage);
        }
    }
    world.store.be(Mood::Well);
    assert_eq!(world.get(&key).await, Seen::Works);
}

fn impatient(world: &World, key: &Made) -> tokio::task::JoinHandle<Seen> {
    let (world, key) = (world.clone(), key.clone());
    tokio::spawn(async move { world.get_within(&key, SHORT).await })
}

#[tokio::test]
async fn the_patience_of_one_does_not_shorten_that_of_another() {
    let world = World::new().await;
    let key = world.create_key().await;
    let gate = world.store.hold_next(Read::Index, Moment::After);
    let first = impatient(&world, &key);
    gate.reached().await;
    let second = world.start_get(&key);
    assert_eq!(first.await.unwrap(), Seen::Outage);
    assert_eq!(second.await.unwrap(), Seen::Works);
    assert_eq!(Arc::strong_count(&gate), 1, "the held read was given up");
}
