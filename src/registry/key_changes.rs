//! Changes of keys that are there.

use crate::clock::Timestamp;
use crate::domain::change::{Action, Actor};
use crate::domain::key::{Generation, Key, KeyStatus};
use crate::domain::name::{Description, KeyId, TenantId};
use crate::registry::keys::check_sizes;
use crate::registry::requests::Tagged;
use crate::registry::{
    ATTEMPTS_MAX, Entry, Etag, Opened, Registry, RegistryError, etag, notes, refused,
};
use crate::store::{CommitError, CountChange, Expected, IndexRow, KeyCommit, records};

/// What a change came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edited {
    /// The key as it now is.
    pub key: Key,
    /// Whether it worked until now. If not, it is as it was.
    pub was_live: bool,
}

/// What is done to a key.
pub(super) struct Edit<'a, F> {
    pub(super) actor: &'a Actor,
    pub(super) action: Action,
    pub(super) count: CountChange,
    pub(super) note: String,
    pub(super) etag: Option<Etag>,
    pub(super) request: Option<&'a Tagged>,
    pub(super) change: F,
}

/// What an edit came to.
pub(super) enum Outcome<T> {
    /// The key as it now is, and what the change made beside it.
    Changed(Key, T),
    /// The change changes nothing, and nothing was written.
    Same(Key),
    /// It is revoked and stays as it is.
    Revoked(Key),
}

impl Registry {
    /// Changes a key: with an etag, once, against that version; without, against whatever is there.
    /// A change that changes nothing writes nothing. A revoked key is [`RegistryError::KeyRevoked`].
    ///
    /// `change` leaves identity, owner, role, status, expiry and generations as they are.
    pub async fn update_key(
        &self,
        actor: &Actor,
        tenant: &TenantId,
        id: &KeyId,
        etag: Option<Etag>,
        note: String,
        change: impl Fn(&mut Key) + Send + Sync,
    ) -> Result<Key, RegistryError> {
        let edit = Edit {
            actor,
            action: Action::KeyUpdated,
            count: CountChange::None,
            note,
            etag,
            request: None,
            change: |_: &Opened, key: &mut Key, _| {
                change(key);
                Ok(())
            },
        };
        match self.edit_key(tenant, id, edit).await? {
            Outcome::Changed(key, ()) | Outcome::Same(key) => Ok(key),
            Outcome::Revoked(_) => Err(RegistryError::KeyRevoked),
        }
    }

    /// Makes a key stop working for good, all its generations. Revoking a revoked key changes nothing.
    pub async fn revoke_key(
        &self,
        actor: &Actor,
        tenant: &TenantId,
        id: &KeyId,
        etag: Option<Etag>,
        reason: &Description,
    ) -> Result<Edited, RegistryError> {
        let edit = Edit {
            actor,
            action: Action::KeyRevoked,
            count: CountChange::Remove,
            note: reason.to_string(),
            etag,
            request: None,
            change: |_: &Opened, key: &mut Key, at| {
                let reason = reason.clone();
                key.status = KeyStatus::Revoked { at, reason };
                Ok(())
            },
        };
        let (key, was_live) = match self.edit_key(tenant, id, edit).await? {
            Outcome::Changed(key, ()) | Outcome::Same(key) => (key, true),
            Outcome::Revoked(key) => (key, false),
        };
        Ok(Edited { key, was_live })
    }

    /// Edits a key that is not revoked. [`RegistryError::AlreadyExists`]: the request was done meanwhile.
    pub(super) async fn edit_key<T, F>(
        &self,
        tenant: &TenantId,
        id: &KeyId,
        edit: Edit<'_, F>,
    ) -> Result<Outcome<T>, RegistryError>
    where
        F: Fn(&Opened, &mut Key, Timestamp) -> Result<T, RegistryError> + Send + Sync,
    {
        for attempt in 1.. {
            let opened = self.open(tenant).await?;
            let current = self.open_key(&opened, id).await?;
            if !current.is_live() {
                return Ok(Outcome::Revoked(current));
            }
            etag::check("key", edit.etag, Etag::of_key(&current))?;
            let at = self.now();
            let mut key = current.clone();
            let made = (edit.change)(&opened, &mut key, at)?;
            if key == current {
                return Ok(Outcome::Same(key));
            }
            check_sizes(&key.scopes, key.features.as_ref(), &key.networks)?;
            key.updated_at = at;
            key.version += 1;
            let entry = Entry {
                actor: edit.actor,
                action: edit.action,
                at,
                key: Some(id),
                note: notes::of_key_change(&edit.note, &current, &key),
            };
            let expected = Expected::Version(current.version);
            let mut commit = KeyCommit {
                request: edit
                    .request
                    .map(|request| request.row(&opened, Some(&key), at)),
                ..self.key_commit(&opened, &key, expected, edit.count, entry)
            };
            commit.index.extend(forgotten(&opened, &current, &key));
            match self.store.commit_key(commit).await {
                Ok(()) => return Ok(Outcome::Changed(key, made)),
                Err(CommitError::Conflict) if edit.etag.is_none() && attempt < ATTEMPTS_MAX => {}
                Err(CommitError::Repeated) => {
                    return Err(RegistryError::AlreadyExists { what: "key" });
                }
                Err(error) => return Err(refused("key")(error)),
            }
        }
        Err(RegistryError::Conflict { what: "key" })
    }
}

/// The index entries of the generations that a change forgets.
fn forgotten(opened: &Opened, before: &Key, after: &Key) -> Vec<IndexRow> {
    let is_gone = |old: &&Generation| !after.generations.iter().any(|one| one.number == old.number);
    let gone = before.generations.iter().filter(is_gone);
    let seal = |old| records::seal_forgotten(&opened.data_key, after, old, &mut rand::rng());
    gone.map(seal).collect()
}
