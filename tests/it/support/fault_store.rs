//! A store that counts, holds back, hangs and fails on command, and answers with rows of long ago.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use keystile::clock::Timestamp;
use keystile::domain::key::LookupId;
use keystile::domain::name::{KeyId, TenantId};
use keystile::domain::version::Version;
use keystile::store::budgets::{Settle, Settled};
use keystile::store::damage::Damage;
use keystile::store::owners::{OwnerEntry, OwnerIndex, OwnersKeys};
use keystile::store::redb::EmbeddedStore;
use keystile::store::repair::{Cursor, Mode, Page, Repair};
use keystile::store::{
    BlockStore, BudgetStore, CommitError, Confirmed, Fleet, IdempotencyRecord, IndexRow,
    Invalidations, KeyCommit, KeyRow, Leases, Records, Refuses, Sidecar, Store, StoreError,
    StoreFuture, StoreInfo, TenantCommit, TenantRow, Watcher,
};
use parking_lot::Mutex;
use tokio::sync::watch;

/// Longer than any step of a test takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// How the store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Well,
    /// Every read fails at once.
    Failing,
    /// No read comes back before the mood changes.
    Hanging,
}

/// A read on the way of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    Index,
    Tenant,
}

/// Where a read is held: with its answer in hand or without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    Before,
    After,
}

/// Holds the next read of one kind, and only that one, until it is opened.
#[derive(Debug)]
pub(crate) struct Gate {
    read: Read,
    moment: Moment,
    stage: watch::Sender<Stage>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Nobody,
    Reached,
    Open,
}

impl Gate {
    /// Waits until a read stands before it.
    pub(crate) async fn reached(&self) {
        self.wait(Stage::Reached).await;
    }

    pub(crate) fn open(&self) {
        self.stage.send_replace(Stage::Open);
    }

    async fn pass(&self) {
        self.stage.send_replace(Stage::Reached);
        self.wait(Stage::Open).await;
    }

    async fn wait(&self, stage: Stage) {
        let mut stages = self.stage.subscribe();
        let reached = stages.wait_for(|now| *now >= stage);
        let reached = tokio::time::timeout(PATIENCE, reached).await;
        reached.expect("the gate moves in time").unwrap();
    }
}

pub(crate) struct FaultStore {
    inner: Arc<dyn Store>,
    mood: watch::Sender<Mood>,
    gate: Mutex<Option<Arc<Gate>>>,
    reads: [AtomicU64; 2],
    key_rows: AtomicU64,
    /// What is answered instead of what is stored.
    index: Mutex<HashMap<LookupId, Option<IndexRow>>>,
    tenants: Mutex<HashMap<TenantId, TenantRow>>,
    watchers: Mutex<Vec<Arc<dyn Watcher>>>,
    /// Whether changes go unheard.
    is_gap: Arc<AtomicBool>,
}

/// Passes on what it hears, but in a gap.
struct Muffled {
    watcher: Arc<dyn Watcher>,
    is_gap: Arc<AtomicBool>,
}

impl Muffled {
    fn tell(&self, tell: impl Fn(&dyn Watcher)) {
        if !self.is_gap.load(Ordering::SeqCst) {
            tell(self.watcher.as_ref());
        }
    }
}

impl Watcher for Muffled {
    fn index_changed(&self, lookup_id: LookupId) {
        self.tell(|watcher| watcher.index_changed(lookup_id));
    }

    fn tenant_changed(&self, tenant: &TenantId) {
        self.tell(|watcher| watcher.tenant_changed(tenant));
    }

    fn refuses(&self, lookup_id: LookupId, now: Timestamp) -> Refuses<'_> {
        self.watcher.refuses(lookup_id, now)
    }

    fn tracking_lost(&self) {
        self.watcher.tracking_lost();
    }

    fn tracking_restored(&self) {
        self.watcher.tracking_restored();
    }
}

impl fmt::Debug for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultStore")
    }
}

impl FaultStore {
    pub(crate) fn new() -> Arc<Self> {
        Self::over(Arc::new(EmbeddedStore::in_memory().unwrap()))
    }

