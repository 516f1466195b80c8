//! What a decision about a proven key rests on: the facts of one generation and of its tenant.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use crate::clock::Timestamp;
use crate::domain::key::LookupId;
use crate::domain::limit::Limits;
use crate::domain::name::{
    Description, DisplayName, Feature, KeyId, MetadataName, Owner, PlanName, Scope, TenantId,
};
use crate::domain::pause::PauseEnd;
use crate::domain::role::Role;
use crate::domain::tenant::TenantStatus;
use crate::domain::version::Version;

/// What a Check needs of one generation of a key: the content of an index record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyAccess {
    /// The tenant that owns the key.
    pub tenant: TenantId,
    /// The key.
    pub key: KeyId,
    /// Which of its secrets.
    pub generation: u32,
    /// The whole HMAC of the token.
    pub digest: [u8; 32],
    /// The key's version at the time the record was derived.
    pub version: Version,
    /// Where the key's other generations are found: if the key's own record is lost, they are known here.
    pub others: Vec<LookupId>,
    /// Where the key's oldest generation is found, if this is a younger one. Whatever state the key's own record has
    /// fallen back to, it knows that one and maybe not this: so a change or a revocation is found there at least.
    pub elder: Option<LookupId>,
    /// Revoked is final.
    pub revoked: bool,
    /// Only this generation is revoked: the key remembers nothing of it but where it was.
    pub forgotten: bool,
    /// The earlier of the key's expiry and the generation's grace.
    pub expires_at: Option<Timestamp>,
    /// That the key does not work for a while, and how long.
    pub paused: Option<PauseEnd>,
    /// The user it belongs to.
    pub owner: Owner,
    /// What its holder may do on the admin API.
    pub role: Role,
    /// What it may do.
    pub scopes: BTreeSet<Scope>,
    /// If set, only these of the tenant's features.
    pub features: Option<BTreeSet<Feature>>,
    /// If not empty, the only networks it may be used from.
    pub networks: Vec<IpNet>,
    /// Limits of its own, beside its tenant's.
    pub limits: Limits,
    /// The key whose budgets its requests are charged to; none: its own.
    pub budget: Option<KeyId>,
}

impl KeyAccess {
    /// This record with what the one of the key's oldest generation knows: the key is revoked if that says so, and if a
    /// later change is in that one alone, it holds for this generation too.
    #[must_use]
    pub fn with_elder(self, elder: Self) -> Self {
        let is_of_it = elder.tenant == self.tenant && elder.key == self.key && !elder.forgotten;
        if !is_of_it {
            return self;
        }
        let revoked = self.revoked || elder.revoked;
        if elder.version.order <= self.version.order {
            return Self { revoked, ..self };
        }
        Self {
            generation: self.generation,
            digest: self.digest,
            others: self.others,
            elder: self.elder,
            revoked,
            forgotten: self.forgotten,
            expires_at: self.expires_at,
            ..elder
        }
    }
}

/// What a Check needs of a tenant, its plan applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantAccess {
    /// The tenant.
    pub id: TenantId,
    /// For people and upstreams.
    pub display_name: DisplayName,
    /// Whether its keys work.
    pub status: TenantStatus,
    /// The plan it is on.
    pub plan: Option<PlanName>,
    /// Plan features + its own - denials.
    pub features: BTreeSet<Feature>,
    /// What all its keys together may ask for.
    pub limits: Limits,
    /// A feature that its plan lacks is only reported.
    pub plan_in_shadow: bool,
    /// Facts for upstreams.
    pub metadata: BTreeMap<MetadataName, Description>,
    /// The tenant record's version.
    pub version: Version,
}
