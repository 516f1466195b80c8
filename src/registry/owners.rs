//! Keys of one owner. They are read by the owner index; where that is not whole (an earlier version wrote the store, or it
//! is damaged) all keys of the tenant are, and the index is completed by it.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::try_join_all;

use crate::clock::Timestamp;
use crate::domain::key::Key;
use crate::domain::name::{KeyId, Owner, TenantId};
use crate::registry::{Opened, Registry, RegistryError};
use crate::store::damage::Entry;
use crate::store::owners::{OwnerEntry, OwnerIndex};
use crate::store::repair::Mode;
use crate::store::{StoreError, records};

/// How many keys are read at a time.
const PAGE: usize = 500;
/// How many entries are looked at side by side.
const AT_ONCE: usize = 100;
/// When an index that could not be completed is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(10 * 60);
/// The most tenants of which is remembered how far it came.
const UNFINISHED_MAX: usize = 1_000;
/// The most keys that one listing compares with the index, so that it ends in time: the next one goes on.
const STEP: usize = 20_000;

/// How far it has come with tenants whose owner index is not whole. Whoever holds it completes one.
pub(super) type Unfinished = BTreeMap<TenantId, Attempt>;

/// What was tried to complete an owner index.
#[derive(Clone, Debug)]
pub(super) enum Attempt {
    /// The keys up to this one are in it.
    Reached(KeyId),
    /// All keys are, and it is not whole: begun at that time.
    Compared(Timestamp),
}

/// How an owner index differs from the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnerIndexState {
    /// Keys that it does not have.
    pub missing: u64,
    /// Entries that are no key's.
    pub foreign: u64,
    /// Whether it is used, after a repair.
    pub is_whole: bool,
}

impl Registry {
    /// Keys of a tenant in the order of their ids, after `after`, at most `limit`: those of the owner. Where the owner
    /// index is not whole, others are among them, as in [`Registry::keys`].
    pub async fn keys_of_owner(
        &self,
        tenant: &TenantId,
        owner: &Owner,
        after: Option<&KeyId>,
        limit: usize,
    ) -> Result<Vec<Result<Key, KeyId>>, RegistryError> {
        let opened = self.open(tenant).await?;
        if let Some(index) = self.store.owner_index() {
            let wanted = (owner, after, limit);
            if let Some(keys) = self.by_index(&opened, index, wanted).await? {
                return Ok(keys);
            }
            if self.complete_owner_index(&opened, index).await? {
                if let Some(keys) = self.by_index(&opened, index, wanted).await? {
                    return Ok(keys);
                }
                // A key that is counted has no record: that is for a repair of the store.
                self.not_again(tenant);
            }
        }
        let rows = self.store.keys(tenant, after, limit).await?;
        Ok(self.open_rows(&opened, rows))
    }

    fn not_again(&self, tenant: &TenantId) {
        if let Ok(mut unfinished) = self.unfinished.try_lock() {
            unfinished.insert(tenant.clone(), Attempt::Compared(self.now()));
        }
    }

    /// None: the index is not whole, or lacks a key that is counted.
    async fn by_index(
        &self,
        opened: &Opened,
        index: &dyn OwnerIndex,
        (owner, after, limit): (&Owner, Option<&KeyId>, usize),
    ) -> Result<Option<Vec<Result<Key, KeyId>>>, StoreError> {
        let tenant = &opened.tenant.id;
        let tag = self.lookup.owner_tag(tenant.as_str(), owner.as_str());
        let Some(page) = index.page(tenant, tag, after, limit).await? else {
            return Ok(None);
        };
        let is_all = after.is_none() && page.rows.len() < limit;
        let keys = self.open_rows(opened, page.rows);
        let live = keys.iter().flatten().filter(|key| key.is_live()).count();
        if is_all && (live as u64) < page.live {
            let what = "an owner has more live keys than are found by the owner index";
            self.store.damage().met(Entry::Lists, Some(tenant), &what);
            return Ok(None);
        }
        Ok(Some(keys))
    }

    /// Completes an owner index: one at a time, and not again and again where it cannot be done.
    async fn complete_owner_index(
        &self,
        opened: &Opened,
        index: &dyn OwnerIndex,
    ) -> Result<bool, StoreError> {
        let (tenant, now) = (&opened.tenant.id, self.now());
        let Ok(mut unfinished) = self.unfinished.try_lock() else {
            return Ok(false);
        };
        let from = match unfinished.get(tenant) {
            Some(Attempt::Compared(at)) if now.since(*at) < RETRY_AFTER => return Ok(false),
            Some(Attempt::Reached(key)) => Some(key.clone()),
            Some(Attempt::Compared(_)) | None => None,
        };
        if unfinished.len() >= UNFINISHED_MAX && !unfinished.contains_key(tenant) {
            unfinished.clear();
        }
        let step = self.missing_owners(opened, index, Mode::Repair, (from, STEP));
        let (missing, reached) = step.await?;
        if let Some(key) = reached {
            unfinished.insert(tenant.clone(), Attempt::Reached(key));
            return Ok(false);
        }
        // Before: whoever asked may not wait for the end.
        unfinished.insert(tenant.clone(), Attempt::Compared(now));
        let state = self.finish_owners(opened, index, Mode::Repair, missing);
        let state = state.await?;
        tracing::info!(
            %tenant, added = state.missing, removed = state.foreign, complete = state.is_whole,
            "the index of keys by owner was compared with the keys"
        );
        if state.is_whole {
            unfinished.remove(tenant);
        }
        Ok(state.is_whole)
    }

