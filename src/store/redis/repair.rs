//! What is as it lies in Redis, for a check, and writes that hold only if it is still so.

mod counts;
mod markers;
mod scan;

use std::collections::HashMap;

use redis::cmd;

use super::change::{damaged, version_text};
use super::intent::Intent;
use super::keyspace::Keyspace;
use super::read::{check_place, key_row, number, version_of};
use super::{RedisStore, scripts};
use crate::domain::key::LookupId;
use crate::domain::name::{KeyId, TenantId};
use crate::domain::version::Version;
use crate::store::repair::{Counted, Cursor, Found, Lists, LostMarkers, Mode, Page, Repair, Seen};
use crate::store::{IndexRow, KeyRow, StoreError, StoreFuture, TenantRow};

/// A record's fields.
type Fields = HashMap<Vec<u8>, Vec<u8>>;

impl Mode {
    pub(super) fn arg(self) -> &'static [u8] {
        match self {
            Self::Check => b"0",
            Self::Repair => b"1",
        }
    }
}

fn version(fields: &Fields, what: &str) -> Option<Version> {
    let change = fields.get(&b"n"[..]).map(Vec::as_slice);
    version_of(fields.get(&b"v"[..])?, change, what).ok()
}

fn tenant_row(id: &TenantId, mut fields: Fields) -> Option<TenantRow> {
    // What stands in clear is only a repetition of what is sealed: without it the record can be put right.
    let version = version(&fields, "a tenant's version").unwrap_or_default();
    let dek_id = fields.get(&b"d"[..]);
    let dek_id = dek_id.and_then(|text| number(text, "a data key id").ok());
    Some(TenantRow {
        id: id.clone(),
        version,
        dek_id: dek_id.unwrap_or(0),
        data_dek: fields.remove(&b"k"[..])?,
        vault_dek: fields.remove(&b"w"[..]).unwrap_or_default(),
        body: fields.remove(&b"b"[..])?,
    })
}

fn index_row(lookup_id: LookupId, mut fields: Fields) -> Option<IndexRow> {
    let body = fields.remove(&b"b"[..])?;
    let place = [b"t", b"k", b"d"].map(|field| fields.get(&field[..]).cloned());
    check_place(&body, &place).ok()?;
    Some(IndexRow {
        lookup_id,
        version: version(&fields, "an index entry's version")?,
        revoked: fields.contains_key(&b"r"[..]),
        body,
    })
}

/// Whether the fields are a claim, or what is left of an entry that was removed or forbidden.
fn is_empty(fields: &Fields) -> bool {
    let has = |field: &[u8]| fields.contains_key(field);
    let is_claim = has(b"c") && fields.len() == 1;
    let is_removed = [b"v", b"t", b"k", b"d"].iter().all(|field| has(&field[..]));
    !has(b"b") && (is_claim || is_removed || has(b"r"))
}

impl RedisStore {
    /// What was seen in a place, and its fields; no fields if it is no record at all. None: nothing.
    async fn look(&self, name: String) -> Result<Option<(Seen, Option<Fields>)>, StoreError> {
        let mut found: Vec<Vec<u8>> = self.link.run(&scripts::LOOK, &[name], &[]).await?;
        if found.is_empty() {
            return Err(damaged("a script's answer"));
        }
        let seen = found.remove(0);
        if seen == b"none" {
            return Ok(None);
        }
        let fields: Fields = found
            .chunks_exact(2)
            .map(|pair| (pair[0].clone(), pair[1].clone()))
            .collect();
        Ok(Some((Seen(seen), (!fields.is_empty()).then_some(fields))))
    }

    async fn put(
        &self,
        name: String,
        seen: &Seen,
        fields: &[(&[u8], &[u8])],
    ) -> Result<bool, StoreError> {
        let mut args = vec![seen.0.as_slice()];
        args.extend(fields.iter().flat_map(|(field, value)| [*field, *value]));
        self.link.run(&scripts::PUT, &[name], &args).await
    }

    async fn look_at_key(
        &self,
        tenant: &TenantId,
        key: &KeyId,
    ) -> Result<Option<Found<KeyRow>>, StoreError> {
        let keys = self.names.of_tenant(tenant).keys();
        let mut get = cmd("HGET");
        get.arg(&keys).arg(key.as_str());
        let stored: Option<Vec<u8>> = match self.link.ask(&get).await {
            // Of another type as a whole: then there is no key.
            Err(StoreError::Damaged(_)) => None,
            stored => stored?,
        };
        Ok(stored.map(|stored| Found {
            row: key_row(key.clone(), &stored).ok(),
            seen: Seen(stored),
        }))
    }

    async fn mark_as_waiting(&self, tenant: &TenantId, dek_id: u64) -> Result<(), StoreError> {
        let mut add = cmd("ZADD");
        // Old enough to be looked at at once.
        add.arg(self.names.begun()).arg(1);
        add.arg(Intent::new(tenant, dek_id).text());
        self.link.ask::<u64>(&add).await.map(drop)
    }

