//! Rows to domain and back: the one place where records are sealed and opened.

use crate::crypto::digest::LookupKey;
use crate::crypto::envelope::{self, DataKey, Kind, OpenError, Place};
use crate::crypto::keyring::{Keyring, UnwrapError};
use crate::crypto::token::Token;
use crate::domain::access::KeyAccess;
use crate::domain::change::Change;
use crate::domain::key::{Generation, Key, LookupId};
use crate::domain::name::{KeyId, TenantId};
use crate::domain::tenant::Tenant;
use crate::domain::version::Version;
use crate::store::codec::{self, DecodeError, FirstAnswer};
use crate::store::damage::{Damage, Entry};
use crate::store::{IndexRow, KeyRow, TenantRow};

/// Why a stored record cannot be used. For the operator; a client is not told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A key is there, and the record of its tenant is gone without having been deleted.
    #[error("the record of tenant {0} is gone, and keys of it are there: restore its data")]
    NoTenant(TenantId),
    /// The tenant's data key does not unwrap.
    #[error("cannot unwrap the data key of tenant {tenant}")]
    DataKey {
        /// Whose.
        tenant: TenantId,
        /// Why.
        #[source]
        source: UnwrapError,
    },
    /// The record does not open: damaged, moved or forged.
    #[error("cannot open the {what} record")]
    Seal {
        /// Which kind of record.
        what: &'static str,
        /// Why.
        #[source]
        source: OpenError,
    },
    /// It opens and cannot be read.
    #[error(transparent)]
    Content(#[from] DecodeError),
    /// The version inside the seal is not the one beside it: somebody put an old row back, or a new number on it.
    #[error("the {what} record has version {sealed} inside its seal and {stored} outside")]
    Version {
        /// Which kind of record.
        what: &'static str,
        /// The one inside.
        sealed: Version,
        /// The one outside.
        stored: Version,
    },
}

impl RecordError {
    /// Which kind of record it is.
    pub fn entry(&self) -> Entry {
        let what = match self {
            Self::DataKey { .. } => return Entry::Tenant,
            Self::Seal { what, .. } | Self::Version { what, .. } => what,
            Self::Content(error) => error.what,
            Self::NoTenant(_) => "tenant",
        };
        match what {
            "tenant" => Entry::Tenant,
            "index" | "access record" => Entry::Index,
            "request" => Entry::Request,
            "audit" => Entry::Audit,
            _ => Entry::Key,
        }
    }
}

impl Damage {
    /// Counts and logs, as [`Damage::met`] does, a record that does not open.
    pub fn unopened(&self, tenant: &TenantId, error: &RecordError) {
        let what = crate::telemetry::chain(error);
        self.met(error.entry(), Some(tenant), &what);
    }
}

fn seal_error(what: &'static str) -> impl Fn(OpenError) -> RecordError {
    move |source| RecordError::Seal { what, source }
}

fn check_version(what: &'static str, sealed: Version, stored: Version) -> Result<(), RecordError> {
    if sealed == stored {
        Ok(())
    } else {
        Err(RecordError::Version {
            what,
            sealed,
            stored,
        })
    }
}

fn tenant_place(tenant: &TenantId) -> Place<'_> {
    Place {
        kind: Kind::Tenant,
        tenant: tenant.as_str(),
        key: "",
        generation: 0,
        lookup_id: None,
    }
}

fn key_place<'a>(tenant: &'a TenantId, key: &'a KeyId) -> Place<'a> {
    Place {
        kind: Kind::Key,
        key: key.as_str(),
        ..tenant_place(tenant)
    }
}

fn token_place<'a>(tenant: &'a TenantId, key: &'a KeyId, generation: u32) -> Place<'a> {
    Place {
        kind: Kind::Token,
        generation,
        ..key_place(tenant, key)
    }
}

/// Opens a tenant and its data key.
pub fn open_tenant(keyring: &Keyring, row: &TenantRow) -> Result<(Tenant, DataKey), RecordError> {
    let data_key = keyring
        .unwrap(row.id.as_str(), &row.data_dek)
        .map_err(|source| RecordError::DataKey {
            tenant: row.id.clone(),
            source,
        })?;
    // In clear beside it, and what changes are held against: one that is not the data key's own would keep revocations out.
    if data_key.id() != row.dek_id {
        return Err(seal_error("tenant")(OpenError::OtherDataKey));
    }
    let plain = envelope::open(&data_key, &tenant_place(&row.id), &row.body)
        .map_err(seal_error("tenant"))?;
    let tenant = codec::decode_tenant(&row.id, data_key.id(), &plain)?;
    check_version("tenant", tenant.version, row.version)?;
    Ok((tenant, data_key))
}

