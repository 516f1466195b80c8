//! Keyrings: versioned key-encryption keys (KEKs), one active, the rest open only.
//!
//! Two of them, `data` and `vault`, wrap data keys; they never touch a record. A third, `signing`, has the same form
//! and no KEKs in it: its versions sign (`signing`).
//! Its file is text, a line a fact, with a checksum at the end so that a cut or mistyped file is told apart
//! from a foreign one. Files are read and written by `keyfile`; here is only their content.

use std::collections::BTreeMap;
use std::fmt;

use data_encoding::{BASE64, HEXLOWER};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::clock::Timestamp;
use crate::crypto::digest::{LookupKey, derive};
use crate::crypto::envelope::{self, DataKey, OpenError};
use crate::crypto::secret::SecretBytes;

const FORMAT: &str = "keystile-keyring v1";
/// A keyring with 1,000 versions is smaller than this.
pub const FILE_LEN_MAX: usize = 256 * 1024;
const WRAPPED_VERSION: u8 = 1;

/// Which of the keyrings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ring {
    /// Opens records; every sidecar has it.
    Data,
    /// Opens kept tokens; the control plane alone has it.
    Vault,
    /// Signs the tenant's context for upstreams; wraps nothing. See `signing`.
    Signing,
}

impl Ring {
    /// Its word in files and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Vault => "vault",
            Self::Signing => "signing",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Data, Self::Vault, Self::Signing]
            .into_iter()
            .find(|ring| ring.as_str() == text)
    }
}

/// Why a keyring cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// It is not a keyring file, or of a later version.
    #[error("not a keyring file (its first line must be `{FORMAT}`)")]
    NotAKeyring,
    /// Its last line is missing.
    #[error("the keyring is cut short: its checksum line is missing")]
    CutShort,
    /// It was changed after it was written.
    #[error("the keyring is damaged: its checksum does not match its content")]
    Damaged,
    /// A line cannot be read, though the checksum is right.
    #[error("line {line} of the keyring is not understood: {problem}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The one ring was given where the other is needed.
    #[error("this is the `{found}` keyring, but the `{wanted}` keyring is needed here")]
    OtherRing {
        /// The ring of the file.
        found: &'static str,
        /// The ring that is needed.
        wanted: &'static str,
    },
    /// The single key of an environment variable has the wrong form.
    #[error("a key-encryption key in an environment variable must be 32 bytes in base64")]
    NotASingleKey,
}

/// Why a data key could not be unwrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnwrapError {
    /// It was wrapped by a version that this keyring does not have.
    #[error("wrapped by version {0} of the key-encryption key, which this keyring does not have")]
    UnknownVersion(u32),
    /// It does not open: damaged, moved from another tenant, or wrapped by another keyring.
    #[error("cannot unwrap the data key")]
    Broken(#[from] OpenError),
}

/// One version of the key-encryption key.
#[derive(Debug)]
struct Kek {
    created_at: Timestamp,
    secret: SecretBytes,
}

/// A keyring in memory.
pub struct Keyring {
    ring: Ring,
    id: String,
    active: u32,
    keks: BTreeMap<u32, Kek>,
    /// Tokens are looked up under it; it outlives every KEK, since rotating it would lose all tokens.
    lookup: Option<SecretBytes>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Keyring({} {}, active version {})",
            self.ring.as_str(),
            self.id,
            self.active
        )
    }
}