    async fn compare_lists(
        &self,
        tenant: &TenantId,
        dek_id: u64,
        mode: Mode,
    ) -> Result<Lists, StoreError> {
        let types = self.wrong_types(tenant, mode).await?;
        if types > 0 && mode == Mode::Check {
            // Nothing else of them can be read.
            return Ok(Lists {
                types,
                ..Lists::default()
            });
        }
        let names = self.names.of_tenant(tenant);
        let keys = [names.ids(), names.keys(), names.outbox(), names.revoking()];
        let (listed, waiting): (u64, u64) =
            self.link.run(&scripts::LISTS, &keys, &[mode.arg()]).await?;
        let (unlisted, forgotten) = self.is_unlisted(tenant, dek_id, mode).await?;
        if waiting > 0 && mode == Mode::Repair {
            self.mark_as_waiting(tenant, dek_id).await?;
        }
        Ok(Lists {
            unlisted,
            forgotten,
            keys: listed,
            waiting,
            types,
        })
    }

    async fn is_unlisted(
        &self,
        tenant: &TenantId,
        dek_id: u64,
        mode: Mode,
    ) -> Result<(bool, bool), StoreError> {
        let incarnation = format!("{tenant}/{dek_id}");
        let score = |name: String, member: String| async move {
            let mut score = cmd("ZSCORE");
            score.arg(name).arg(member);
            self.link.ask::<Option<f64>>(&score).await
        };
        let listed = score(self.names.directory(), tenant.to_string()).await?;
        let deleted = score(self.names.deleted(), incarnation.clone()).await?;
        if mode == Mode::Repair {
            let (mut list, mut remember) = (cmd("ZADD"), cmd("ZREM"));
            list.arg(self.names.directory()).arg(0).arg(tenant.as_str());
            remember.arg(self.names.deleted()).arg(incarnation);
            for command in [list, remember] {
                self.link.ask::<u64>(&command).await?;
            }
        }
        Ok((listed.is_none(), deleted.is_some()))
    }

    async fn remember_lookups(
        &self,
        tenant: &TenantId,
        dek_id: u64,
        lookups: &[LookupId],
        mode: Mode,
    ) -> Result<u64, StoreError> {
        let names = self.names.of_tenant(tenant);
        let dek_id = dek_id.to_string();
        let mut args = vec![dek_id.as_bytes(), mode.arg()];
        args.extend(lookups.iter().map(|id| &id.0[..]));
        let keys = [names.tenant.clone(), names.lookups()];
        match self.link.run(&scripts::REMEMBER, &keys, &args).await {
            // Of another type: none of them is remembered.
            Err(StoreError::Damaged(_)) if mode == Mode::Check => Ok(lookups.len() as u64),
            missing => missing,
        }
    }
}

impl Keyspace {
    fn tenant_of(name: &[u8]) -> Option<TenantId> {
        let name = name.strip_suffix(b":keys").unwrap_or(name);
        let braces = name.iter().position(|byte| *byte == b'{')?;
        let id = name[braces..].strip_prefix(b"{")?.strip_suffix(b"}")?;
        TenantId::parse(std::str::from_utf8(id).ok()?).ok()
    }
}

