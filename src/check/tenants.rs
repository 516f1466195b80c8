//! A tenant: its record, its lists, its keys with their index entries, and its counts.

use std::sync::Arc;

use futures_util::future::try_join_all;
use tokio::time::Instant;

use super::{Check, CheckError, Entry, Finding, Mode, Outcome};
use crate::crypto::envelope::DataKey;
use crate::domain::change::Actor;
use crate::domain::key::{Key, LookupId};
use crate::domain::name::{Description, KeyId, TenantId};
use crate::registry::{RegistryError, Search};
use crate::store::repair::Found;
use crate::store::{KeyRow, StoreError, TenantRow, records};

/// How many keys are read at a time.
const PAGE: usize = 200;
/// The reason that is kept with a key which a repair revokes.
const LOST: &str = "its record was lost: revoked by a repair of the store";

/// How an index entry differs from its key.
enum Differs {
    /// It is missing, cannot be read, or is of an earlier state.
    Behind(&'static str),
    /// One of them is revoked and the other is not.
    Revoked,
    /// It is of a later state.
    Ahead,
}

impl Check {
    pub(super) async fn check_tenant(&self, id: &TenantId) -> Result<(), CheckError> {
        let repair = self.store.repair();
        let Some(found) = repair.find_tenant(id).await? else {
            return self.without_record(id).await;
        };
        let Some(data_key) = self.open_tenant(id, found).await? else {
            return Ok(());
        };
        self.report.lock().tenants += 1;
        self.check_lists(id, data_key.id()).await?;
        self.check_keys(id, &data_key).await?;
        if self.compares_owners {
            self.check_owner_index(id).await?;
        }
        if let Some(wrong) = self.registry.miscounted(id).await? {
            let count = async { self.registry.count_anew(id).await.map(|()| true) };
            self.put_right(Finding::of(Entry::Counts, id, wrong), count)
                .await?;
        }
        Ok(())
    }

    /// There is nothing to open what a tenant has.
    async fn without_record(&self, id: &TenantId) -> Result<(), CheckError> {
        self.open.lock().insert(id.clone(), None);
        let repair = self.store.repair();
        if repair.has_keys(id).await? {
            let problem = "its record is gone and its keys are there: they are refused until it is put back from a backup";
            self.report(Finding::of(Entry::Tenant, id, problem).by_hand());
        } else if repair.forget_tenant(id, self.mode).await? {
            let problem = "lists and counts name a tenant that is not there";
            let outcome = self.outcome();
            self.report(Finding {
                outcome,
                ..Finding::of(Entry::Lists, id, problem)
            });
        }
        Ok(())
    }

    async fn open_tenant(
        &self,
        id: &TenantId,
        found: Found<TenantRow>,
    ) -> Result<Option<Arc<DataKey>>, CheckError> {
        let Found { row, seen } = found;
        let unreadable = || {
            let problem = "its record cannot be read: its keys are refused until it is put back from a backup";
            Finding::of(Entry::Tenant, id, problem).by_hand()
        };
        let right = row
            .as_ref()
            .and_then(|row| records::put_right_tenant(&self.keyring, row));
        let Some((right, data_key)) = right else {
            self.open.lock().insert(id.clone(), None);
            self.report(unreadable());
            return Ok(None);
        };
        let data_key = Arc::new(data_key);
        if row.as_ref() != Some(&right) {
            let problem = "the fields beside its sealed record are not those that are sealed in it";
            let put = async { Ok(self.store.repair().put_tenant(right, seen).await?) };
            self.put_right(Finding::of(Entry::Tenant, id, problem), put)
                .await?;
            if self.mode == Mode::Check {
                return Ok(None);
            }
        }
        self.open
            .lock()
            .insert(id.clone(), Some(Arc::clone(&data_key)));
        Ok(Some(data_key))
    }

