//! What is read, and how it is written there.

use futures_util::future::join_all;
use redis::{Cmd, cmd};

use super::change::{damaged, parse_version};
use super::scripts;
use super::{Access, RedisStore};
use crate::clock::Timestamp;
use crate::crypto::envelope;
use crate::domain::name::{KeyId, TenantId};
use crate::domain::version::Version;
use crate::store::damage::Entry;
use crate::store::{IdempotencyRecord, KeyRow, StoreError, TenantRow};

/// How many tenants are fetched side by side for a page.
const FETCH_AT_ONCE: usize = 64;

impl RedisStore {
    pub(super) async fn fetch_tenant(
        &self,
        id: &TenantId,
    ) -> Result<Option<TenantRow>, StoreError> {
        let mut get = cmd("HMGET");
        let name = self.names.tenant(id);
        get.arg(&name);
        get.arg(["v", "d", "k", "w", "b", "n"].as_slice());
        let mut fields: Vec<Option<Vec<u8>>> = self.link.read(&name, &get).await?;
        let change = fields.pop().flatten();
        if fields.iter().all(Option::is_none) {
            return self.without_record(id).await;
        }
        let [version, dek_id, data_dek, vault_dek, body]: [Option<Vec<u8>>; 5] =
            fields.try_into().map_err(|_| damaged("a tenant"))?;
        let (Some(version), Some(dek_id), Some(data_dek), Some(body)) =
            (version, dek_id, data_dek, body)
        else {
            return Err(StoreError::Damaged(format!(
                "fields of the tenant {id} are missing"
            )));
        };
        // Without it no kept token can be shown; all else can be done.
        let vault_dek = vault_dek.unwrap_or_else(|| {
            let what = "the wrapped vault key is missing: kept tokens cannot be shown any more";
            self.damage.met(Entry::Tenant, Some(id), &what);
            Vec::new()
        });
        let dek_id = number(&dek_id, "a tenant's data key id")?;
        self.link.guard().has_seen(id, dek_id);
        Ok(Some(TenantRow {
            id: id.clone(),
            version: version_of(&version, change.as_deref(), "a tenant's version")?,
            dek_id,
            data_dek,
            vault_dek,
            body,
        }))
    }

    /// None, unless there is more of the tenant than its record, which is lost then.
    async fn without_record(&self, id: &TenantId) -> Result<Option<TenantRow>, StoreError> {
        if self.access == Access::Read {
            return Ok(None);
        }
        let names = self.names.of_tenant(id);
        let mut exists = cmd("EXISTS");
        exists.arg(names.audit()).arg(names.keys());
        let remains: u8 = self.link.ask(&exists).await?;
        if remains > 0 && !self.is_deleted(id).await? {
            return Err(lost_tenant(id));
        }
        Ok(None)
    }

    /// Whether a tenant was deleted a while ago, or made again since.
    pub(super) async fn is_deleted(&self, id: &TenantId) -> Result<bool, StoreError> {
        let mut get = cmd("HMGET");
        let name = self.names.tenant(id);
        get.arg(&name).arg(["deleted", "d"].as_slice());
        let (deleted, again): (Option<Vec<u8>>, Option<Vec<u8>>) =
            self.link.read(&name, &get).await?;
        Ok(deleted.or(again).is_some())
    }

    /// What is remembered of a request. Who did it may not have come to the index: that is done first.
    pub(super) async fn fetch_request(
        &self,
        tenant: &TenantId,
        tag: [u8; 16],
    ) -> Result<Option<IdempotencyRecord>, StoreError> {
        let names = self.names.of_tenant(tenant);
        let requests = names.requests();
        let get = hget(&requests, &tag);
        let stored: Option<Vec<u8>> = self.link.read(&requests, &get).await?;
        let Some(stored) = stored else {
            return Ok(None);
        };
        let dek_id: Option<Vec<u8>> = self.link.ask(&hget(&names.tenant, b"d")).await?;
        if let Some(dek_id) = dek_id {
            self.flush(tenant, &dek_id).await?;
        }
        idempotency_record(tag, &stored).map(Some)
    }

    /// Tenants' ids in order, after `after`.
    pub(super) async fn tenant_ids(
        &self,
        after: Option<&TenantId>,
        limit: usize,
    ) -> Result<Vec<TenantId>, StoreError> {
        let mut page = cmd("ZRANGEBYLEX");
        let directory = self.names.directory();
        page.arg(&directory)
            .arg(lex_after(after.map(TenantId::as_str)));
        page.arg("+").arg("LIMIT").arg(0).arg(limit);
        let ids: Vec<String> = self.link.read(&directory, &page).await?;
        ids.iter()
            .map(|id| TenantId::parse(id).map_err(|_| damaged("a tenant's id")))
            .collect()
    }

    pub(super) async fn page_of_tenants(
        &self,
        after: Option<&TenantId>,
        limit: usize,
    ) -> Result<Vec<TenantRow>, StoreError> {
        let mut rows = Vec::new();
        let mut last = after.cloned();
        // The directory follows the tenants: some that it names may be gone.
        while rows.len() < limit {
            let wanted = (limit - rows.len()).min(FETCH_AT_ONCE);
            let ids = self.tenant_ids(last.as_ref(), wanted).await?;
            let found = join_all(ids.iter().map(|id| self.fetch_tenant(id))).await;
            for row in found {
                rows.extend(row?);
            }
            match ids.into_iter().next_back() {
                Some(id) => last = Some(id),
                None => break,
            }
        }
        Ok(rows)
    }

