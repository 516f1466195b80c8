//! A store in memory that works as the one on Redis does, step by step, each step in one slot: between any two of them
//! others take their steps, a shard falls back, or who takes them dies.

use std::fmt;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use keystile::clock::Timestamp;
use keystile::crypto::envelope;
use keystile::domain::key::LookupId;
use keystile::domain::name::{KeyId, TenantId};
use keystile::domain::version::Version;
use keystile::store::budgets::{Settle, Settled};
use keystile::store::damage::Damage;
use keystile::store::repair::Repair;
use keystile::store::{
    BlockStore, BudgetStore, CommitError, Confirmed, Expected, Fleet, IdempotencyRecord, IndexRow,
    Invalidations, KeyCommit, KeyRow, Leases, Records, Sidecar, Store, StoreError, StoreFuture,
    StoreInfo, Succession, TenantCommit, TenantRow, Watcher,
};
use parking_lot::Mutex;

use super::slots::{self, Decided, Index, Shard, TenantSlot, owner_of};

/// How often a change that meets a kept revocation completes it and tries again, as in the store on Redis.
const ATTEMPTS_MAX: usize = 4;

/// Which part of the store falls back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Tenant,
    /// Of the two parts of the index, the one with that number.
    Index(usize),
}

impl Part {
    pub(crate) const ALL: [Self; 3] = [Self::Tenant, Self::Index(0), Self::Index(1)];
}

/// In which part of the index an entry is.
fn part_of(id: LookupId) -> usize {
    usize::from(id.0[0] % 2)
}

pub(super) struct Cluster {
    tenant: Mutex<Shard<TenantSlot>>,
    index: [Mutex<Shard<Index>>; 2],
    /// The sidecars, by number; none where one is not running.
    watchers: Mutex<Vec<Option<Arc<dyn Watcher>>>>,
    /// What now stands for the time of the servers.
    now: Mutex<Timestamp>,
    damage: Damage,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cluster")
    }
}

/// What a store holds, to begin others with.
#[derive(Clone)]
pub(super) struct Contents(TenantSlot, [Index; 2]);

/// Lets others take their steps.
async fn step() {
    let mut waited = false;
    std::future::poll_fn(|_| {
        if waited {
            return Poll::Ready(());
        }
        waited = true;
        Poll::Pending
    })
    .await;
}

fn is_not_in_the_model<T>() -> Result<T, StoreError> {
    Err(StoreError::Damaged("this is not in the model".to_owned()))
}

impl Cluster {
    pub(super) fn new() -> Arc<Self> {
        Self::of(Contents(TenantSlot::default(), Default::default()))
    }

    pub(super) fn of(contents: Contents) -> Arc<Self> {
        Arc::new(Self {
            tenant: Mutex::new(Shard::new(contents.0)),
            index: contents.1.map(|part| Mutex::new(Shard::new(part))),
            watchers: Mutex::default(),
            now: Mutex::new(Timestamp::from_millis(0)),
            damage: Damage::default(),
        })
    }

    pub(super) fn contents(&self) -> Contents {
        Contents(
            self.tenant.lock().read().clone(),
            [0, 1].map(|part: usize| self.index[part].lock().read().clone()),
        )
    }

    pub(super) fn set_now(&self, now: Timestamp) {
        *self.now.lock() = now;
    }

    /// Sidecar `number` cannot have heard everything.
    pub(super) fn put_in_doubt(&self, number: usize) {
        let watcher = self.watchers.lock()[number].clone();
        if let Some(watcher) = watcher {
            watcher.tracking_lost();
            watcher.tracking_restored();
        }
    }

    /// Where there is an index entry.
    pub(super) fn lookup_ids(&self) -> Vec<LookupId> {
        self.entries(|id, _| Some(id))
    }

    /// Which index entries are revoked.
    pub(super) fn revoked(&self) -> Vec<LookupId> {
        self.entries(|id, row| row.revoked.then_some(id))
    }

    fn entries(&self, pick: impl Fn(LookupId, &IndexRow) -> Option<LookupId>) -> Vec<LookupId> {
        let mut all = Vec::new();
        for part in &self.index {
            let part = part.lock();
            let picked = part
                .read()
                .iter()
                .filter_map(|(id, entry)| pick(*id, &entry.row));
            all.extend(picked);
        }
        all
    }

    /// One shard falls back by so many changes; whoever listens to it is cut off, and listens again.
    pub(super) fn fall_back(&self, part: Part, changes: usize) {
        match part {
            Part::Tenant => self.tenant.lock().fall_back(changes),
            Part::Index(part) => self.index[part].lock().fall_back(changes),
        }
        self.tell(|watcher| {
            watcher.tracking_lost();
            watcher.tracking_restored();
        });
    }

    fn part(&self, id: LookupId) -> &Mutex<Shard<Index>> {
        &self.index[part_of(id)]
    }

    fn tell(&self, tell: impl Fn(&dyn Watcher)) {
        let watchers = self.watchers.lock().clone();
        for watcher in watchers.iter().flatten() {
            tell(watcher.as_ref());
        }
    }

