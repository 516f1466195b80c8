//! Whose token this is, from the store itself: what a sidecar would find once it has looked.

use crate::clock::Timestamp;
use crate::crypto::token::PresentedToken;
use crate::domain::key::Key;
use crate::domain::tenant::Tenant;
use crate::registry::{Registry, RegistryError};
use crate::store::records;

/// The holder of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// Whose key it is.
    pub tenant: Tenant,
    /// The key.
    pub key: Key,
    /// Which of its generations the token is of.
    pub generation: u32,
    /// The earlier of the key's expiry and the grace of the token's generation.
    pub expires_at: Option<Timestamp>,
    /// Whether the key, or this one of its tokens, never works again.
    pub is_revoked: bool,
}

impl Registry {
    /// The key whose token this is, revoked ones included; none when it is malformed or unknown.
    pub async fn prove(&self, token: &str) -> Result<Option<Proven>, RegistryError> {
        let Ok(token) = PresentedToken::parse(token.as_bytes(), &self.settings.prefixes) else {
            return Ok(None);
        };
        let digest = self.lookup.digest(token.expose());
        let Some(row) = self.store.index(digest.lookup_id()).await? else {
            return Ok(None);
        };
        let tenant = records::claimed_tenant(&row)?;
        let found = async {
            let opened = self.open(&tenant).await?;
            if !records::is_sealed_under(&opened.data_key, &row) {
                // Left behind by a tenant of that name that was deleted.
                return Err(RegistryError::NotFound { what: "key" });
            }
            let access = records::open_access(&opened.data_key, &tenant, &row)?;
            let key = match self.open_key(&opened, &access.key).await {
                // A Check does not need it, and passes.
                Err(error) if error.is_of_a_lost_key() => {
                    let known = self.known_of(&opened, row.lookup_id, &access);
                    known.ok_or(error)?
                }
                key => key?,
            };
            Ok((opened.tenant, key, access))
        };
        match found.await {
            Ok((tenant, key, access)) => Ok(digest.matches(&access.digest).then_some(Proven {
                is_revoked: access.revoked || !key.is_live(),
                tenant,
                key,
                generation: access.generation,
                expires_at: access.expires_at,
            })),
            // Deleted while we looked.
            Err(RegistryError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
