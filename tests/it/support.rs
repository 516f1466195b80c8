//! What the tests of the service share: a store that does as it is told, and a small world on top of it.

pub(crate) mod check;
pub(crate) mod client;
pub(crate) mod fault_store;
pub(crate) mod program;
pub(crate) mod world;

use keystile::domain::governance::{ExpiryRules, KEY_LIMIT_MAX, KeyRules, PerRole};

/// Rules that hold nobody back, for tests of something else.
pub(crate) fn generous_rules() -> KeyRules {
    KeyRules {
        defaults: PerRole {
            user: KEY_LIMIT_MAX,
            tenant_admin: KEY_LIMIT_MAX,
            global_admin: KEY_LIMIT_MAX,
        },
        expiry: ExpiryRules {
            enforce: false,
            min_days: 0,
            max_days: 0,
        },
        ..KeyRules::default()
    }
}
