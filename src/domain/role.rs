//! Roles and the permissions they carry (DESIGN section 7).

/// What the holder of a key may do on the admin API; each role has what the one before it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Its own keys.
    User,
    /// All keys and limits of its tenant.
    TenantAdmin,
    /// Tenants, system configuration, everything.
    GlobalAdmin,
}

impl Role {
    /// Every role, from the least to the most.
    pub const ALL: [Self; 3] = [Self::User, Self::TenantAdmin, Self::GlobalAdmin];

    /// The word that configs, commands and answers use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::TenantAdmin => "tenant_admin",
            Self::GlobalAdmin => "global_admin",
        }
    }

    /// The role of that word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }

    /// What that permission allows, in words.
    pub fn allows(self) -> &'static str {
        match self {
            Self::User => "own keys: create, list, rotate, renew, revoke; see own limits",
            Self::TenantAdmin => "all keys and limits of its tenant; its audit and usage",
            Self::GlobalAdmin => "tenants, system configuration, overrides, everything",
        }
    }

    /// The permission it has beyond the role before it.
    pub fn permission(self) -> &'static str {
        match self {
            Self::User => "apikey.manage",
            Self::TenantAdmin => "apikey.admin",
            Self::GlobalAdmin => "apikey.global_admin",
        }
    }
}

/// Whether a key opens the admin API at all; each has what the one before it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AdminAccess {
    /// It does not.
    None,
    /// It may read, claim, rotate and revoke itself.
    Itself,
    /// It may do what its role gives.
    Role,
}

impl AdminAccess {
    /// The word that configs, commands and answers use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Itself => "self",
            Self::Role => "role",
        }
    }
}
