//! Secrets in memory: printed as a fixed word, wiped when dropped, never cloned or compared by accident.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// 32 bytes of key material.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct SecretBytes([u8; 32]);

impl SecretBytes {
    /// Takes the bytes over; the caller's copy is wiped.
    pub fn take(bytes: &mut [u8; 32]) -> Self {
        let secret = Self(*bytes);
        bytes.zeroize();
        secret
    }

    /// Fresh random key material.
    pub fn random(rng: &mut impl rand::CryptoRng) -> Self {
        let mut secret = Self([0; 32]);
        rng.fill_bytes(&mut secret.0);
        secret
    }

    /// The bytes themselves. Every use is a place to review.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether two secrets are the same, in time that does not depend on where they differ.
    pub fn same_as(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes(..)")
    }
}

/// Secret text, for example a token on its way to its owner.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct SecretString(String);

impl SecretString {
    /// Takes the text over.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself. Every use is a place to review.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretString(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_print_a_fixed_word() {
        assert_eq!(
            format!("{:?}", SecretString::new("hush".into())),
            "SecretString(..)"
        );
        assert_eq!(format!("{:#?}", SecretBytes([7; 32])), "SecretBytes(..)");
    }

    #[test]
    fn taking_bytes_wipes_the_original() {
        let mut bytes = [9; 32];
        let secret = SecretBytes::take(&mut bytes);
        assert_eq!((bytes, *secret.expose()), ([0; 32], [9; 32]));
    }
}