/// A tenant's row with its clear fields as they are sealed in it, if it opens at all; and its data key.
pub fn put_right_tenant(keyring: &Keyring, row: &TenantRow) -> Option<(TenantRow, DataKey)> {
    let data_key = keyring.unwrap(row.id.as_str(), &row.data_dek).ok()?;
    let mut right = row.clone();
    right.dek_id = data_key.id();
    if let Err(RecordError::Version { sealed, .. }) = open_tenant(keyring, &right) {
        right.version = sealed;
    }
    let (_, data_key) = open_tenant(keyring, &right).ok()?;
    Some((right, data_key))
}

/// A key's row with its version as it is sealed in it, if it opens at all.
pub fn put_right_key(data_key: &DataKey, tenant: &TenantId, row: &KeyRow) -> Option<KeyRow> {
    let mut right = row.clone();
    if let Err(RecordError::Version { sealed, .. }) = open_key(data_key, tenant, &right) {
        right.version = sealed;
    }
    open_key(data_key, tenant, &right).ok().map(|_| right)
}

/// Seals a tenant under its data key, which `like` carries wrapped.
pub fn seal_tenant(
    data_key: &DataKey,
    tenant: &Tenant,
    like: &WrappedKeys,
    rng: &mut impl rand::CryptoRng,
) -> TenantRow {
    let plain = zeroize::Zeroizing::new(codec::encode_tenant(tenant));
    TenantRow {
        id: tenant.id.clone(),
        version: tenant.version,
        dek_id: data_key.id(),
        data_dek: like.data.clone(),
        vault_dek: like.vault.clone(),
        body: envelope::seal(data_key, &tenant_place(&tenant.id), &plain, rng),
    }
}

/// A tenant's data keys as they are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedKeys {
    /// By the `data` keyring.
    pub data: Vec<u8>,
    /// By the `vault` keyring; empty when tokens are not kept.
    pub vault: Vec<u8>,
}

/// Opens a key.
pub fn open_key(data_key: &DataKey, tenant: &TenantId, row: &KeyRow) -> Result<Key, RecordError> {
    let plain = envelope::open(data_key, &key_place(tenant, &row.id), &row.body)
        .map_err(seal_error("key"))?;
    let key = codec::decode_key(tenant, &row.id, &plain)?;
    check_version("key", key.version, row.version)?;
    Ok(key)
}

/// Seals a key.
pub fn seal_key(data_key: &DataKey, key: &Key, rng: &mut impl rand::CryptoRng) -> KeyRow {
    let body = envelope::seal(
        data_key,
        &key_place(&key.tenant, &key.id),
        &codec::encode_key(key),
        rng,
    );
    KeyRow {
        id: key.id.clone(),
        version: key.version,
        body,
    }
}

/// Whose index record this claims to be: needed to choose the data key that proves it.
pub fn claimed_tenant(row: &IndexRow) -> Result<TenantId, RecordError> {
    let (header, _) = envelope::header(&row.body).map_err(seal_error("index"))?;
    TenantId::parse(header.tenant).map_err(|_| seal_error("index")(OpenError::Malformed))
}

/// Whether an index record claims to be sealed under that data key.
pub fn is_sealed_under(data_key: &DataKey, row: &IndexRow) -> bool {
    envelope::header(&row.body).is_ok_and(|(header, _)| header.dek_id == data_key.id())
}

/// Whether an index record claims to be one of that key.
pub fn claims_to_be(row: &IndexRow, tenant: &TenantId, key: &KeyId) -> bool {
    envelope::header(&row.body)
        .is_ok_and(|(header, _)| header.tenant == tenant.as_str() && header.key == key.as_str())
}

/// Opens an index record at the lookup id where it was found.
pub fn open_access(
    data_key: &DataKey,
    tenant: &TenantId,
    row: &IndexRow,
) -> Result<KeyAccess, RecordError> {
    let (header, _) = envelope::header(&row.body).map_err(seal_error("index"))?;
    let key = KeyId::parse(header.key).map_err(|_| seal_error("index")(OpenError::Malformed))?;
    let place = Place {
        kind: Kind::Index,
        generation: header.generation,
        lookup_id: Some(row.lookup_id),
        ..key_place(tenant, &key)
    };
    let plain = envelope::open(data_key, &place, &row.body).map_err(seal_error("index"))?;
    let mut access = codec::decode_access(tenant, &key, header.generation, &plain)?;
    check_version("index", access.version, row.version)?;
    access.revoked |= row.revoked;
    Ok(access)
}

/// Derives and seals the index record of every generation of a key.
pub fn seal_index(data_key: &DataKey, key: &Key, rng: &mut impl rand::CryptoRng) -> Vec<IndexRow> {
    key.generations
        .iter()
        .map(|generation| seal_access(data_key, key, generation, rng))
        .collect()
}

fn seal_access(
    data_key: &DataKey,
    key: &Key,
    generation: &Generation,
    rng: &mut impl rand::CryptoRng,
) -> IndexRow {
    seal_row(data_key, key, &access(key, generation), generation, rng)
}

