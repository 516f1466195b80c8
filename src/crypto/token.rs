//! The text form of an API key: `<prefix>_<43 base62 of 32 random bytes><6 base62 of CRC-32 of all before>`.
//!
//! The checksum refuses typing errors and guesses with no I/O and gives secret scanners a rule.
//! DO NOT CHANGE the prefixes' shape, the alphabet or the lengths: tokens in the field depend on them.

use std::fmt;

use zeroize::Zeroizing;

use crate::crypto::secret::SecretString;

/// Digits before upper before lower case, as in ASCII.
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// 62^43 > 2^256: 43 characters hold 32 bytes.
const SECRET_LEN: usize = 43;
/// 62^6 > 2^32: 6 characters hold a CRC-32.
const CHECKSUM_LEN: usize = 6;
/// Shorter texts are too easy to guess to be taken for a token, even an imported one.
pub const TOKEN_LEN_MIN: usize = 16;
/// Longer texts are refused before they are read.
pub const TOKEN_LEN_MAX: usize = 512;
/// How much of the secret an operator may see: 4 characters of 43, which leaves 232 bits unknown.
pub(crate) const HINT_LEN: usize = 4;

/// The words that our tokens begin with, without the underscore that follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenPrefixes {
    /// For production, by default `ks_live`.
    pub live: String,
    /// For trying out, by default `ks_test`.
    pub test: String,
}

impl Default for TokenPrefixes {
    fn default() -> Self {
        Self {
            live: "ks_live".into(),
            test: "ks_test".into(),
        }
    }
}

impl TokenPrefixes {
    /// What follows our prefix, if the text has one of them.
    fn strip<'a>(&self, text: &'a str) -> Option<&'a str> {
        [&self.live, &self.test]
            .into_iter()
            .find_map(|prefix| text.strip_prefix(prefix.as_str())?.strip_prefix('_'))
    }

    /// Whether something in the text claims to be a token of ours.
    pub fn appear_in(&self, text: &[u8]) -> bool {
        [&self.live, &self.test].into_iter().any(|prefix| {
            let prefix = [prefix.as_bytes(), b"_"].concat();
            text.windows(prefix.len()).any(|window| window == prefix)
        })
    }
}

/// Why a text cannot be a token. One word, because the client is told nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a well-formed API key")]
pub struct MalformedToken;

/// A token that we made, on its way to its owner. No `Display`, no `Clone`.
#[derive(Debug)]
pub struct Token(SecretString);

impl Token {
    /// Makes a new token from 32 random bytes.
    pub fn generate(prefix: &str, rng: &mut impl rand::CryptoRng) -> Self {
        let mut bytes = Zeroizing::new([0_u8; 32]);
        rng.fill_bytes(bytes.as_mut());
        Self::from_bytes(prefix, &bytes)
    }

    fn from_bytes(prefix: &str, bytes: &[u8; 32]) -> Self {
        let mut text = String::with_capacity(prefix.len() + 1 + SECRET_LEN + CHECKSUM_LEN);
        text.push_str(prefix);
        text.push('_');
        push_base62(&mut text, bytes);
        let checksum = checksum(&text);
        text.extend(checksum.map(char::from));
        Self(SecretString::new(text))
    }

    /// A token that was kept sealed.
    pub(crate) fn kept(text: String) -> Self {
        Self(SecretString::new(text))
    }

    /// The text, for the one answer that shows it.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// The first characters, to recognise it by.
    pub fn hint(&self) -> String {
        let text = self.0.expose();
        let shown = (text.len() + HINT_LEN).saturating_sub(SECRET_LEN + CHECKSUM_LEN);
        text[..shown].to_owned()
    }
}

/// A text that a client sent and that could be a token: bounded, of the right alphabet, its checksum right.
#[derive(Clone, Copy)]
pub struct PresentedToken<'a>(&'a str);

impl fmt::Debug for PresentedToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresentedToken(..)")
    }
}

impl<'a> PresentedToken<'a> {
    /// Refuses what cannot be a token, with no I/O: RFC 6750 b64token characters, 16 to 512 bytes,
    /// and the exact form and checksum for what begins with one of our prefixes.
    pub fn parse(text: &'a [u8], prefixes: &TokenPrefixes) -> Result<Self, MalformedToken> {
        if !(TOKEN_LEN_MIN..=TOKEN_LEN_MAX).contains(&text.len()) || !is_b64token(text) {
            return Err(MalformedToken);
        }
        let text = std::str::from_utf8(text).map_err(|_| MalformedToken)?;
        match prefixes.strip(text) {
            Some(rest) if !is_ours(text, rest) => Err(MalformedToken),
            // A text without our prefix may be an imported token: only the lookup can tell.
            Some(_) | None => Ok(Self(text)),
        }
    }

