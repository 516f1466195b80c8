//! What is asked to change of a key.

use std::collections::BTreeSet;
use std::time::Duration;

use ipnet::IpNet;
use prost_types::Duration as ProtoDuration;
use tonic::Status;

use crate::admin::convert::key::{TTL_MAX, admin_access, features, networks, quota, rate, scopes};
use crate::admin::convert::{Fields, bad, duration_from_proto, masked, time_from_proto};
use crate::domain::governance::KeyRules;
use crate::domain::key::{GRACE_MAX, Key};
use crate::domain::limit::{Quota, Rate};
use crate::domain::name::{Description, DisplayName, Feature, Scope};
use crate::domain::role::AdminAccess;
use crate::proto::admin as pb;
use crate::registry::NewEnd;

/// What an update sets; what is none stays.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::admin) struct KeyChange {
    pub(in crate::admin) display_name: Option<DisplayName>,
    pub(in crate::admin) description: Option<Description>,
    pub(in crate::admin) scopes: Option<BTreeSet<Scope>>,
    pub(in crate::admin) features: Option<Option<BTreeSet<Feature>>>,
    pub(in crate::admin) networks: Option<Vec<IpNet>>,
    pub(in crate::admin) rate: Option<Option<Rate>>,
    pub(in crate::admin) quota: Option<Option<Quota>>,
    /// None inside: what the rules give where nobody says.
    pub(in crate::admin) admin_access: Option<Option<AdminAccess>>,
}

/// What an update may name in its mask.
const MUTABLE: [&str; 8] = [
    "display_name",
    "description",
    "scopes",
    "features",
    "allow_cidrs",
    "rate",
    "quota",
    "admin_access",
];

impl KeyChange {
    /// The change that the mask names.
    pub(in crate::admin) fn parse(wanted: &pb::Key, mask: &[String]) -> Result<Self, Status> {
        let mut fields = Fields::default();
        let mut change = Self::default();
        for path in masked(&mut fields, mask, &MUTABLE) {
            change.set(&mut fields, path, wanted);
        }
        fields.finish(Some(change))
    }

    fn set(&mut self, fields: &mut Fields, path: &str, wanted: &pb::Key) {
        match path {
            "display_name" => {
                let parsed = DisplayName::parse(&wanted.display_name);
                self.display_name = fields.take("key.display_name", parsed);
            }
            "description" => {
                let parsed = Description::parse(&wanted.description);
                self.description = fields.take("key.description", parsed);
            }
            "scopes" => self.scopes = Some(scopes(fields, wanted)),
            "features" => self.features = Some(features(fields, wanted)),
            "rate" => self.rate = Some(rate(fields, wanted)),
            "quota" => self.quota = Some(quota(fields, wanted)),
            "admin_access" => self.admin_access = Some(admin_access(fields, wanted)),
            _ => self.networks = Some(networks(fields, &wanted.allow_cidrs)),
        }
    }

    /// Makes the change, under these rules.
    pub(in crate::admin) fn apply(&self, key: &mut Key, rules: &KeyRules) {
        if let Some(display_name) = &self.display_name {
            key.display_name = display_name.clone();
        }
        if let Some(description) = &self.description {
            key.description = description.clone();
        }
        if let Some(scopes) = &self.scopes {
            key.scopes.clone_from(scopes);
        }
        if let Some(features) = &self.features {
            key.features.clone_from(features);
        }
        if let Some(networks) = &self.networks {
            key.networks.clone_from(networks);
        }
        if let Some(rate) = self.rate {
            key.limits.rate = rate;
        }
        if let Some(quota) = self.quota {
            key.limits.quota = quota;
        }
        if let Some(access) = self.admin_access {
            key.admin_access = access.unwrap_or_else(|| rules.admin_access(key.role));
        }
    }

    /// Whether it sets what a key that comes from this one may have at most.
    pub(in crate::admin) fn touches_rights(&self) -> bool {
        self.scopes.is_some()
            || self.features.is_some()
            || self.networks.is_some()
            || self.rate.is_some()
            || self.quota.is_some()
            || self.admin_access.is_some()
    }

    /// The fields that it sets, for the audit.
    pub(in crate::admin) fn note(&self) -> String {
        let set = [
            self.display_name.is_some(),
            self.description.is_some(),
            self.scopes.is_some(),
            self.features.is_some(),
            self.networks.is_some(),
            self.rate.is_some(),
            self.quota.is_some(),
            self.admin_access.is_some(),
        ];
        let names = MUTABLE.iter().zip(set).filter(|(_, set)| *set);
        names.map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    }
}

/// For how long the token before works on; unset is not at all.
pub(in crate::admin) fn grace(asked: Option<&ProtoDuration>) -> Result<Duration, Status> {
    let Some(asked) = asked else {
        return Ok(Duration::ZERO);
    };
    duration_from_proto(asked, GRACE_MAX).ok_or_else(|| bad("grace", "must be 0 to 30 days"))
}

/// The end of a life that is to be put off.
pub(in crate::admin) fn new_end(request: &pb::RenewKeyRequest) -> Result<NewEnd, Status> {
    match (request.expire_time, &request.ttl) {
        (Some(time), None) => time_from_proto(time)
            .map(NewEnd::At)
            .ok_or_else(|| bad("expire_time", "must be before the year 10000")),
        (None, Some(ttl)) => duration_from_proto(ttl, TTL_MAX)
            .filter(|ttl| !ttl.is_zero())
            .map(NewEnd::After)
            .ok_or_else(|| bad("ttl", "must be more than 0 and at most 1000 years")),
        (None, None) => Err(bad("expire_time", "or `ttl` is required")),
        (Some(_), Some(_)) => Err(bad("ttl", "must be absent where `expire_time` is set")),
    }
}