/// What stays of a generation that its key forgets: nobody opens anything with its token, and nobody takes it over.
pub fn seal_forgotten(
    data_key: &DataKey,
    key: &Key,
    generation: &Generation,
    rng: &mut impl rand::CryptoRng,
) -> IndexRow {
    let access = KeyAccess {
        revoked: true,
        forgotten: true,
        scopes: Default::default(),
        features: None,
        networks: Vec::new(),
        ..access(key, generation)
    };
    seal_row(data_key, key, &access, generation, rng)
}

fn access(key: &Key, generation: &Generation) -> KeyAccess {
    KeyAccess {
        tenant: key.tenant.clone(),
        key: key.id.clone(),
        generation: generation.number,
        digest: generation.digest,
        version: key.version,
        others: others(key, generation),
        elder: elder(key, generation),
        revoked: key.is_revoked(),
        forgotten: false,
        expires_at: [key.expires_at, generation.retires_at]
            .into_iter()
            .flatten()
            .min(),
        paused: key.pause.as_ref().map(|pause| pause.end),
        owner: key.owner.clone(),
        role: key.role,
        scopes: key.scopes.clone(),
        features: key.features.clone(),
        networks: key.networks.clone(),
        limits: key.limits,
        budget: key.budget.clone(),
    }
}

fn seal_row(
    data_key: &DataKey,
    key: &Key,
    access: &KeyAccess,
    generation: &Generation,
    rng: &mut impl rand::CryptoRng,
) -> IndexRow {
    let place = Place {
        kind: Kind::Index,
        generation: generation.number,
        lookup_id: Some(generation.lookup_id),
        ..key_place(&key.tenant, &key.id)
    };
    let body = envelope::seal(data_key, &place, &codec::encode_access(access), rng);
    IndexRow {
        lookup_id: generation.lookup_id,
        version: access.version,
        revoked: key.is_revoked(),
        body,
    }
}

/// Where the generations of a key are found beside that one.
fn others(key: &Key, generation: &Generation) -> Vec<LookupId> {
    let all = key.generations.iter().map(|one| one.lookup_id);
    all.filter(|id| *id != generation.lookup_id).collect()
}

/// Where the oldest generation of a key is found, if that one is younger.
fn elder(key: &Key, generation: &Generation) -> Option<LookupId> {
    let oldest = key.generations.iter().min_by_key(|one| one.number)?;
    (oldest.number < generation.number).then_some(oldest.lookup_id)
}

/// Seals a token under the vault data key, so that only the control plane can ever show it again.
pub fn seal_token(
    vault_key: &DataKey,
    key: &Key,
    generation: u32,
    token: &str,
    rng: &mut impl rand::CryptoRng,
) -> Vec<u8> {
    envelope::seal(
        vault_key,
        &token_place(&key.tenant, &key.id, generation),
        token.as_bytes(),
        rng,
    )
}

/// Opens a token that [`seal_token`] sealed.
pub fn open_token(
    vault_key: &DataKey,
    key: &Key,
    generation: u32,
    sealed: &[u8],
) -> Result<Token, RecordError> {
    let place = token_place(&key.tenant, &key.id, generation);
    let plain = envelope::open(vault_key, &place, sealed).map_err(seal_error("token"))?;
    let text = std::str::from_utf8(&plain).map_err(|_| seal_error("token")(OpenError::Broken))?;
    Ok(Token::kept(text.to_owned()))
}

fn request_place(tenant: &TenantId, tag: [u8; 16]) -> Place<'_> {
    Place {
        kind: Kind::Request,
        lookup_id: Some(LookupId(tag)),
        ..tenant_place(tenant)
    }
}

/// Seals what came of a request.
pub fn seal_done(
    data_key: &DataKey,
    tenant: &TenantId,
    tag: [u8; 16],
    done: &FirstAnswer,
    rng: &mut impl rand::CryptoRng,
) -> Vec<u8> {
    let place = request_place(tenant, tag);
    envelope::seal(data_key, &place, &codec::encode_done(done), rng)
}

/// Opens what came of a request.
pub fn open_done(
    data_key: &DataKey,
    tenant: &TenantId,
    tag: [u8; 16],
    sealed: &[u8],
) -> Result<FirstAnswer, RecordError> {
    let place = request_place(tenant, tag);
    let plain = envelope::open(data_key, &place, sealed).map_err(seal_error("request"))?;
    Ok(codec::decode_done(&plain)?)
}

/// Seals an audit entry.
pub fn seal_change(
    data_key: &DataKey,
    tenant: &TenantId,
    change: &Change,
    rng: &mut impl rand::CryptoRng,
) -> Vec<u8> {
    let place = Place {
        kind: Kind::Audit,
        ..tenant_place(tenant)
    };
    envelope::seal(data_key, &place, &codec::encode_change(change), rng)
}

/// Stands for an owner in counters.
pub fn owner_tag(lookup: &LookupKey, key: &Key) -> [u8; 16] {
    lookup.owner_tag(key.tenant.as_str(), key.owner.as_str())
}
