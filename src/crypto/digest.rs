//! How a token is recognised without being stored: HMAC-SHA-256 under the lookup key.

use std::fmt;

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::crypto::secret::SecretBytes;
use crate::domain::key::LookupId;

/// The key under which tokens are looked up, its schedule kept, so that a digest costs two compressions.
pub struct LookupKey {
    tokens: Hmac<Sha256>,
    owners: Hmac<Sha256>,
    requests: Hmac<Sha256>,
}

impl fmt::Debug for LookupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LookupKey(..)")
    }
}

impl LookupKey {
    /// Prepares the key.
    pub fn new(secret: &SecretBytes) -> Self {
        Self {
            tokens: keyed(secret.expose()),
            owners: keyed(derive(secret, b"keystile/v1/owner").expose()),
            requests: keyed(derive(secret, b"keystile/v1/request").expose()),
        }
    }

    /// The digest of a token.
    pub fn digest(&self, token: &str) -> TokenDigest {
        let mut mac = self.tokens.clone();
        mac.update(token.as_bytes());
        TokenDigest(mac.finalize().into_bytes().into())
    }

    /// A tag that stands for an owner in counters, so that the store does not learn the name.
    pub fn owner_tag(&self, tenant: &str, owner: &str) -> [u8; 16] {
        let mut mac = self.owners.clone();
        // A tenant id has no NUL: the two parts cannot run into each other.
        mac.update(tenant.as_bytes());
        mac.update(&[0]);
        mac.update(owner.as_bytes());
        first_half(&mac.finalize().into_bytes().into())
    }

    /// A tag that stands for a request of a caller, so that the store learns of neither.
    pub fn request_tag(&self, parts: &[&[u8]]) -> [u8; 16] {
        let mut mac = self.requests.clone();
        for part in parts {
            // The length first: the parts cannot run into each other.
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        first_half(&mac.finalize().into_bytes().into())
    }
}

/// The HMAC of a token: whoever has it cannot make the token of it.
#[derive(Clone, Copy)]
pub struct TokenDigest([u8; 32]);

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest(..)")
    }
}

impl TokenDigest {
    /// Where the record of this token is.
    pub fn lookup_id(&self) -> LookupId {
        LookupId(first_half(&self.0))
    }

    /// The whole digest, to be sealed in a record.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether it is the digest of the record, in constant time.
    pub fn matches(&self, recorded: &[u8; 32]) -> bool {
        self.0.ct_eq(recorded).into()
    }
}

fn first_half(digest: &[u8; 32]) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&digest[..16]);
    half
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes a key of any length (RFC 2104)")
}

/// A sub-key for one purpose (HKDF-SHA-256, RFC 5869).
pub(crate) fn derive(secret: &SecretBytes, purpose: &[u8]) -> SecretBytes {
    let mut out = [0; 32];
    Hkdf::<Sha256>::new(None, secret.expose())
        .expand(purpose, &mut out)
        .expect("32 bytes are within HKDF's limit of 255 blocks");
    SecretBytes::take(&mut out)
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    #[test]
    fn hmac_gives_the_published_vectors() {
        // RFC 4231 section 4: test cases 1, 2, 3 and 6.
        let cases: [(&[u8], &[u8], &str); 4] = [
            (
                &[0x0b; 20],
                b"Hi There",
                "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
            ),
            (
                b"Jefe",
                b"what do ya want for nothing?",
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                &[0xaa; 20],
                &[0xdd; 50],
                "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
            ),
            (
                &[0xaa; 131],
                b"Test Using Larger Than Block-Size Key - Hash Key First",
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
        ];
        for (key, data, expected) in cases {
            let mut mac = keyed(key);
            mac.update(data);
            assert_eq!(HEXLOWER.encode(&mac.finalize().into_bytes()), expected);
        }
    }

    #[test]
    fn a_token_is_found_by_the_first_16_bytes_of_its_digest() {
        let key = LookupKey::new(&SecretBytes::take(&mut [7; 32]));
        let digest = key.digest("ks_live_example");
        assert_eq!(digest.lookup_id().0, digest.as_bytes()[..16]);
        assert!(digest.matches(digest.as_bytes()));
        assert!(!digest.matches(key.digest("ks_live_examplf").as_bytes()));
    }

    #[test]
    fn request_tags_are_of_all_their_parts() {
        let key = LookupKey::new(&SecretBytes::take(&mut [7; 32]));
        let tag = |parts: &[&str]| {
            let parts: Vec<_> = parts.iter().map(|part| part.as_bytes()).collect();
            key.request_tag(&parts)
        };
        assert_eq!(tag(&["create", "acme"]), tag(&["create", "acme"]));
        assert_ne!(tag(&["create", "acme"]), tag(&["createa", "cme"]));
        assert_ne!(tag(&["create", "acme"]), tag(&["create", "acme", ""]));
    }

    #[test]
    fn owner_tags_do_not_collide_across_tenants() {
        let key = LookupKey::new(&SecretBytes::take(&mut [7; 32]));
        assert_ne!(key.owner_tag("acme", "al"), key.owner_tag("acmea", "l"));
        assert_ne!(key.owner_tag("acme", "al"), key.owner_tag("acme", "bo"));
    }
}