    pub(crate) fn over(inner: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            mood: watch::Sender::new(Mood::Well),
            gate: Mutex::default(),
            reads: Default::default(),
            key_rows: AtomicU64::default(),
            index: Mutex::default(),
            tenants: Mutex::default(),
            watchers: Mutex::default(),
            is_gap: Arc::default(),
        })
    }

    /// The same store without the faults.
    pub(crate) fn beneath(&self) -> Arc<dyn Store> {
        Arc::clone(&self.inner)
    }

    pub(crate) fn be(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    /// How many index entries and tenants were asked for so far.
    pub(crate) fn reads(&self) -> (u64, u64) {
        let [index, tenants] = &self.reads;
        (index.load(Ordering::SeqCst), tenants.load(Ordering::SeqCst))
    }

    /// How many keys were read so far.
    pub(crate) fn key_rows(&self) -> u64 {
        self.key_rows.load(Ordering::SeqCst)
    }

    fn count_keys(&self, count: usize) {
        self.key_rows.fetch_add(count as u64, Ordering::SeqCst);
    }

    pub(crate) fn hold_next(&self, read: Read, moment: Moment) -> Arc<Gate> {
        let gate = Arc::new(Gate {
            read,
            moment,
            stage: watch::Sender::new(Stage::Nobody),
        });
        *self.gate.lock() = Some(Arc::clone(&gate));
        gate
    }

    /// From now on this is what stands at the row's place, and nobody is told: somebody wrote it by hand.
    pub(crate) fn put_index_by_hand(&self, row: IndexRow) {
        self.index.lock().insert(row.lookup_id, Some(row));
    }

    pub(crate) fn put_tenant_by_hand(&self, row: TenantRow) {
        self.tenants.lock().insert(row.id.clone(), row);
    }

    /// From now on changes go unheard, and everybody knows.
    pub(crate) fn begin_gap(&self) {
        self.is_gap.store(true, Ordering::SeqCst);
        for watcher in self.watchers.lock().iter() {
            watcher.tracking_lost();
        }
    }

    pub(crate) fn end_gap(&self) {
        self.is_gap.store(false, Ordering::SeqCst);
        for watcher in self.watchers.lock().iter() {
            watcher.tracking_restored();
        }
    }

    /// As if the index entry were not there yet.
    pub(crate) fn hide(&self, id: LookupId) {
        self.index.lock().insert(id, None);
    }

    /// The hidden entry comes into being, and everybody is told before this returns, as after a commit.
    pub(crate) fn create_hidden(&self, id: LookupId) {
        self.index.lock().remove(&id);
        for watcher in self.watchers.lock().iter() {
            watcher.index_changed(id);
        }
    }

    /// Hangs or fails as it is told to.
    async fn reach(&self) -> Result<(), StoreError> {
        let mut moods = self.mood.subscribe();
        let mood = *moods.wait_for(|mood| *mood != Mood::Hanging).await.unwrap();
        match mood {
            Mood::Failing => Err(StoreError::Unavailable("told to fail".into())),
            Mood::Well | Mood::Hanging => Ok(()),
        }
    }

    async fn read<T>(&self, read: Read, inner: StoreFuture<'_, T>) -> Result<T, StoreError> {
        self.reads[read as usize].fetch_add(1, Ordering::SeqCst);
        self.reach().await?;
        let gate = self.gate.lock().take_if(|gate| gate.read == read);
        match gate {
            None => inner.await,
            Some(gate) if gate.moment == Moment::Before => {
                gate.pass().await;
                inner.await
            }
            Some(gate) => {
                let answer = inner.await;
                gate.pass().await;
                answer
            }
        }
    }
}

impl Store for FaultStore {
    fn info(&self) -> StoreInfo {
        self.inner.info()
    }

    fn repair(&self) -> &dyn Repair {
        self.inner.repair()
    }

    fn keyring_id<'a>(&'a self, id_if_new: &'a str) -> StoreFuture<'a, String> {
        self.inner.keyring_id(id_if_new)
    }

    fn ping(&self) -> StoreFuture<'_, ()> {
        self.inner.ping()
    }
}

impl Records for FaultStore {
    fn damage(&self) -> &Damage {
        self.inner.damage()
    }

