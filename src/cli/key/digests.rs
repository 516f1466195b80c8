//! Texts that look like what a system keeps of its tokens, not like the tokens: hashes and encodings.
//!
//! Whoever imports them makes each a key that works, for everybody who has ever seen a dump of that system.

use data_encoding::{
    BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD, Encoding, HEXLOWER, HEXUPPER,
};

use crate::crypto::token::TokenPrefixes;

/// Fewer bytes of readable text may be chance.
const ENCODED_LEN_MIN: usize = 10;

/// What a text looks like, if it is not like a token.
pub(super) fn resembles(token: &str) -> Option<&'static str> {
    if TokenPrefixes::default().appear_in(token.as_bytes()) {
        return None;
    }
    let bare = labelled(token);
    of_hex(bare)
        .or_else(|| of_base64(bare))
        .or_else(|| (bare.len() < token.len()).then_some("a hash"))
}

/// Hashes of passwords; they have characters that no token may have, so nothing makes them tokens.
pub(super) fn is_password_hash(text: &str) -> bool {
    let scheme = text.starts_with('{') && text.contains('}');
    let words = [
        "pbkdf2", "scrypt", "argon2", "bcrypt", "sha1", "sha256", "sha512", "md5",
    ];
    let named = words.iter().any(|word| {
        let rest = text
            .get(..word.len())
            .filter(|start| start.eq_ignore_ascii_case(word));
        rest.is_some() && text.contains(['$', ':'])
    });
    text.starts_with('$') || scheme || named
}

/// Without a word such as `sha256-` or `0x` before it.
fn labelled(token: &str) -> &str {
    let lower = token.to_ascii_lowercase();
    let labels = [
        "sha1-", "sha224-", "sha256-", "sha384-", "sha512-", "sha-256-", "sha-512-", "md5-", "0x",
    ];
    let label = labels.iter().find(|label| lower.starts_with(*label));
    label.map_or(token, |label| &token[label.len()..])
}

fn of_hex(token: &str) -> Option<&'static str> {
    let letters = token.bytes().any(|b| b.is_ascii_alphabetic());
    let bytes = [&HEXLOWER, &HEXUPPER]
        .into_iter()
        .find_map(|hex| hex.decode(token.as_bytes()).ok())?;
    match (letters, bytes.len()) {
        (true, 16) => Some("an MD5 hash"),
        (true, 20) => Some("a SHA-1 hash"),
        (true, 28 | 32) => Some("a SHA-256 hash"),
        (true, 48 | 64) => Some("a SHA-512 hash"),
        _ => None,
    }
}

fn of_base64(token: &str) -> Option<&'static str> {
    let alphabets: [&Encoding; 4] = [&BASE64, &BASE64URL, &BASE64_NOPAD, &BASE64URL_NOPAD];
    let bytes = alphabets
        .into_iter()
        .find_map(|alphabet| alphabet.decode(token.as_bytes()).ok())?;
    if is_token_text(&bytes) {
        return Some("base64 of a text, as Kubernetes Secrets have it");
    }
    match bytes.len() {
        16 | 20 | 32 | 64 => Some("a hash in base64"),
        _ => None,
    }
}

fn is_token_text(bytes: &[u8]) -> bool {
    let text = bytes.trim_ascii_end();
    let legal = |b: &u8| b.is_ascii_alphanumeric() || b"-._~+/=".contains(b);
    text.len() >= ENCODED_LEN_MIN && text.iter().all(legal)
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256, Sha512};

    use super::*;

    /// A token and everything that other systems keep of it.
    fn kept(token: &str) -> Vec<String> {
        let (short, long) = (Sha256::digest(token), Sha512::digest(token));
        let mut all = vec![
            BASE64.encode(token.as_bytes()),
            BASE64.encode(format!("{token}\n").as_bytes()),
            BASE64URL_NOPAD.encode(token.as_bytes()),
            format!("sha256-{}", BASE64.encode(&short)),
            format!("0x{}", HEXLOWER.encode(&short)),
        ];
        for digest in [
            &short[..16],
            &short[..20],
            &short[..28],
            &short[..],
            &long[..48],
            &long[..],
        ] {
            all.extend([HEXLOWER.encode(digest), HEXUPPER.encode(digest)]);
        }
        for digest in [&short[..16], &short[..20], &short[..], &long[..]] {
            let alphabets = [&BASE64, &BASE64URL, &BASE64_NOPAD, &BASE64URL_NOPAD];
            all.extend(alphabets.map(|alphabet| alphabet.encode(digest)));
        }
        all
    }

    #[test]
    fn what_a_system_keeps_of_its_tokens_is_told_from_tokens() {
        for at in 0..100 {
            let token = format!("legacy_{at}_Xq7mP0vRt5LzYw3BnKd8");
            assert_eq!(resembles(&token), None, "{token}");
            for kept in kept(&token) {
                assert!(resembles(&kept).is_some(), "{kept}");
            }
        }
        for token in [
            "ks_live_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg0a1b2c",
            "token-of-the-old-system",
            "12345678901234567890123456789012",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln",
            "AKIAIOSFODNN7EXAMPLE1",
        ] {
            assert_eq!(resembles(token), None, "{token}");
        }
    }

    #[test]
    fn hashes_of_passwords_are_known() {
        for hash in [
            "$2b$12$KIXabcdefghijklmnopqrstuv",
            "$argon2id$v=19$m=65536,t=3,p=4$c2FsdA$aGFzaA",
            "$6$salt$hash",
            "{SSHA}c2FsdGhhc2g=",
            "pbkdf2_sha256$260000$salt$hash",
            "scrypt:32768:8:1$salt$hash",
            "sha256:00ff",
        ] {
            assert!(is_password_hash(hash), "{hash}");
        }
        assert!(!is_password_hash("sha256-abcdefgh"));
        assert!(!is_password_hash("token-of-the-old-system"));
    }
}