    async fn change_key(&self, commit: &KeyCommit) -> Result<(), CommitError> {
        for row in &commit.index {
            step().await;
            let claimed = slots::claim(self.part(row.lookup_id).lock().read(), commit, row);
            if let Err(refusal) = claimed {
                step().await;
                let objection = self.tenant.lock().read().objection(commit);
                return Err(match objection {
                    Some(Decided::Refused(refused)) => refused,
                    _ => refusal,
                });
            }
        }
        for _ in 0..ATTEMPTS_MAX {
            step().await;
            let decided = self.tenant.lock().change(|slot| slot.commit(commit));
            match decided {
                Decided::Done if commit.is_revocation() => return self.complete(commit).await,
                Decided::Done => {
                    let owner = owner_of(commit);
                    return match self.write_out(&owner, &commit.index).await {
                        true => Err(CommitError::Revoked),
                        false => Ok(()),
                    };
                }
                Decided::Revoking(other) => drop(self.complete(&other).await),
                Decided::Refused(refused) => return Err(refused),
            }
        }
        Err(CommitError::Conflict)
    }

    async fn write(&self, owner: &(TenantId, KeyId, u64), row: &IndexRow) -> Option<Succession> {
        step().await;
        let part = self.part(row.lookup_id);
        let stands = part.lock().change(|index| slots::write(index, owner, row));
        self.tell(|watcher| watcher.index_changed(row.lookup_id));
        stands
    }

    /// Completes a kept revocation: index first, then the truth.
    async fn complete(&self, commit: &KeyCommit) -> Result<(), CommitError> {
        for row in &commit.index {
            self.write(&owner_of(commit), row).await;
        }
        step().await;
        match self.tenant.lock().change(|slot| slot.finish(commit)) {
            true => Ok(()),
            false => Err(CommitError::Conflict),
        }
    }

    /// Writes the entries of one key, the newest generation last; whether the key is revoked there.
    async fn write_out(&self, owner: &(TenantId, KeyId, u64), rows: &[IndexRow]) -> bool {
        let mut rows: Vec<&IndexRow> = rows.iter().collect();
        rows.sort_by_key(|row| envelope::header(&row.body).unwrap().0.generation);
        let mut is_revoked = false;
        for row in &rows {
            if !is_revoked {
                is_revoked = self.write(owner, row).await == Some(Succession::Revoked);
            }
        }
        if is_revoked {
            for row in &rows {
                step().await;
                let id = row.lookup_id;
                let part = self.part(id);
                part.lock()
                    .change(|index| slots::mark_revoked(index, owner, id));
                self.tell(|watcher| watcher.index_changed(row.lookup_id));
            }
        }
        step().await;
        self.tenant
            .lock()
            .change(|slot| rows.iter().for_each(|row| slot.confirm(row)));
        is_revoked
    }

    /// What the outbox worker does: ends what others have begun.
    pub(super) async fn heal(&self) {
        step().await;
        let (revoking, waiting, dek_id) = {
            let tenant = self.tenant.lock();
            let slot = tenant.read();
            let Some(row) = slot.tenant.clone() else {
                return;
            };
            (
                slot.revoking.clone(),
                slot.outbox.clone(),
                (row.id, row.dek_id),
            )
        };
        for commit in revoking.values() {
            drop(self.complete(commit).await);
        }
        let keys: std::collections::BTreeSet<_> = waiting.values().map(|(key, _)| key).collect();
        for key in keys {
            let rows = waiting.values().filter(|(of, _)| of == key);
            let rows: Vec<IndexRow> = rows.map(|(_, row)| row.clone()).collect();
            let owner = (dek_id.0.clone(), key.clone(), dek_id.1);
            self.write_out(&owner, &rows).await;
        }
    }
}

/// The cluster as one process sees it.
#[derive(Debug)]
pub(super) struct View {
    pub(super) cluster: Arc<Cluster>,
    /// Which sidecar it is. One that is started again takes the place of the one before.
    pub(super) sidecar: Option<usize>,
}

impl Store for View {
    fn info(&self) -> StoreInfo {
        StoreInfo {
            kind: "model",
            location: "memory".to_owned(),
        }
    }

    fn repair(&self) -> &dyn Repair {
        self
    }

    fn keyring_id<'a>(&'a self, _: &'a str) -> StoreFuture<'a, String> {
        Box::pin(async { is_not_in_the_model() })
    }

    fn ping(&self) -> StoreFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}

impl Records for View {
    fn damage(&self) -> &Damage {
        &self.cluster.damage
    }

