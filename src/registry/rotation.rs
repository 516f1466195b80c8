//! Another token for a key, and a longer life for it.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Span, Timestamp};
use crate::crypto::token::Token;
use crate::domain::change::{Action, Actor};
use crate::domain::decision::is_past;
use crate::domain::key::{Delivery, GRACE_MAX, Generation, Key, KeyKind};
use crate::domain::name::{KeyId, TenantId};
use crate::registry::idempotency::{Tagged, Verb};
use crate::registry::key_changes::{Edit, Outcome};
use crate::registry::keys::ReadKey;
use crate::registry::{CreatedKey, Etag, Opened, Registry, RegistryError, RequestId};
use crate::store::CountChange;

/// When a renewed key ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewEnd {
    /// At that time.
    At(Timestamp),
    /// That long after it was renewed.
    After(Duration),
}

impl Registry {
    /// Gives a key another token. The one that it had works on for `grace`, and never past the key's expiry; an older
    /// one that was still in its grace ends now. All else of the key goes on. With a request, it is done once.
    ///
    /// An expired key is [`RegistryError::KeyExpired`]: its grace would have no time, so it is renewed first.
    pub async fn rotate_key(
        &self,
        actor: &Actor,
        tenant: &TenantId,
        id: &KeyId,
        grace: Duration,
        etag: Option<Etag>,
        request: Option<&RequestId>,
    ) -> Result<CreatedKey, RegistryError> {
        let read = self.read_key(tenant, id).await?;
        self.rotate_read_key(actor, read, grace, etag, request)
            .await
    }

    /// [`Self::rotate_key`] of a key that has been read.
    pub async fn rotate_read_key(
        &self,
        actor: &Actor,
        read: ReadKey,
        grace: Duration,
        etag: Option<Etag>,
        request: Option<&RequestId>,
    ) -> Result<CreatedKey, RegistryError> {
        let opened = Arc::clone(&read.opened);
        let tenant = &opened.tenant.id;
        if grace > GRACE_MAX {
            return Err(RegistryError::Invalid {
                field: "grace",
                problem: "must be 0 to 30 days".to_owned(),
            });
        }
        let request = request.map(|request| self.tag(Verb::RotateKey, actor, tenant, request));
        if let Some(before) = self.rotated_before(&opened, request.as_ref()).await? {
            return Ok(before);
        }
        let edit = Edit {
            actor,
            action: Action::KeyRotated,
            count: CountChange::None,
            note: format!("grace {}", Span(grace)),
            etag,
            request: request.as_ref(),
            change: |opened: &Opened, key: &mut Key, now| {
                self.rotate(opened, key, grace, Delivery::Handed, now)
            },
        };
        match self.edit_key(read, edit).await {
            Ok(Outcome::Changed(key, token)) => Ok(CreatedKey { key, token }),
            Ok(Outcome::Revoked(_)) => Err(RegistryError::KeyRevoked),
            // A new generation is never the same.
            Ok(Outcome::Same(_)) => Err(RegistryError::Conflict { what: "key" }),
            // It was done meanwhile, perhaps by this very request.
            Err(error @ (RegistryError::AlreadyExists { .. } | RegistryError::Conflict { .. })) => {
                let before = self.rotated_before(&opened, request.as_ref()).await?;
                before.ok_or(error)
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn rotate(
        &self,
        opened: &Opened,
        key: &mut Key,
        grace: Duration,
        delivery: Delivery,
        now: Timestamp,
    ) -> Result<Token, RegistryError> {
        if is_past(key.expires_at, now) {
            return Err(RegistryError::KeyExpired);
        }
        let token = self.new_token(key.kind);
        let number = key.current().map_or(0, |current| current.number) + 1;
        let next = Generation {
            delivery,
            ..self.generation(opened, key, number, &token, token.hint(), now)?
        };
        key.rotate(next, grace);
        if key.kind == KeyKind::Imported {
            // From now on its token is one of ours.
            key.kind = KeyKind::Live;
        }
        Ok(token)
    }

    /// The first answer of a rotation of the key under that request id; none if it was not done.
    pub async fn rotated_once(
        &self,
        actor: &Actor,
        read: &ReadKey,
        request: &RequestId,
    ) -> Result<Option<CreatedKey>, RegistryError> {
        let request = self.tag(Verb::RotateKey, actor, &read.key.tenant, request);
        self.rotated_before(&read.opened, Some(&request)).await
    }

    /// The first answer of a request that was done before.
    pub(super) async fn rotated_before(
        &self,
        opened: &Opened,
        request: Option<&Tagged>,
    ) -> Result<Option<CreatedKey>, RegistryError> {
        let Some(request) = request else {
            return Ok(None);
        };
        let Some((key, generation)) = self.key_made_before(opened, request).await? else {
            return Ok(None);
        };
        match self.kept_token(opened, &key, generation)? {
            Some(token) => Ok(Some(CreatedKey { key, token })),
            None => Err(RegistryError::NotKept(
                "the request was done before, and its token is not kept: ask again with another request_id",
            )),
        }
    }

    /// Puts off when a key ends; its token stays. An expired key works again. It is never made to end sooner, and
    /// asking for the end that it has changes nothing.
    pub async fn renew_key(
        &self,
        actor: &Actor,
        tenant: &TenantId,
        id: &KeyId,
        end: NewEnd,
        etag: Option<Etag>,
    ) -> Result<Key, RegistryError> {
        let read = self.read_key(tenant, id).await?;
        self.renew_read_key(actor, read, end, etag).await
    }

    /// [`Self::renew_key`] of a key that has been read.
    pub async fn renew_read_key(
        &self,
        actor: &Actor,
        read: ReadKey,
        end: NewEnd,
        etag: Option<Etag>,
    ) -> Result<Key, RegistryError> {
        let tenant = read.key.tenant.clone();
        let edit = Edit {
            actor,
            action: Action::KeyRenewed,
            count: CountChange::None,
            note: String::new(),
            etag,
            request: None,
            change: |_: &Opened, key: &mut Key, now: Timestamp| {
                let end = match end {
                    NewEnd::At(end) => end,
                    NewEnd::After(life) => now.plus(life),
                };
                let renewed = self.renew(key, end, now);
                renewed.inspect_err(|error| {
                    self.note_refused_key(actor, &tenant, (&key.owner, key.role), error);
                })
            },
        };
        match self.edit_key(read, edit).await? {
            Outcome::Changed(key, ()) | Outcome::Same(key) => Ok(key),
            Outcome::Revoked(_) => Err(RegistryError::KeyRevoked),
        }
    }

    fn renew(&self, key: &mut Key, end: Timestamp, now: Timestamp) -> Result<(), RegistryError> {
        self.check_expiry(Some(end), now)?;
        let problem = match key.expires_at {
            None => "the key never expires: there is nothing to renew".to_owned(),
            Some(present) if end < present => {
                format!("must not be before the present end, {present}: a renewal shortens no life")
            }
            Some(_) => {
                key.expires_at = Some(end);
                return Ok(());
            }
        };
        Err(RegistryError::Invalid {
            field: "expire_time",
            problem,
        })
    }
}
