//! Changes of keys that are there.

use crate::clock::Timestamp;
use crate::domain::change::{Action, Actor};
use crate::domain::key::{Generation, Key, KeyStatus};
use crate::domain::name::{Description, KeyId, TenantId};
use crate::registry::idempotency::Tagged;
use crate::registry::indexed::Indexed;
use crate::registry::keys::{ReadKey, check_sizes};
use crate::registry::{
    ATTEMPTS_MAX, Entry, Etag, Opened, Registry, RegistryError, audit_notes, etag, refused,
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
        let read = self.read_key(tenant, id).await?;
        self.update_read_key(actor, read, etag, note, change).await
    }

    /// [`Self::update_key`] of a key that has been read.
    pub async fn update_read_key(
        &self,
        actor: &Actor,
        read: ReadKey,
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
        match self.edit_key(read, edit).await? {
            Outcome::Changed(key, ()) | Outcome::Same(key) => Ok(key),
            Outcome::Revoked(_) => Err(RegistryError::KeyRevoked),
        }
    }

    /// Makes a key stop working for good, all its generations. It is done when every index entry has been seen revoked;
    /// revoking a revoked key sees to that again, and changes nothing where it is so.
    pub async fn revoke_key(
        &self,
        actor: &Actor,
        tenant: &TenantId,
        id: &KeyId,
        etag: Option<Etag>,
        reason: &Description,
    ) -> Result<Edited, RegistryError> {
        match self.read_key(tenant, id).await {
            Ok(read) => self.revoke_read_key(actor, read, etag, reason).await,
            Err(error) => {
                let revoked = self.revoke_unread(actor, (tenant, id), reason, error);
                Box::pin(revoked).await
            }
        }
    }

    /// [`Self::revoke_key`] of a key that has been read.
    pub async fn revoke_read_key(
        &self,
        actor: &Actor,
        read: ReadKey,
        etag: Option<Etag>,
        reason: &Description,
    ) -> Result<Edited, RegistryError> {
        let (tenant, id) = (read.key.tenant.clone(), read.key.id.clone());
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
        let (key, was_live) = match Box::pin(self.edit_key(read, edit)).await {
            Ok(Outcome::Changed(key, ()) | Outcome::Same(key)) => (key, true),
            Ok(Outcome::Revoked(key)) => (key, false),
            Err(error) => {
                let revoked = self.revoke_unread(actor, (&tenant, &id), reason, error);
                return Box::pin(revoked).await;
            }
        };
        Ok(Edited { key, was_live })
    }

    /// Revokes a key that could not be read, for that error, if all that is lost is its own record.
    async fn revoke_unread(
        &self,
        actor: &Actor,
        (tenant, id): (&TenantId, &KeyId),
        reason: &Description,
        error: RegistryError,
    ) -> Result<Edited, RegistryError> {
        if !error.is_of_a_lost_key() {
            return Err(error);
        }
        let key = self.revoke_lost(actor, tenant, id, reason).await?;
        let was_live = true;
        Ok(Edited { key, was_live })
    }

    /// Edits a key that is not revoked. [`RegistryError::AlreadyExists`]: the request was done meanwhile.
    ///
    /// What was read may be old: the commit is against its version, and where that is gone, the key is read again.
    pub(super) async fn edit_key<T, F>(
        &self,
        read: ReadKey,
        edit: Edit<'_, F>,
    ) -> Result<Outcome<T>, RegistryError>
    where
        F: Fn(&Opened, &mut Key, Timestamp) -> Result<T, RegistryError> + Send + Sync,
    {
        let (tenant, id) = (read.key.tenant.clone(), read.key.id.clone());
        let mut read = Some(read);
        for _ in 0..ATTEMPTS_MAX {
            let ReadKey {
                opened,
                key: current,
            } = match read.take() {
                Some(read) => read,
                None => self.read_key(&tenant, &id).await?,
            };
            let indexed = self.indexed(&opened, &current).await?;
            if current.is_revoked() {
                match self.see_arrive(&opened, current).await? {
                    Some(current) => return Ok(Outcome::Revoked(current)),
                    None => continue,
                }
            }
            if indexed.is_revoked() && edit.action != Action::KeyRevoked {
                self.revoke_as_indexed(&current).await?;
                continue;
            }
            etag::check("key", edit.etag, Etag::of_key(&current))?;
            let at = self.now();
            let mut key = current.clone();
            let made = (edit.change)(&opened, &mut key, at)?;
            if key == current && indexed.is_of(current.version) {
                return Ok(Outcome::Same(key));
            }
            let commit = self.edited(&opened, &current, &mut key, &indexed, (&edit, at))?;
            match self.store.commit_key(commit).await {
                Ok(()) => match self.see_arrive(&opened, key).await? {
                    Some(key) => return Ok(Outcome::Changed(key, made)),
                    // The store has fallen back to before it: it is made again.
                    None if edit.etag.is_none() => {}
                    None => return Err(RegistryError::Conflict { what: "key" }),
                },
                Err(CommitError::Conflict) if edit.etag.is_none() => {}
                // Somebody has revoked it: the next look at the index shows it.
                Err(CommitError::Revoked) => {}
                // Perhaps what is in its place is nobody's.
                Err(CommitError::Exists) if self.clear_places(&current).await? => {}
                Err(CommitError::Repeated) => {
                    return Err(RegistryError::AlreadyExists { what: "key" });
                }
                Err(error) => return Err(refused("key")(error)),
            }
        }
        Err(RegistryError::Conflict { what: "key" })
    }

    /// The commit of an edit that has made `key` of `current`.
    fn edited<F>(
        &self,
        opened: &Opened,
        current: &Key,
        key: &mut Key,
        indexed: &Indexed,
        (edit, at): (&Edit<'_, F>, Timestamp),
    ) -> Result<KeyCommit, RegistryError> {
        check_sizes(&key.scopes, key.features.as_ref(), &key.networks)?;
        key.updated_at = at;
        key.version = indexed.next_version(current.version, at);
        let entry = Entry {
            actor: edit.actor,
            action: edit.action,
            at,
            key: Some(&key.id),
            note: audit_notes::of_key_change(&edit.note, current, key),
        };
        let expected = Expected::Version(current.version);
        let request = edit
            .request
            .map(|request| request.row(opened, Some(key), at));
        let commit = KeyCommit {
            request,
            ..self.key_commit(opened, key, expected, edit.count, entry)
        };
        let mut commit = Self::with_strays(opened, key, commit, &indexed.strays);
        commit.index.extend(forgotten(opened, current, key));
        Ok(commit)
    }

    /// Revokes a key that the index has revoked: its own record has fallen back to before that.
    pub(super) async fn revoke_as_indexed(&self, key: &Key) -> Result<(), RegistryError> {
        tracing::warn!(tenant = %key.tenant, key = %key.id, "the key is revoked in the index and not in its record: it stays revoked");
        let reason = "it was revoked before: its record had fallen back to an earlier state";
        let reason = Description::parse(reason).expect("a short text is a description");
        let revoked = self.revoke_key(&Actor::Keystile, &key.tenant, &key.id, None, &reason);
        Box::pin(revoked).await.map(drop)
    }
}

/// The index entries of the generations that a change forgets.
fn forgotten(opened: &Opened, before: &Key, after: &Key) -> Vec<IndexRow> {
    let is_gone = |old: &&Generation| !after.generations.iter().any(|one| one.number == old.number);
    let gone = before.generations.iter().filter(is_gone);
    let seal = |old| records::seal_forgotten(&opened.data_key, after, old, &mut rand::rng());
    gone.map(seal).collect()
}