    async fn check_lists(&self, id: &TenantId, dek_id: u64) -> Result<(), CheckError> {
        let mut look = 0;
        let mut lists = self.store.repair().lists(id, dek_id, self.mode).await?;
        // What waits is done by a control plane, within a moment; of one that was made just now the list follows.
        while (lists.waiting > 0 || lists.unlisted) && self.may_be_under_way(self.now, look).await {
            look += 1;
            let again = self.store.repair().lists(id, dek_id, self.mode).await?;
            (lists.waiting, lists.unlisted) = (
                again.waiting,
                lists.unlisted && (again.unlisted || self.repairs()),
            );
        }
        let wrong = [
            (
                lists.types > 0,
                Entry::Lists,
                format!("{} entries are of another type than ours", lists.types),
            ),
            (
                lists.unlisted,
                Entry::Lists,
                "the list of tenants does not name it".to_owned(),
            ),
            (
                lists.forgotten,
                Entry::Lists,
                "it counts as deleted, so its live keys are not counted".to_owned(),
            ),
            (
                lists.keys > 0,
                Entry::Lists,
                format!("the list of its keys differs from them by {}", lists.keys),
            ),
        ];
        let outcome = self.outcome();
        for (_, entry, problem) in wrong.into_iter().filter(|(is_wrong, ..)| *is_wrong) {
            self.report(Finding {
                outcome,
                ..Finding::of(entry, id, problem)
            });
        }
        if lists.waiting > 0 {
            let problem = format!(
                "{} changes wait for the index: a control plane that runs does them",
                lists.waiting
            );
            self.report(Finding::of(Entry::Outbox, id, problem));
        }
        Ok(())
    }

    async fn check_keys(&self, id: &TenantId, data_key: &DataKey) -> Result<(), CheckError> {
        let mut after: Option<KeyId> = None;
        loop {
            let begun = Instant::now();
            let page = self.store.keys(id, after.as_ref(), PAGE).await?;
            let Some(last) = page.last() else {
                self.rest_since(begun).await;
                return Ok(());
            };
            after = Some(last.id.clone());
            self.report.lock().keys += page.len() as u64;
            let mut lookups = Vec::new();
            for row in page {
                if let Some(key) = self.open_key(id, data_key, row).await? {
                    lookups.extend(key.generations.iter().map(|one| one.lookup_id));
                    self.check_index_of(key, data_key).await?;
                }
            }
            self.check_lookups(id, data_key.id(), &lookups).await?;
            self.rest_since(begun).await;
        }
    }

    async fn check_owner_index(&self, id: &TenantId) -> Result<(), CheckError> {
        let differs = self.registry.check_owner_index(id, self.mode).await?;
        if let Some(state) = differs {
            let problem = format!(
                "the index of its keys by owner lacks {} and has {} that are no key's: all keys are read to list those of one owner",
                state.missing, state.foreign
            );
            let outcome = match self.mode {
                Mode::Repair if state.is_whole => Outcome::Repaired,
                Mode::Repair | Mode::Check => Outcome::Repairable,
            };
            self.report(Finding {
                outcome,
                ..Finding::of(Entry::Lists, id, problem)
            });
        }
        Ok(())
    }

    async fn check_lookups(
        &self,
        id: &TenantId,
        dek_id: u64,
        lookups: &[LookupId],
    ) -> Result<(), StoreError> {
        let repair = self.store.repair();
        let missing = repair
            .forgotten_lookups(id, dek_id, lookups, self.mode)
            .await?;
        if missing > 0 {
            let problem =
                format!("{missing} index entries are not remembered to be removed with it");
            let outcome = self.outcome();
            self.report(Finding {
                outcome,
                ..Finding::of(Entry::Lists, id, problem)
            });
        }
        Ok(())
    }

    /// A key that opens; one that does not is put right, or revoked, or taken out of the list.
    async fn open_key(
        &self,
        id: &TenantId,
        data_key: &DataKey,
        row: KeyRow,
    ) -> Result<Option<Key>, CheckError> {
        if let Ok(key) = records::open_key(data_key, id, &row) {
            return Ok(Some(key));
        }
        let repair = self.store.repair();
        let found = repair.find_key(id, &row.id).await?;
        if let Some(Found {
            row: Some(row),
            seen,
        }) = &found
            && let Some(right) = records::put_right_key(data_key, id, row)
        {
            let problem = "the version beside its record is not the one that is sealed in it";
            let finding = Finding::of(Entry::Key, id, problem).key(&row.id);
            let put = async { Ok(repair.put_key(id, right, seen.clone()).await?) };
            self.put_right(finding, put).await?;
            return Ok(None);
        }
        self.lost_key(id, &row.id, found.is_some()).await?;
        Ok(None)
    }

