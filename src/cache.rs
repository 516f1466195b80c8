//! Keys and tenants in memory over a store: bounded, with single-flight loads and push invalidation.
//!
//! Keys that exist and ids that do not are kept apart, so that guesses cannot push out keys. A cached entry is
//! used while it is younger than `ttl` and no invalidation of it has arrived; then it is loaded again. When the store
//! does not answer, an entry is used up to `max_stale`, unless a change of it is known.
//!
//! The store can lose track of changes (its invalidation connection breaks). Until tracking is restored, nothing is
//! used without asking the store; then a new epoch begins, and every entry of an earlier epoch is loaded again at its
//! next use. If the store does not answer, such entries are used up to `max_stale` as well: no change of them is known.
//!
//! A load that was in flight when an invalidation arrived may have read the state before the change: it still answers
//! those who asked before, and is neither kept nor shared with those who ask after.
#![warn(missing_docs)]

mod entry;
mod flight;
mod load;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};

use crate::clock::Timestamp;
use crate::crypto::keyring::Keyring;
use crate::domain::key::LookupId;
use crate::domain::name::TenantId;
use crate::domain::plan::Plans;
use crate::domain::version::Version;
use crate::store::records::RecordError;
use crate::store::{Records, Refuses, StoreError, Watcher};

use entry::TenantSlot;
pub use entry::{CachedKey, CachedTenant};
use flight::Flights;

/// Bounds of the cache.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long an entry is used without asking again.
    pub ttl: Duration,
    /// How long an entry is used when the store does not answer.
    pub max_stale: Duration,
    /// How long it is remembered that an id does not exist.
    pub negative_ttl: Duration,
    /// The most keys kept.
    pub max_entries: usize,
    /// The most memory that kept keys take, in bytes, tenants apart.
    pub max_bytes: usize,
    /// The most unknown ids kept.
    pub max_negative_entries: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(60),
            max_stale: Duration::from_secs(3600),
            negative_ttl: Duration::from_secs(10),
            max_entries: 1_000_000,
            max_bytes: 256 << 20,
            max_negative_entries: 100_000,
        }
    }
}

/// Why a key could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The store did not answer, or not in time.
    #[error("failed to reach the store")]
    Store(#[source] Arc<StoreError>),
    /// What lies in the key's or the tenant's place is nothing that we write. No outage: whoever can write to the
    /// store could bring it about.
    #[error("a stored entry cannot be used")]
    Damaged(#[source] Arc<StoreError>),
    /// What it answered cannot be used.
    #[error("a stored record cannot be used")]
    Record(#[source] Arc<RecordError>),
    /// A suspended tenant is active in an older state than the one that was seen before: the store has fallen back, or
    /// somebody put an old record back.
    #[error(
        "the store answered with version {found} of a record whose version {seen} was seen before"
    )]
    Rollback {
        /// The version found.
        found: Version,
        /// The version seen before.
        seen: Version,
    },
    /// No answer within the time that the check has.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

/// A key and its tenant, both current.
#[derive(Clone, Debug)]
pub struct Found {
    /// The key.
    pub key: Arc<CachedKey>,
    /// Its tenant.
    pub tenant: Arc<CachedTenant>,
}

/// How often what happened.
#[derive(Debug, Default)]
pub struct Counters {
    /// Answered from memory.
    pub hits: AtomicU64,
    /// Known not to exist, from memory.
    pub negative_hits: AtomicU64,
    /// Had to ask the store.
    pub misses: AtomicU64,
    /// Used past its ttl because the store did not answer.
    pub stale_served: AtomicU64,
    /// Loads that failed.
    pub load_errors: AtomicU64,
}

type KeyMap = quick_cache::sync::Cache<LookupId, Arc<CachedKey>, Weight>;

/// Bounds entries and bytes by one sum: every key weighs at least as much as its share of the bytes.
#[derive(Clone)]
struct Weight {
    least: u64,
}

impl Weight {
    fn new(settings: &Settings) -> Self {
        let least = (settings.max_bytes / settings.max_entries.max(1)).max(1);
        Self {
            least: least as u64,
        }
    }
}

impl quick_cache::Weighter<LookupId, Arc<CachedKey>> for Weight {
    fn weight(&self, _: &LookupId, key: &Arc<CachedKey>) -> u64 {
        (key.bytes() as u64).max(self.least)
    }
}

fn key_map(settings: &Settings) -> KeyMap {
    let weight = Weight::new(settings);
    let shares = weight.least.saturating_mul(settings.max_entries as u64);
    let capacity = shares.min(settings.max_bytes as u64);
    KeyMap::with_weighter(settings.max_entries, capacity, weight)
}
type UnknownMap = quick_cache::sync::Cache<LookupId, Timestamp>;

/// The cache. Shared by all workers; a hit takes no lock that waits for I/O.
pub struct Cache {
    store: Arc<dyn Records>,
    keyring: Arc<Keyring>,
    plans: ArcSwap<Plans>,
    settings: Settings,
    keys: KeyMap,
    unknown: UnknownMap,
    tenants: RwLock<HashMap<TenantId, Arc<TenantSlot>>>,
    key_flights: Mutex<Flights<LookupId, load::KeyResult>>,
    tenant_flights: Mutex<Flights<TenantId, load::TenantResult>>,
    counters: Counters,
    /// The current epoch: a period in which no change was missed; [`UNTRACKED`] while tracking is lost.
    epoch: AtomicU32,
    /// The number of the epoch that begins when tracking is restored.
    next_epoch: AtomicU32,
}

/// How long a look at an entry that was revoked waits for the store.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(1);
/// The epoch while tracking is lost: nothing that is read now may be used again without asking.
const UNTRACKED: u32 = 0;

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cache({} keys over {:?})", self.keys.len(), self.store)
    }
}