    fn index(&self, lookup_id: LookupId) -> StoreFuture<'_, Option<IndexRow>> {
        let stored = Box::pin(async move {
            let by_hand = self.index.lock().get(&lookup_id).cloned();
            match by_hand {
                Some(row) => Ok(row),
                None => self.inner.index(lookup_id).await,
            }
        });
        Box::pin(self.read(Read::Index, stored))
    }

    fn tenant<'a>(&'a self, tenant: &'a TenantId) -> StoreFuture<'a, Option<TenantRow>> {
        let stored = Box::pin(async move {
            let by_hand = self.tenants.lock().get(tenant).cloned();
            match by_hand {
                Some(row) => Ok(Some(row)),
                None => self.inner.tenant(tenant).await,
            }
        });
        Box::pin(self.read(Read::Tenant, stored))
    }

    fn was_deleted<'a>(&'a self, tenant: &'a TenantId) -> StoreFuture<'a, bool> {
        self.inner.was_deleted(tenant)
    }

    fn tenants<'a>(
        &'a self,
        after: Option<&'a TenantId>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<TenantRow>> {
        self.inner.tenants(after, limit)
    }

    fn key<'a>(&'a self, tenant: &'a TenantId, key: &'a KeyId) -> StoreFuture<'a, Option<KeyRow>> {
        self.count_keys(1);
        self.inner.key(tenant, key)
    }

    fn keys<'a>(
        &'a self,
        tenant: &'a TenantId,
        after: Option<&'a KeyId>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<KeyRow>> {
        Box::pin(async move {
            let rows = self.inner.keys(tenant, after, limit).await?;
            self.count_keys(rows.len());
            Ok(rows)
        })
    }

    fn owner_index(&self) -> Option<&dyn OwnerIndex> {
        self.inner.owner_index().map(|_| self as &dyn OwnerIndex)
    }

    fn live_keys<'a>(
        &'a self,
        tenant: &'a TenantId,
        owner_tag: [u8; 16],
    ) -> StoreFuture<'a, (u64, u64)> {
        self.inner.live_keys(tenant, owner_tag)
    }

    fn audit<'a>(
        &'a self,
        tenant: &'a TenantId,
        limit: usize,
    ) -> StoreFuture<'a, Vec<(u64, Vec<u8>)>> {
        self.inner.audit(tenant, limit)
    }

    fn audit_after<'a>(
        &'a self,
        tenant: &'a TenantId,
        after: u64,
        limit: usize,
    ) -> StoreFuture<'a, Vec<(u64, Vec<u8>)>> {
        self.inner.audit_after(tenant, after, limit)
    }

    fn request<'a>(
        &'a self,
        tenant: &'a TenantId,
        tag: [u8; 16],
    ) -> StoreFuture<'a, Option<IdempotencyRecord>> {
        self.inner.request(tenant, tag)
    }

    fn commit_tenant(&self, commit: TenantCommit) -> StoreFuture<'_, (), CommitError> {
        self.inner.commit_tenant(commit)
    }

    fn commit_key(&self, commit: KeyCommit) -> StoreFuture<'_, (), CommitError> {
        self.inner.commit_key(commit)
    }

    fn append_audit<'a>(
        &'a self,
        tenant: &'a TenantId,
        dek_id: u64,
        after: u64,
        entries: Vec<Vec<u8>>,
    ) -> StoreFuture<'a, (), CommitError> {
        self.inner.append_audit(tenant, dek_id, after, entries)
    }

    fn delete_tenant<'a>(
        &'a self,
        tenant: &'a TenantId,
        dek_id: u64,
        expected: Version,
    ) -> StoreFuture<'a, (), CommitError> {
        self.inner.delete_tenant(tenant, dek_id, expected)
    }
}

impl Invalidations for FaultStore {
    fn watch(&self, watcher: Arc<dyn Watcher>) {
        self.watchers.lock().push(Arc::clone(&watcher));
        let is_gap = Arc::clone(&self.is_gap);
        self.inner.watch(Arc::new(Muffled { watcher, is_gap }));
    }
}

impl Fleet for FaultStore {
    fn sidecars(&self) -> StoreFuture<'_, Vec<Sidecar>> {
        self.inner.sidecars()
    }

    fn late<'a>(
        &'a self,
        lookup_ids: &'a [LookupId],
        within: Duration,
    ) -> StoreFuture<'a, Confirmed> {
        self.inner.late(lookup_ids, within)
    }
}

impl BlockStore for FaultStore {}

impl BudgetStore for FaultStore {
    fn settle<'a>(&'a self, tenant: &'a TenantId, call: &'a Settle) -> StoreFuture<'a, Settled> {
        Box::pin(async move {
            self.reach().await?;
            self.inner.settle(tenant, call).await
        })
    }
}

impl Leases for FaultStore {}

impl FaultStore {
    fn inner_index(&self) -> &dyn OwnerIndex {
        self.inner.owner_index().expect("it is asked for before")
    }
}

impl OwnerIndex for FaultStore {
    fn page<'a>(
        &'a self,
        tenant: &'a TenantId,
        owner_tag: [u8; 16],
        after: Option<&'a KeyId>,
        limit: usize,
    ) -> StoreFuture<'a, Option<OwnersKeys>> {
        Box::pin(async move {
            let page = self.inner_index().page(tenant, owner_tag, after, limit);
            let page = page.await?;
            self.count_keys(page.as_ref().map_or(0, |page| page.rows.len()));
            Ok(page)
        })
    }

    fn missing<'a>(
        &'a self,
        tenant: &'a TenantId,
        dek_id: u64,
        entries: &'a [OwnerEntry],
        mode: Mode,
    ) -> StoreFuture<'a, u64> {
        self.inner_index().missing(tenant, dek_id, entries, mode)
    }

    fn scan<'a>(
        &'a self,
        tenant: &'a TenantId,
        from: Option<Cursor>,
    ) -> StoreFuture<'a, Page<OwnerEntry>> {
        self.inner_index().scan(tenant, from)
    }

    fn remove<'a>(
        &'a self,
        tenant: &'a TenantId,
        dek_id: u64,
        entries: &'a [OwnerEntry],
    ) -> StoreFuture<'a, ()> {
        self.inner_index().remove(tenant, dek_id, entries)
    }

    fn is_whole<'a>(
        &'a self,
        tenant: &'a TenantId,
        dek_id: u64,
        mode: Mode,
    ) -> StoreFuture<'a, bool> {
        self.inner_index().is_whole(tenant, dek_id, mode)
    }
}
