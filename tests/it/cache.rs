//! The cache over a store that does as it is told: when it asks, what it keeps, and what it hears of changes.

mod changes;
mod gaps;
mod outages;
mod races;

use std::time::Duration;

use keystile::cache::Settings;
use keystile::store::Records as _;

use crate::support::fault_store::{Moment, Read};
use crate::support::world::{Seen, World, acme, nobody};

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_key_in_memory_costs_no_read() {
    let world = World::new().await;
    let key = world.create_key().await;
    for _ in 0..50 {
        assert_eq!(world.get(&key).await, Seen::Works);
    }
    assert_eq!(world.store.reads(), (1, 1));
}

#[tokio::test]
async fn a_second_key_of_a_known_tenant_costs_one_read() {
    let world = World::new().await;
    for expected in [(1, 1), (2, 1), (3, 1)] {
        let key = world.create_key().await;
        assert_eq!(world.get(&key).await, Seen::Works);
        assert_eq!(world.store.reads(), expected);
    }
}

#[tokio::test]
async fn a_hundred_who_want_the_same_cold_key_share_one_load() {
    let world = World::new().await;
    let key = world.create_key().await;
    let gate = world.store.hold_next(Read::Index, Moment::After);
    let all: Vec<_> = (0..100).map(|_| world.start_get(&key)).collect();
    gate.reached().await;
    gate.open();
    for one in all {
        assert_eq!(one.await.unwrap(), Seen::Works);
    }
    assert_eq!(world.store.reads(), (1, 1));
}

#[tokio::test]
async fn a_hundred_cold_keys_of_one_cold_tenant_share_the_load_of_the_tenant() {
    let world = World::new().await;
    let mut keys = Vec::new();
    for _ in 0..100 {
        keys.push(world.create_key().await);
    }
    let gate = world.store.hold_next(Read::Tenant, Moment::Before);
    let all: Vec<_> = keys.iter().map(|key| world.start_get(key)).collect();
    gate.reached().await;
    gate.open();
    for one in all {
        assert_eq!(one.await.unwrap(), Seen::Works);
    }
    assert_eq!(world.store.reads(), (100, 1));
}

#[tokio::test]
async fn an_id_that_does_not_exist_is_remembered_for_the_negative_ttl() {
    let world = World::new().await;
    for expected in [1, 1, 1] {
        assert_eq!(world.get_id(nobody(1), PATIENCE).await, Seen::Unknown);
        assert_eq!(world.store.reads(), (expected, 0));
    }
    world.clock.advance(world.settings.negative_ttl);
    assert_eq!(world.get_id(nobody(1), PATIENCE).await, Seen::Unknown);
    assert_eq!(world.store.reads(), (2, 0));
}

#[tokio::test]
async fn guesses_cannot_push_keys_out() {
    let small = Settings {
        max_entries: 512,
        max_negative_entries: 512,
        ..Settings::default()
    };
    let world = World::with(small).await;
    let mut keys = Vec::new();
    for _ in 0..20 {
        let key = world.create_key().await;
        assert_eq!(world.get(&key).await, Seen::Works);
        keys.push(key);
    }
    for number in 0..5_000 {
        assert_eq!(world.get_id(nobody(number), PATIENCE).await, Seen::Unknown);
    }
    let before = world.store.reads();
    for key in &keys {
        assert_eq!(world.get(key).await, Seen::Works);
    }
    assert_eq!(world.store.reads(), before, "all are still in memory");
}

#[tokio::test]
async fn no_more_keys_are_kept_than_the_settings_allow() {
    let small = Settings {
        max_entries: 16,
        ..Settings::default()
    };
    let world = World::with(small).await;
    for _ in 0..100 {
        let key = world.create_key().await;
        assert_eq!(world.get(&key).await, Seen::Works);
        assert!(world.cache.len() <= 16, "{} keys", world.cache.len());
    }
}

#[tokio::test]
async fn an_entry_is_loaded_again_when_its_ttl_is_over() {
    let world = World::new().await;
    let key = world.create_key().await;
    assert_eq!(world.get(&key).await, Seen::Works);
    world
        .clock
        .advance(world.settings.ttl - Duration::from_millis(1));
    assert_eq!(world.get(&key).await, Seen::Works);
    assert_eq!(world.store.reads(), (1, 1));
    world.clock.advance(Duration::from_millis(1));
    for _ in 0..3 {
        assert_eq!(world.get(&key).await, Seen::Works);
        assert_eq!(world.store.reads(), (2, 2));
    }
}

#[tokio::test]
async fn an_older_key_record_put_back_by_hand_is_refused() {
    let world = World::new().await;
    let key = world.create_key().await;
    let old = world.store.index(key.lookup).await.unwrap().unwrap();
    world.revoke(&key).await;
    assert_eq!(world.get(&key).await, Seen::Revoked);
    world.store.put_index_by_hand(old);
    world.let_ttl_pass();
    for _ in 0..2 {
        assert_eq!(world.get(&key).await, Seen::Revoked);
    }
}

#[tokio::test]
async fn an_older_tenant_record_put_back_by_hand_is_refused() {
    let world = World::new().await;
    let key = world.create_key().await;
    let old = world.store.tenant(&acme()).await.unwrap().unwrap();
    world.suspend().await;
    assert_eq!(world.get(&key).await, Seen::Suspended);
    world.store.put_tenant_by_hand(old);
    world.let_ttl_pass();
    for _ in 0..2 {
        assert_eq!(world.get(&key).await, Seen::Refused);
    }
}

#[tokio::test]
async fn an_old_record_with_a_new_number_on_it_is_refused() {
    let world = World::new().await;
    let key = world.create_key().await;
    let mut old = world.store.index(key.lookup).await.unwrap().unwrap();
    world.revoke(&key).await;
    old.version.order += 1 << 20;
    world.store.put_index_by_hand(old);
    assert_eq!(world.get(&key).await, Seen::Refused);
}

#[tokio::test]
async fn a_record_moved_to_another_place_does_not_open() {
    let world = World::new().await;
    let key = world.create_key().await;
    let mut row = world.store.index(key.lookup).await.unwrap().unwrap();
    row.lookup_id = nobody(1);
    world.store.put_index_by_hand(row);
    assert_eq!(world.get_id(nobody(1), PATIENCE).await, Seen::Refused);
    assert_eq!(world.get(&key).await, Seen::Works, "where it belongs");
}

#[tokio::test]
async fn a_damaged_record_is_refused_and_the_good_one_works_again_without_a_restart() {
    let world = World::new().await;
    let key = world.create_key().await;
    let whole = world.store.index(key.lookup).await.unwrap().unwrap();
    let mut damaged = whole.clone();
    *damaged.body.last_mut().unwrap() ^= 1;
    world.store.put_index_by_hand(damaged);
    assert_eq!(world.get(&key).await, Seen::Refused);
    world.store.put_index_by_hand(whole);
    assert_eq!(world.get(&key).await, Seen::Works);
}

#[tokio::test]
async fn no_more_memory_is_taken_than_the_settings_allow() {
    let small = Settings {
        max_bytes: 64 << 10,
        ..Settings::default()
    };
    let world = World::with(small).await;
    for _ in 0..1_000 {
        let key = world.create_key().await;
        assert_eq!(world.get(&key).await, Seen::Works);
    }
    // A key without scopes takes some 250 bytes.
    let kept = world.cache.len();
    assert!((100..400).contains(&kept), "{kept} keys");
}