    /// A page of a tenant's keys. One whose record is lost or cannot be read has no body.
    pub(super) async fn page_of_keys(
        &self,
        tenant: &TenantId,
        after: Option<&KeyId>,
        limit: usize,
    ) -> Result<Vec<KeyRow>, StoreError> {
        let names = self.names.of_tenant(tenant);
        let keys = [names.ids(), names.keys()];
        let (from, limit) = (lex_after(after.map(KeyId::as_str)), limit.to_string());
        let may_write: &[u8] = match self.access {
            Access::Read => b"0",
            Access::Write => b"1",
        };
        let args = [from.as_bytes(), limit.as_bytes(), may_write];
        loop {
            let page: Vec<Vec<u8>> = self.link.read_by(&scripts::PAGE, &keys, &args).await?;
            let ids = page.chunks_exact(2).map(|pair| {
                let id = std::str::from_utf8(&pair[0]).ok();
                id.and_then(|id| KeyId::parse(id).ok()).ok_or(&pair[0])
            });
            let ids: Result<Vec<KeyId>, &Vec<u8>> = ids.collect();
            match ids {
                Ok(ids) => {
                    let rows = ids.into_iter().zip(page.chunks_exact(2));
                    return Ok(rows
                        .map(|(id, pair)| key_or_nothing(id, &pair[1]))
                        .collect());
                }
                Err(none_of_ours) if self.access == Access::Write => {
                    let what = "the list of keys had a name that is no key's";
                    self.damage.met(Entry::Lists, Some(tenant), &what);
                    let mut remove = cmd("ZREM");
                    remove.arg(names.ids()).arg(none_of_ours);
                    let _count: u64 = self.link.ask(&remove).await?;
                }
                Err(_) => return Err(damaged("a key id")),
            }
        }
    }
}

/// A tenant's own record is gone, though others of it are there.
pub(super) fn lost_tenant(id: &TenantId) -> StoreError {
    StoreError::Lost(format!(
        "the record of tenant {id} is gone, and others of it are there: restore its data from a backup"
    ))
}

/// Where a page begins, in the syntax of ZRANGEBYLEX.
pub(super) fn lex_after(after: Option<&str>) -> String {
    after.map_or_else(|| "-".to_owned(), |after| format!("({after}"))
}

pub(super) fn number<T: std::str::FromStr>(text: &[u8], what: &str) -> Result<T, StoreError> {
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| damaged(what))
}

/// Whether the fields beside a sealed index entry say what its own header says: scripts decide by those whose it is, so
/// where they differ a revocation would not find it. What has no header does not open, which is found elsewhere.
pub(super) fn check_place(body: &[u8], place: &[Option<Vec<u8>>; 3]) -> Result<(), StoreError> {
    let Ok((header, _)) = envelope::header(body) else {
        return Ok(());
    };
    let dek_id = header.dek_id.to_string();
    let sealed = [header.tenant, header.key, &dek_id];
    let is_same =
        |(there, sealed): (&Option<Vec<u8>>, &str)| there.as_deref() == Some(sealed.as_bytes());
    if place.iter().zip(sealed).all(is_same) {
        Ok(())
    } else {
        let key = header.key.escape_debug();
        Err(StoreError::Damaged(format!(
            "the fields of an index entry are not those of the key {key} that is sealed in it"
        )))
    }
}

/// A version of the fields of a hash: its order, and the id of the change if there is one.
pub(super) fn version_of(
    order: &[u8],
    change: Option<&[u8]>,
    what: &str,
) -> Result<Version, StoreError> {
    let change = change.filter(|change| !change.is_empty());
    Ok(Version {
        order: number(order, what)?,
        change: change.map_or(Ok(0), |change| number(change, what))?,
    })
}

/// `version \n sealed`
pub(super) fn key_row(id: KeyId, stored: &[u8]) -> Result<KeyRow, StoreError> {
    let (version, body) = at_newline(stored).ok_or_else(|| damaged("a key"))?;
    Ok(KeyRow {
        id,
        version: parse_version(version).ok_or_else(|| damaged("a key's version"))?,
        body: body.to_vec(),
    })
}

pub(super) fn key_or_nothing(id: KeyId, stored: &[u8]) -> KeyRow {
    key_row(id.clone(), stored).unwrap_or_else(|_| KeyRow {
        id,
        version: Version::default(),
        body: Vec::new(),
    })
}

pub(super) fn at_newline(stored: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = stored.iter().position(|byte| *byte == b'\n')?;
    Some((&stored[..at], &stored[at + 1..]))
}

pub(super) fn hget(hash: &str, field: &[u8]) -> Cmd {
    let mut get = cmd("HGET");
    get.arg(hash).arg(field);
    get
}

/// `made at, space, expires at, newline, sealed`
pub(super) fn idempotency_record(
    tag: [u8; 16],
    stored: &[u8],
) -> Result<IdempotencyRecord, StoreError> {
    let bad = || damaged("a request");
    let (times, body) = at_newline(stored).ok_or_else(bad)?;
    let times = std::str::from_utf8(times).map_err(|_| bad())?;
    let (made_at, expires_at) = times.split_once(' ').ok_or_else(bad)?;
    let time = |text: &str| {
        let millis = text.parse().map_err(|_| bad())?;
        Ok::<_, StoreError>(Timestamp::from_millis(millis))
    };
    Ok(IdempotencyRecord {
        tag,
        made_at: time(made_at)?,
        expires_at: time(expires_at)?,
        body: body.to_vec(),
    })
}
