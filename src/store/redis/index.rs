//! The index that sidecars read: derived from the tenants' slots, one entry a slot.

use std::collections::BTreeSet;

use futures_util::future::try_join_all;

use super::RedisStore;
use super::change::IndexWrite;
use super::scripts;
use crate::crypto::envelope;
use crate::domain::key::LookupId;
use crate::domain::name::TenantId;
use crate::store::StoreError;

/// How long the place of a removed entry is kept, in ms: longer than any write can be held up.
const PLACE_KEPT_MS: &[u8] = b"3600000";

/// What stands in the place of an index entry after it was to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stands {
    /// The entry.
    This,
    /// A later one of the key, or what is left of one that was removed.
    Later,
    /// A revoked one of the key.
    Revoked,
    /// Another key's.
    Others,
}

/// Whether an entry is of the newest generation of its key among these. It is written after the others: each names the
/// other generations, so whoever finds a generation in the index finds it by any that was there before it.
fn is_newest(entry: &IndexWrite, all: &[IndexWrite]) -> bool {
    let generation = |entry: &IndexWrite| {
        let header = envelope::header(&entry.body);
        header.map_or(0, |(header, _)| header.generation)
    };
    let of_key = all.iter().filter(|other| other.key == entry.key);
    of_key.map(generation).max() == Some(generation(entry))
}

impl RedisStore {
    /// Writes and removes entries as committed changes say, and takes them out of the outbox. Answers whether a key of
    /// theirs is revoked in the index, though the change does not revoke it: then all of its entries are.
    pub(super) async fn write_index(
        &self,
        tenant: &TenantId,
        dek_id: &[u8],
        entries: &[IndexWrite],
    ) -> Result<bool, StoreError> {
        let (newest, others): (Vec<_>, Vec<_>) =
            entries.iter().partition(|entry| is_newest(entry, entries));
        let mut revoked = self.write_some(tenant, dek_id, &others).await?;
        let newest: Vec<_> = newest
            .into_iter()
            .filter(|entry| !revoked.contains(entry.key.as_slice()))
            .collect();
        revoked.extend(self.write_some(tenant, dek_id, &newest).await?);
        let of_revoked = entries
            .iter()
            .filter(|entry| revoked.contains(entry.key.as_slice()) && !entry.body.is_empty());
        try_join_all(of_revoked.map(|entry| self.mark_revoked(tenant, dek_id, entry))).await?;
        self.confirm(tenant, dek_id, entries).await?;
        Ok(!revoked.is_empty())
    }

    /// Writes and removes entries side by side. Answers the keys that are revoked there.
    async fn write_some<'a>(
        &self,
        tenant: &TenantId,
        dek_id: &[u8],
        entries: &[&'a IndexWrite],
    ) -> Result<BTreeSet<&'a [u8]>, StoreError> {
        let writes = entries
            .iter()
            .map(|entry| self.write_entry(tenant, dek_id, entry));
        let stands = try_join_all(writes).await?;
        let revoked = entries.iter().zip(stands);
        let revoked = revoked.filter(|(_, stands)| *stands == Stands::Revoked);
        Ok(revoked.map(|(entry, _)| entry.key.as_slice()).collect())
    }

    /// Takes entries out of the outbox.
    async fn confirm(
        &self,
        tenant: &TenantId,
        dek_id: &[u8],
        entries: &[IndexWrite],
    ) -> Result<(), StoreError> {
        let names = self.names.of_tenant(tenant);
        let mut args = vec![dek_id];
        for entry in entries {
            args.extend([&entry.lookup_id.0[..], entry.version_tag.as_slice()]);
        }
        let keys = [names.tenant.clone(), names.outbox(), names.lookups()];
        let still_there: u8 = self.link.run(&scripts::CONFIRM, &keys, &args).await?;
        if still_there == 0 {
            // Deleted meanwhile, perhaps before the entries were there to be removed.
            let ids: Vec<_> = entries.iter().map(|entry| entry.lookup_id).collect();
            self.drop_entries(tenant, dek_id, &ids).await?;
        }
        Ok(())
    }

    pub(super) async fn write_entry(
        &self,
        tenant: &TenantId,
        dek_id: &[u8],
        entry: &IndexWrite,
    ) -> Result<Stands, StoreError> {
        if entry.body.is_empty() {
            return self.remove_entry(tenant, dek_id, entry).await;
        }
        let keys = [self.names.index(entry.lookup_id)];
        let args: [&[u8]; 6] = [
            &entry.version_tag,
            tenant.as_str().as_bytes(),
            &entry.key,
            dek_id,
            &entry.body,
            &entry.change,
        ];
        let written: i8 = self.link.run(&scripts::WRITE_INDEX, &keys, &args).await?;
        Ok(match written {
            1 => Stands::This,
            0 => Stands::Later,
            2 => Stands::Revoked,
            _ => {
                // Only when a change was held up for longer than its claim lives. Their key works, ours does not.
                tracing::error!(
                    %tenant,
                    key = %String::from_utf8_lossy(&entry.key),
                    "a lookup id belongs to another key: this one cannot be used and should be revoked"
                );
                Stands::Others
            }
        })
    }

    async fn mark_revoked(
        &self,
        tenant: &TenantId,
        dek_id: &[u8],
        entry: &IndexWrite,
    ) -> Result<(), StoreError> {
        let keys = [self.names.index(entry.lookup_id)];
        let args: [&[u8]; 3] = [tenant.as_str().as_bytes(), &entry.key, dek_id];
        let marked = self.link.run::<u8>(&scripts::MARK_REVOKED, &keys, &args);
        marked.await.map(drop)
    }

    async fn remove_entry(
        &self,
        tenant: &TenantId,
        dek_id: &[u8],
        entry: &IndexWrite,
    ) -> Result<Stands, StoreError> {
        let keys = [self.names.index(entry.lookup_id)];
        let args: [&[u8]; 5] = [
            &entry.version_tag,
            tenant.as_str().as_bytes(),
            &entry.key,
            dek_id,
            PLACE_KEPT_MS,
        ];
        let removed: u8 = self.link.run(&scripts::REMOVE_INDEX, &keys, &args).await?;
        Ok(match removed {
            1 => Stands::This,
            _ => Stands::Later,
        })
    }

    /// Removes entries of a deleted tenant.
    pub(super) async fn drop_entries(
        &self,
        tenant: &TenantId,
        dek_id: &[u8],
        ids: &[LookupId],
    ) -> Result<(), StoreError> {
        let drops = ids.iter().map(|id| async move {
            let keys = [self.names.index(*id)];
            let args = [tenant.as_str().as_bytes(), dek_id];
            let dropped = self.link.run::<u8>(&scripts::DROP_INDEX, &keys, &args);
            dropped.await.map(drop)
        });
        try_join_all(drops).await?;
        for id in ids {
            self.watchers.notify(|watcher| watcher.index_changed(*id));
        }
        Ok(())
    }
}
