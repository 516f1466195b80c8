//! Taking over tokens that another system made, and saying of one that cannot be whose it is.

use crate::crypto::token::{PresentedToken, TOKEN_LEN_MAX, TOKEN_LEN_MIN};
use crate::domain::change::Actor;
use crate::domain::decision::is_past;
use crate::domain::key::Key;
use crate::domain::name::{KeyId, Owner, TenantId};
use crate::domain::role::Role;
use crate::registry::idempotency::Verb;
use crate::registry::keys::{Creation, TokenSource};
use crate::registry::{NewKey, Opened, Proven, Registry, RegistryError, RequestId};
use crate::store::{CountChange, CountScope};

/// The key that a token belongs to already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenHolder {
    /// Its tenant.
    pub tenant: TenantId,
    /// The key.
    pub key: KeyId,
    /// The user it belongs to.
    pub owner: Owner,
    /// Whether it opens anything with this token.
    pub state: TokenState,
}

/// Whether a token that is known works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenState {
    /// It does.
    Works,
    /// Its key is paused.
    Paused,
    /// Its key is past its expiry, or it was replaced by a rotation.
    Expired,
    /// It never will again.
    Revoked,
}

impl Registry {
    /// Makes a key of a token that another system made. A token that any key has or had is
    /// [`RegistryError::TokenTaken`]. With a request, it is done once.
    pub async fn import_key(
        &self,
        actor: &Actor,
        tenant: &TenantId,
        new: NewKey,
        token: &str,
        request: Option<&RequestId>,
    ) -> Result<Key, RegistryError> {
        let presented = self.importable(token)?;
        let opened = self.open(tenant).await?;
        let request = request.map(|request| self.tag(Verb::ImportKey, actor, tenant, request));
        if let Some(request) = &request
            && let Some((key, _)) = self.key_made_before(&opened, request).await?
        {
            return Ok(key);
        }
        let (owner, role) = (new.owner.clone(), new.role);
        let creation = Creation {
            token: TokenSource::Imported(presented),
            request: request.as_ref(),
            ..Creation::new(new)
        };
        let error = match self.make_key(actor, &opened, creation).await {
            Ok(made) => return Ok(made.key),
            Err(error) => error,
        };
        let RegistryError::AlreadyExists { .. } = error else {
            return Err(error);
        };
        if let Some(request) = &request
            && let Some((key, _)) = self.key_made_before(&opened, request).await?
        {
            return Ok(key);
        }
        let taken = self.taken(&opened, (&owner, role), token).await;
        Err(taken.inspect_err(|error| {
            self.note_refused_key(actor, tenant, (&owner, role), error);
        })?)
    }

    /// Whose the token is. Where one more key of the owner would be too many, whether another tenant has it is not
    /// found out: or who is at its limit could ask of any number of tokens, and none of them would become a key.
    async fn taken(
        &self,
        opened: &Opened,
        (owner, role): (&Owner, Role),
        token: &str,
    ) -> Result<RegistryError, RegistryError> {
        let tenant = &opened.tenant.id;
        let holder = self.prove(token).await?.map(|proven| self.holder(proven));
        if holder
            .as_ref()
            .is_none_or(|holder| holder.tenant != *tenant)
        {
            self.check_room(opened, owner, role).await?;
        }
        Ok(RegistryError::TokenTaken(holder.map(Box::new)))
    }

    fn holder(&self, proven: Proven) -> TokenHolder {
        let state = if proven.is_revoked {
            TokenState::Revoked
        } else if is_past(proven.expires_at, self.now()) {
            TokenState::Expired
        } else if proven.key.is_paused(self.now()) {
            TokenState::Paused
        } else {
            TokenState::Works
        };
        TokenHolder {
            tenant: proven.key.tenant,
            key: proven.key.id,
            owner: proven.key.owner,
            state,
        }
    }

    /// Refuses as a commit would, if the owner or all tenants have as many keys as they may.
    async fn check_room(
        &self,
        opened: &Opened,
        owner: &Owner,
        role: Role,
    ) -> Result<(), RegistryError> {
        let CountChange::Add { per_owner, total } = self.room(&opened.tenant, role)? else {
            return Ok(());
        };
        let tenant = &opened.tenant;
        let tag = self.lookup.owner_tag(tenant.id.as_str(), owner.as_str());
        let (of_owner, of_all) = self.store.live_keys(&tenant.id, tag).await?;
        let full = [
            (CountScope::Owner, per_owner, of_owner),
            (CountScope::Total, total.unwrap_or(u64::MAX), of_all),
        ];
        match full
            .into_iter()
            .find(|(_, limit, current)| current >= limit)
        {
            Some((scope, limit, current)) => {
                Err(self.count_limit(tenant, role, scope, (limit, current)))
            }
            None => Ok(()),
        }
    }

    fn importable<'a>(&self, token: &'a str) -> Result<PresentedToken<'a>, RegistryError> {
        PresentedToken::parse(token.as_bytes(), &self.settings.prefixes)
            .map_err(|_| not_importable())
    }
}

/// What is said of a token that is malformed, and of one of which nothing may be said.
pub(crate) fn not_importable() -> RegistryError {
    RegistryError::Invalid {
        field: "token",
        problem: format!(
            "must be {TOKEN_LEN_MIN} to {TOKEN_LEN_MAX} characters of A-Z a-z 0-9 - . _ ~ + / and = at its end, with \
             the right checksum if it begins like a token of Keystile, and must never have been in use here"
        ),
    }
}