impl Repair for RedisStore {
    fn lost_markers(&self, mode: Mode) -> StoreFuture<'_, LostMarkers> {
        Box::pin(self.look_for_lost_markers(mode))
    }

    fn scan_tenants(&self, from: Option<Cursor>) -> StoreFuture<'_, Page<TenantId>> {
        Box::pin(self.scan_for_tenants(from))
    }

    fn scan_index(&self, from: Option<Cursor>) -> StoreFuture<'_, Page<LookupId>> {
        Box::pin(self.scan_for_entries(from))
    }

    fn scan_lookups<'a>(
        &'a self,
        tenant: &'a TenantId,
        from: Option<Cursor>,
    ) -> StoreFuture<'a, Page<LookupId>> {
        Box::pin(self.scan_lookups_of(tenant, from))
    }

    fn find_tenant<'a>(
        &'a self,
        tenant: &'a TenantId,
    ) -> StoreFuture<'a, Option<Found<TenantRow>>> {
        Box::pin(async move {
            let found = self.look(self.names.tenant(tenant)).await?;
            Ok(found.map(|(seen, fields)| Found {
                row: fields.and_then(|fields| tenant_row(tenant, fields)),
                seen,
            }))
        })
    }

    fn put_tenant(&self, row: TenantRow, seen: Seen) -> StoreFuture<'_, bool> {
        Box::pin(async move {
            let order = row.version.order.to_string();
            let change = match row.version.change {
                0 => String::new(),
                change => change.to_string(),
            };
            let dek_id = row.dek_id.to_string();
            let fields: [(&[u8], &[u8]); 6] = [
                (b"v", order.as_bytes()),
                (b"n", change.as_bytes()),
                (b"d", dek_id.as_bytes()),
                (b"k", &row.data_dek),
                (b"w", &row.vault_dek),
                (b"b", &row.body),
            ];
            self.put(self.names.tenant(&row.id), &seen, &fields).await
        })
    }

    fn has_keys<'a>(&'a self, tenant: &'a TenantId) -> StoreFuture<'a, bool> {
        Box::pin(async move {
            let mut exists = cmd("EXISTS");
            exists.arg(self.names.of_tenant(tenant).keys());
            self.link.ask(&exists).await
        })
    }

    fn find_key<'a>(
        &'a self,
        tenant: &'a TenantId,
        key: &'a KeyId,
    ) -> StoreFuture<'a, Option<Found<KeyRow>>> {
        Box::pin(self.look_at_key(tenant, key))
    }

    fn put_key<'a>(
        &'a self,
        tenant: &'a TenantId,
        row: KeyRow,
        seen: Seen,
    ) -> StoreFuture<'a, bool> {
        Box::pin(async move {
            let names = self.names.of_tenant(tenant);
            let mut stored = version_text(row.version).into_bytes();
            stored.push(b'\n');
            stored.extend(&row.body);
            let args = [row.id.as_str().as_bytes(), &seen.0, &stored];
            let keys = [names.keys(), names.ids()];
            self.link.run(&scripts::PUT_KEY, &keys, &args).await
        })
    }

    fn unlist_key<'a>(&'a self, tenant: &'a TenantId, key: &'a KeyId) -> StoreFuture<'a, bool> {
        Box::pin(async move {
            let names = self.names.of_tenant(tenant);
            let keys = [names.ids(), names.keys()];
            let args = [key.as_str().as_bytes()];
            self.link.run(&scripts::UNLIST, &keys, &args).await
        })
    }

    fn find_entry(&self, lookup_id: LookupId) -> StoreFuture<'_, Option<Found<IndexRow>>> {
        Box::pin(async move {
            let Some((seen, fields)) = self.look(self.names.index(lookup_id)).await? else {
                return Ok(None);
            };
            if fields.as_ref().is_some_and(is_empty) {
                return Ok(None);
            }
            let row = fields.and_then(|fields| index_row(lookup_id, fields));
            Ok(Some(Found { row, seen }))
        })
    }

    fn drop_entry(&self, lookup_id: LookupId, seen: Seen) -> StoreFuture<'_, bool> {
        Box::pin(async move {
            let dropped = self.put(self.names.index(lookup_id), &seen, &[]).await?;
            self.watchers
                .notify(|watcher| watcher.index_changed(lookup_id));
            Ok(dropped)
        })
    }

    fn forbid_entry(&self, lookup_id: LookupId) -> StoreFuture<'_, bool> {
        Box::pin(async move {
            let name = [self.names.index(lookup_id)];
            let forbidden = self.link.run(&scripts::FORBID, &name, &[]).await;
            self.watchers
                .notify(|watcher| watcher.index_changed(lookup_id));
            forbidden
        })
    }

    fn counted<'a>(&'a self, tenant: &'a TenantId) -> StoreFuture<'a, Option<Counted>> {
        Box::pin(self.counts_of(tenant))
    }

    fn put_counts<'a>(
        &'a self,
        tenant: &'a TenantId,
        dek_id: u64,
        owners: &'a [([u8; 16], u64)],
        number: u64,
    ) -> StoreFuture<'a, bool> {
        Box::pin(self.count_anew(tenant, dek_id, owners, number))
    }

    fn lists<'a>(
        &'a self,
        tenant: &'a TenantId,
        dek_id: u64,
        mode: Mode,
    ) -> StoreFuture<'a, Lists> {
        Box::pin(self.compare_lists(tenant, dek_id, mode))
    }

    fn forgotten_lookups<'a>(
        &'a self,
        tenant: &'a TenantId,
        dek_id: u64,
        lookups: &'a [LookupId],
        mode: Mode,
    ) -> StoreFuture<'a, u64> {
        Box::pin(self.remember_lookups(tenant, dek_id, lookups, mode))
    }

    fn is_sum_wrong(&self, mode: Mode) -> StoreFuture<'_, bool> {
        Box::pin(async move {
            let types = self.wrong_shared_types(mode).await?;
            if types > 0 && mode == Mode::Check {
                return Ok(true);
            }
            let keys = self.of_all();
            let wrong: bool = self.link.run(&scripts::SUM, &keys, &[mode.arg()]).await?;
            Ok(wrong || types > 0)
        })
    }

    fn forget_tenant<'a>(&'a self, tenant: &'a TenantId, mode: Mode) -> StoreFuture<'a, bool> {
        Box::pin(self.forget_remains(tenant, mode))
    }
}