/// What may be shown of one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KekInfo {
    /// Counted from 1.
    pub version: u32,
    /// Whether new data keys are wrapped by it.
    pub active: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Keyring {
    /// A new keyring with one version.
    pub fn generate(ring: Ring, now: Timestamp, rng: &mut impl rand::CryptoRng) -> Self {
        let mut id = [0; 8];
        rng.fill_bytes(&mut id);
        let kek = Kek {
            created_at: now,
            secret: SecretBytes::random(rng),
        };
        let lookup = matches!(ring, Ring::Data).then(|| SecretBytes::random(rng));
        Self {
            ring,
            id: HEXLOWER.encode(&id),
            active: 1,
            keks: BTreeMap::from([(1, kek)]),
            lookup,
        }
    }

    /// A keyring of one key, for where only an environment variable can be had. It cannot be rotated.
    pub fn from_single_key(ring: Ring, base64: &str) -> Result<Self, KeyringError> {
        let secret = decode_secret(base64.trim()).ok_or(KeyringError::NotASingleKey)?;
        let id = HEXLOWER.encode(&derive(&secret, b"keystile/v1/keyring-id").expose()[..8]);
        let lookup = matches!(ring, Ring::Data).then(|| derive(&secret, b"keystile/v1/lookup"));
        let kek = Kek {
            created_at: Timestamp::from_millis(0),
            secret,
        };
        Ok(Self {
            ring,
            id,
            active: 1,
            keks: BTreeMap::from([(1, kek)]),
            lookup,
        })
    }

    /// Adds a version and makes it the active one. Those before it stay: what they have wrapped is readable for ever.
    pub fn rotate(&mut self, now: Timestamp, rng: &mut impl rand::CryptoRng) -> u32 {
        let version = self.keks.last_key_value().map_or(1, |(last, _)| last + 1);
        self.keks.insert(
            version,
            Kek {
                created_at: now,
                secret: SecretBytes::random(rng),
            },
        );
        self.active = version;
        version
    }

    /// Forgets the versions before this one. Never of a keyring that wraps: what a version has wrapped stays readable
    /// for ever.
    pub(super) fn forget_before(&mut self, oldest: u32) {
        self.keks = self.keks.split_off(&oldest);
    }

    /// When each version was made, and its key; oldest first. Every use is a place to review.
    pub(super) fn secrets(&self) -> impl Iterator<Item = (Timestamp, &SecretBytes)> {
        self.keks.values().map(|kek| (kek.created_at, &kek.secret))
    }

    /// Which of them it is.
    pub fn ring(&self) -> Ring {
        self.ring
    }

    /// Tells keyrings apart; not secret. A store remembers it, so that a foreign keyring is named as such.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What may be shown of its versions, oldest first.
    pub fn versions(&self) -> Vec<KekInfo> {
        let info = |(version, kek): (&u32, &Kek)| KekInfo {
            version: *version,
            active: *version == self.active,
            created_at: kek.created_at,
        };
        self.keks.iter().map(info).collect()
    }

    /// The key under which tokens are looked up; only the `data` keyring has one.
    pub fn lookup_key(&self) -> Option<LookupKey> {
        self.lookup.as_ref().map(LookupKey::new)
    }

    /// Wraps a tenant's data key under the active version.
    pub fn wrap(&self, tenant: &str, key: &DataKey, rng: &mut impl rand::CryptoRng) -> Vec<u8> {
        let kek = &self.keks[&self.active];
        let mut out = vec![WRAPPED_VERSION];
        out.extend_from_slice(&self.active.to_be_bytes());
        out.extend_from_slice(&key.id().to_be_bytes());
        envelope::wrap(
            &kek.secret,
            &self.aad(tenant, key.id()),
            key.secret(),
            &mut out,
            rng,
        );
        out
    }

    /// Unwraps a tenant's data key.
    pub fn unwrap(&self, tenant: &str, wrapped: &[u8]) -> Result<DataKey, UnwrapError> {
        let (version, dek_id, body) = parse_wrapped(wrapped).ok_or(OpenError::Malformed)?;
        let kek = self
            .keks
            .get(&version)
            .ok_or(UnwrapError::UnknownVersion(version))?;
        let secret = envelope::unwrap(&kek.secret, &self.aad(tenant, dek_id), body)?;
        Ok(DataKey::new(dek_id, secret))
    }

    fn aad(&self, tenant: &str, dek_id: u64) -> Vec<u8> {
        envelope::aad(&[
            b"keystile/v1",
            b"dek",
            self.ring.as_str().as_bytes(),
            tenant.as_bytes(),
            &dek_id.to_be_bytes(),
        ])
    }

    /// The content of its file. Wiped when dropped.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(
            FILE_LEN_MAX.min(256 + 128 * self.keks.len()),
        ));
        push_line(&mut text, &[FORMAT]);
        push_line(&mut text, &["ring", self.ring.as_str()]);
        push_line(&mut text, &["id", &self.id]);
        if let Some(lookup) = &self.lookup {
            push_line(&mut text, &["lookup", &encode_secret(lookup)]);
        }
        for (version, kek) in &self.keks {
            let state = if *version == self.active {
                "active"
            } else {
                "open"
            };
            let created = kek.created_at.as_millis().to_string();
            push_line(
                &mut text,
                &[
                    "kek",
                    &version.to_string(),
                    state,
                    &created,
                    &encode_secret(&kek.secret),
                ],
            );
        }
        let checksum = HEXLOWER.encode(&Sha256::digest(text.as_bytes()));
        push_line(&mut text, &["checksum", &checksum]);
        text
    }

    /// Reads the content of a file, as the ring that is wanted.
    pub fn parse(text: &str, wanted: Ring) -> Result<Self, KeyringError> {
        if text.lines().next() != Some(FORMAT) {
            return Err(KeyringError::NotAKeyring);
        }
        let body = checked_body(text)?;
        let keyring = parse_lines(body)?;
        if keyring.ring != wanted {
            return Err(KeyringError::OtherRing {
                found: keyring.ring.as_str(),
                wanted: wanted.as_str(),
            });
        }
        Ok(keyring)
    }
}

