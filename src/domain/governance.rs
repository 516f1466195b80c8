//! How many keys an owner may have and how long keys may live: the frame of DESIGN section 7, and what holds inside it.
//!
//! Each limit is settled by itself, by the first of these that says anything: the override for all tenants, the
//! tenant's limit that was set at run time, the tenant's limit in the configuration, the default.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::clock::{Span, Timestamp};
use crate::domain::name::TenantId;
use crate::domain::role::{AdminAccess, Role};

/// The most that a limit on keys can allow; the least is one.
pub const KEY_LIMIT_MAX: u32 = 100_000;

/// A day of an expiry rule: always this long, whatever a calendar says.
const DAY: Duration = Duration::from_secs(86_400);

/// One value a role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerRole<T> {
    /// Of keys with the role `user`.
    pub user: T,
    /// Of keys with the role `tenant_admin`.
    pub tenant_admin: T,
    /// Of keys with the role `global_admin`.
    pub global_admin: T,
}

/// Limits on the keys of an owner that may be set, each by itself.
pub type KeyLimits = PerRole<Option<u32>>;

impl<T> PerRole<T> {
    /// The value of a role.
    pub fn of(&self, role: Role) -> &T {
        match role {
            Role::User => &self.user,
            Role::TenantAdmin => &self.tenant_admin,
            Role::GlobalAdmin => &self.global_admin,
        }
    }

    /// The value of a role, to be changed.
    pub fn of_mut(&mut self, role: Role) -> &mut T {
        match role {
            Role::User => &mut self.user,
            Role::TenantAdmin => &mut self.tenant_admin,
            Role::GlobalAdmin => &mut self.global_admin,
        }
    }
}

/// The field that holds the limit of a role, in configurations, messages and answers.
pub fn limit_field(role: Role) -> &'static str {
    match role {
        Role::User => "max_keys_per_user",
        Role::TenantAdmin => "max_keys_per_tenant_admin",
        Role::GlobalAdmin => "max_keys_per_global_admin",
    }
}

/// Who says how high a limit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LimitSource {
    /// Nobody in particular: the default of the configuration or its profile.
    Default,
    /// The configuration, of this tenant.
    TenantConfig,
    /// Somebody at run time, of this tenant.
    TenantRuntime,
    /// The configuration, of all tenants.
    GlobalOverride,
}

impl LimitSource {
    /// Its word in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::TenantConfig => "tenant_config",
            Self::TenantRuntime => "tenant_runtime",
            Self::GlobalOverride => "global_override",
        }
    }
}

/// A limit that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EffectiveKeyLimit {
    /// The most live keys.
    pub max: u32,
    /// Who says so.
    pub source: LimitSource,
}

/// What wins over every other limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GlobalOverride {
    /// Of each owner.
    pub limits: KeyLimits,
    /// The most live keys of all tenants together.
    pub max_total: Option<u32>,
}

/// Where a value of the block comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody wrote it.
    Default,
    /// The profile.
    Profile,
    /// The configuration file.
    File,
    /// A variable of the environment.
    Environment,
}

impl Origin {
    /// Its word in answers.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Profile => "profile",
            Self::File => "file",
            Self::Environment => "environment",
        }
    }
}

/// The block `api_keys` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRules {
    /// Whether keys can be made.
    pub enabled: bool,
    /// Limits where nobody says anything else.
    pub defaults: PerRole<u32>,
    /// Limits of single tenants.
    pub tenants: BTreeMap<TenantId, KeyLimits>,
    /// Limits that win over all others.
    pub global_override: Option<GlobalOverride>,
    /// Whether tenant admins may change their tenant's limits.
    pub allow_tenant_override: bool,
    /// Whether anybody may change limits at run time.
    pub allow_admin_override: bool,
    /// How long keys may live.
    pub expiry: ExpiryRules,
    /// Whether keys of the role `user` open the admin API where nobody says.
    pub default_admin_access: AdminAccess,
    /// The profile of the configuration.
    pub profile: &'static str,
    /// Where the values come from, by their path in the block. What is missing here nobody wrote.
    pub origins: BTreeMap<String, Origin>,
}

impl Default for KeyRules {
    /// What holds when a configuration says nothing.
    fn default() -> Self {
        Self {
            enabled: true,
            defaults: PerRole {
                user: 10,
                tenant_admin: 25,
                global_admin: 100,
            },
            tenants: BTreeMap::new(),
            global_override: None,
            allow_tenant_override: true,
            allow_admin_override: true,
            expiry: ExpiryRules {
                enforce: false,
                min_days: 1,
                max_days: 365,
            },
            default_admin_access: AdminAccess::Role,
            profile: "default",
            origins: BTreeMap::new(),
        }
    }
}

impl KeyRules {
    /// How many live keys an owner in `tenant` may have for one more key with `role`. `runtime` is what was set of
    /// the tenant at run time.
    pub fn limit(&self, tenant: &TenantId, runtime: &KeyLimits, role: Role) -> EffectiveKeyLimit {
        let of = |limits: &KeyLimits| *limits.of(role);
        let global = self.global_override.as_ref().map(|all| &all.limits);
        let settings = [
            (global.and_then(of), LimitSource::GlobalOverride),
            (of(runtime), LimitSource::TenantRuntime),
            (
                self.tenants.get(tenant).and_then(of),
                LimitSource::TenantConfig,
            ),
        ];
        let first = settings
            .into_iter()
            .find_map(|(max, source)| Some((max?, source)));
        let (max, source) =
            first.unwrap_or_else(|| (*self.defaults.of(role), LimitSource::Default));
        EffectiveKeyLimit { max, source }
    }

