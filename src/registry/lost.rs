//! Keys whose own record is lost or cannot be read, and index entries that stand in the way: what somebody deleted or
//! altered in the store, or an eviction took, may keep no key from being revoked.
//!
//! Such a key still passes, as its index entries are sealed and whole; and they say enough of it to revoke it, with a
//! record made again from them, so that it is in lists and in the audit like any other.

use std::collections::BTreeMap;

use futures_util::future::try_join_all;

use crate::clock::Timestamp;
use crate::crypto::token::PresentedToken;
use crate::domain::access::KeyAccess;
use crate::domain::change::{Action, Actor};
use crate::domain::key::{Delivery, Generation, Key, KeyKind, KeyStatus, LookupId};
use crate::domain::name::{Description, DisplayName, KeyId, TenantId};
use crate::domain::pause::{Pause, PausedBy};
use crate::domain::role::AdminAccess;
use crate::domain::version::Version;
use crate::registry::{Entry, Opened, Registry, RegistryError, refused};
use crate::store::damage;
use crate::store::repair::{Cursor, Found, Mode, Page};
use crate::store::{CountChange, Expected, IndexRow, StoreError, StoreFuture, records};

/// How many entries are looked at side by side.
const AT_ONCE: usize = 100;

/// How far the entries of a key are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search {
    /// Among those that its tenant is remembered to have.
    Tenant,
    /// Among all: that takes as long as reading the whole index.
    Everywhere,
}

/// What stands at a lookup id.
#[derive(Debug)]
pub enum Standing {
    /// A generation of a key.
    Key(TenantId, KeyId),
    /// Nothing that can be read.
    Unreadable,
}

type Entries = BTreeMap<LookupId, KeyAccess>;

impl Registry {
    /// A key as its index entries tell of it, where its own record is lost. None: there are none.
    pub async fn lost_key(
        &self,
        tenant: &TenantId,
        id: &KeyId,
        search: Search,
    ) -> Result<Option<Key>, RegistryError> {
        let opened = self.open(tenant).await?;
        let entries = self.find_entries(&opened, id, search).await?;
        Ok(rebuilt(&opened, id, &entries, self.now()))
    }

