//! From the store into memory: read, prove, open, keep.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::cache::flight::Joined;
use crate::cache::{Cache, CachedKey, CachedTenant, Found, LoadError};
use crate::clock::Timestamp;
use crate::crypto::envelope::OpenError;
use crate::domain::access::KeyAccess;
use crate::domain::key::LookupId;
use crate::domain::name::TenantId;
use crate::domain::tenant::{Tenant, TenantStatus};
use crate::domain::version::Version;
use crate::store::StoreError;
use crate::store::damage::Entry;
use crate::store::records::{self, RecordError};

/// What a load of a key ends in, shared by all who waited for it.
pub(super) type KeyResult = Result<Option<Arc<CachedKey>>, Failure>;
/// What a load of a tenant ends in.
pub(super) type TenantResult = Result<Option<Arc<CachedTenant>>, Failure>;

/// A failure that many waiters can share.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    Store(Arc<StoreError>),
    Record(Arc<RecordError>),
    Rollback { found: Version, seen: Version },
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

impl From<RecordError> for Failure {
    fn from(error: RecordError) -> Self {
        Self::Record(Arc::new(error))
    }
}

impl From<Failure> for LoadError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Store(error) if matches!(*error, StoreError::Damaged(_)) => {
                Self::Damaged(error)
            }
            Failure::Store(error) => Self::Store(error),
            Failure::Record(error) => Self::Record(error),
            Failure::Rollback { found, seen } => Self::Rollback { found, seen },
        }
    }
}