    /// Whether a key with that role opens the admin API where nobody says: who administers does it there.
    pub fn admin_access(&self, role: Role) -> AdminAccess {
        match role {
            Role::User => self.default_admin_access,
            Role::TenantAdmin | Role::GlobalAdmin => AdminAccess::Role,
        }
    }

    /// The most live keys of all tenants together, if limited.
    pub fn max_total(&self) -> Option<u32> {
        self.global_override.as_ref()?.max_total
    }

    /// Whether somebody with that role may change limits at run time.
    pub fn may_change(&self, role: Role) -> Result<(), OverridesDisabled> {
        if !self.allow_admin_override {
            return Err(OverridesDisabled::ForAll);
        }
        if role < Role::GlobalAdmin && !self.allow_tenant_override {
            return Err(OverridesDisabled::ForTenants);
        }
        Ok(())
    }

    /// Where the value at that path in the block comes from.
    pub fn origin(&self, path: &str) -> &Origin {
        self.origins.get(path).unwrap_or(&Origin::Default)
    }
}

/// Why limits cannot be changed at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OverridesDisabled {
    /// `allow_tenant_override` is false.
    #[error("Tenant admin overrides are disabled: `api_keys.allow_tenant_override` is false")]
    ForTenants,
    /// `allow_admin_override` is false.
    #[error(
        "Admin overrides are disabled: `api_keys.allow_admin_override` is false for every role"
    )]
    ForAll,
}

/// How long a key may live, counted from the change that gives it its expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpiryRules {
    /// Whether every key must have an expiry.
    pub enforce: bool,
    /// The shortest life of a key that has an expiry.
    pub min_days: u32,
    /// The longest; 0 is no maximum.
    pub max_days: u32,
}

impl ExpiryRules {
    /// Whether a key may be given this expiry at `now`: when it is made as when it is renewed.
    pub fn check(self, expires_at: Option<Timestamp>, now: Timestamp) -> Result<(), ExpiryProblem> {
        let Some(end) = expires_at else {
            return if self.enforce {
                Err(ExpiryProblem::Missing(self))
            } else {
                Ok(())
            };
        };
        let life = end.since(now);
        if end <= now {
            Err(ExpiryProblem::Past)
        } else if end > Timestamp::MAX {
            Err(ExpiryProblem::BeyondTime)
        } else if life < DAY * self.min_days {
            Err(ExpiryProblem::TooShort(self, life))
        } else if self.max_days != 0 && life > DAY * self.max_days {
            Err(ExpiryProblem::TooLong(self, life))
        } else {
            Ok(())
        }
    }
}

impl fmt::Display for ExpiryRules {
    /// For people: what is allowed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.min_days, self.max_days) {
            (0, 0) => f.write_str("at any time"),
            (0, max) => write!(f, "at most {}", Days(max)),
            (min, 0) => write!(f, "at least {}", Days(min)),
            (min, max) => write!(f, "at least {} and at most {}", Days(min), Days(max)),
        }
    }
}

/// Why a key may not have an expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpiryProblem {
    /// It is over.
    Past,
    /// It is later than we can count.
    BeyondTime,
    /// There must be one.
    Missing(ExpiryRules),
    /// It leaves the key too short a life.
    TooShort(ExpiryRules, Duration),
    /// It leaves the key too long a life.
    TooLong(ExpiryRules, Duration),
}

impl ExpiryProblem {
    /// The rules that it breaks, if it breaks the configured ones.
    pub fn rules(self) -> Option<ExpiryRules> {
        match self {
            Self::Past | Self::BeyondTime => None,
            Self::Missing(rules) | Self::TooShort(rules, _) | Self::TooLong(rules, _) => {
                Some(rules)
            }
        }
    }
}

impl fmt::Display for ExpiryProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Past => f.write_str("must be in the future"),
            Self::BeyondTime => f.write_str("must be before the year 10000"),
            Self::Missing(rules) => write!(
                f,
                "must be set, because every key must expire (`api_keys.enforce_expiry`), {rules} from now"
            ),
            Self::TooShort(rules, life) | Self::TooLong(rules, life) => {
                write!(f, "is {} from now; must be {rules} from now", Life(*life))
            }
        }
    }
}

/// A number of days in words.
#[derive(Clone, Copy, Debug)]
pub struct Days(pub u32);

impl fmt::Display for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.0 == 1 { "" } else { "s" };
        write!(f, "{} day{plural}", self.0)
    }
}

/// A life in days and seconds, exact.
struct Life(Duration);

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = u32::try_from(self.0.as_secs() / DAY.as_secs()).unwrap_or(u32::MAX);
        let rest = self.0.saturating_sub(DAY * days);
        match (days, rest) {
            (0, rest) => Span(rest).fmt(f),
            (days, Duration::ZERO) => write!(f, "{}", Days(days)),
            (days, rest) => write!(f, "{} and {}", Days(days), Span(rest)),
        }
    }
}

#[cfg(test)]
mod tests;