fn parse_wrapped(wrapped: &[u8]) -> Option<(u32, u64, &[u8])> {
    let (_, rest) = wrapped
        .split_first()
        .filter(|(version, _)| **version == WRAPPED_VERSION)?;
    let (kek_version, rest) = rest.split_first_chunk::<4>()?;
    let (dek_id, body) = rest.split_first_chunk::<8>()?;
    Some((
        u32::from_be_bytes(*kek_version),
        u64::from_be_bytes(*dek_id),
        body,
    ))
}

fn push_line(text: &mut String, words: &[&str]) {
    for (at, word) in words.iter().enumerate() {
        if at > 0 {
            text.push(' ');
        }
        text.push_str(word);
    }
    text.push('\n');
}

/// What the checksum line covers.
fn checked_body(text: &str) -> Result<&str, KeyringError> {
    let at = text.rfind("\nchecksum ").ok_or(KeyringError::CutShort)? + 1;
    let (body, last) = text.split_at(at);
    let found = last
        .trim_end()
        .strip_prefix("checksum ")
        .ok_or(KeyringError::CutShort)?;
    if found.len() < 64 {
        return Err(KeyringError::CutShort);
    }
    if found != HEXLOWER.encode(&Sha256::digest(body.as_bytes())) {
        return Err(KeyringError::Damaged);
    }
    Ok(body)
}

fn parse_lines(body: &str) -> Result<Keyring, KeyringError> {
    let (mut ring, mut id, mut lookup, mut active) = (None, None, None, None);
    let mut keks = BTreeMap::new();
    for (at, line) in body.lines().enumerate().skip(1) {
        let problem = |problem| KeyringError::Line {
            line: at + 1,
            problem,
        };
        match line.split(' ').collect::<Vec<_>>().as_slice() {
            ["ring", name] => {
                ring = Some(
                    Ring::parse(name).ok_or_else(|| problem("the ring is `data` or `vault`"))?,
                );
            }
            ["id", text] => id = Some((*text).to_owned()),
            ["lookup", secret] => {
                lookup =
                    Some(decode_secret(secret).ok_or_else(|| problem("not 32 bytes in base64"))?);
            }
            ["kek", version, state, created, secret] => {
                let version: u32 = version
                    .parse()
                    .map_err(|_| problem("the version is a number"))?;
                let created: i64 = created
                    .parse()
                    .map_err(|_| problem("the time is a number"))?;
                let secret =
                    decode_secret(secret).ok_or_else(|| problem("not 32 bytes in base64"))?;
                match *state {
                    "active" => active = Some(version),
                    "open" => {}
                    _ => return Err(problem("the state is `active` or `open`")),
                }
                keks.insert(
                    version,
                    Kek {
                        created_at: Timestamp::from_millis(created),
                        secret,
                    },
                );
            }
            _ => return Err(problem("not a line of this version")),
        }
    }
    let missing = |problem| KeyringError::Line {
        line: body.lines().count(),
        problem,
    };
    let ring = ring.ok_or_else(|| missing("no `ring` line"))?;
    if matches!(ring, Ring::Data) && lookup.is_none() {
        return Err(missing("no `lookup` line"));
    }
    Ok(Keyring {
        ring,
        id: id.ok_or_else(|| missing("no `id` line"))?,
        active: active.ok_or_else(|| missing("no active `kek` line"))?,
        keks,
        lookup,
    })
}

fn encode_secret(secret: &SecretBytes) -> Zeroizing<String> {
    Zeroizing::new(BASE64.encode(secret.expose()))
}

fn decode_secret(text: &str) -> Option<SecretBytes> {
    let bytes = Zeroizing::new(BASE64.decode(text.as_bytes()).ok()?);
    let mut array: [u8; 32] = bytes.as_slice().try_into().ok()?;
    Some(SecretBytes::take(&mut array))
}

#[cfg(test)]
mod tests;