    /// Keys of a tenant that work and have no record of their own, as their entries tell of them. Where the list of the
    /// tenant's entries is lost too, they are looked for as far as `search` says.
    pub async fn lost_keys(
        &self,
        tenant: &TenantId,
        search: Search,
    ) -> Result<Vec<Key>, RegistryError> {
        let opened = self.open(tenant).await?;
        let search = match search {
            Search::Everywhere if self.has_lost_its_list(&opened).await? => Search::Everywhere,
            Search::Everywhere | Search::Tenant => Search::Tenant,
        };
        let mut lost: BTreeMap<KeyId, Entries> = BTreeMap::new();
        let mut cursor = None;
        loop {
            let (ids, next) = self.some_entries(tenant, search, cursor).await?;
            for ids in ids.chunks(AT_ONCE) {
                let mut found = Entries::new();
                self.add_entries(&opened, None, ids, &mut found).await?;
                if search == Search::Everywhere {
                    self.list_again(&opened, &found).await?;
                }
                for (lookup_id, access) in found {
                    if !access.revoked && self.is_lost(tenant, &access.key).await? {
                        let entries = lost.entry(access.key.clone()).or_default();
                        entries.insert(lookup_id, access);
                    }
                }
            }
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        let now = self.now();
        let keys = lost.iter();
        Ok(keys
            .filter_map(|(id, entries)| rebuilt(&opened, id, entries, now))
            .collect())
    }

    /// Puts entries into their tenant's list again: whoever looks for them next finds them there.
    async fn list_again(&self, opened: &Opened, found: &Entries) -> Result<(), StoreError> {
        let ids: Vec<_> = found.keys().copied().collect();
        let (tenant, dek_id) = (&opened.tenant.id, opened.data_key.id());
        let listed = (self.store.repair()).forgotten_lookups(tenant, dek_id, &ids, Mode::Repair);
        listed.await.map(drop)
    }

    /// Where entries of a tenant may be.
    fn some_entries<'a>(
        &'a self,
        tenant: &'a TenantId,
        search: Search,
        from: Option<Cursor>,
    ) -> StoreFuture<'a, Page<LookupId>> {
        let repair = self.store.repair();
        match search {
            Search::Tenant => repair.scan_lookups(tenant, from),
            Search::Everywhere => repair.scan_index(from),
        }
    }

    /// Whether the list of a tenant's entries is empty, or lacks some of keys that have a record.
    async fn has_lost_its_list(&self, opened: &Opened) -> Result<bool, StoreError> {
        let (tenant, dek_id) = (&opened.tenant.id, opened.data_key.id());
        let repair = self.store.repair();
        if repair.scan_lookups(tenant, None).await?.0.is_empty() {
            return Ok(true);
        }
        let rows = self.store.keys(tenant, None, AT_ONCE).await?;
        let keys = rows
            .iter()
            .flat_map(|row| records::open_key(&opened.data_key, tenant, row));
        let known: Vec<_> = keys
            .flat_map(|key| key.generations)
            .map(|generation| generation.lookup_id)
            .collect();
        let lacks = repair.forgotten_lookups(tenant, dek_id, &known, Mode::Check);
        Ok(lacks.await? > 0)
    }

    /// Whether a key has no record, or none that can be read.
    async fn is_lost(&self, tenant: &TenantId, id: &KeyId) -> Result<bool, StoreError> {
        let found = self.store.repair().find_key(tenant, id).await?;
        Ok(found.is_none_or(|found| found.row.is_none()))
    }

    /// A key as one of its entries tells of it.
    pub(super) fn known_of(
        &self,
        opened: &Opened,
        lookup_id: LookupId,
        access: &KeyAccess,
    ) -> Option<Key> {
        let entries = Entries::from([(lookup_id, access.clone())]);
        rebuilt(opened, &access.key, &entries, self.now())
    }

    /// Revokes a key whose own record is lost, with all entries that are found of it.
    pub(super) async fn revoke_lost(
        &self,
        actor: &Actor,
        tenant: &TenantId,
        id: &KeyId,
        reason: &Description,
    ) -> Result<Key, RegistryError> {
        let opened = self.open(tenant).await?;
        let entries = self.find_entries(&opened, id, Search::Everywhere).await?;
        let at = self.now();
        let not_found = RegistryError::NotFound { what: "key" };
        let mut key = rebuilt(&opened, id, &entries, at).ok_or(not_found)?;
        key.status = KeyStatus::Revoked {
            at,
            reason: reason.clone(),
        };
        key.version = Version::after(key.version.order, at, rand::random());
        let entry = Entry {
            actor,
            action: Action::KeyRevoked,
            at,
            key: Some(id),
            note: format!("{reason} (its record was lost)")
                .trim_start()
                .to_owned(),
        };
        let expected = self.what_is_there(tenant, id).await?;
        let commit = self.key_commit(&opened, &key, expected, CountChange::Remove, entry);
        let done = self.store.commit_key(commit).await;
        done.map_err(refused("key"))?;
        tracing::warn!(%tenant, key = %id, "a key whose record was lost is revoked");
        let arrived = self.see_arrive(&opened, key).await?;
        // None: the store has fallen back to before it, and whoever asked has to ask again.
        arrived.ok_or(RegistryError::Conflict { what: "key" })
    }

    /// What a commit over a record that is lost or cannot be read has to expect.
    async fn what_is_there(&self, tenant: &TenantId, id: &KeyId) -> Result<Expected, StoreError> {
        let found = self.store.repair().find_key(tenant, id).await?;
        let row = found.and_then(|found| found.row);
        Ok(row.map_or(Expected::Lost, |row| Expected::Version(row.version)))
    }

    /// The entries of a key: among all only where its tenant has lost the list of its own.
    async fn find_entries(
        &self,
        opened: &Opened,
        id: &KeyId,
        search: Search,
    ) -> Result<Entries, RegistryError> {
        let found = self.entries_of(opened, id, Search::Tenant).await?;
        if !found.is_empty() || search == Search::Tenant {
            return Ok(found);
        }
        let (tenant, repair) = (&opened.tenant.id, self.store.repair());
        let has_list = !repair.scan_lookups(tenant, None).await?.0.is_empty();
        if has_list && repair.has_keys(tenant).await? {
            return Ok(found);
        }
        self.entries_of(opened, id, Search::Everywhere).await
    }

    /// The entries of a key that open, by where they are.
    async fn entries_of(
        &self,
        opened: &Opened,
        id: &KeyId,
        search: Search,
    ) -> Result<Entries, RegistryError> {
        let tenant = &opened.tenant.id;
        let mut found = Entries::new();
        let mut cursor: Option<Cursor> = None;
        loop {
            let (ids, next) = self.some_entries(tenant, search, cursor).await?;
            for ids in ids.chunks(AT_ONCE) {
                self.add_entries(opened, Some(id), ids, &mut found).await?;
            }
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        let others = found.values().flat_map(|access| &access.others).copied();
        let others: Vec<_> = others.filter(|id| !found.contains_key(id)).collect();
        self.add_entries(opened, Some(id), &others, &mut found)
            .await?;
        Ok(found)
    }

    async fn add_entries(
        &self,
        opened: &Opened,
        key: Option<&KeyId>,
        ids: &[LookupId],
        found: &mut Entries,
    ) -> Result<(), StoreError> {
        let rows = ids.iter().map(|id| self.store.repair().find_entry(*id));
        let rows = try_join_all(rows).await?;
        for row in rows.into_iter().flatten().filter_map(|found| found.row) {
            if key.is_some_and(|key| !records::claims_to_be(&row, &opened.tenant.id, key)) {
                continue;
            }
            let access = records::open_access(&opened.data_key, &opened.tenant.id, &row);
            if let Ok(access) = access {
                found.insert(row.lookup_id, access);
            }
        }
        Ok(())
    }

    /// Where the entry of a token would be. None: it is no token.
    pub fn lookup_id(&self, token: &str) -> Option<LookupId> {
        let token = PresentedToken::parse(token.as_bytes(), &self.settings.prefixes).ok()?;
        Some(self.lookup.digest(token.expose()).lookup_id())
    }

    /// What stands at a lookup id. None: nothing.
    pub async fn standing(&self, lookup_id: LookupId) -> Result<Option<Standing>, RegistryError> {
        let found = self.store.repair().find_entry(lookup_id).await?;
        let Some(Found { row, .. }) = found else {
            return Ok(None);
        };
        let access = match &row {
            Some(row) => self.owner_of(row).await?,
            None => None,
        };
        Ok(Some(match access {
            Some(access) => Standing::Key(access.tenant, access.key),
            None => Standing::Unreadable,
        }))
    }

    /// What an entry says, if it is one that lets its key pass.
    async fn owner_of(&self, row: &IndexRow) -> Result<Option<KeyAccess>, RegistryError> {
        let Ok(tenant) = records::claimed_tenant(row) else {
            return Ok(None);
        };
        let opened = match self.open(&tenant).await {
            Ok(opened) => opened,
            // Without the tenant it does not open.
            Err(
                RegistryError::NotFound { .. }
                | RegistryError::Record(_)
                | RegistryError::Store(StoreError::Damaged(_) | StoreError::Lost(_)),
            ) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(records::open_access(&opened.data_key, &tenant, row).ok())
    }

    /// Lets nobody pass by what stands at a lookup id, where nothing else can be done with it. Answers whether anything
    /// stood there.
    pub async fn forbid(
        &self,
        actor: &Actor,
        lookup_id: LookupId,
        reason: &Description,
    ) -> Result<bool, RegistryError> {
        let forbidden = self.store.repair().forbid_entry(lookup_id).await?;
        if forbidden {
            tracing::warn!(%actor, %lookup_id, %reason, "an index entry that cannot be read is revoked");
        }
        Ok(forbidden)
    }

    /// Takes away what stands at the lookup ids of a key and is nobody's: it would keep the key's own entries from being
    /// written. Answers whether anything was.
    pub(super) async fn clear_places(&self, key: &Key) -> Result<bool, RegistryError> {
        let repair = self.store.repair();
        let mut cleared = false;
        for generation in &key.generations {
            let id = generation.lookup_id;
            let Some(Found { row, seen }) = repair.find_entry(id).await? else {
                continue;
            };
            let owner = match &row {
                Some(row) => self.owner_of(row).await?,
                None => None,
            };
            if owner.is_none() {
                let what = format!("the index entry of key {} was not its own", key.id);
                let damage = self.store.damage();
                damage.met(damage::Entry::Index, Some(&key.tenant), &what);
                cleared |= repair.drop_entry(id, seen).await?;
            }
        }
        Ok(cleared)
    }
}

/// A key as its entries tell of it: the newest generation says what holds of all.
fn rebuilt(opened: &Opened, id: &KeyId, entries: &Entries, now: Timestamp) -> Option<Key> {
    let newest = entries.values().max_by_key(|access| access.generation)?;
    let order = entries.values().map(|access| access.version.order).max();
    let mut generations: Vec<_> = entries
        .iter()
        .filter(|(_, access)| !access.forgotten)
        .map(|(lookup_id, access)| generation(*lookup_id, access))
        .collect();
    generations.sort_by_key(|generation| generation.number);
    let forgotten = entries.iter().filter(|(_, access)| access.forgotten);
    let text = "its own record was lost: this is what its index entries say of it";
    let description = Description::parse(text).ok()?;
    let pause = newest.paused.map(|end| {
        Box::new(Pause {
            since: now,
            end,
            reason: description.clone(),
            // Who it was is not in an entry: its owner does not end what an admin may have begun.
            by: PausedBy::Admin,
        })
    });
    Some(Key {
        tenant: opened.tenant.id.clone(),
        id: id.clone(),
        display_name: DisplayName::parse("(lost)").ok()?,
        description,
        owner: newest.owner.clone(),
        role: newest.role,
        admin_access: AdminAccess::None,
        kind: KeyKind::Live,
        status: KeyStatus::Active,
        pause,
        scopes: newest.scopes.clone(),
        features: newest.features.clone(),
        networks: newest.networks.clone(),
        limits: newest.limits,
        budget: newest.budget.clone(),
        created_by: None,
        expires_at: newest.expires_at,
        generations,
        forgotten: forgotten.map(|(lookup_id, _)| *lookup_id).collect(),
        created_at: now,
        updated_at: now,
        version: order?.into(),
    })
    .filter(|key| !key.generations.is_empty())
}

fn generation(lookup_id: LookupId, access: &KeyAccess) -> Generation {
    Generation {
        number: access.generation,
        lookup_id,
        digest: access.digest,
        hint: String::new(),
        created_at: Timestamp::from_millis(0),
        retires_at: None,
        sealed_token: None,
        delivery: Delivery::Handed,
    }
}
