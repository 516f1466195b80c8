//! The limits on keys that were set of a tenant at run time.

use prost::Message;

use super::{DecodeError, Reader};
use crate::domain::governance::{KEY_LIMIT_MAX, KeyLimits};

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct StoredKeyLimits {
    #[prost(uint32, optional, tag = "1")]
    user: Option<u32>,
    #[prost(uint32, optional, tag = "2")]
    tenant_admin: Option<u32>,
    #[prost(uint32, optional, tag = "3")]
    global_admin: Option<u32>,
}

impl StoredKeyLimits {
    /// None when none is set: a tenant without them is stored as it always was.
    pub(super) fn of(limits: &KeyLimits) -> Option<Self> {
        (*limits != KeyLimits::default()).then_some(Self {
            user: limits.user,
            tenant_admin: limits.tenant_admin,
            global_admin: limits.global_admin,
        })
    }

    pub(super) fn read(stored: Option<&Self>, read: &Reader) -> Result<KeyLimits, DecodeError> {
        let Some(stored) = stored else {
            return Ok(KeyLimits::default());
        };
        let limit = |limit: Option<u32>| match limit {
            Some(max) if !(1..=KEY_LIMIT_MAX).contains(&max) => Err(read.fail("key limit")),
            limit => Ok(limit),
        };
        Ok(KeyLimits {
            user: limit(stored.user)?,
            tenant_admin: limit(stored.tenant_admin)?,
            global_admin: limit(stored.global_admin)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_survive_and_impossible_ones_are_refused() {
        let read = |user| {
            let stored = StoredKeyLimits {
                user,
                tenant_admin: Some(1),
                global_admin: None,
            };
            StoredKeyLimits::read(Some(&stored), &Reader("tenant"))
        };
        for user in [None, Some(1), Some(KEY_LIMIT_MAX)] {
            let limits = read(user).unwrap();
            assert_eq!(
                (limits.user, limits.tenant_admin, limits.global_admin),
                (user, Some(1), None)
            );
            let again = StoredKeyLimits::of(&limits);
            assert_eq!(
                StoredKeyLimits::read(again.as_ref(), &Reader("tenant")),
                Ok(limits)
            );
        }
        for user in [0, KEY_LIMIT_MAX + 1, u32::MAX] {
            assert!(read(Some(user)).is_err(), "{user}");
        }
        assert_eq!(StoredKeyLimits::of(&KeyLimits::default()), None);
        assert_eq!(
            StoredKeyLimits::read(None, &Reader("tenant")),
            Ok(KeyLimits::default())
        );
    }
}
