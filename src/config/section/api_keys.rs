//! How many keys there may be, how long they live, and whether they open the admin API.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::Profile;
use crate::domain::governance::{
    ExpiryRules, GlobalOverride, KeyLimits, KeyRules, Origin, PerRole,
};
use crate::domain::name::TenantId;
use crate::domain::role::AdminAccess;

section! {
    #[serde(default)]
    ApiKeys {
        /// Whether keys can be made.
        pub enabled: bool,
        /// Limits of tenants that have no others.
        pub default_limits: DefaultLimits,
        /// Limits of single tenants.
        #[schemars(length(max = 100_000))]
        pub tenant_limits: Vec<TenantLimits>,
        /// Limits that win over all others, or null.
        #[schemars(extend("x-nullable" = true))]
        pub global_limits_override: Option<LimitsOverride>,
        /// Whether tenant admins may change their tenant's limits at run time.
        pub allow_tenant_override: bool,
        /// Whether limits can be changed at run time at all; `false` holds for global admins too.
        pub allow_admin_override: bool,
        /// Longest life of a key, in days of 86,400 s from when it is made or renewed; 0 is no maximum.
        #[schemars(range(max = 36_500))]
        pub max_expiry_days: u32,
        /// Shortest life of a key that has an expiry, counted in the same way.
        #[schemars(range(max = 36_500))]
        pub min_expiry_days: u32,
        /// Whether every new key must have an expiry.
        pub enforce_expiry: bool,
        /// Whether keys of the role `user` open the admin API where nobody says (`keystile key create --admin-access`):
        /// `none`; `self`, to read, claim, rotate and revoke themselves; `role`, for what their role gives. Holds for
        /// keys that are made from then on. A key that is `none` is not rotated by schedule: its holder could not claim.
        pub default_admin_access: AdminAccess,
        /// Where the values come from, by their path here.
        #[serde(skip)]
        pub origins: BTreeMap<String, Origin>,
    }
}

section! {
    #[serde(default)]
    DefaultLimits {
        /// Most keys of an owner with role `user`.
        #[schemars(range(min = 1, max = 100_000))]
        pub max_keys_per_user: u32,
        /// Most keys of an owner with role `tenant_admin`.
        #[schemars(range(min = 1, max = 100_000))]
        pub max_keys_per_tenant_admin: u32,
        /// Most keys of an owner with role `global_admin`.
        #[schemars(range(min = 1, max = 100_000))]
        pub max_keys_per_global_admin: u32,
    }
}

section! {
    TenantLimits {
        /// The tenant.
        pub tenant_id: TenantId,
        /// Most keys of an owner with role `user`. Absent: the default limit.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(range(min = 1, max = 100_000))]
        pub max_keys_per_user: Option<u32>,
        /// Most keys of an owner with role `tenant_admin`. Absent: the default limit.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(range(min = 1, max = 100_000))]
        pub max_keys_per_tenant_admin: Option<u32>,
        /// Most keys of an owner with role `global_admin`. Absent: the default limit.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(range(min = 1, max = 100_000))]
        pub max_keys_per_global_admin: Option<u32>,
    }
}

section! {
    #[derive(Default)]
    #[serde(default)]
    LimitsOverride {
        /// Most keys of an owner with role `user`; null or absent: not overridden.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(range(min = 1, max = 100_000), extend("x-nullable" = true))]
        pub max_keys_per_user: Option<u32>,
        /// Most keys of an owner with role `tenant_admin`; null or absent: not overridden.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(range(min = 1, max = 100_000), extend("x-nullable" = true))]
        pub max_keys_per_tenant_admin: Option<u32>,
        /// Most keys of an owner with role `global_admin`; null or absent: not overridden.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(range(min = 1, max = 100_000), extend("x-nullable" = true))]
        pub max_keys_per_global_admin: Option<u32>,
        /// Most keys of all tenants together; null or absent: no such limit.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(range(min = 1, max = 100_000_000), extend("x-nullable" = true))]
        pub max_total_keys: Option<u32>,
    }
}

impl ApiKeys {
    /// The rules that it makes.
    pub(in crate::config) fn rules(&self, profile: Profile) -> KeyRules {
        let tenants = self.tenant_limits.iter();
        KeyRules {
            enabled: self.enabled,
            defaults: PerRole {
                user: self.default_limits.max_keys_per_user,
                tenant_admin: self.default_limits.max_keys_per_tenant_admin,
                global_admin: self.default_limits.max_keys_per_global_admin,
            },
            tenants: tenants
                .map(|of| (of.tenant_id.clone(), of.limits()))
                .collect(),
            global_override: self
                .global_limits_override
                .as_ref()
                .map(LimitsOverride::rules),
            allow_tenant_override: self.allow_tenant_override,
            allow_admin_override: self.allow_admin_override,
            expiry: ExpiryRules {
                enforce: self.enforce_expiry,
                min_days: self.min_expiry_days,
                max_days: self.max_expiry_days,
            },
            default_admin_access: self.default_admin_access,
            profile: profile.as_str(),
            origins: self.origins.clone(),
        }
    }
}

impl TenantLimits {
    fn limits(&self) -> KeyLimits {
        KeyLimits {
            user: self.max_keys_per_user,
            tenant_admin: self.max_keys_per_tenant_admin,
            global_admin: self.max_keys_per_global_admin,
        }
    }
}

impl LimitsOverride {
    fn rules(&self) -> GlobalOverride {
        GlobalOverride {
            limits: KeyLimits {
                user: self.max_keys_per_user,
                tenant_admin: self.max_keys_per_tenant_admin,
                global_admin: self.max_keys_per_global_admin,
            },
            max_total: self.max_total_keys,
        }
    }
}
