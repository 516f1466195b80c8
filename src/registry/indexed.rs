//! What the index says of a key, beside the key's own record.
//!
//! They can disagree: the index is in other slots than the record, and each can fall back to an earlier state by itself.
//! So whoever changes a key looks at both before, and whether the change has arrived after:
//!
//! - A change comes after whatever either of them has seen.
//! - A key that is revoked in either is revoked: the other is brought into line.
//! - A generation that only the index knows is changed and revoked with the others.

use std::collections::BTreeSet;

use futures_util::future::try_join_all;

use crate::clock::Timestamp;
use crate::domain::access::KeyAccess;
use crate::domain::change::{Action, Actor};
use crate::domain::key::{Delivery, Generation, Key, LookupId};
use crate::domain::name::{KeyId, TenantId};
use crate::domain::version::Version;
use crate::registry::{ATTEMPTS_MAX, Entry, Opened, Registry, RegistryError, refused};
use crate::store::{CommitError, CountChange, Expected, IndexRow, KeyCommit, StoreError, records};

/// With so many generations that only the index knows, no more are looked for.
const STRAYS_MAX: usize = 64;

/// What is in the place of one generation.
enum Found {
    Nothing,
    /// Nothing that can be read.
    Unreadable,
    /// A record of another key or of a tenant that was deleted.
    Others,
    Ours(Box<KeyAccess>),
}

/// What the index says of a key.
pub(super) struct Indexed {
    /// What stands in the places of the generations that the key's record knows.
    known: Vec<Found>,
    /// Generations that the key's record does not know.
    pub(super) strays: Vec<Generation>,
    strays_found: Vec<KeyAccess>,
}

impl Indexed {
    fn ours(&self) -> impl Iterator<Item = &KeyAccess> {
        let known = self.known.iter().filter_map(|found| match found {
            Found::Ours(access) => Some(access.as_ref()),
            Found::Nothing | Found::Unreadable | Found::Others => None,
        });
        known.chain(&self.strays_found)
    }

    /// The version of the next change of a key that has `current`.
    pub(super) fn next_version(&self, current: Version, now: Timestamp) -> Version {
        let seen = self.ours().map(|access| access.version.order);
        let last = seen.fold(current.order, u64::max);
        Version::after(last, now, rand::random())
    }

    /// Whether any entry says that the key is revoked.
    pub(super) fn is_revoked(&self) -> bool {
        self.ours()
            .any(|access| access.revoked && !access.forgotten)
    }

    /// Whether every entry of the key is there and revoked. A missing one may come back in an older state; where another
    /// key's entry stands, there is none to revoke.
    pub(super) fn is_all_revoked(&self) -> bool {
        let is_there = |found: &Found| matches!(found, Found::Ours(_) | Found::Others);
        self.known.iter().all(is_there) && self.ours().all(|access| access.revoked)
    }

    /// Whether every entry is there and has that version.
    pub(super) fn is_of(&self, version: Version) -> bool {
        self.is_at(|found| found == version)
    }

    /// Whether every entry is there and has that version or a later one.
    fn has_arrived(&self, version: Version) -> bool {
        self.is_at(|found| found.order >= version.order)
    }

    fn is_at(&self, is_fine: impl Fn(Version) -> bool) -> bool {
        let known = self.known.iter().all(|found| match found {
            Found::Ours(access) => is_fine(access.version),
            // What is another key's does not become ours by writing it again.
            Found::Others => true,
            Found::Nothing | Found::Unreadable => false,
        });
        known
            && self
                .strays_found
                .iter()
                .all(|access| is_fine(access.version))
    }
}

/// A generation as far as its index record tells of it.
fn stray(lookup_id: LookupId, access: &KeyAccess) -> Generation {
    Generation {
        number: access.generation,
        lookup_id,
        digest: access.digest,
        hint: String::new(),
        created_at: Timestamp::from_millis(0),
        retires_at: access.expires_at,
        sealed_token: None,
        delivery: Delivery::Handed,
    }
}

fn read(opened: &Opened, key: &Key, row: &IndexRow) -> Found {
    let Ok(tenant) = records::claimed_tenant(row) else {
        return Found::Unreadable;
    };
    if tenant != key.tenant || !records::is_sealed_under(&opened.data_key, row) {
        return Found::Others;
    }
    match records::open_access(&opened.data_key, &key.tenant, row) {
        Ok(access) if access.key == key.id => Found::Ours(Box::new(access)),
        Ok(_) => Found::Others,
        Err(_) => Found::Unreadable,
    }
}

