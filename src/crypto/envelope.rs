//! Sealed records: AES-256-GCM under a data key, bound to what they are and where they belong.
//!
//! Layout: `1 | kind | tenant | key_id | generation | dek id | nonce | ciphertext and tag`. The clear header is
//! only what is needed to open the rest. The AAD is `keystile/v1 | kind | tenant | key_id | generation | lookup id`,
//! each part with its length before it: a record moved to another tenant, key, generation or index entry does not open.

use std::fmt;

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use zeroize::Zeroizing;

use crate::crypto::secret::SecretBytes;
use crate::domain::key::LookupId;

/// The first byte of every sealed record; a reader that does not know it refuses.
const VERSION: u8 = 1;
const NONCE_LEN: usize = 12;
const TAG_LEN: usize = 16;
/// A record beyond this is not ours. Also the bound on what is read from a store.
pub const SEALED_LEN_MAX: usize = 256 * 1024;

/// What a sealed record holds. The numbers are stored: never change one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A tenant.
    Tenant = 1,
    /// A key: the source of truth.
    Key = 2,
    /// What a Check needs of one generation.
    Index = 3,
    /// A token kept for `RevealKey`, under the vault data key.
    Token = 4,
    /// An audit entry.
    Audit = 5,
    /// What came of a request that may be repeated.
    Request = 6,
}

impl Kind {
    fn parse(byte: u8) -> Option<Self> {
        [
            Self::Tenant,
            Self::Key,
            Self::Index,
            Self::Token,
            Self::Audit,
            Self::Request,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// Why a record did not open. The cause stays with the operator; a client is only told that its key is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Cut short, of another version, or not a sealed record at all.
    #[error("not a sealed record of a known version")]
    Malformed,
    /// Sealed under another data key, for example before the tenant was deleted and made again.
    #[error("sealed under another data key")]
    OtherDataKey,
    /// Changed, moved, or sealed for another place.
    #[error("the seal is broken")]
    Broken,
}

/// A tenant's data key (DEK), its key schedule kept.
pub struct DataKey {
    id: u64,
    secret: SecretBytes,
    cipher: Aes256Gcm,
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey(..)")
    }
}

impl DataKey {
    /// A new data key with a random id.
    pub fn generate(rng: &mut impl rand::CryptoRng) -> Self {
        Self::new(rng.next_u64(), SecretBytes::random(rng))
    }

    pub(crate) fn new(id: u64, secret: SecretBytes) -> Self {
        let cipher = Aes256Gcm::new(secret.expose().into());
        Self { id, secret, cipher }
    }

    /// Which data key this is; in clear beside everything that it sealed.
    pub fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn secret(&self) -> &SecretBytes {
        &self.secret
    }
}

/// Where a record belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// What it holds.
    pub kind: Kind,
    /// Whose it is.
    pub tenant: &'a str,
    /// Of which key; empty for a tenant's own records.
    pub key: &'a str,
    /// Of which generation; 0 where there is none.
    pub generation: u32,
    /// Under which lookup id it is stored; only for index records and, with their tag, for requests.
    pub lookup_id: Option<LookupId>,
}

impl Place<'_> {
    fn aad(&self) -> Vec<u8> {
        let lookup: &[u8] = self.lookup_id.as_ref().map_or(&[], |id| &id.0);
        aad(&[
            b"keystile/v1",
            &[self.kind as u8],
            self.tenant.as_bytes(),
            self.key.as_bytes(),
            &self.generation.to_be_bytes(),
            lookup,
        ])
    }
}

/// Each part with its length before it, so that no two lists of parts give the same bytes.
pub(crate) fn aad(parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::with_capacity(parts.iter().map(|part| part.len() + 4).sum());
    for part in parts {
        let len = u32::try_from(part.len()).expect("an AAD part is a name of at most 128 bytes");
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(part);
    }
    out
}

/// Seals `plain` for `place`.
pub fn seal(
    key: &DataKey,
    place: &Place<'_>,
    plain: &[u8],
    rng: &mut impl rand::CryptoRng,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(place.tenant.len() + place.key.len() + 44 + plain.len());
    out.push(VERSION);
    out.push(place.kind as u8);
    for name in [place.tenant, place.key] {
        out.push(u8::try_from(name.len()).expect("names are at most 63 bytes"));
        out.extend_from_slice(name.as_bytes());
    }
    out.extend_from_slice(&place.generation.to_be_bytes());
    out.extend_from_slice(&key.id.to_be_bytes());
    seal_into(&mut out, &key.cipher, &place.aad(), plain, rng);
    out
}