impl Cache {
    /// Asks the store. `old` is what is in memory and no longer current.
    pub(super) async fn fetch(
        &self,
        id: LookupId,
        now: Timestamp,
        time_limit: Duration,
        old: Option<Arc<CachedKey>>,
    ) -> Result<Option<Found>, LoadError> {
        self.counters.misses.fetch_add(1, Ordering::Relaxed);
        let error = match tokio::time::timeout(time_limit, self.ask(id, now, old.as_ref())).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(failure)) => LoadError::from(failure),
            Err(_) => LoadError::Timeout(time_limit),
        };
        self.counters.load_errors.fetch_add(1, Ordering::Relaxed);
        // Only where the store does not answer is an old entry used: where it answers with damage or with an older state,
        // the entry must not be trusted.
        match error {
            LoadError::Store(_) | LoadError::Timeout(_) => {
                self.stale(id, old, now).map(Some).ok_or(error)
            }
            LoadError::Damaged(_) | LoadError::Record(_) | LoadError::Rollback { .. } => Err(error),
        }
    }

    async fn ask(
        &self,
        id: LookupId,
        now: Timestamp,
        old: Option<&Arc<CachedKey>>,
    ) -> Result<Option<Found>, Failure> {
        let flight = Joined::new(&self.key_flights, id);
        let result = flight
            .get_or_init(|| self.load_key(id, now, old))
            .await
            .clone();
        let Some(key) = self.keep(&flight, result?, now) else {
            return Ok(None);
        };
        // Again, though the load has read it: the tenant may have changed since that load began.
        let tenant = self.tenant_of_key(key.tenant(), now).await?;
        let tenant = tenant.filter(|tenant| key.belongs_to(tenant));
        Ok(tenant.map(|tenant| Found { key, tenant }))
    }

    /// What may still be used when the store does not answer: young enough, and no change known.
    fn stale(&self, id: LookupId, old: Option<Arc<CachedKey>>, now: Timestamp) -> Option<Found> {
        // Somebody else may have loaded a newer state since this check looked.
        let key = self.keys.peek(&id).or(old)?;
        let tenant = key.slot().state.load_full()?;
        let tenant = Some(tenant).filter(|tenant| key.belongs_to(tenant))?;
        let loaded_at = key.loaded_at().min(Timestamp::from_millis(
            tenant.loaded_at.load(Ordering::Relaxed),
        ));
        let usable = !key.is_suspect()
            && !tenant.suspect.load(Ordering::Acquire)
            && now.since(loaded_at) < self.settings.max_stale;
        if usable {
            self.counters.stale_served.fetch_add(1, Ordering::Relaxed);
        }
        usable.then_some(Found { key, tenant })
    }

    /// Keeps what was loaded, unless an invalidation arrived meanwhile, and answers what holds.
    ///
    /// A revocation that was seen is final. So it is kept even where an invalidation arrived meanwhile, to be asked about
    /// again: a store that falls back the next moment cannot take it away. And what is loaded does not replace it.
    fn keep(
        &self,
        flight: &Joined<'_, LookupId, KeyResult>,
        loaded: Option<Arc<CachedKey>>,
        now: Timestamp,
    ) -> Option<Arc<CachedKey>> {
        flight.end(|id, is_current| {
            let revoked = self.keys.peek(id).filter(|there| there.is_revoked());
            let revoked = revoked.filter(|there| match &loaded {
                Some(loaded) => there.is_same(loaded),
                // Of a tenant that was deleted nothing is kept.
                None => there.is_of_the_tenant_in_memory(),
            });
            let key = revoked.or(loaded);
            match &key {
                Some(key) if is_current => {
                    key.confirm(now, self.epoch.load(Ordering::Acquire));
                    self.keys.insert(*id, Arc::clone(key));
                }
                Some(key) if key.is_revoked() => self.keys.insert(*id, Arc::clone(key)),
                None if is_current => {
                    self.keys.remove(id);
                    self.unknown
                        .insert(*id, now.plus(self.settings.negative_ttl));
                }
                Some(_) | None => {}
            }
            key
        })
    }

    async fn load_key(
        &self,
        id: LookupId,
        now: Timestamp,
        old: Option<&Arc<CachedKey>>,
    ) -> KeyResult {
        // What is in memory now, which may be newer than what this check saw there.
        let old = self.keys.peek(&id).or_else(|| old.cloned());
        let damage = self.store.damage();
        let found = self.store.index(id).await;
        let found = found.inspect_err(|error| damage.read(Entry::Index, None, error));
        let Some(row) = found? else {
            return Ok(None);
        };
        let claimed = records::claimed_tenant(&row);
        let claimed = claimed.inspect_err(|error| damage.met(Entry::Index, None, error))?;
        // The row says in plain text whose it is. That is not believed: it only chooses the data key, and the record opens
        // under the right one alone.
        let Some(tenant) = self.tenant_of_key(&claimed, now).await? else {
            return Ok(None);
        };
        let access = match records::open_access(&tenant.data_key, &claimed, &row) {
            // Left behind by a tenant of that name that was deleted: its data key is gone, so it does not exist.
            Err(RecordError::Seal {
                source: OpenError::OtherDataKey,
                ..
            }) => return Ok(None),
            opened => opened.inspect_err(|error| damage.unopened(&claimed, error))?,
        };
        let access = self.with_elder(access, &tenant).await?;
        // Another key in the same place, or one of a tenant that was deleted meanwhile, is not a state of the old one.
        let incarnation = tenant.incarnation();
        let old = old.filter(|old| old.is_of(&access, incarnation));
        // What was just opened holds, whatever its version: a store that has fallen back goes on from there. But a
        // revocation that was seen is final.
        if let Some(old) = old.filter(|old| old.is_revoked()) {
            return Ok(Some(old));
        }
        let slot = self.slot(&claimed);
        Ok(Some(Arc::new(CachedKey::new(
            access,
            incarnation,
            slot,
            now,
        ))))
    }

    /// The tenant of a key that is there. None: it was deleted. One whose record is gone without that was lost, and
    /// nothing can be said of its keys.
    async fn tenant_of_key(&self, id: &TenantId, now: Timestamp) -> TenantResult {
        let tenant = self.tenant(id, now).await?;
        if tenant.is_none() && !self.store.was_deleted(id).await? {
            return Err(RecordError::NoTenant(id.clone()).into());
        }
        Ok(tenant)
    }

    /// A record of a key that has older generations, with what is known of the oldest. It costs a read, of keys that were
    /// rotated alone. What is there and cannot be used takes nothing away from this one.
    async fn with_elder(
        &self,
        access: KeyAccess,
        tenant: &CachedTenant,
    ) -> Result<KeyAccess, Failure> {
        let Some(elder) = access.elder.filter(|_| !access.revoked) else {
            return Ok(access);
        };
        let row = match self.store.index(elder).await {
            Ok(row) => row,
            Err(StoreError::Damaged(_)) => None,
            Err(error) => return Err(error.into()),
        };
        let id = &tenant.access().id;
        let elder = row.and_then(|row| records::open_access(&tenant.data_key, id, &row).ok());
        Ok(match elder {
            Some(elder) => access.with_elder(elder),
            None => access,
        })
    }

    /// A tenant, from memory if it is there and current, else from the store.
    async fn tenant(&self, id: &TenantId, now: Timestamp) -> TenantResult {
        let slot = self.slot(id);
        if let Some(tenant) = slot
            .state
            .load_full()
            .filter(|tenant| self.is_tenant_current(tenant, now))
        {
            return Ok(Some(tenant));
        }
        let flight = Joined::new(&self.tenant_flights, id.clone());
        let result = flight
            .get_or_init(|| self.load_tenant(id, now, slot.state.load_full()))
            .await
            .clone();
        // Within `land`, which holds the lock of the flights: no invalidation comes between its look and the store.
        flight.land(|_| {
            if let Ok(tenant) = &result {
                if let Some(tenant) = tenant {
                    let epoch = self.epoch.load(Ordering::Acquire);
                    tenant.epoch.store(epoch, Ordering::Relaxed);
                }
                slot.state.store(tenant.clone());
            }
        });
        result
    }

    async fn load_tenant(
        &self,
        id: &TenantId,
        now: Timestamp,
        old: Option<Arc<CachedTenant>>,
    ) -> TenantResult {
        let damage = self.store.damage();
        let found = self.store.tenant(id).await;
        let found = found.inspect_err(|error| damage.read(Entry::Tenant, Some(id), error));
        let Some(row) = found? else {
            return Ok(None);
        };
        let opened = records::open_tenant(&self.keyring, &row);
        let (tenant, data_key) = opened.inspect_err(|error| damage.unopened(id, error))?;
        let same = old.filter(|old| old.incarnation() == data_key.id());
        if let Some(old) = same.filter(|old| revives(old, &tenant)) {
            return Err(Failure::Rollback {
                found: tenant.version,
                seen: old.access().version,
            });
        }
        let plans = self.plans.load();
        if let Some(plan) = tenant
            .plan
            .as_ref()
            .filter(|plan| !plans.contains_key(*plan))
        {
            tracing::warn!(tenant = %tenant.id, %plan, "the plan is not in `plans`: the tenant has none of its features and limits");
        }
        Ok(Some(Arc::new(CachedTenant::new(
            tenant, &plans, data_key, now,
        ))))
    }
}

/// Whether a state of a suspended tenant is one of before its suspension: nobody has resumed it.
fn revives(suspended: &CachedTenant, tenant: &Tenant) -> bool {
    suspended.access().status == TenantStatus::Suspended
        && tenant.status != TenantStatus::Suspended
        && tenant.version.order < suspended.access().version.order
}
