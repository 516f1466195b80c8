//! Etags: which state of a record a caller has seen.

use std::fmt;

use crate::domain::key::Key;
use crate::domain::tenant::Tenant;
use crate::domain::version::Version;
use crate::registry::RegistryError;

/// A state of one record, opaque to who holds it.
///
/// It names the change that led there, so that the etag of a change that
/// the store has lost fits no other, and the incarnation, so that the etag of a deleted tenant does not fit one that was made
/// again under its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Etag {
    version: Version,
    incarnation: u64,
}

impl Etag {
    /// The state that a tenant is in.
    pub fn of_tenant(tenant: &Tenant) -> Self {
        Self {
            version: tenant.version,
            incarnation: tenant.incarnation,
        }
    }

    /// The state that a key is in. Its id is random, so it is made once.
    pub fn of_key(key: &Key) -> Self {
        Self {
            version: key.version,
            incarnation: key.created_at.as_millis().unsigned_abs(),
        }
    }

    /// The etag of that text, written as we write it.
    pub fn parse(text: &str) -> Option<Self> {
        let (version, incarnation) = text.rsplit_once('-')?;
        let (order, change) = version.split_once('-').unwrap_or((version, "0"));
        let number = |text| u64::from_str_radix(text, 16).ok();
        let etag = Self {
            version: Version {
                order: number(order)?,
                change: number(change)?,
            },
            incarnation: number(incarnation)?,
        };
        (etag.to_string() == text).then_some(etag)
    }
}

impl fmt::Display for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Version { order, change } = self.version;
        match change {
            0 => write!(f, "{order:x}-{:x}", self.incarnation),
            change => write!(f, "{order:x}-{change:x}-{:x}", self.incarnation),
        }
    }
}

/// Whether the etag that a caller sent, if any, is the record's.
pub(super) fn check(
    what: &'static str,
    expected: Option<Etag>,
    current: Etag,
) -> Result<(), RegistryError> {
    match expected {
        Some(expected) if expected != current => Err(RegistryError::Conflict { what }),
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_fits_one_version_of_one_incarnation() {
        let old = Etag {
            version: 3.into(),
            incarnation: 0xabc,
        };
        assert_eq!(Etag::parse("3-abc"), Some(old));
        let current = Etag {
            version: Version {
                order: 3,
                change: 7,
            },
            incarnation: 0xabc,
        };
        assert_eq!(current.to_string(), "3-7-abc");
        assert_eq!(Etag::parse(&current.to_string()), Some(current));
        assert!(check("tenant", None, current).is_ok());
        assert!(check("tenant", Some(current), current).is_ok());
        for other in ["2-7-abc", "3-7-abd", "3-8-abc", "3-abc"] {
            let other = Etag::parse(other).unwrap();
            assert!(check("tenant", Some(other), current).is_err(), "{other}");
        }
        for forged in [
            "",
            "3",
            "3-",
            "-abc",
            "+3-abc",
            "03-abc",
            "3-ABC",
            "3-0-abc",
            "3--abc",
            "3-7-abc-1",
        ] {
            assert_eq!(Etag::parse(forged), None, "{forged}");
        }
    }
}
