//! A tenant: a customer of the platform.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::Timestamp;
use crate::domain::governance::KeyLimits;
use crate::domain::limit::{Own, Quota, Rate};
use crate::domain::name::{Description, DisplayName, Feature, MetadataName, PlanName, TenantId};
use crate::domain::plan::Overrides;
use crate::domain::version::Version;

/// The most features a tenant may have of its own.
pub const FEATURES_MAX: usize = 64;
/// The most metadata entries of a tenant; each becomes a header.
pub const METADATA_MAX: usize = 16;

/// Whether a tenant's keys work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TenantStatus {
    /// Keys work.
    Active,
    /// Every key is refused as `tenant_suspended` until the tenant is resumed.
    Suspended,
}

/// What operators know of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// The identifier; never reused while the tenant exists.
    pub id: TenantId,
    /// Which incarnation of the identifier: the id of its data key. One made again under an old identifier has another.
    pub incarnation: u64,
    /// For people.
    pub display_name: DisplayName,
    /// Whether its keys work.
    pub status: TenantStatus,
    /// The plan whose features and limits it has, if any. A plan that the config no longer has gives none.
    pub plan: Option<PlanName>,
    /// Features beyond the plan's.
    pub features: BTreeSet<Feature>,
    /// Features that it does not have, though its plan does.
    pub denied_features: BTreeSet<Feature>,
    /// How fast it may ask, in place of its plan's rate.
    pub rate: Own<Rate>,
    /// How much it may ask, in place of its plan's quota.
    pub quota: Own<Quota>,
    /// How many keys its owners may have, as set at run time, in place of what the configuration says.
    pub key_limits: KeyLimits,
    /// Facts for upstreams, sent as `x-tenant-meta-<name>`.
    pub metadata: BTreeMap<MetadataName, Description>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// The change that it comes from; the etag is made of it.
    pub version: Version,
}

impl Tenant {
    /// What it says for itself, beside or in place of its plan.
    pub fn overrides(&self) -> Overrides {
        Overrides {
            features: self.features.clone(),
            denied_features: self.denied_features.clone(),
            rate: self.rate,
            quota: self.quota,
        }
    }
}
