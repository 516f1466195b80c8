//! Ed25519 keys for the signed context, made of the `signing` keyring, and when each of them signs and is published.
//!
//! Everything follows from the times in the file, so that all who share it agree without talking to one another: a new
//! version is published at once and signs only when whoever verifies has had time to fetch it ([`LEAD`]); the one
//! before stays published until long after its last signature has expired ([`KEPT`]).

use std::fmt;
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use ed25519_dalek::{Signature, Signer as _, SigningKey};
use sha2::{Digest as _, Sha256};

use crate::clock::Timestamp;
use crate::crypto::keyring::{KekInfo, Keyring, Ring};

/// How long a published key set may be kept before it is asked for again.
pub const MAX_AGE: Duration = Duration::from_secs(300);
/// From when a version is made until it signs: time for its file to reach every sidecar, then for [`MAX_AGE`].
pub const LEAD: Duration = Duration::from_secs(600);
/// From when a version signs no more until it is published no more: far longer than any signature is valid.
pub const KEPT: Duration = Duration::from_secs(3600);

/// One version: signs, and shows its public half.
pub struct ContextKey {
    secret: SigningKey,
    id: String,
    /// The encoded header of every token that it signs.
    header: String,
    starts_at: Timestamp,
}

impl fmt::Debug for ContextKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContextKey({})", self.id)
    }
}

impl ContextKey {
    fn new(seed: &[u8; 32], starts_at: Timestamp) -> Self {
        let secret = SigningKey::from_bytes(seed);
        let id = thumbprint(&x(&secret));
        let header = format!(r#"{{"alg":"EdDSA","kid":"{id}","typ":"JWT"}}"#);
        Self {
            secret,
            id,
            header: BASE64URL_NOPAD.encode(header.as_bytes()),
            starts_at,
        }
    }

    /// The key's id, the `kid`: its RFC 7638 thumbprint, so that no two keys of any installation share one.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Signs claims: a JWT in its compact form (RFC 7515 section 7.1).
    pub fn sign(&self, claims: &[u8]) -> String {
        let signature_len = BASE64URL_NOPAD.encode_len(ed25519_dalek::SIGNATURE_LENGTH);
        let claims_len = BASE64URL_NOPAD.encode_len(claims.len());
        let mut token = String::with_capacity(self.header.len() + claims_len + signature_len + 2);
        token.push_str(&self.header);
        token.push('.');
        BASE64URL_NOPAD.encode_append(claims, &mut token);
        let signature = self.secret.sign(token.as_bytes());
        token.push('.');
        BASE64URL_NOPAD.encode_append(&signature.to_bytes(), &mut token);
        token
    }

    /// The public half (RFC 8037 section 2).
    fn jwk(&self) -> String {
        let (id, x) = (&self.id, x(&self.secret));
        format!(
            r#"{{"kty":"OKP","crv":"Ed25519","use":"sig","alg":"EdDSA","kid":"{id}","x":"{x}"}}"#
        )
    }
}

fn x(secret: &SigningKey) -> String {
    BASE64URL_NOPAD.encode(secret.verifying_key().as_bytes())
}

/// RFC 7638: the required members in alphabetical order, without blanks.
fn thumbprint(x: &str) -> String {
    let members = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
    BASE64URL_NOPAD.encode(&Sha256::digest(members.as_bytes()))
}

/// All versions of a signing keyring. Never empty.
#[derive(Debug)]
pub struct ContextKeys {
    first: ContextKey,
    /// Oldest first.
    later: Vec<ContextKey>,
}

impl ContextKeys {
    /// The keys of the `signing` keyring; `None` for another one, whose keys must never sign.
    pub fn new(keyring: &Keyring) -> Option<Self> {
        if keyring.ring() != Ring::Signing {
            return None;
        }
        let mut keys = keyring
            .secrets()
            .map(|(created_at, seed)| ContextKey::new(seed.expose(), created_at.plus(LEAD)));
        Some(Self {
            first: keys.next()?,
            later: keys.collect(),
        })
    }

    /// The one that signs now: the newest whose time has come. A first key has nobody to wait for.
    pub fn signer(&self, now: Timestamp) -> &ContextKey {
        let due = |key: &&ContextKey| key.starts_at <= now;
        self.later.iter().rev().find(due).unwrap_or(&self.first)
    }

    /// Whether a published key of that id has signed a message; none when there is no such key.
    pub fn verify(
        &self,
        id: &str,
        message: &[u8],
        signature: &[u8],
        now: Timestamp,
    ) -> Option<bool> {
        let key = self.published(now).find(|key| key.id == id)?;
        let verified = Signature::from_slice(signature).is_ok_and(|signature| {
            key.secret
                .verifying_key()
                .verify_strict(message, &signature)
                .is_ok()
        });
        Some(verified)
    }

    fn published(&self, now: Timestamp) -> impl Iterator<Item = &ContextKey> {
        let starts: Vec<Timestamp> = self.later.iter().map(|key| key.starts_at).collect();
        let all = std::iter::once(&self.first).chain(&self.later);
        all.skip(first_kept(&starts, now))
    }

