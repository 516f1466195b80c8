//! The registry's keys.

use std::collections::BTreeSet;

use ipnet::IpNet;

use crate::clock::Timestamp;
use crate::crypto::token::Token;
use crate::domain::change::{Action, Actor};
use crate::domain::key::{Generation, Key, KeyKind, KeyStatus, NETWORKS_MAX, SCOPES_MAX};
use crate::domain::name::{Description, DisplayName, Feature, KeyId, Owner, Scope, TenantId};
use crate::domain::role::Role;
use crate::domain::tenant::FEATURES_MAX;
use crate::registry::{ATTEMPTS_MAX, Entry, Opened, Registry, RegistryError, check_etag, refused};
use crate::store::records::{self, RecordError};
use crate::store::{CountChange, Expected, KeyCommit};

/// What a new key is made of.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// For people.
    pub display_name: DisplayName,
    /// For people; may be empty.
    pub description: Description,
    /// The user it belongs to.
    pub owner: Owner,
    /// What its holder may do on the admin API.
    pub role: Role,
    /// Live or test.
    pub kind: KeyKind,
    /// What it may do.
    pub scopes: BTreeSet<Scope>,
    /// If set, only these of the tenant's features.
    pub features: Option<BTreeSet<Feature>>,
    /// If not empty, the only networks it may be used from.
    pub networks: Vec<IpNet>,
    /// When it stops working, if ever.
    pub expires_at: Option<Timestamp>,
}

impl NewKey {
    /// A live key of that name, owner and role and nothing else.
    pub fn named(display_name: DisplayName, owner: Owner, role: Role) -> Self {
        Self {
            display_name,
            description: Description::parse("").expect("an empty description is allowed"),
            owner,
            role,
            kind: KeyKind::Live,
            scopes: BTreeSet::new(),
            features: None,
            networks: Vec::new(),
            expires_at: None,
        }
    }
}

/// A key that was just made, and its token: the only time that it is seen.
#[derive(Debug)]
pub struct CreatedKey {
    /// What operators know of it.
    pub key: Key,
    /// For its owner.
    pub token: Token,
}

impl Registry {
    /// Makes a key and its token.
    pub async fn create_key(
        &self,
        actor: &Actor,
        tenant: &TenantId,
        new: NewKey,
    ) -> Result<CreatedKey, RegistryError> {
        self.create_key_if(Expected::New, actor, tenant, new).await
    }

    /// Makes the first key of a tenant; [`RegistryError::AlreadyExists`] when it has ever had one.
    pub async fn create_first_key(
        &self,
        actor: &Actor,
        tenant: &TenantId,
        new: NewKey,
    ) -> Result<CreatedKey, RegistryError> {
        self.create_key_if(Expected::FirstOfTenant, actor, tenant, new)
            .await
    }

    async fn create_key_if(
        &self,
        expected: Expected,
        actor: &Actor,
        tenant: &TenantId,
        new: NewKey,
    ) -> Result<CreatedKey, RegistryError> {
        let now = self.now();
        check_new(&new, now)?;
        let opened = self.open(tenant).await?;
        let token = self.new_token(new.kind);
        let key = self.assemble(&opened, new, &token, now)?;
        let entry = Entry {
            actor,
            action: Action::KeyCreated,
            at: now,
            key: Some(&key.id),
            note: String::new(),
        };
        // The rules for how many keys an owner may have are not configured yet: nothing is refused.
        let count = CountChange::Add {
            per_owner: u64::MAX,
            total: None,
        };
        self.commit_key(&opened, &key, expected, count, entry)
            .await?;
        Ok(CreatedKey { key, token })
    }

    fn new_token(&self, kind: KeyKind) -> Token {
        let prefix = match kind {
            KeyKind::Test => &self.settings.prefixes.test,
            KeyKind::Live | KeyKind::Imported => &self.settings.prefixes.live,
        };
        Token::generate(prefix, &mut rand::rng())
    }

    fn assemble(
        &self,
        opened: &Opened,
        new: NewKey,
        token: &Token,
        now: Timestamp,
    ) -> Result<Key, RegistryError> {
        let digest = self.lookup.digest(token.expose());
        let mut key = Key {
            tenant: opened.tenant.id.clone(),
            id: new_key_id(),
            display_name: new.display_name,
            description: new.description,
            owner: new.owner,
            role: new.role,
            kind: new.kind,
            status: KeyStatus::Active,
            scopes: new.scopes,
            features: new.features,
            networks: new.networks,
            expires_at: new.expires_at,
            generations: Vec::with_capacity(1),
            created_at: now,
            updated_at: now,
            version: 1,
        };
        let sealed_token = self.keep_token(opened, &key, 1, token)?;
        key.generations.push(Generation {
            number: 1,
            lookup_id: digest.lookup_id(),
            digest: *digest.as_bytes(),
            hint: token.hint(),
            created_at: now,
            retires_at: None,
            sealed_token,
        });
        Ok(key)
    }

