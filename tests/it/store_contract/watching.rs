//! Watchers hear of every change, in time to forget what they know.

use std::sync::Arc;

use keystile::domain::key::LookupId;
use keystile::domain::name::TenantId;
use keystile::store::Watcher;
use parking_lot::Mutex;

use super::world::*;

#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Watcher for Heard {
    fn index_changed(&self, lookup_id: LookupId) {
        self.0.lock().push(format!("index {lookup_id}"));
    }

    fn tenant_changed(&self, tenant: &TenantId) {
        self.0.lock().push(format!("tenant {tenant}"));
    }

    fn tracking_lost(&self) {}

    fn tracking_restored(&self) {}
}

impl Heard {
    fn on(store: &Shared) -> Arc<Self> {
        let heard = Arc::new(Self::default());
        store.watch(Arc::<Self>::clone(&heard));
        heard
    }

    /// Holds that this, at least, was heard since the last call: to be told more often does no harm.
    #[track_caller]
    fn assert_told(&self, expected: &[String]) {
        let heard = self.take();
        for one in expected {
            assert!(heard.contains(one), "{one} is not in {heard:?}");
        }
    }

    /// What was heard since the last call, in order of text.
    fn take(&self) -> Vec<String> {
        let mut heard = std::mem::take(&mut *self.0.lock());
        heard.sort();
        heard
    }
}

fn index_of(numbers: &[u64]) -> Vec<String> {
    let words = numbers.iter().map(|n| format!("index {}", lookup(*n)));
    words.collect()
}

pub(super) async fn a_watcher_has_been_told_when_a_commit_returns(store: Shared) {
    let heard = Heard::on(&store);
    let made = new_tenant("acme");
    store.commit_tenant(made.clone()).await.unwrap();
    heard.assert_told(&["tenant acme".to_owned()]);
    store.commit_tenant(suspend(&made)).await.unwrap();
    heard.assert_told(&["tenant acme".to_owned()]);

    let mut two_generations = new_key("acme", 1);
    two_generations.index.push(entry(2, 1, "older"));
    store.commit_key(two_generations.clone()).await.unwrap();
    heard.assert_told(&index_of(&[1, 2]));
    store.commit_key(revoke(&two_generations)).await.unwrap();
    heard.assert_told(&index_of(&[1, 2]));

    store
        .delete_tenant(&tenant("acme"), DEK, 2.into())
        .await
        .unwrap();
    let mut expected = index_of(&[1, 2]);
    expected.push("tenant acme".to_owned());
    heard.assert_told(&expected);
}

pub(super) async fn a_watcher_is_not_told_of_a_refused_commit(store: Shared) {
    with_tenants(&store, &["acme"]).await;
    store.commit_key(new_key("acme", 1)).await.unwrap();
    let heard = Heard::on(&store);
    assert!(store.commit_tenant(new_tenant("acme")).await.is_err());
    assert!(store.commit_key(new_key("acme", 1)).await.is_err());
    assert!(
        store
            .delete_tenant(&tenant("acme"), DEK, 9.into())
            .await
            .is_err()
    );
    assert_eq!(heard.take(), Vec::<String>::new());
}

pub(super) async fn every_watcher_is_told_from_when_it_watches(store: Shared) {
    let early = Heard::on(&store);
    with_tenants(&store, &["acme"]).await;
    let late = Heard::on(&store);
    with_tenants(&store, &["globex"]).await;
    early.assert_told(&["tenant acme", "tenant globex"].map(str::to_owned));
    late.assert_told(&["tenant globex".to_owned()]);
}
