//! Names that come from outside: identifiers with a closed alphabet and a length limit.

use std::fmt;
use std::sync::Arc;

use crate::domain::text::is_visible;

/// Why a name was refused: `value` is never repeated, because it may be hostile or huge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be {rule}")]
pub struct InvalidName {
    /// What was being named, for example `tenant id`.
    pub what: &'static str,
    /// The rule in words, for example `1 to 63 of a-z 0-9 -, …`.
    pub rule: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $rule:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// The rule that a value follows, in words.
            pub const RULE: &'static str = $rule;

            /// Parses `text`, or says which rule it breaks.
            pub fn parse(text: &str) -> Result<Self, InvalidName> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) {
                    Ok(Self(Arc::from(text)))
                } else {
                    Err(InvalidName { what: $what, rule: $rule })
                }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:?})", stringify!($type), &*self.0)
            }
        }

        impl std::borrow::Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// A tenant's identifier: an RFC 1123 label, so that it fits host names, headers and Redis keys.
    TenantId,
    "tenant id",
    "1 to 63 characters of a-z, 0-9 and -, starting and ending with a letter or digit",
    is_label
);

name!(
    /// A key's identifier: stable over rotation. Made by Keystile, so the rule is narrow.
    KeyId,
    "key id",
    "8 to 40 characters of a-z and 0-9",
    |text| (8..=40).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
);

name!(
    /// The user inside a tenant that a key belongs to, for example `alice@example.com`.
    Owner,
    "owner",
    "1 to 128 characters of A-Z, a-z, 0-9 and . _ @ : + / = - |",
    |text| (1..=128).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._@:+/=-|".contains(&b))
);

name!(
    /// Who signs JWTs, for example `https://id.example.com/realms/acme`.
    Issuer,
    "issuer",
    "1 to 255 visible ASCII characters",
    |text| (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
);

name!(
    /// What an issuer calls somebody, always the same.
    Subject,
    "subject",
    "1 to 255 visible ASCII characters",
    |text| (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
);

name!(
    /// A product feature, for example `images`.
    Feature,
    "feature",
    "1 to 64 characters of A-Z, a-z, 0-9 and . _ : -, starting with a letter or digit",
    |text| (1..=64).contains(&text.len())
        && text.as_bytes()[0].is_ascii_alphanumeric()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b))
);

name!(
    /// What a key may do: a scope-token of RFC 6749 section 3.3 without the comma, which joins scopes in a header.
    Scope,
    "scope",
    "1 to 64 visible ASCII characters except \" \\ and comma",
    |text| (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_graphic() && !b"\"\\,".contains(&b))
);

name!(
    /// The plan a tenant is on, for example `pro`.
    PlanName,
    "plan",
    "1 to 63 characters of a-z, 0-9 and -, starting and ending with a letter or digit",
    is_label
);

name!(
    /// The name of a metadata entry; it becomes the end of a header name.
    MetadataName,
    "metadata name",
    "1 to 63 characters of a-z, 0-9 and -, starting and ending with a letter or digit",
    is_label
);

name!(
    /// Text that people read: a display name. Printable, so that no terminal or log is confused by it.
    DisplayName,
    "display name",
    "1 to 128 characters without control, text-direction or invisible characters, no space at either end",
    |text| is_text(text, 1, 128)
);

name!(
    /// Text that people read: a description or a metadata value.
    Description,
    "text",
    "at most 256 characters without control, text-direction or invisible characters, no space at either end",
    |text| is_text(text, 0, 256)
);

fn is_label(text: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes
            .iter()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}

fn is_text(text: &str, min: usize, max: usize) -> bool {
    is_bounded(text, min, max) && text.trim() == text && is_visible(text)
}

/// The byte bound first: a megabyte must not be walked to learn that it is too long.
fn is_bounded(text: &str, min: usize, max: usize) -> bool {
    text.len() <= max * 4 && (min..=max).contains(&text.chars().count())
}

/// Text of a record that was stored, perhaps under a wider rule than today's: a record that opens must not become
/// unreadable because a later version refuses such names. What shows it makes it printable.
macro_rules! stored {
    ($type:ident, $what:literal, $min:literal, $max:literal) => {
        impl $type {
            /// The text of a record, which an earlier version may have let in.
            pub fn stored(text: &str) -> Result<Self, InvalidName> {
                if is_bounded(text, $min, $max) {
                    Ok(Self(Arc::from(text)))
                } else {
                    Err(InvalidName {
                        what: $what,
                        rule: Self::RULE,
                    })
                }
            }
        }
    };
}

stored!(DisplayName, "display name", 1, 128);
stored!(Description, "text", 0, 256);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenant_ids_are_rfc_1123_labels() {
        for good in ["a", "acme", "a-1", "0", &"a".repeat(63)] {
            assert!(TenantId::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "-a",
            "a-",
            "A",
            "a_b",
            "a.b",
            "ä",
            "a b",
            "a\n",
            &"a".repeat(64),
        ] {
            assert!(TenantId::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn display_names_refuse_what_confuses_a_reader() {
        assert!(DisplayName::parse("Ünïcode & Söhne GmbH").is_ok());
        for bad in [
            "",
            " x",
            "x ",
            "a\r\nb",
            "a\u{202E}b",
            "a\u{200B}b",
            "\u{7f}",
            "a\u{AD}b",
            "a\u{180E}b",
            "a\u{206A}b",
            "a\u{FFF9}b",
            "a\u{E0041}b",
            "\u{3164}",
        ] {
            assert!(DisplayName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_record_of_a_version_that_let_a_name_in_stays_readable() {
        let old = "a\u{AD}b";
        assert!(DisplayName::parse(old).is_err() && Description::parse(old).is_err());
        assert_eq!(DisplayName::stored(old).unwrap().as_str(), old);
        assert_eq!(Description::stored(old).unwrap().as_str(), old);
        assert!(DisplayName::stored("").is_err());
        assert!(Description::stored(&"a".repeat(257)).is_err());
    }

    #[test]
    fn a_refusal_does_not_repeat_the_value() {
        let refused = Owner::parse("se cret").unwrap_err().to_string();
        assert!(
            refused.starts_with("owner must be 1 to 128 characters"),
            "{refused}"
        );
        assert!(!refused.contains("cret"));
    }
}
