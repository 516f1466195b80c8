//! A load and a change of what is loaded, put together by hand at every step.
//!
//! Whoever asked before the change returned may be told either; whoever asks after it is told the change, and so
//! is everybody from then on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::fault_store::{Moment, Read};
use crate::support::world::{Made, Seen, World};

#[derive(Clone, Copy, Debug)]
enum Change {
    Revoke,
    Suspend,
    Delete,
    Replace,
}

impl Change {
    async fn make(self, world: &World, key: &Made) -> Seen {
        match self {
            Self::Revoke => {
                world.revoke(key).await;
                Seen::Revoked
            }
            Self::Suspend => {
                world.suspend().await;
                Seen::Suspended
            }
            Self::Delete => {
                world.delete_tenant().await;
                Seen::Unknown
            }
            Self::Replace => {
                world.delete_tenant().await;
                world.create_tenant().await;
                Seen::Unknown
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Memory {
    Cold,
    /// The tenant is known, the key is not.
    TenantOnly,
    /// Everything is known and its ttl is over.
    Old,
}

async fn prepare(memory: Memory) -> (World, Made) {
    let world = World::new().await;
    let key = world.create_key().await;
    match memory {
        Memory::Cold => {}
        Memory::TenantOnly => {
            let other = world.create_key().await;
            assert_eq!(world.get(&other).await, Seen::Works);
        }
        Memory::Old => {
            assert_eq!(world.get(&key).await, Seen::Works);
            world.let_ttl_pass();
        }
    }
    (world, key)
}

async fn check(memory: Memory, read: Read, moment: Moment, change: Change) {
    let row = format!("{memory:?}, {read:?} held {moment:?}, {change:?}");
    let (world, key) = prepare(memory).await;
    let gate = world.store.hold_next(read, moment);
    let before = world.start_get(&key);
    gate.reached().await;
    let changed = change.make(&world, &key).await;
    let after: Vec<_> = (0..3).map(|_| world.start_get(&key)).collect();
    settle().await;
    gate.open();
    for one in after {
        assert_eq!(one.await.unwrap(), changed, "{row}: asked after");
    }
    let before = before.await.unwrap();
    assert!(
        before == Seen::Works || before == changed,
        "{row}: {before:?}"
    );
    for _ in 0..2 {
        assert_eq!(world.get(&key).await, changed, "{row}: asked later");
        world.let_ttl_pass();
    }
}

#[tokio::test]
async fn no_load_brings_back_what_was_changed_meanwhile() {
    for change in [
        Change::Revoke,
        Change::Suspend,
        Change::Delete,
        Change::Replace,
    ] {
        for moment in [Moment::Before, Moment::After] {
            for memory in [Memory::Cold, Memory::TenantOnly, Memory::Old] {
                check(memory, Read::Index, moment, change).await;
            }
            for memory in [Memory::Cold, Memory::Old] {
                check(memory, Read::Tenant, moment, change).await;
            }
        }
    }
}

/// Lets every task that was started go as far as it can: there is one thread, and tasks take turns.
async fn settle() {
    for _ in 0..16 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_load_cut_off_by_a_revoke_neither_holds_up_nor_replaces_the_one_after_it() {
    let (world, key) = prepare(Memory::Old).await;
    let first = world.store.hold_next(Read::Index, Moment::After);
    let before = world.start_get(&key);
    first.reached().await;
    world.revoke(&key).await;
    let second = world.store.hold_next(Read::Index, Moment::Before);
    let after: Vec<_> = (0..3).map(|_| world.start_get(&key)).collect();
    second.reached().await;
    // The old load lands while the new one is under way.
    first.open();
    before.await.unwrap();
    let reads = world.store.reads();
    settle().await;
    assert_eq!(world.store.reads(), reads, "all three share the new load");
    second.open();
    for one in after {
        assert_eq!(one.await.unwrap(), Seen::Revoked);
    }
}

#[tokio::test]
async fn a_key_made_while_its_absence_was_being_read_works_at_once() {
    let (world, key) = prepare(Memory::Cold).await;
    world.store.hide(key.lookup);
    let gate = world.store.hold_next(Read::Index, Moment::After);
    let before = world.start_get(&key);
    gate.reached().await;
    world.store.create_hidden(key.lookup);
    assert_eq!(world.get(&key).await, Seen::Works);
    gate.open();
    assert_eq!(before.await.unwrap(), Seen::Unknown, "what it had read");
    assert_eq!(world.get(&key).await, Seen::Works);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn under_load_no_get_after_a_revoke_sees_the_key_work() {
    let world = World::new().await;
    for round in 0..20 {
        let key = Arc::new(world.create_key().await);
        let revoked = Arc::new(AtomicBool::new(false));
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let (world, key) = (world.clone(), Arc::clone(&key));
                let revoked = Arc::clone(&revoked);
                tokio::spawn(async move { read_until_revoked(&world, &key, &revoked).await })
            })
            .collect();
        if round % 2 == 0 {
            assert_eq!(world.get(&key).await, Seen::Works);
        }
        world.let_ttl_pass();
        world.revoke(&key).await;
        revoked.store(true, Ordering::SeqCst);
        for reader in readers {
            reader.await.unwrap();
        }
    }
}

/// Reads on and on; once the key is known to be revoked, a hundred times more.
async fn read_until_revoked(world: &World, key: &Made, revoked: &AtomicBool) {
    let mut left = 100;
    while left > 0 {
        let known = revoked.load(Ordering::SeqCst);
        let seen = world.get(key).await;
        if known {
            assert_eq!(seen, Seen::Revoked);
            left -= 1;
        }
        tokio::task::yield_now().await;
    }
}
