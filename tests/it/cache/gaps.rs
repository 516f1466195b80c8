//! Times in which changes go unheard: nothing is used without asking in one, and nothing from before after it.

use std::time::Duration;

use keystile::store::Records;

use crate::support::fault_store::{Moment, Mood, Read};
use crate::support::world::{Seen, World, nobody};

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_change_that_went_unheard_is_seen_at_the_next_use() {
    let world = World::new().await;
    let key = world.create_key().await;
    assert_eq!(world.get(&key).await, Seen::Works);
    world.store.begin_gap();
    world.revoke(&key).await;
    assert_eq!(world.get(&key).await, Seen::Revoked, "in the gap");
    world.store.end_gap();
    assert_eq!(world.get(&key).await, Seen::Revoked, "after it");
}

#[tokio::test]
async fn after_a_gap_everything_is_asked_for_once() {
    let world = World::new().await;
    let (used, unused) = (world.create_key().await, world.create_key().await);
    for key in [&used, &unused] {
        assert_eq!(world.get(key).await, Seen::Works);
    }
    world.store.begin_gap();
    // The tenant twice: for the seal, and again for what may have changed since.
    for expected in [(3, 3), (4, 5)] {
        assert_eq!(world.get(&used).await, Seen::Works);
        assert_eq!(world.store.reads(), expected, "each use in the gap asks");
    }
    world.suspend().await;
    world.store.end_gap();
    for expected in [(5, 6), (6, 6), (6, 6)] {
        let key = if expected.0 == 5 { &unused } else { &used };
        assert_eq!(world.get(key).await, Seen::Suspended);
        assert_eq!(world.store.reads(), expected);
    }
}

#[tokio::test]
async fn what_is_in_doubt_is_used_while_the_store_does_not_answer() {
    let world = World::new().await;
    let key = world.create_key().await;
    assert_eq!(world.get(&key).await, Seen::Works);
    world.store.be(Mood::Failing);
    world.store.begin_gap();
    assert_eq!(world.get(&key).await, Seen::Works);
    world.clock.advance(world.settings.max_stale);
    assert_eq!(world.get(&key).await, Seen::Outage);
}

#[tokio::test]
async fn a_load_that_a_gap_ends_meanwhile_is_not_kept() {
    for read in [Read::Index, Read::Tenant] {
        let world = World::new().await;
        let key = world.create_key().await;
        world.store.begin_gap();
        let gate = world.store.hold_next(read, Moment::After);
        let before = world.start_get(&key);
        gate.reached().await;
        match read {
            Read::Index => world.revoke(&key).await,
            Read::Tenant => world.suspend().await,
        }
        world.store.end_gap();
        gate.open();
        before.await.unwrap();
        let changed = match read {
            Read::Index => Seen::Revoked,
            Read::Tenant => Seen::Suspended,
        };
        assert_eq!(world.get(&key).await, changed, "{read:?}");
    }
}

#[tokio::test]
async fn a_revocation_that_was_seen_is_final_though_a_gap_ended_the_load_that_saw_it() {
    let world = World::new().await;
    let key = world.create_key().await;
    let old = world.store.index(key.lookup).await.unwrap().unwrap();
    world.revoke(&key).await;
    let gate = world.store.hold_next(Read::Index, Moment::After);
    let seen = world.start_get(&key);
    gate.reached().await;
    // The store falls back, which ends the load.
    world.store.begin_gap();
    world.store.put_index_by_hand(old);
    world.store.end_gap();
    // Somebody else loads what the store fell back to, and has not ended when the first has.
    let other_gate = world.store.hold_next(Read::Index, Moment::After);
    let other = world.start_get(&key);
    other_gate.reached().await;
    gate.open();
    assert_eq!(seen.await.unwrap(), Seen::Revoked);
    other_gate.open();
    assert_eq!(other.await.unwrap(), Seen::Revoked, "it was seen meanwhile");
    for _ in 0..2 {
        assert_eq!(world.get(&key).await, Seen::Revoked);
        world.let_ttl_pass();
    }
}

#[tokio::test]
async fn an_id_that_was_unknown_before_a_gap_is_asked_for_again() {
    let world = World::new().await;
    assert_eq!(world.get_id(nobody(1), PATIENCE).await, Seen::Unknown);
    world.store.begin_gap();
    assert_eq!(world.get_id(nobody(1), PATIENCE).await, Seen::Unknown);
    assert_eq!(world.store.reads().0, 2, "in the gap");
    world.store.end_gap();
    for expected in [3, 3] {
        assert_eq!(world.get_id(nobody(1), PATIENCE).await, Seen::Unknown);
        assert_eq!(world.store.reads().0, expected, "after it");
    }
}
