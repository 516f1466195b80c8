//! The public keys of an issuer, as it publishes them (JWKS, RFC 7517).

use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

use super::signature;

/// The largest document that is read.
pub const KEY_SET_BYTES_MAX: usize = 256 * 1024;
/// Issuers publish a handful: the key in use, the one before and the next.
const KEYS_MAX: usize = 100;
/// What signatures of RSA can be checked with.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Keys that signatures can be checked with; at least one.
#[derive(Clone, Debug)]
pub struct KeySet {
    keys: Vec<Key>,
    unusable: usize,
}

/// Why a document is no key set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// Larger than is read.
    #[error("is larger than {KEY_SET_BYTES_MAX} bytes")]
    TooLarge,
    /// Something else.
    #[error("is not a key set: JSON such as {{\"keys\": [{{\"kty\": \"RSA\", …}}]}} is expected")]
    NotAKeySet,
    /// More keys than is reasonable.
    #[error("has {0} keys; at most {KEYS_MAX} are read")]
    TooMany(usize),
    /// No key that a signature can be checked with.
    #[error(
        "has no key that can be used: RSA of 2048 to 8192 bits, EC (P-256, P-384) or Ed25519, for signatures"
    )]
    NoneUsable,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

/// A public key.
#[derive(Clone, Debug)]
pub(super) struct Key {
    kid: Option<String>,
    /// The only algorithm that it is for, if the issuer says so.
    only: Option<String>,
    kind: Kind,
    decoding: DecodingKey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Rsa,
    P256,
    P384,
    Ed25519,
}

impl KeySet {
    /// Reads a document. Keys for other purposes, and of kinds that we do not know, are left out.
    pub fn parse(document: &[u8]) -> Result<Self, KeySetError> {
        if document.len() > KEY_SET_BYTES_MAX {
            return Err(KeySetError::TooLarge);
        }
        let document: Document =
            serde_json::from_slice(document).map_err(|_| KeySetError::NotAKeySet)?;
        let count = document.keys.len();
        if count > KEYS_MAX {
            return Err(KeySetError::TooMany(count));
        }
        let keys: Vec<Key> = document.keys.iter().filter_map(Key::parse).collect();
        if keys.is_empty() {
            return Err(KeySetError::NoneUsable);
        }
        let unusable = count - keys.len();
        Ok(Self { keys, unusable })
    }

    /// How many keys there are.
    #[expect(clippy::len_without_is_empty, reason = "it never is")]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// How many were left out.
    pub fn unusable(&self) -> usize {
        self.unusable
    }

    /// Whether the Ed25519 key of that id has signed a message; none when there is no such key.
    pub fn verify_ed25519(&self, kid: &str, message: &[u8], signature: &[u8]) -> Option<bool> {
        let mut known = self.keys.iter().filter(|key| key.is_for(Algorithm::EdDSA));
        let key = known.find(|key| key.kid.as_deref() == Some(kid))?;
        Some(signature::ed25519(&key.decoding, message, signature))
    }

    /// The keys that may have signed a token of this name and algorithm. A token that names no key is taken only when
    /// there is no choice.
    pub(super) fn candidates(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> impl Iterator<Item = &Key> {
        let fitting = self.keys.iter().filter(move |key| key.is_for(algorithm));
        let alone = kid.is_some() || fitting.clone().count() == 1;
        fitting.filter(move |key| alone && (kid.is_none() || key.kid.as_deref() == kid))
    }
}

impl Key {
    fn parse(value: &Value) -> Option<Self> {
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        let is_for_signatures = value.get("use").is_none_or(|purpose| purpose == "sig");
        let verifies = value.get("key_ops").is_none_or(|operations| {
            let all = operations.as_array().map(Vec::as_slice);
            all.unwrap_or_default().iter().any(|one| one == "verify")
        });
        if !is_for_signatures || !verifies {
            return None;
        }
        let bytes = |name: &str| BASE64URL_NOPAD.decode(text(name)?.as_bytes()).ok();
        let coordinate = |name: &str, len: usize| bytes(name).filter(|bytes| bytes.len() == len);
        let (kind, decoding) = match (text("kty")?, text("crv")) {
            ("RSA", _) => {
                let (modulus, exponent) = (bytes("n")?, bytes("e")?);
                let modulus = &modulus[modulus.iter().position(|byte| *byte != 0)?..];
                let bits = modulus.len() * 8 - modulus[0].leading_zeros() as usize;
                let usable = RSA_BITS.contains(&bits) && !exponent.is_empty();
                let key = DecodingKey::from_rsa_raw_components(modulus, &exponent);
                (Kind::Rsa, usable.then_some(key)?)
            }
            ("EC", Some("P-256")) => (
                Kind::P256,
                point(&coordinate("x", 32)?, &coordinate("y", 32)?),
            ),
            ("EC", Some("P-384")) => (
                Kind::P384,
                point(&coordinate("x", 48)?, &coordinate("y", 48)?),
            ),
            ("OKP", Some("Ed25519")) => (
                Kind::Ed25519,
                DecodingKey::from_ed_der(&coordinate("x", 32)?),
            ),
            _ => return None,
        };
        Some(Self {
            kid: text("kid").map(str::to_owned),
            only: text("alg").map(str::to_owned),
            kind,
            decoding,
        })
    }