    /// The token, sealed for `RevealKey`; none when there is no vault, or the tenant was made without one.
    fn keep_token(
        &self,
        opened: &Opened,
        key: &Key,
        generation: u32,
        token: &Token,
    ) -> Result<Option<Vec<u8>>, RegistryError> {
        let Some(vault) = self
            .vault
            .as_ref()
            .filter(|_| !opened.wrapped.vault.is_empty())
        else {
            return Ok(None);
        };
        let vault_key = vault
            .unwrap(key.tenant.as_str(), &opened.wrapped.vault)
            .map_err(|source| RecordError::DataKey {
                tenant: key.tenant.clone(),
                source,
            })?;
        Ok(Some(records::seal_token(
            &vault_key,
            key,
            generation,
            token.expose(),
            &mut rand::rng(),
        )))
    }

    /// A key of a tenant.
    pub async fn key(&self, tenant: &TenantId, id: &KeyId) -> Result<Key, RegistryError> {
        let opened = self.open(tenant).await?;
        self.open_key(&opened, id).await
    }

    async fn open_key(&self, opened: &Opened, id: &KeyId) -> Result<Key, RegistryError> {
        let row = self
            .store
            .key(&opened.tenant.id, id)
            .await?
            .ok_or(RegistryError::NotFound { what: "key" })?;
        Ok(records::open_key(
            &opened.data_key,
            &opened.tenant.id,
            &row,
        )?)
    }

    /// Keys of a tenant in the order of their ids, after `after`, at most `limit`.
    pub async fn keys(
        &self,
        tenant: &TenantId,
        after: Option<&KeyId>,
        limit: usize,
    ) -> Result<Vec<Key>, RegistryError> {
        let opened = self.open(tenant).await?;
        let rows = self.store.keys(tenant, after, limit).await?;
        rows.iter()
            .map(|row| Ok(records::open_key(&opened.data_key, tenant, row)?))
            .collect()
    }

    /// Makes a key stop working for good, all its generations. Revoking a revoked key changes nothing.
    pub async fn revoke_key(
        &self,
        actor: &Actor,
        tenant: &TenantId,
        id: &KeyId,
        etag: Option<u64>,
        reason: &Description,
    ) -> Result<Key, RegistryError> {
        for attempt in 1.. {
            let opened = self.open(tenant).await?;
            let mut key = self.open_key(&opened, id).await?;
            if !key.is_live() {
                return Ok(key);
            }
            check_etag("key", etag, key.version)?;
            let expected = Expected::Version(key.version);
            let at = self.now();
            key.status = KeyStatus::Revoked {
                at,
                reason: reason.clone(),
            };
            key.updated_at = at;
            key.version += 1;
            let entry = Entry {
                actor,
                action: Action::KeyRevoked,
                at,
                key: Some(id),
                note: reason.to_string(),
            };
            match self
                .commit_key(&opened, &key, expected, CountChange::Remove, entry)
                .await
            {
                Err(RegistryError::Conflict { .. }) if etag.is_none() && attempt < ATTEMPTS_MAX => {
                }
                result => return result.map(|()| key),
            }
        }
        Err(RegistryError::Conflict { what: "key" })
    }

    async fn commit_key(
        &self,
        opened: &Opened,
        key: &Key,
        expected: Expected,
        count: CountChange,
        entry: Entry<'_>,
    ) -> Result<(), RegistryError> {
        let commit = KeyCommit {
            tenant: key.tenant.clone(),
            dek_id: opened.data_key.id(),
            expected,
            row: records::seal_key(&opened.data_key, key, &mut rand::rng()),
            index: records::seal_index(&opened.data_key, key, &mut rand::rng()),
            owner_tag: records::owner_tag(&self.lookup, key),
            count,
            audit: Self::audit(&opened.data_key, &key.tenant, entry),
        };
        self.store.commit_key(commit).await.map_err(refused("key"))
    }
}

/// 96 random bits as 20 characters of lower-case base32.
fn new_key_id() -> KeyId {
    let mut bytes = [0; 12];
    rand::Rng::fill_bytes(&mut rand::rng(), &mut bytes);
    let text = data_encoding::BASE32_NOPAD
        .encode(&bytes)
        .to_ascii_lowercase();
    KeyId::parse(&text).expect("base32 is within a-z and 2-7, and 12 bytes make 20 characters")
}

fn check_new(new: &NewKey, now: Timestamp) -> Result<(), RegistryError> {
    let invalid = |field, problem| Err(RegistryError::Invalid { field, problem });
    if new.scopes.len() > SCOPES_MAX {
        return invalid("scopes", format!("at most {SCOPES_MAX} are allowed"));
    }
    if new.networks.len() > NETWORKS_MAX {
        return invalid("allow_cidrs", format!("at most {NETWORKS_MAX} are allowed"));
    }
    if new
        .features
        .as_ref()
        .is_some_and(|features| features.len() > FEATURES_MAX)
    {
        return invalid("features", format!("at most {FEATURES_MAX} are allowed"));
    }
    match new.expires_at {
        Some(end) if end <= now => invalid("expire_time", "must be in the future".into()),
        Some(end) if end > Timestamp::MAX => {
            invalid("expire_time", "must be before the year 10000".into())
        }
        Some(_) | None => Ok(()),
    }
}