impl Cache {
    /// An empty cache, which the store invalidates on every change.
    pub fn new(
        store: Arc<dyn Records>,
        keyring: Arc<Keyring>,
        plans: Plans,
        settings: Settings,
    ) -> Arc<Self> {
        let cache = Arc::new(Self {
            keys: key_map(&settings),
            unknown: UnknownMap::new(settings.max_negative_entries),
            store,
            keyring,
            plans: ArcSwap::from_pointee(plans),
            settings,
            tenants: RwLock::default(),
            key_flights: Mutex::default(),
            tenant_flights: Mutex::default(),
            counters: Counters::default(),
            epoch: AtomicU32::new(1),
            next_epoch: AtomicU32::new(2),
        });
        cache
            .store
            .watch(Arc::new(CacheWatcher(Arc::downgrade(&cache))));
        cache
    }

    /// What happened so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How many keys are in memory.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key is in memory.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The key behind a lookup id, from memory if it is there and current, else from the store within `time_limit`.
    /// `None`: there is no such key.
    pub async fn get(
        &self,
        id: LookupId,
        now: Timestamp,
        time_limit: Duration,
    ) -> Result<Option<Found>, LoadError> {
        match self.peek(id, now) {
            Peek::Found(found) => {
                self.counters.hits.fetch_add(1, Ordering::Relaxed);
                Ok(Some(found))
            }
            Peek::Unknown => {
                self.counters.negative_hits.fetch_add(1, Ordering::Relaxed);
                Ok(None)
            }
            Peek::Nothing(old) => self.fetch(id, now, time_limit, old).await,
        }
    }

    /// Whether a key of this id is in memory, current or not.
    pub fn knows(&self, id: LookupId) -> bool {
        self.keys.peek(&id).is_some()
    }

    fn peek(&self, id: LookupId, now: Timestamp) -> Peek {
        let Some(key) = self.keys.get(&id) else {
            let known = self.unknown.get(&id).is_some_and(|until| now < until)
                && self.epoch.load(Ordering::Acquire) != UNTRACKED;
            return if known {
                Peek::Unknown
            } else {
                Peek::Nothing(None)
            };
        };
        let tenant = key.slot().state.load_full();
        match tenant {
            Some(tenant) if self.is_current(&key, &tenant, now) => {
                Peek::Found(Found { key, tenant })
            }
            Some(_) | None => Peek::Nothing(Some(key)),
        }
    }

    fn is_current(&self, key: &CachedKey, tenant: &CachedTenant, now: Timestamp) -> bool {
        // What is not suspect was loaded after the last change that was announced: an invalidation cuts off the loads
        // under way before it marks what is in memory.
        key.belongs_to(tenant)
            && !key.is_suspect()
            && self.is_beyond_doubt(key.epoch())
            && now.since(key.loaded_at()) < self.settings.ttl
            && self.is_tenant_current(tenant, now)
    }

    fn is_tenant_current(&self, tenant: &CachedTenant, now: Timestamp) -> bool {
        let loaded_at = Timestamp::from_millis(tenant.loaded_at.load(Ordering::Relaxed));
        !tenant.suspect.load(Ordering::Acquire)
            && self.is_beyond_doubt(tenant.epoch.load(Ordering::Relaxed))
            && now.since(loaded_at) < self.settings.ttl
    }