    pub(super) fn decoding(&self) -> &DecodingKey {
        &self.decoding
    }

    fn is_for(&self, algorithm: Algorithm) -> bool {
        let kind = match algorithm {
            Algorithm::ES256 => Some(Kind::P256),
            Algorithm::ES384 => Some(Kind::P384),
            Algorithm::EdDSA => Some(Kind::Ed25519),
            Algorithm::RS256
            | Algorithm::RS384
            | Algorithm::RS512
            | Algorithm::PS256
            | Algorithm::PS384
            | Algorithm::PS512 => Some(Kind::Rsa),
            _ => None,
        };
        let named = self.only.as_deref().map(str::parse::<Algorithm>);
        Some(self.kind) == kind && named.is_none_or(|only| only.is_ok_and(|only| only == algorithm))
    }
}

/// An uncompressed point (SEC 1).
fn point(x: &[u8], y: &[u8]) -> DecodingKey {
    DecodingKey::from_ec_der(&[&[4][..], x, y].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    const P256: &str = r#"{"kty":"EC","crv":"P-256","x":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","y":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA""#;

    fn rsa(bytes: usize) -> String {
        let n = BASE64URL_NOPAD.encode(&vec![0xff; bytes]);
        format!(r#"{{"kty":"RSA","n":"{n}","e":"AQAB"}}"#)
    }

    #[test]
    fn keys_that_cannot_check_a_signature_are_left_out() {
        for (key, usable) in [
            (format!("{P256}}}"), true),
            (format!(r#"{P256},"use":"sig","key_ops":["verify"],"alg":"ES256"}}"#), true),
            (format!(r#"{P256},"use":"enc"}}"#), false),
            (format!(r#"{P256},"use":7}}"#), false),
            (format!(r#"{P256},"key_ops":["encrypt"]}}"#), false),
            (P256.replace("P-256", "P-384") + "}", false),
            (P256.replace("P-256", "P-521") + "}", false),
            (P256.replace("P-256", "secp256k1") + "}", false),
            (r#"{"kty":"oct","k":"c2VjcmV0"}"#.to_owned(), false),
            (r#"{"kty":"OKP","crv":"Ed25519","x":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}"#.to_owned(), true),
            (r#"{"kty":"OKP","crv":"X25519","x":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}"#.to_owned(), false),
            (r#"{"kty":"OKP","crv":"Ed25519","x":"AAAA"}"#.to_owned(), false),
            (rsa(256), true),
            (rsa(128), false),
            (rsa(1025), false),
            (r#"{"kty":"RSA","n":"AAAA","e":"AQAB"}"#.to_owned(), false),
            (r#"{"kty":"RSA","n":"!","e":"AQAB"}"#.to_owned(), false),
            ("{}".to_owned(), false),
            ("7".to_owned(), false),
        ] {
            let good = rsa(384);
            let set = KeySet::parse(format!(r#"{{"keys":[{key},{good}]}}"#).as_bytes()).unwrap();
            assert_eq!((set.len(), set.unusable()), (1 + usize::from(usable), usize::from(!usable)), "{key}");
        }
    }

    #[test]
    fn a_document_that_is_no_key_set_says_what_it_is() {
        let huge = format!(r#"{{"keys":[],"x":"{}"}}"#, "x".repeat(KEY_SET_BYTES_MAX));
        let many = format!(r#"{{"keys":[{}]}}"#, vec![rsa(256); KEYS_MAX + 1].join(","));
        for (document, expected) in [
            ("", KeySetError::NotAKeySet),
            ("<html>", KeySetError::NotAKeySet),
            ("{}", KeySetError::NotAKeySet),
            (r#"{"keys":{}}"#, KeySetError::NotAKeySet),
            (r#"{"keys":[]}"#, KeySetError::NoneUsable),
            (
                r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#,
                KeySetError::NoneUsable,
            ),
            (&huge, KeySetError::TooLarge),
            (&many, KeySetError::TooMany(KEYS_MAX + 1)),
        ] {
            assert_eq!(KeySet::parse(document.as_bytes()).unwrap_err(), expected);
        }
    }
}
