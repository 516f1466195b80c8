//! What is asked to change of a key.

use std::collections::BTreeSet;
use std::time::Duration;

use ipnet::IpNet;
use prost_types::Duration as ProtoDuration;
use tonic::Status;

use crate::admin::convert::key::{TTL_MAX, admin_access, features, networks, quota, rate, scopes};
use crate::admin::convert::{Fields, bad, duration_from_proto, masked, put, time_from_proto};
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    DisplayName,
    Description,
    Scopes,
    Features,
    AllowCidrs,
    Rate,
    Quota,
    AdminAccess,
}

impl Field {
    const ALL: [Self; 8] = [
        Self::DisplayName,
        Self::Description,
        Self::Scopes,
        Self::Features,
        Self::AllowCidrs,
        Self::Rate,
        Self::Quota,
        Self::AdminAccess,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::DisplayName => "display_name",
            Self::Description => "description",
            Self::Scopes => "scopes",
            Self::Features => "features",
            Self::AllowCidrs => "allow_cidrs",
            Self::Rate => "rate",
            Self::Quota => "quota",
            Self::AdminAccess => "admin_access",
        }
    }

    /// Whether it is part of what a key that comes from this one may have at most.
    fn is_right(self) -> bool {
        match self {
            Self::DisplayName | Self::Description => false,
            Self::Scopes
            | Self::Features
            | Self::AllowCidrs
            | Self::Rate
            | Self::Quota
            | Self::AdminAccess => true,
        }
    }
}

impl KeyChange {
    /// The change that the mask names.
    pub(in crate::admin) fn parse(wanted: &pb::Key, mask: &[String]) -> Result<Self, Status> {
        let mut fields = Fields::default();
        let mut change = Self::default();
        for field in masked(&mut fields, mask, &Field::ALL, Field::name) {
            change.set(&mut fields, field, wanted);
        }
        fields.finish(Some(change))
    }

    fn set(&mut self, fields: &mut Fields, field: Field, wanted: &pb::Key) {
        match field {
            Field::DisplayName => {
                let parsed = DisplayName::parse(&wanted.display_name);
                self.display_name = fields.take("key.display_name", parsed);
            }
            Field::Description => {
                let parsed = Description::parse(&wanted.description);
                self.description = fields.take("key.description", parsed);
            }
            Field::Scopes => self.scopes = Some(scopes(fields, wanted)),
            Field::Features => self.features = Some(features(fields, wanted)),
            Field::Rate => self.rate = Some(rate(fields, wanted)),
            Field::Quota => self.quota = Some(quota(fields, wanted)),
            Field::AdminAccess => self.admin_access = Some(admin_access(fields, wanted)),
            Field::AllowCidrs => self.networks = Some(networks(fields, &wanted.allow_cidrs)),
        }
    }

    /// Makes the change, under these rules.
    pub(in crate::admin) fn apply(&self, key: &mut Key, rules: &KeyRules) {
        let Self {
            display_name,
            description,
            scopes,
            features,
            networks,
            rate,
            quota,
            admin_access,
        } = self;
        put(&mut key.display_name, display_name.as_ref());
        put(&mut key.description, description.as_ref());
        put(&mut key.scopes, scopes.as_ref());
        put(&mut key.features, features.as_ref());
        put(&mut key.networks, networks.as_ref());
        put(&mut key.limits.rate, rate.as_ref());
        put(&mut key.limits.quota, quota.as_ref());
        let access = admin_access.map(|set| set.unwrap_or_else(|| rules.admin_access(key.role)));
        put(&mut key.admin_access, access.as_ref());
    }

    /// Whether it sets what a key that comes from this one may have at most.
    pub(in crate::admin) fn touches_rights(&self) -> bool {
        Field::ALL
            .iter()
            .any(|field| field.is_right() && self.sets(*field))
    }

    /// The fields that it sets, for the audit.
    pub(in crate::admin) fn note(&self) -> String {
        let set = Field::ALL.iter().filter(|field| self.sets(**field));
        set.map(|field| field.name()).collect::<Vec<_>>().join(", ")
    }

    fn sets(&self, field: Field) -> bool {
        match field {
            Field::DisplayName => self.display_name.is_some(),
            Field::Description => self.description.is_some(),
            Field::Scopes => self.scopes.is_some(),
            Field::Features => self.features.is_some(),
            Field::AllowCidrs => self.networks.is_some(),
            Field::Rate => self.rate.is_some(),
            Field::Quota => self.quota.is_some(),
            Field::AdminAccess => self.admin_access.is_some(),
        }
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
    let end = end_of("expire_time", request.expire_time, request.ttl.as_ref())?;
    end.ok_or_else(|| bad("expire_time", "or `ttl` is required"))
}

/// The end of a pause; none where somebody has to end it.
pub(in crate::admin) fn pause_end(request: &pb::PauseKeyRequest) -> Result<Option<NewEnd>, Status> {
    end_of("end_time", request.end_time, request.ttl.as_ref())
}

/// An end that is given as a time, in the field of that name, or as a length from now on.
fn end_of(
    field: &str,
    time: Option<prost_types::Timestamp>,
    ttl: Option<&ProtoDuration>,
) -> Result<Option<NewEnd>, Status> {
    match (time, ttl) {
        (None, None) => Ok(None),
        (Some(time), None) => time_from_proto(time)
            .map(|time| Some(NewEnd::At(time)))
            .ok_or_else(|| bad(field, "must be before the year 10000")),
        (None, Some(ttl)) => duration_from_proto(ttl, TTL_MAX)
            .filter(|ttl| !ttl.is_zero())
            .map(|ttl| Some(NewEnd::After(ttl)))
            .ok_or_else(|| bad("ttl", "must be more than 0 and at most 1000 years")),
        (Some(_), Some(_)) => Err(bad("ttl", format!("must be absent where `{field}` is set"))),
    }
}