/// Appends `nonce | ciphertext | tag`.
fn seal_into(
    out: &mut Vec<u8>,
    cipher: &Aes256Gcm,
    aad: &[u8],
    plain: &[u8],
    rng: &mut impl rand::CryptoRng,
) {
    let mut nonce = [0; NONCE_LEN];
    rng.fill_bytes(&mut nonce);
    out.extend_from_slice(&nonce);
    let start = out.len();
    out.extend_from_slice(plain);
    let tag = cipher
        .encrypt_inout_detached(&Nonce::from(nonce), aad, out[start..].as_mut().into())
        .expect(
            "GCM seals up to 64 GiB (SP 800-38D section 5.2.1.1); records are bounded far below",
        );
    out.extend_from_slice(&tag);
}

fn open_body(cipher: &Aes256Gcm, aad: &[u8], body: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let (nonce, sealed) = body
        .split_first_chunk::<NONCE_LEN>()
        .ok_or(OpenError::Malformed)?;
    let (sealed, tag) = sealed
        .split_last_chunk::<TAG_LEN>()
        .ok_or(OpenError::Malformed)?;
    let mut plain = Zeroizing::new(sealed.to_vec());
    cipher
        .decrypt_inout_detached(
            &Nonce::from(*nonce),
            aad,
            plain.as_mut_slice().into(),
            &(*tag).into(),
        )
        .map_err(|_| OpenError::Broken)?;
    Ok(plain)
}

/// The clear header of a sealed record: a claim, until the record has been opened for that place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// What it claims to hold.
    pub kind: Kind,
    /// Whose it claims to be.
    pub tenant: &'a str,
    /// Of which key.
    pub key: &'a str,
    /// Of which generation.
    pub generation: u32,
    /// Under which data key it was sealed.
    pub dek_id: u64,
}

/// Reads the header and what follows it.
pub fn header(sealed: &[u8]) -> Result<(Header<'_>, &[u8]), OpenError> {
    parse_header(sealed)
        .filter(|_| sealed.len() <= SEALED_LEN_MAX)
        .ok_or(OpenError::Malformed)
}

fn parse_header(sealed: &[u8]) -> Option<(Header<'_>, &[u8])> {
    let (&[version, kind], rest) = sealed.split_first_chunk::<2>()?;
    let kind = Kind::parse(kind).filter(|_| version == VERSION)?;
    let (tenant, rest) = short_text(rest)?;
    let (key, rest) = short_text(rest)?;
    let (generation, rest) = rest.split_first_chunk::<4>()?;
    let (dek_id, body) = rest.split_first_chunk::<8>()?;
    let header = Header {
        kind,
        tenant,
        key,
        generation: u32::from_be_bytes(*generation),
        dek_id: u64::from_be_bytes(*dek_id),
    };
    Some((header, body))
}

fn short_text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (&len, rest) = bytes.split_first()?;
    let (text, rest) = rest.split_at_checked(usize::from(len))?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

/// Opens a record for the place where it was found.
///
/// The header only chooses the error: what decides is whether the seal holds for `place`.
pub fn open(
    key: &DataKey,
    place: &Place<'_>,
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let (header, body) = header(sealed)?;
    if header.dek_id != key.id {
        return Err(OpenError::OtherDataKey);
    }
    if (header.kind, header.tenant, header.key, header.generation)
        != (place.kind, place.tenant, place.key, place.generation)
    {
        return Err(OpenError::Broken);
    }
    open_body(&key.cipher, &place.aad(), body)
}

/// Seals one key under another: how keyrings wrap data keys.
pub(crate) fn wrap(
    kek: &SecretBytes,
    aad: &[u8],
    secret: &SecretBytes,
    out: &mut Vec<u8>,
    rng: &mut impl rand::CryptoRng,
) {
    seal_into(
        out,
        &Aes256Gcm::new(kek.expose().into()),
        aad,
        secret.expose(),
        rng,
    );
}

/// Opens what [`wrap`] sealed.
pub(crate) fn unwrap(kek: &SecretBytes, aad: &[u8], body: &[u8]) -> Result<SecretBytes, OpenError> {
    let plain = open_body(&Aes256Gcm::new(kek.expose().into()), aad, body)?;
    let mut bytes: [u8; 32] = plain
        .as_slice()
        .try_into()
        .map_err(|_| OpenError::Malformed)?;
    Ok(SecretBytes::take(&mut bytes))
}

#[cfg(test)]
mod tests;
