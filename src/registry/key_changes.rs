//! Changes of keys that are there.

use crate::clock::Timestamp;
use crate::domain::change::{Action, Actor};
use crate::domain::key::{Key, KeyStatus};
use crate::domain::name::{Description, KeyId, TenantId};
use crate::registry::keys::check_sizes;
use crate::registry::{ATTEMPTS_MAX, Entry, Etag, Registry, RegistryError, etag, notes, refused};
use crate::store::{CountChange, Expected};

/// What a change came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edited {
    /// The key as it now is.
    pub key: Key,
    /// Whether it worked until now. If not, it is as it was.
    pub was_live: bool,
}

/// What is done to a key.
struct Edit<'a, F> {
    actor: &'a Actor,
    action: Action,
    count: CountChange,
    note: String,
    etag: Option<Etag>,
    change: F,
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
            change: |key: &mut Key, _| change(key),
        };
        let edited = self.edit_key(tenant, id, edit).await?;
        if edited.was_live {
            Ok(edited.key)
        } else {
            Err(RegistryError::KeyRevoked)
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
            change: |key: &mut Key, at| {
                let reason = reason.clone();
                key.status = KeyStatus::Revoked { at, reason };
            },
        };
        self.edit_key(tenant, id, edit).await
    }

    /// Edits a key that works; one that is revoked stays as it is.
    async fn edit_key<F: Fn(&mut Key, Timestamp) + Send + Sync>(
        &self,
        tenant: &TenantId,
        id: &KeyId,
        edit: Edit<'_, F>,
    ) -> Result<Edited, RegistryError> {
        for attempt in 1.. {
            let opened = self.open(tenant).await?;
            let current = self.open_key(&opened, id).await?;
            let edited = |key, was_live| Edited { key, was_live };
            if !current.is_live() {
                return Ok(edited(current, false));
            }
            etag::check("key", edit.etag, Etag::of_key(&current))?;
            let at = self.now();
            let mut key = current.clone();
            (edit.change)(&mut key, at);
            if key == current {
                return Ok(edited(key, true));
            }
            check_sizes(&key.scopes, key.features.as_ref(), &key.networks)?;
            key.updated_at = at;
            key.version += 1;
            let entry = Entry {
                actor: edit.actor,
                action: edit.action,
                at,
                key: Some(id),
                note: notes::with_key_limits(&edit.note, &current, &key),
            };
            let expected = Expected::Version(current.version);
            let commit = self.key_commit(&opened, &key, expected, edit.count, entry);
            match self.store.commit_key(commit).await.map_err(refused("key")) {
                Err(RegistryError::Conflict { .. })
                    if edit.etag.is_none() && attempt < ATTEMPTS_MAX => {}
                result => return result.map(|()| edited(key, true)),
            }
        }
        Err(RegistryError::Conflict { what: "key" })
    }
}