    /// The text, to be hashed.
    pub fn expose(&self) -> &'a str {
        self.0
    }

    /// The first characters of a token that another system made, to recognise it by.
    pub fn imported_hint(&self) -> String {
        self.0[..HINT_LEN].to_owned()
    }
}

fn is_ours(text: &str, rest: &str) -> bool {
    rest.len() == SECRET_LEN + CHECKSUM_LEN
        && rest.bytes().all(|b| b.is_ascii_alphanumeric())
        && text.as_bytes()[text.len() - CHECKSUM_LEN..]
            == checksum(&text[..text.len() - CHECKSUM_LEN])
}

/// b64token = 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"=" (RFC 6750 section 2.1).
fn is_b64token(text: &[u8]) -> bool {
    let padding = text.iter().rev().take_while(|b| **b == b'=').count();
    let body = &text[..text.len() - padding];
    !body.is_empty()
        && body
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || b"-._~+/".contains(b))
}

/// CRC-32 (ISO-HDLC, as in zip and PNG) of the text, as six base62 characters.
fn checksum(text: &str) -> [u8; CHECKSUM_LEN] {
    let mut crc = crc32fast::hash(text.as_bytes());
    let mut out = [0; CHECKSUM_LEN];
    for digit in out.iter_mut().rev() {
        *digit = ALPHABET[(crc % 62) as usize];
        crc /= 62;
    }
    out
}

/// Appends 32 bytes as 43 base62 characters, big end first, by long division.
fn push_base62(text: &mut String, bytes: &[u8; 32]) {
    let mut number = Zeroizing::new(*bytes);
    let mut digits = Zeroizing::new([0_u8; SECRET_LEN]);
    for digit in digits.iter_mut().rev() {
        let remainder = number.iter_mut().fold(0_u32, |carry, byte| {
            let value = (carry << 8) | u32::from(*byte);
            *byte = u8::try_from(value / 62).expect("carry < 62, so the quotient fits a byte");
            value % 62
        });
        *digit = ALPHABET[remainder as usize];
    }
    text.extend(digits.iter().copied().map(char::from));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parses(text: &str) -> bool {
        PresentedToken::parse(text.as_bytes(), &TokenPrefixes::default()).is_ok()
    }

    #[test]
    fn the_checksum_is_the_published_crc_32() {
        assert_eq!(
            crc32fast::hash(b"123456789"),
            0xCBF4_3926,
            "CRC-32/ISO-HDLC check value"
        );
        // 0xCBF43926 = 3421780262 in base 62
        assert_eq!(&checksum("123456789"), b"3jZRME");
    }

    #[test]
    fn zero_and_all_ones_have_the_full_length() {
        let zero = Token::from_bytes("ks_live", &[0; 32]);
        assert!(
            zero.expose()
                .starts_with(&format!("ks_live_{}", "0".repeat(43)))
        );
        let ones = Token::from_bytes("ks_test", &[0xff; 32]);
        assert_eq!(ones.expose().len(), "ks_test_".len() + 43 + 6);
        assert!(parses(zero.expose()) && parses(ones.expose()));
    }

    #[test]
    fn the_hint_shows_four_characters_of_the_secret() {
        let token = Token::from_bytes("ks_live", &[0xff; 32]);
        assert_eq!(token.hint(), token.expose()[..12]);
    }

    #[test]
    fn imported_tokens_have_the_allowed_characters_and_length() {
        for good in ["abcdefghijklmnop", "A-Z.a_z~0+9/0123==", &"x".repeat(512)] {
            assert!(parses(good), "{good}");
        }
        let long = "x".repeat(513);
        for bad in [
            "",
            "short",
            "abcdefgh,ijklmnop",
            "abcdefgh ijklmnop",
            "abcdefgh=ijklmnop",
            "================",
            "käyttäjäavain123",
            long.as_str(),
        ] {
            assert!(!parses(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_generated_parses_and_any_one_changed_character_does_not(
            bytes: [u8; 32], at in 8_usize..57, to in "[0-9A-Za-z]",
        ) {
            let token = Token::from_bytes("ks_live", &bytes);
            prop_assert!(parses(token.expose()));
            let mut changed = token.expose().to_owned();
            changed.replace_range(at..=at, &to);
            prop_assert_eq!(parses(&changed), changed == token.expose());
        }

        #[test]
        fn no_input_makes_the_parser_panic(text: Vec<u8>) {
            let _parsed = PresentedToken::parse(&text, &TokenPrefixes::default());
        }
    }
}