    /// How the owner index of a tenant differs from its keys. A repair puts it right. None: it does not.
    pub async fn check_owner_index(
        &self,
        tenant: &TenantId,
        mode: Mode,
    ) -> Result<Option<OwnerIndexState>, RegistryError> {
        let Some(index) = self.store.owner_index() else {
            return Ok(None);
        };
        let opened = self.open(tenant).await?;
        let all = (None, usize::MAX);
        let (missing, _) = self.missing_owners(&opened, index, mode, all).await?;
        let state = self.finish_owners(&opened, index, mode, missing).await?;
        let is_right = state.missing == 0 && state.foreign == 0 && state.is_whole;
        Ok((!is_right).then_some(state))
    }

    /// What remains when the keys that were missing are there.
    async fn finish_owners(
        &self,
        opened: &Opened,
        index: &dyn OwnerIndex,
        mode: Mode,
        missing: u64,
    ) -> Result<OwnerIndexState, StoreError> {
        let (tenant, dek_id) = (&opened.tenant.id, opened.data_key.id());
        let mut state = OwnerIndexState {
            missing,
            foreign: 0,
            is_whole: index.is_whole(tenant, dek_id, mode).await?,
        };
        if !state.is_whole {
            state.foreign = self.foreign_owners(opened, index, mode).await?;
            state.is_whole = index.is_whole(tenant, dek_id, mode).await?;
        }
        Ok(state)
    }

    /// How many keys after the one given are missing, of at most so many, and where to go on. One that does not open is in
    /// nobody's listing, in the index or not.
    async fn missing_owners(
        &self,
        opened: &Opened,
        index: &dyn OwnerIndex,
        mode: Mode,
        (mut after, most): (Option<KeyId>, usize),
    ) -> Result<(u64, Option<KeyId>), StoreError> {
        let (tenant, dek_id) = (&opened.tenant.id, opened.data_key.id());
        let (mut missing, mut looked_at) = (0, 0);
        while looked_at < most {
            let rows = self.store.keys(tenant, after.as_ref(), PAGE).await?;
            let Some(last) = rows.last() else {
                return Ok((missing, None));
            };
            after = Some(last.id.clone());
            looked_at += rows.len();
            let keys = rows
                .iter()
                .flat_map(|row| records::open_key(&opened.data_key, tenant, row));
            let entries: Vec<_> = keys.map(|key| self.owner_entry(&key)).collect();
            missing += index.missing(tenant, dek_id, &entries, mode).await?;
        }
        Ok((missing, after))
    }

    /// How many entries are no key's.
    async fn foreign_owners(
        &self,
        opened: &Opened,
        index: &dyn OwnerIndex,
        mode: Mode,
    ) -> Result<u64, StoreError> {
        let (tenant, dek_id) = (&opened.tenant.id, opened.data_key.id());
        let (mut count, mut cursor) = (0, None);
        loop {
            let (entries, next) = index.scan(tenant, cursor).await?;
            let mut foreign = Vec::new();
            for entries in entries.chunks(AT_ONCE) {
                let asked = entries.iter().map(|entry| self.is_foreign(opened, entry));
                let answers = try_join_all(asked).await?;
                let found = entries.iter().zip(answers).filter(|(_, foreign)| *foreign);
                foreign.extend(found.map(|(entry, _)| entry.clone()));
            }
            count += foreign.len() as u64;
            if mode == Mode::Repair && !foreign.is_empty() {
                index.remove(tenant, dek_id, &foreign).await?;
            }
            cursor = next;
            if cursor.is_none() {
                return Ok(count);
            }
        }
    }

    /// Of a record that does not open nobody knows whose it is.
    async fn is_foreign(&self, opened: &Opened, entry: &OwnerEntry) -> Result<bool, StoreError> {
        let tenant = &opened.tenant.id;
        match self.store.key(tenant, &entry.key).await {
            Ok(None) => Ok(true),
            Ok(Some(row)) => {
                let key = records::open_key(&opened.data_key, tenant, &row);
                Ok(key.is_ok_and(|key| self.owner_entry(&key) != *entry))
            }
            Err(StoreError::Damaged(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn owner_entry(&self, key: &Key) -> OwnerEntry {
        OwnerEntry {
            owner_tag: records::owner_tag(&self.lookup, key),
            key: key.id.clone(),
        }
    }
}