    fn index(&self, lookup_id: LookupId) -> StoreFuture<'_, Option<IndexRow>> {
        Box::pin(async move {
            step().await;
            let part = self.cluster.part(lookup_id).lock();
            Ok(part.read().get(&lookup_id).map(|entry| entry.row.clone()))
        })
    }

    fn tenant<'a>(&'a self, _: &'a TenantId) -> StoreFuture<'a, Option<TenantRow>> {
        Box::pin(async move {
            step().await;
            Ok(self.cluster.tenant.lock().read().tenant.clone())
        })
    }

    fn tenants<'a>(&'a self, _: Option<&'a TenantId>, _: usize) -> StoreFuture<'a, Vec<TenantRow>> {
        Box::pin(async { is_not_in_the_model() })
    }

    fn key<'a>(&'a self, _: &'a TenantId, key: &'a KeyId) -> StoreFuture<'a, Option<KeyRow>> {
        Box::pin(async move {
            step().await;
            Ok(self.cluster.tenant.lock().read().keys.get(key).cloned())
        })
    }

    fn keys<'a>(
        &'a self,
        _: &'a TenantId,
        _: Option<&'a KeyId>,
        _: usize,
    ) -> StoreFuture<'a, Vec<KeyRow>> {
        Box::pin(async { is_not_in_the_model() })
    }

    fn live_keys<'a>(&'a self, _: &'a TenantId, _: [u8; 16]) -> StoreFuture<'a, (u64, u64)> {
        Box::pin(async { is_not_in_the_model() })
    }

    fn audit<'a>(&'a self, _: &'a TenantId, _: usize) -> StoreFuture<'a, Vec<(u64, Vec<u8>)>> {
        Box::pin(async { is_not_in_the_model() })
    }

    fn audit_after<'a>(
        &'a self,
        _: &'a TenantId,
        _: u64,
        _: usize,
    ) -> StoreFuture<'a, Vec<(u64, Vec<u8>)>> {
        Box::pin(async { is_not_in_the_model() })
    }

    fn request<'a>(
        &'a self,
        _: &'a TenantId,
        tag: [u8; 16],
    ) -> StoreFuture<'a, Option<IdempotencyRecord>> {
        Box::pin(async move {
            Ok(self
                .cluster
                .tenant
                .lock()
                .read()
                .requests
                .get(&tag)
                .cloned())
        })
    }

    fn commit_tenant(&self, commit: TenantCommit) -> StoreFuture<'_, (), CommitError> {
        Box::pin(async move {
            step().await;
            let mut tenant = self.cluster.tenant.lock();
            let there = tenant.read().tenant.as_ref().map(|row| row.version);
            match (commit.expected, there) {
                (Expected::Version(_), None) => return Err(CommitError::NotFound),
                (Expected::Version(expected), Some(there)) if there != expected => {
                    return Err(CommitError::Conflict);
                }
                (Expected::New, Some(_)) => return Err(CommitError::Exists),
                _ => {}
            }
            let id = commit.row.id.clone();
            tenant.change(|slot| slot.tenant = Some(commit.row));
            drop(tenant);
            self.cluster.tell(|watcher| watcher.tenant_changed(&id));
            Ok(())
        })
    }

    fn commit_key(&self, commit: KeyCommit) -> StoreFuture<'_, (), CommitError> {
        Box::pin(async move { self.cluster.change_key(&commit).await })
    }

    fn append_audit<'a>(
        &'a self,
        _: &'a TenantId,
        _: u64,
        _: u64,
        _: Vec<Vec<u8>>,
    ) -> StoreFuture<'a, (), CommitError> {
        Box::pin(async { Ok(is_not_in_the_model()?) })
    }

    fn delete_tenant<'a>(
        &'a self,
        _: &'a TenantId,
        _: u64,
        _: Version,
    ) -> StoreFuture<'a, (), CommitError> {
        Box::pin(async { Ok(is_not_in_the_model()?) })
    }
}

impl Invalidations for View {
    fn watch(&self, watcher: Arc<dyn Watcher>) {
        let Some(number) = self.sidecar else {
            return;
        };
        let mut watchers = self.cluster.watchers.lock();
        if watchers.len() <= number {
            watchers.resize(number + 1, None);
        }
        watchers[number] = Some(watcher);
    }
}

impl Fleet for View {
    fn sidecars(&self) -> StoreFuture<'_, Vec<Sidecar>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    /// Asks each sidecar, which looks for itself.
    fn late<'a>(&'a self, ids: &'a [LookupId], _: Duration) -> StoreFuture<'a, Confirmed> {
        Box::pin(async move {
            let watchers = self.cluster.watchers.lock().clone();
            let mut confirmed = Confirmed::default();
            for (number, watcher) in watchers.iter().enumerate() {
                let Some(watcher) = watcher else { continue };
                let mut refuses = true;
                for id in ids {
                    let now = *self.cluster.now.lock();
                    refuses &= watcher.refuses(*id, now).await;
                }
                if refuses {
                    confirmed.by += 1;
                } else {
                    confirmed.late.push(number.to_string());
                }
            }
            Ok(confirmed)
        })
    }
}

impl BlockStore for View {}

impl BudgetStore for View {
    fn settle<'a>(&'a self, _: &'a TenantId, _: &'a Settle) -> StoreFuture<'a, Settled> {
        Box::pin(async { is_not_in_the_model() })
    }
}

impl Leases for View {}