impl Registry {
    /// Reads what the index says of a key, of generations too that only the index knows.
    pub(super) async fn indexed(
        &self,
        opened: &Opened,
        key: &Key,
    ) -> Result<Indexed, RegistryError> {
        let known: Vec<_> = key.generations.iter().map(|one| one.lookup_id).collect();
        let mut asked: BTreeSet<LookupId> = known.iter().chain(&key.forgotten).copied().collect();
        let mut indexed = Indexed {
            known: self.look_up(opened, key, &known).await?,
            strays: Vec::new(),
            strays_found: Vec::new(),
        };
        loop {
            let others = indexed.ours().flat_map(|access| &access.others).copied();
            let next: BTreeSet<_> = others.filter(|id| !asked.contains(id)).collect();
            if next.is_empty() || indexed.strays.len() >= STRAYS_MAX {
                return Ok(indexed);
            }
            asked.extend(&next);
            let next: Vec<_> = next.into_iter().collect();
            let found = self.look_up(opened, key, &next).await?;
            for (lookup_id, found) in next.into_iter().zip(found) {
                if let Found::Ours(access) = found
                    && !access.forgotten
                {
                    indexed.strays.push(stray(lookup_id, &access));
                    indexed.strays_found.push(*access);
                }
            }
        }
    }

    async fn look_up(
        &self,
        opened: &Opened,
        key: &Key,
        ids: &[LookupId],
    ) -> Result<Vec<Found>, StoreError> {
        let found = ids.iter().map(|id| async {
            match self.store.index(*id).await {
                Ok(None) => Ok(Found::Nothing),
                Ok(Some(row)) => Ok(read(opened, key, &row)),
                Err(StoreError::Damaged(_)) => Ok(Found::Unreadable),
                Err(
                    error @ (StoreError::Unavailable(_)
                    | StoreError::Unusable(_)
                    | StoreError::Lost(_)),
                ) => Err(error),
            }
        });
        try_join_all(found).await
    }

    /// Brings a key and its index entries into line: where either is revoked, both are; else the entries follow the key.
    pub async fn bring_into_line(
        &self,
        tenant: &TenantId,
        id: &KeyId,
    ) -> Result<(), RegistryError> {
        let opened = self.open(tenant).await?;
        let key = self.open_key(&opened, id).await?;
        let indexed = self.indexed(&opened, &key).await?;
        if indexed.is_revoked() && !key.is_revoked() {
            return self.revoke_as_indexed(&key).await;
        }
        let arrived = self.see_arrive(&opened, key).await?;
        arrived
            .map(drop)
            .ok_or(RegistryError::Conflict { what: "key" })
    }

    /// Sees to it that what was made of a key is in the index, and writes it again while it is not. Answers the key as
    /// it then is; none if its record has fallen back to before the change, which is lost then.
    pub(super) async fn see_arrive(
        &self,
        opened: &Opened,
        mut key: Key,
    ) -> Result<Option<Key>, RegistryError> {
        for _ in 0..ATTEMPTS_MAX {
            let indexed = self.indexed(opened, &key).await?;
            let arrived = match key.is_revoked() {
                true => indexed.is_all_revoked(),
                false => indexed.has_arrived(key.version),
            };
            if arrived {
                return Ok(Some(key));
            }
            match self.write_again(opened, &mut key, &indexed).await {
                Ok(()) => {}
                // Somebody has revoked it meanwhile, and sees to that.
                Err(CommitError::Revoked) => return Ok(Some(key)),
                Err(CommitError::Conflict) => {
                    let now = self.open_key(opened, &key.id).await?;
                    let is_lost = now.version.order < key.version.order
                        || key.is_revoked() && !now.is_revoked();
                    if is_lost {
                        return Ok(None);
                    }
                    if !key.is_revoked() {
                        // A later change, which sees to its own.
                        return Ok(Some(key));
                    }
                    key = now;
                }
                // Perhaps what is in its place is nobody's.
                Err(CommitError::Exists) if self.clear_places(&key).await? => {}
                Err(error) => return Err(refused("key")(error)),
            }
        }
        let problem = "the index does not show the change yet: make it again";
        Err(StoreError::Unavailable(problem.into()).into())
    }

    /// Writes the index entries of a key again, as a change of its own.
    async fn write_again(
        &self,
        opened: &Opened,
        key: &mut Key,
        indexed: &Indexed,
    ) -> Result<(), CommitError> {
        let at = self.now();
        let before = key.version;
        key.version = indexed.next_version(before, at);
        let entry = Entry {
            actor: &Actor::Keystile,
            action: match key.is_revoked() {
                true => Action::KeyRevoked,
                false => Action::KeyUpdated,
            },
            at,
            key: Some(&key.id),
            note: "index entries written again: they were of another state than the key".to_owned(),
        };
        let expected = Expected::Version(before);
        let commit = self.key_commit(opened, key, expected, CountChange::None, entry);
        let commit = Self::with_strays(opened, key, commit, &indexed.strays);
        tracing::warn!(tenant = %key.tenant, key = %key.id, "index entries are of another state than the key: written again");
        let written = self.store.commit_key(commit).await;
        if written.is_err() {
            key.version = before;
        }
        written
    }

    /// The commit with the index entries of generations too that only the index knows.
    pub(super) fn with_strays(
        opened: &Opened,
        key: &Key,
        commit: KeyCommit,
        strays: &[Generation],
    ) -> KeyCommit {
        if strays.is_empty() {
            return commit;
        }
        let mut whole = key.clone();
        whole.generations.splice(0..0, strays.iter().cloned());
        KeyCommit {
            index: records::seal_index(&opened.data_key, &whole, &mut rand::rng()),
            ..commit
        }
    }
}
