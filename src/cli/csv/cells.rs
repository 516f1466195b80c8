//! What several tables have columns for, held against the rules that the server has.

use super::Row;
use crate::clock::Timestamp;
use crate::domain::key::{NETWORKS_MAX, SCOPES_MAX};
use crate::domain::limit::{Quota, Rate};
use crate::domain::name::{Description, DisplayName, Feature, InvalidName, Owner, Scope};
use crate::domain::network;
use crate::domain::tenant::FEATURES_MAX;
use crate::proto::admin as pb;

/// Whose key it is, where nobody says.
const OWNER: &str = "default";

/// The columns that say what a key is.
pub(in crate::cli) struct KeyColumns {
    pub(in crate::cli) name: &'static str,
    pub(in crate::cli) description: &'static str,
    pub(in crate::cli) owner: &'static str,
    pub(in crate::cli) role: &'static str,
    pub(in crate::cli) admin_access: &'static str,
    pub(in crate::cli) scopes: &'static str,
    pub(in crate::cli) features: &'static str,
    pub(in crate::cli) networks: &'static str,
    pub(in crate::cli) expires_at: &'static str,
    pub(in crate::cli) rate: &'static str,
    pub(in crate::cli) quota: &'static str,
}

impl KeyColumns {
    /// Of a table of keys and nothing else.
    pub(in crate::cli) const PLAIN: Self = Self {
        name: "name",
        description: "description",
        owner: "owner",
        role: "role",
        admin_access: "admin_access",
        scopes: "scopes",
        features: "features",
        networks: "networks",
        expires_at: "expires_at",
        rate: "rate",
        quota: "quota",
    };

    /// The key that a row describes; `name` where the row has none.
    pub(in crate::cli) fn key(&self, row: &mut Row<'_>, name: &str, now: Timestamp) -> pb::Key {
        let features = features(row, self.features);
        pb::Key {
            display_name: row.text(self.name, name, |text| rule(DisplayName::parse(text))),
            description: row.text(self.description, "", |text| rule(Description::parse(text))),
            owner: row.text(self.owner, OWNER, |text| rule(Owner::parse(text))),
            role: role(row, self.role).into(),
            admin_access: admin_access(row, self.admin_access).into(),
            scopes: row.texts(self.scopes, SCOPES_MAX, |text| rule(Scope::parse(text))),
            features: (!features.is_empty()).then_some(pb::FeatureList { names: features }),
            allow_cidrs: row.texts(self.networks, NETWORKS_MAX, network),
            expire_time: expiry(row, self.expires_at, now),
            rate: limit(row, self.rate, Rate::parse),
            quota: limit(row, self.quota, Quota::parse),
            ..pb::Key::default()
        }
    }
}

/// A limit, or nothing.
fn limit<T>(
    row: &mut Row<'_>,
    column: &'static str,
    parse: fn(&str) -> Result<T, InvalidName>,
) -> String {
    row.text(column, "", |text| match text {
        "" => Ok(()),
        text => rule(parse(text)),
    })
}

pub(in crate::cli) fn features(row: &mut Row<'_>, column: &'static str) -> Vec<String> {
    row.texts(column, FEATURES_MAX, |text| rule(Feature::parse(text)))
}

/// The rule that a name breaks, as the end of a sentence about its column.
pub(in crate::cli) fn rule<T>(parsed: Result<T, InvalidName>) -> Result<(), String> {
    parsed
        .map(drop)
        .map_err(|broken| format!("must be {}", broken.rule))
}

fn network(text: &str) -> Result<(), String> {
    network::parse(text).map(drop)
}

fn role(row: &mut Row<'_>, column: &'static str) -> pb::Role {
    match row.cell(column) {
        "" | "user" => pb::Role::User,
        "tenant_admin" => pb::Role::TenantAdmin,
        "global_admin" => pb::Role::GlobalAdmin,
        _ => {
            row.mistake(column, "must be user, tenant_admin or global_admin");
            pb::Role::User
        }
    }
}

fn admin_access(row: &mut Row<'_>, column: &'static str) -> pb::AdminAccess {
    match row.cell(column) {
        "" => pb::AdminAccess::Unspecified,
        "none" => pb::AdminAccess::None,
        "self" => pb::AdminAccess::Self_,
        "role" => pb::AdminAccess::Role,
        _ => {
            row.mistake(column, "must be none, self or role");
            pb::AdminAccess::Unspecified
        }
    }
}

fn expiry(
    row: &mut Row<'_>,
    column: &'static str,
    now: Timestamp,
) -> Option<prost_types::Timestamp> {
    let text = row.cell(column);
    if text.is_empty() {
        return None;
    }
    let problem = match text.parse::<jiff::Timestamp>() {
        Ok(end) if end.as_millisecond() > now.as_millis() => {
            return Some(prost_types::Timestamp {
                seconds: end.as_second(),
                nanos: 0,
            });
        }
        Ok(_) => "must be in the future",
        Err(_) => "must be a time such as 2027-01-31T00:00:00Z",
    };
    row.mistake(column, problem);
    None
}