    /// Whether tracking was never lost since then.
    fn is_beyond_doubt(&self, epoch: u32) -> bool {
        epoch != UNTRACKED && epoch == self.epoch.load(Ordering::Acquire)
    }

    fn slot(&self, id: &TenantId) -> Arc<TenantSlot> {
        if let Some(slot) = self.tenants.read().get(id) {
            return Arc::clone(slot);
        }
        let mut tenants = self.tenants.write();
        // Slots that no cached key refers to are dropped when there are many: their number follows the keys'.
        if tenants.len() >= self.settings.max_entries {
            tenants.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        let make = || {
            Arc::new(TenantSlot {
                id: id.clone(),
                state: arc_swap::ArcSwapOption::empty(),
            })
        };
        Arc::clone(tenants.entry(id.clone()).or_insert_with(make))
    }
}

enum Peek {
    Found(Found),
    Unknown,
    /// Ask the store; beside it what is in memory and no longer current.
    Nothing(Option<Arc<CachedKey>>),
}

/// Receives the store's invalidations. Weak, so that store and cache do not keep each other alive.
struct CacheWatcher(Weak<Cache>);

impl Watcher for CacheWatcher {
    fn index_changed(&self, lookup_id: LookupId) {
        if let Some(cache) = self.0.upgrade() {
            cache.index_changed(lookup_id);
        }
    }

    fn tenant_changed(&self, tenant: &TenantId) {
        if let Some(cache) = self.0.upgrade() {
            cache.tenant_changed(tenant);
        }
    }

    fn refuses(&self, lookup_id: LookupId, now: Timestamp) -> Refuses<'_> {
        Box::pin(async move {
            match self.0.upgrade() {
                Some(cache) => cache.refuses(lookup_id, now).await,
                None => true,
            }
        })
    }

    fn tracking_lost(&self) {
        if let Some(cache) = self.0.upgrade() {
            cache.epoch.store(UNTRACKED, Ordering::Release);
        }
    }

    fn tracking_restored(&self) {
        if let Some(cache) = self.0.upgrade() {
            cache.start_epoch();
        }
    }
}

impl Cache {
    /// Other plans from now on, for what is in memory as well; the store is not asked.
    pub fn set_plans(&self, plans: Plans) {
        let plans = Arc::new(plans);
        // What is being loaded may have the old plans: it is cut off first, and nothing lands until all is done.
        let mut flights = self.tenant_flights.lock();
        flights.cut_all();
        self.plans.store(Arc::clone(&plans));
        for slot in self.tenants.read().values() {
            if let Some(state) = slot.state.load().as_ref() {
                slot.state.store(Some(Arc::new(state.under(&plans))));
            }
        }
    }

    fn start_epoch(&self) {
        // What is under way may have been read before. Cut off first: changes from here on arrive.
        let mut keys = self.key_flights.lock();
        keys.cut_all();
        self.tenant_flights.lock().cut_all();
        self.unknown.clear();
        let next = self
            .next_epoch
            .fetch_add(1, Ordering::Relaxed)
            .max(UNTRACKED + 1);
        // Last, when the loads under way are cut off: what is kept under the new epoch was read in it.
        self.epoch.store(next, Ordering::Release);
    }

    /// Takes what the store has of a key into memory, unless it is there and current, and answers whether the key is
    /// refused. A revocation that is in memory is final, whatever the store says later.
    async fn refuses(&self, lookup_id: LookupId, now: Timestamp) -> bool {
        match self.get(lookup_id, now, CONFIRM_TIMEOUT).await {
            Ok(Some(found)) => found.key.is_revoked(),
            // A store that has lost the entry may have it back, not revoked: only an entry that is there and says so counts.
            Ok(None) => {
                let row = tokio::time::timeout(CONFIRM_TIMEOUT, self.store.index(lookup_id)).await;
                matches!(row, Ok(Ok(Some(row))) if row.revoked)
            }
            Err(_) => false,
        }
    }

    fn index_changed(&self, lookup_id: LookupId) {
        // Flights first: once they are cut off, no older state can arrive behind what is done next.
        let mut flights = self.key_flights.lock();
        flights.cut(&lookup_id);
        self.unknown.remove(&lookup_id);
        if let Some(key) = self.keys.peek(&lookup_id) {
            key.suspect();
        }
    }

    fn tenant_changed(&self, tenant: &TenantId) {
        let mut flights = self.tenant_flights.lock();
        flights.cut(tenant);
        if let Some(slot) = self.tenants.read().get(tenant)
            && let Some(state) = slot.state.load().as_ref()
        {
            state.suspect.store(true, Ordering::Release);
        }
    }
}