    /// The key set (RFC 7517 section 5) for whoever verifies.
    pub fn jwks(&self, now: Timestamp) -> String {
        let keys: Vec<String> = self.published(now).map(ContextKey::jwk).collect();
        format!(r#"{{"keys":[{}]}}"#, keys.join(","))
    }
}

/// Adds a version to a signing keyring, and forgets those whose signatures have all expired.
pub fn rotate(keyring: &mut Keyring, now: Timestamp, rng: &mut impl rand::CryptoRng) -> u32 {
    let version = keyring.rotate(now, rng);
    if keyring.ring() == Ring::Signing {
        keyring.forget_before(oldest_of_use(&keyring.versions(), now));
    }
    version
}

/// The oldest version that is still of use at `now`; the ones before can be forgotten.
fn oldest_of_use(versions: &[KekInfo], now: Timestamp) -> u32 {
    let start = |info: &KekInfo| info.created_at.plus(LEAD);
    let starts: Vec<Timestamp> = versions.iter().skip(1).map(start).collect();
    versions
        .get(first_kept(&starts, now))
        .map_or(0, |info| info.version)
}

/// How many keys are past use, given when each but the first starts to sign.
fn first_kept(starts: &[Timestamp], now: Timestamp) -> usize {
    let is_past = |start: &Timestamp| start.plus(KEPT) <= now;
    starts.iter().rposition(is_past).map_or(0, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::VerifyingKey;
    use serde_json::Value;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn after(seconds: u64) -> Timestamp {
        NOW.plus(Duration::from_secs(seconds))
    }

    fn keyring() -> Keyring {
        Keyring::generate(Ring::Signing, NOW, &mut rand::rng())
    }

    fn published(keys: &ContextKeys, now: Timestamp) -> Vec<String> {
        let set: Value = serde_json::from_str(&keys.jwks(now)).unwrap();
        let keys = set["keys"].as_array().unwrap().iter();
        keys.map(|key| key["kid"].as_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn the_key_of_rfc_8037_has_its_public_half_thumbprint_and_signature() {
        let seed = BASE64URL_NOPAD
            .decode(b"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")
            .unwrap();
        let mut key = ContextKey::new(seed.as_slice().try_into().unwrap(), NOW);
        let jwk: Value = serde_json::from_str(&key.jwk()).unwrap();
        assert_eq!(jwk["x"], "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
        assert_eq!(key.id(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        key.header = BASE64URL_NOPAD.encode(br#"{"alg":"EdDSA"}"#);
        assert_eq!(
            key.sign(b"Example of Ed25519 signing"),
            "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.\
             hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
        );
    }

    #[test]
    fn a_new_version_is_published_before_it_signs_and_the_old_one_after() {
        let mut keyring = keyring();
        let old = ContextKeys::new(&keyring).unwrap().first.id;
        rotate(&mut keyring, after(10), &mut rand::rng());
        let keys = ContextKeys::new(&keyring).unwrap();
        let new = keys.later[0].id();
        // Seconds after the first was made, who signs, who is published.
        let rows = [
            (10, old.as_str(), vec![old.as_str(), new]),
            (609, &old, vec![&old, new]),
            (610, new, vec![&old, new]),
            (4209, new, vec![&old, new]),
            (4210, new, vec![new]),
        ];
        for (seconds, signer, set) in rows {
            assert_eq!(keys.signer(after(seconds)).id(), signer, "{seconds}");
            assert_eq!(published(&keys, after(seconds)), set, "{seconds}");
        }
    }

    #[test]
    fn the_first_key_signs_at_once_even_when_the_clock_is_behind() {
        let keys = ContextKeys::new(&keyring()).unwrap();
        let early = Timestamp::from_millis(0);
        assert_eq!(keys.signer(early).id(), keys.first.id());
        assert_eq!(published(&keys, early), [keys.first.id()]);
    }

    #[test]
    fn a_rotation_forgets_the_versions_that_nobody_needs() {
        let mut keyring = keyring();
        let versions = |keyring: &Keyring| -> Vec<u32> {
            keyring.versions().iter().map(|info| info.version).collect()
        };
        rotate(&mut keyring, after(10), &mut rand::rng());
        rotate(&mut keyring, after(4209), &mut rand::rng());
        assert_eq!(versions(&keyring), [1, 2, 3]);
        rotate(&mut keyring, after(4210), &mut rand::rng());
        assert_eq!(versions(&keyring), [2, 3, 4]);
        let read = Keyring::parse(&keyring.to_text(), Ring::Signing).unwrap();
        assert_eq!(versions(&read), [2, 3, 4]);
    }

    #[test]
    fn only_the_signing_keyring_signs() {
        for ring in [Ring::Data, Ring::Vault] {
            let keyring = Keyring::generate(ring, NOW, &mut rand::rng());
            assert!(ContextKeys::new(&keyring).is_none());
        }
    }

    #[test]
    fn what_is_signed_verifies_and_nothing_else_does() {
        let keys = ContextKeys::new(&keyring()).unwrap();
        let key = keys.signer(NOW);
        let token = key.sign(b"{}");
        let (message, signature) = token.rsplit_once('.').unwrap();
        let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap();
        let signature = Signature::from_slice(&signature).unwrap();
        let jwk: Value = serde_json::from_str(&key.jwk()).unwrap();
        let x = BASE64URL_NOPAD.decode(jwk["x"].as_str().unwrap().as_bytes());
        let public = VerifyingKey::try_from(x.unwrap().as_slice()).unwrap();
        assert!(public.verify_strict(message.as_bytes(), &signature).is_ok());
        assert!(public.verify_strict(b"e30.e30", &signature).is_err());
        let (bytes, message) = (signature.to_bytes(), message.as_bytes());
        for (id, message, bytes, expected) in [
            (key.id(), message, &bytes[..], Some(true)),
            (key.id(), b"e30.e30", &bytes, Some(false)),
            (key.id(), message, &bytes[1..], Some(false)),
            ("another", message, &bytes, None),
        ] {
            assert_eq!(keys.verify(id, message, bytes, NOW), expected);
        }
    }

    #[test]
    fn nothing_secret_shows_in_debug() {
        let keys = ContextKeys::new(&keyring()).unwrap();
        let id = keys.first.id();
        assert_eq!(
            format!("{keys:?}"),
            format!("ContextKeys {{ first: ContextKey({id}), later: [] }}")
        );
    }
}
