//! The tokens of keys: made, kept sealed, and found again.

use crate::clock::Timestamp;
use crate::crypto::envelope::DataKey;
use crate::crypto::token::Token;
use crate::domain::change::{Action, Actor};
use crate::domain::key::{Delivery, Generation, Key, KeyKind};
use crate::registry::{CreatedKey, Opened, ReadKey, Registry, RegistryError, refused};
use crate::store::records::{self, RecordError};

/// Why there is no token to reveal, and what can be done.
const NO_VAULT: &str = "this control plane keeps no tokens: it has no vault keyring, or `tokens.secret_retention` is none";
const NO_VAULT_THEN: &str =
    "the tenant was made where tokens are not kept, so none of its tokens is";
const NOT_SEALED: &str =
    "the token was made where tokens are not kept: rotate the key to have one that is";

impl Registry {
    /// The current token of a key again. That it was shown is in the audit before it is.
    pub async fn reveal_key(
        &self,
        actor: &Actor,
        read: &ReadKey,
    ) -> Result<CreatedKey, RegistryError> {
        if self.vault.is_none() {
            return Err(RegistryError::NotKept(NO_VAULT));
        }
        let ReadKey { opened, key } = read;
        if !key.is_live() {
            return Err(RegistryError::KeyRevoked);
        }
        if opened.wrapped.vault.is_empty() {
            return Err(RegistryError::NotKept(NO_VAULT_THEN));
        }
        let number = key.current().map_or(0, |current| current.number);
        let token = self
            .kept_token(opened, key, number)?
            .ok_or(RegistryError::NotKept(NOT_SEALED))?;
        let note = format!("generation {number}");
        let about = (&key.tenant, Some(&key.id));
        self.append_entry(actor, about, Action::KeyRevealed, &note)
            .await
            .map_err(refused("tenant"))?;
        let key = key.clone();
        Ok(CreatedKey { key, token })
    }

    pub(super) fn new_token(&self, kind: KeyKind) -> Token {
        let prefix = match kind {
            KeyKind::Test => &self.settings.prefixes.test,
            KeyKind::Live | KeyKind::Imported => &self.settings.prefixes.live,
        };
        Token::generate(prefix, &mut rand::rng())
    }

    /// A generation of a key with that token.
    pub(super) fn generation(
        &self,
        opened: &Opened,
        key: &Key,
        number: u32,
        token: &Token,
        hint: String,
        now: Timestamp,
    ) -> Result<Generation, RegistryError> {
        let digest = self.lookup.digest(token.expose());
        Ok(Generation {
            number,
            lookup_id: digest.lookup_id(),
            digest: *digest.as_bytes(),
            hint,
            created_at: now,
            retires_at: None,
            sealed_token: self.keep_token(opened, key, number, token)?,
            delivery: Delivery::Handed,
        })
    }

    /// The token, sealed for `RevealKey`; none when there is no vault, or the tenant was made without one.
    fn keep_token(
        &self,
        opened: &Opened,
        key: &Key,
        generation: u32,
        token: &Token,
    ) -> Result<Option<Vec<u8>>, RegistryError> {
        let Some(vault_key) = self.vault_key(opened)? else {
            return Ok(None);
        };
        Ok(Some(records::seal_token(
            &vault_key,
            key,
            generation,
            token.expose(),
            &mut rand::rng(),
        )))
    }

    /// The key that tokens of the tenant are kept under; none when there is no vault, or the tenant was made
    /// without one.
    fn vault_key(&self, opened: &Opened) -> Result<Option<DataKey>, RegistryError> {
        let (Some(vault), false) = (&self.vault, opened.wrapped.vault.is_empty()) else {
            return Ok(None);
        };
        let tenant = &opened.tenant.id;
        let opened = vault.unwrap(tenant.as_str(), &opened.wrapped.vault);
        let key = opened.map_err(|source| RecordError::DataKey {
            tenant: tenant.clone(),
            source,
        })?;
        Ok(Some(key))
    }

    /// The token of a generation, if it is kept.
    pub(super) fn kept_token(
        &self,
        opened: &Opened,
        key: &Key,
        generation: u32,
    ) -> Result<Option<Token>, RegistryError> {
        let mut generations = key.generations.iter();
        let found = generations.find(|kept| kept.number == generation);
        let sealed = found.and_then(|found| found.sealed_token.as_ref());
        let (Some(vault), Some(sealed)) = (self.vault_key(opened)?, sealed) else {
            return Ok(None);
        };
        let token = records::open_token(&vault, key, generation, sealed)?;
        Ok(Some(token))
    }
}