    /// A key that has no record that can be read.
    pub(super) async fn lost_key(
        &self,
        id: &TenantId,
        key: &KeyId,
        is_there: bool,
    ) -> Result<(), CheckError> {
        let what = match is_there {
            true => "its record cannot be read",
            false => "its record is gone",
        };
        let lost = self.registry.lost_key(id, key, Search::Tenant).await?;
        if lost.is_some() {
            return self.revoke_lost(id, key, what).await;
        }
        let finding =
            Finding::of(Entry::Key, id, format!("{what}, and nobody passes with it")).key(key);
        if is_there {
            self.report(finding.by_hand());
            return Ok(());
        }
        let unlist = async { Ok(self.store.repair().unlist_key(id, key).await?) };
        self.put_right(finding, unlist).await
    }

    pub(super) async fn revoke_lost(
        &self,
        id: &TenantId,
        key: &KeyId,
        what: &str,
    ) -> Result<(), CheckError> {
        let problem = format!("{what}, and it works: a repair revokes it");
        let revoke = async { self.revoke(id, key).await };
        self.put_right(Finding::of(Entry::Key, id, problem).key(key), revoke)
            .await
    }

    async fn revoke(&self, id: &TenantId, key: &KeyId) -> Result<bool, RegistryError> {
        let reason = Description::parse(LOST).expect("a short text is a description");
        let revoked = self
            .registry
            .revoke_key(&Actor::Operator, id, key, None, &reason);
        revoked.await.map(|_| true)
    }

    async fn check_index_of(&self, mut key: Key, data_key: &DataKey) -> Result<(), CheckError> {
        let mut look = 0;
        let Some((at, differs)) = (loop {
            let differs = self.first_difference(&key, data_key).await?;
            if differs.is_none() || !self.may_be_under_way(key.updated_at, look).await {
                break differs;
            }
            look += 1;
            match self.registry.key(&key.tenant, &key.id).await {
                Ok(now) => key = now,
                Err(error) if error.is_of_a_lost_key() => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }) else {
            return Ok(());
        };
        let problem = match differs {
            Differs::Behind(why) => why,
            Differs::Revoked => {
                "its record and its index entry do not agree on whether it is revoked"
            }
            Differs::Ahead => {
                "its record is of an earlier state than its index entry: change the key, or revoke it, and both are of one"
            }
        };
        let finding = Finding::of(Entry::Index, &key.tenant, problem)
            .key(&key.id)
            .at(at);
        if matches!(differs, Differs::Ahead) {
            self.report(finding.by_hand());
            return Ok(());
        }
        let align = async {
            let (tenant, id) = (&key.tenant, &key.id);
            self.registry
                .bring_into_line(tenant, id)
                .await
                .map(|()| true)
        };
        self.put_right(finding, align).await
    }

    async fn first_difference(
        &self,
        key: &Key,
        data_key: &DataKey,
    ) -> Result<Option<(LookupId, Differs)>, StoreError> {
        let repair = self.store.repair();
        let generations = key.generations.iter();
        let entries = generations.map(|one| repair.find_entry(one.lookup_id));
        let entries = try_join_all(entries).await?;
        let differences = key.generations.iter().zip(entries);
        let mut differences = differences.filter_map(|(one, entry)| {
            let differs = difference(key, data_key, entry)?;
            Some((one.lookup_id, differs))
        });
        Ok(differences.next())
    }
}

/// How what is in the place of an index entry differs from its key.
fn difference(
    key: &Key,
    data_key: &DataKey,
    entry: Option<Found<crate::store::IndexRow>>,
) -> Option<Differs> {
    let Some(found) = entry else {
        // Where it is revoked nobody passes without an entry either.
        return (!key.is_revoked()).then_some(Differs::Behind(
            "its index entry is missing: its token is refused",
        ));
    };
    let access = found
        .row
        .and_then(|row| records::open_access(data_key, &key.tenant, &row).ok())
        .filter(|access| access.key == key.id);
    let Some(access) = access else {
        return Some(Differs::Behind(
            "its index entry cannot be read: its token is refused",
        ));
    };
    if access.revoked != key.is_revoked() {
        return Some(Differs::Revoked);
    }
    match access.version.order.cmp(&key.version.order) {
        _ if key.is_revoked() => None,
        std::cmp::Ordering::Less => Some(Differs::Behind("its index entry is of an earlier state")),
        std::cmp::Ordering::Equal => None,
        std::cmp::Ordering::Greater => Some(Differs::Ahead),
    }
}
