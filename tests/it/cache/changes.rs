//! A change is effective on the next get after its commit has returned.

use keystile::clock::Clock as _;
use keystile::domain::name::TenantId;
use keystile::store::Records as _;

use super::PATIENCE;
use crate::support::world::{Made, Seen, World};

#[tokio::test]
async fn every_change_is_seen_by_the_next_get() {
    let world = World::new().await;
    let [one, two] = [world.create_key().await, world.create_key().await];
    let check = async |after: &str, expected: [Seen; 2]| {
        for _ in 0..2 {
            let seen = [world.get(&one).await, world.get(&two).await];
            assert_eq!(seen, expected, "{after}");
        }
    };
    check("created", [Seen::Works, Seen::Works]).await;
    world.suspend().await;
    check("suspended", [Seen::Suspended, Seen::Suspended]).await;
    world.resume().await;
    check("resumed", [Seen::Works, Seen::Works]).await;
    world.revoke(&one).await;
    check("one revoked", [Seen::Revoked, Seen::Works]).await;
    world.suspend().await;
    check("suspended again", [Seen::Revoked, Seen::Suspended]).await;
    world.resume().await;
    check("resumed again", [Seen::Revoked, Seen::Works]).await;
    world.delete_tenant().await;
    check("deleted", [Seen::Unknown, Seen::Unknown]).await;
    world.create_tenant().await;
    check("made again", [Seen::Unknown, Seen::Unknown]).await;
    let three = world.create_key().await;
    assert_eq!(world.get(&three).await, Seen::Works);
}

#[tokio::test]
async fn a_key_that_was_asked_for_before_it_existed_works_once_it_is_made() {
    let world = World::new().await;
    let key = world.create_key().await;
    world.store.hide(key.lookup);
    assert_eq!(world.get(&key).await, Seen::Unknown);
    world.store.create_hidden(key.lookup);
    assert_eq!(world.get(&key).await, Seen::Works);
}

#[tokio::test]
async fn index_rows_of_a_deleted_tenant_put_back_by_hand_do_not_open_under_its_successor() {
    for warm in [false, true] {
        let world = World::new().await;
        let key = world.create_key().await;
        if warm {
            assert_eq!(world.get(&key).await, Seen::Works);
        }
        let row = world.store.index(key.lookup).await.unwrap().unwrap();
        world.delete_tenant().await;
        world.store.put_index_by_hand(row);
        check_stays_unknown(&world, &key, "no tenant of that name").await;
        world.create_tenant().await;
        check_stays_unknown(&world, &key, "another tenant of that name").await;
        let other = world.create_key().await;
        assert_eq!(world.get(&other).await, Seen::Works, "warm: {warm}");
    }
}

async fn check_stays_unknown(world: &World, key: &Made, when: &str) {
    for _ in 0..2 {
        assert_eq!(world.get(key).await, Seen::Unknown, "{when}");
        world.let_ttl_pass();
    }
}

#[tokio::test]
async fn a_tenant_made_again_is_not_taken_for_an_older_state_of_its_predecessor() {
    let world = World::new().await;
    let key = world.create_key().await;
    world.suspend().await;
    world.resume().await;
    assert_eq!(world.get(&key).await, Seen::Works);
    // Nobody asks between the two: version 1 follows version 3.
    world.delete_tenant().await;
    world.create_tenant().await;
    let next = world.create_key().await;
    assert_eq!(world.get(&next).await, Seen::Works);
    assert_eq!(world.get(&key).await, Seen::Unknown);
}

#[tokio::test]
async fn a_token_that_went_to_another_tenant_works_for_that_tenant_and_no_other() {
    for versions_seen in [1, 2] {
        let world = World::new().await;
        let globex = TenantId::parse("globex").unwrap();
        world.create_tenant_named(globex.clone()).await;
        let key = world.create_key().await;
        let moved = world.row_under(&key, &globex).await;
        if versions_seen == 2 {
            world.revoke(&key).await;
        }
        world.get(&key).await;
        world.store.put_index_by_hand(moved);
        world.delete_tenant().await;
        world.create_tenant().await;
        let found = world.cache.get(key.lookup, world.clock.now(), PATIENCE);
        let found = found.await.unwrap().expect("the new key of the token");
        assert_eq!(found.tenant.access().id, globex);
        assert!(!found.key.is_revoked());
    }
}
