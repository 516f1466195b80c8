//! Keys, proto to domain and back.

use std::collections::BTreeSet;
use std::time::Duration;

use ipnet::IpNet;
use tonic::Status;

use crate::admin::convert::{Fields, bad, duration_from_proto, time_from_proto, time_to_proto};
use crate::clock::Timestamp;
use crate::domain::change::Actor;
use crate::domain::decision::is_past;
use crate::domain::key::{Delivery, Key, KeyKind, KeyStatus, NETWORKS_MAX, SCOPES_MAX};
use crate::domain::limit::{Limits, Quota, Rate};
use crate::domain::name::{Description, DisplayName, Feature, KeyId, Owner, Scope, TenantId};
use crate::domain::network;
use crate::domain::role::{AdminAccess, Role};
use crate::domain::tenant::FEATURES_MAX;
use crate::proto::admin as pb;
use crate::registry::{Etag, NewKey};

/// The longest life that can be asked for; what is allowed is another matter.
pub(super) const TTL_MAX: Duration = Duration::from_secs(1000 * 366 * 86_400);

/// The tenant and key of a resource name `tenants/{tenant}/keys/{key}`.
pub(in crate::admin) fn key_name(field: &str, name: &str) -> Result<(TenantId, KeyId), Status> {
    let parse = || {
        let (tenant, key) = name.strip_prefix("tenants/")?.split_once("/keys/")?;
        Some((TenantId::parse(tenant).ok()?, KeyId::parse(key).ok()?))
    };
    parse().ok_or_else(|| bad(field, "must be `tenants/{tenant}/keys/{key}`"))
}

/// A key as the API shows it at `now`.
pub fn key_to_proto(key: &Key, now: Timestamp) -> pb::Key {
    let current = key.current();
    let (revoke_time, revoke_reason) = match &key.status {
        KeyStatus::Active => (None, String::new()),
        KeyStatus::Revoked { at, reason } => (Some(time_to_proto(*at)), reason.to_string()),
    };
    pb::Key {
        name: format!("tenants/{}/keys/{}", key.tenant, key.id),
        key_id: key.id.to_string(),
        tenant_id: key.tenant.to_string(),
        display_name: key.display_name.to_string(),
        description: key.description.to_string(),
        owner: key.owner.to_string(),
        role: role_to_proto(key.role).into(),
        admin_access: access_to_proto(key.admin_access).into(),
        kind: kind_to_proto(key.kind).into(),
        state: state(key, now).into(),
        scopes: key.scopes.iter().map(ToString::to_string).collect(),
        features: key.features.as_ref().map(|features| pb::FeatureList {
            names: features.iter().map(ToString::to_string).collect(),
        }),
        allow_cidrs: key.networks.iter().map(ToString::to_string).collect(),
        expire_time: key.expires_at.map(time_to_proto),
        create_time: Some(time_to_proto(key.created_at)),
        update_time: Some(time_to_proto(key.updated_at)),
        revoke_time,
        revoke_reason,
        generation: current.map(|current| current.number).unwrap_or_default(),
        key_prefix: current
            .map(|current| current.hint.clone())
            .unwrap_or_default(),
        etag: Etag::of_key(key).to_string(),
        rate: key
            .limits
            .rate
            .map(|rate| rate.to_string())
            .unwrap_or_default(),
        quota: key
            .limits
            .quota
            .map(|quota| quota.to_string())
            .unwrap_or_default(),
        created_by: key
            .created_by
            .as_ref()
            .map_or_else(String::new, |maker| made_by(key, maker)),
        unclaimed: current.is_some_and(|current| current.delivery == Delivery::Waiting),
        retiring: key.retiring(now).map(|old| pb::RetiringGeneration {
            generation: old.number,
            key_prefix: old.hint.clone(),
            retire_time: old.retires_at.map(time_to_proto),
        }),
        // What only some answers have is set by them.
        ..pause_to_proto(key, now)
    }
}

/// The pause of a key, if it is paused at `now`, and nothing else of it.
fn pause_to_proto(key: &Key, now: Timestamp) -> pb::Key {
    let pause = key.pause.as_ref();
    let pause = pause.filter(|pause| key.is_live() && pause.end.holds(now));
    pb::Key {
        pause_time: pause.map(|pause| time_to_proto(pause.since)),
        pause_end_time: pause.and_then(|pause| pause.end.time()).map(time_to_proto),
        pause_reason: pause.map_or_else(String::new, |pause| pause.reason.to_string()),
        ..pb::Key::default()
    }
}

/// Who made it, for who may read it: of a key in another tenant no more than its role.
fn made_by(key: &Key, maker: &Actor) -> String {
    match maker {
        Actor::Key { tenant, .. } if *tenant != key.tenant => "global_admin".to_owned(),
        Actor::Key { tenant, key } => format!("tenants/{tenant}/keys/{key}"),
        Actor::Certificate { .. } | Actor::Jwt { .. } | Actor::Operator | Actor::Keystile => {
            maker.to_string()
        }
    }
}

fn state(key: &Key, now: Timestamp) -> pb::KeyState {
    match key.status {
        KeyStatus::Revoked { .. } => pb::KeyState::Revoked,
        KeyStatus::Active if is_past(key.expires_at, now) => pb::KeyState::Expired,
        KeyStatus::Active if key.is_paused(now) => pb::KeyState::Paused,
        KeyStatus::Active => pb::KeyState::Active,
    }
}

fn role_to_proto(role: Role) -> pb::Role {
    match role {
        Role::User => pb::Role::User,
        Role::TenantAdmin => pb::Role::TenantAdmin,
        Role::GlobalAdmin => pb::Role::GlobalAdmin,
    }
}

fn access_to_proto(access: AdminAccess) -> pb::AdminAccess {
    match access {
        AdminAccess::None => pb::AdminAccess::None,
        AdminAccess::Itself => pb::AdminAccess::Self_,
        AdminAccess::Role => pb::AdminAccess::Role,
    }
}

fn kind_to_proto(kind: KeyKind) -> pb::KeyKind {
    match kind {
        KeyKind::Live => pb::KeyKind::Live,
        KeyKind::Test => pb::KeyKind::Test,
        KeyKind::Imported => pb::KeyKind::Imported,
    }
}

pub(in crate::admin) fn new_key(wanted: &pb::Key) -> Result<NewKey, Status> {
    parse_new(wanted, kind)
}

/// A key to be made of a token of another system.
pub(in crate::admin) fn imported_key(wanted: &pb::Key) -> Result<NewKey, Status> {
    parse_new(wanted, imported_kind)
}

fn parse_new(
    wanted: &pb::Key,
    kind: impl Fn(&mut Fields, i32) -> Option<KeyKind>,
) -> Result<NewKey, Status> {
    let mut fields = Fields::default();
    let display_name = fields.take("key.display_name", DisplayName::parse(&wanted.display_name));
    let description = fields.take("key.description", Description::parse(&wanted.description));
    let owner = fields.take("key.owner", Owner::parse(&wanted.owner));
    let role = role(&mut fields, wanted.role);
    let admin_access = admin_access(&mut fields, wanted);
    let kind = kind(&mut fields, wanted.kind);
    let scopes = scopes(&mut fields, wanted);
    let features = features(&mut fields, wanted);
    let networks = networks(&mut fields, &wanted.allow_cidrs);
    let limits = Limits {
        rate: rate(&mut fields, wanted),
        quota: quota(&mut fields, wanted),
    };
    let ttl = wanted.ttl.as_ref().and_then(|ttl| {
        let parsed = duration_from_proto(ttl, TTL_MAX).filter(|ttl| !ttl.is_zero());
        if parsed.is_none() {
            fields.refuse("key.ttl", "must be more than 0 and at most 1000 years");
        } else if wanted.expire_time.is_some() {
            fields.refuse("key.ttl", "must be absent where `expire_time` is set");
        }
        parsed
    });
    let expires_at = wanted.expire_time.and_then(|time| {
        let parsed = time_from_proto(time);
        if parsed.is_none() {
            fields.refuse("key.expire_time", "must be a time between 1970 and 9999");
        }
        parsed
    });
    let new = (|| {
        Some(NewKey {
            display_name: display_name?,
            description: description?,
            owner: owner?,
            role: role?,
            admin_access,
            kind: kind?,
            scopes,
            features,
            networks,
            limits,
            budget: None,
            expires_at,
            ttl,
        })
    })();
    fields.finish(new)
}

pub(super) fn scopes(fields: &mut Fields, wanted: &pb::Key) -> BTreeSet<Scope> {
    fields.set("key.scopes", &wanted.scopes, SCOPES_MAX, Scope::parse)
}

pub(super) fn features(fields: &mut Fields, wanted: &pb::Key) -> Option<BTreeSet<Feature>> {
    const FIELD: &str = "key.features.names";
    let list = wanted.features.as_ref()?;
    Some(fields.set(FIELD, &list.names, FEATURES_MAX, Feature::parse))
}

/// A key's own rate; none when nothing is written, and when what is written is refused.
pub(super) fn rate(fields: &mut Fields, wanted: &pb::Key) -> Option<Rate> {
    let text = Some(wanted.rate.as_str()).filter(|text| !text.is_empty());
    text.and_then(|text| fields.take("key.rate", Rate::parse(text)))
}

/// A key's own quota.
pub(super) fn quota(fields: &mut Fields, wanted: &pb::Key) -> Option<Quota> {
    let text = Some(wanted.quota.as_str()).filter(|text| !text.is_empty());
    text.and_then(|text| fields.take("key.quota", Quota::parse(text)))
}

fn role(fields: &mut Fields, number: i32) -> Option<Role> {
    let role = role_of(number);
    if role.is_none() {
        fields.refuse("key.role", "is not a known role");
    }
    role
}

/// The role of a new key; none if that is no role.
pub(in crate::admin) fn role_of(number: i32) -> Option<Role> {
    match pb::Role::try_from(number) {
        Ok(pb::Role::Unspecified | pb::Role::User) => Some(Role::User),
        Ok(pb::Role::TenantAdmin) => Some(Role::TenantAdmin),
        Ok(pb::Role::GlobalAdmin) => Some(Role::GlobalAdmin),
        Err(_) => None,
    }
}

/// Whether it opens this API; none where nobody says, and when what is said is refused.
pub(super) fn admin_access(fields: &mut Fields, wanted: &pb::Key) -> Option<AdminAccess> {
    match pb::AdminAccess::try_from(wanted.admin_access) {
        Ok(pb::AdminAccess::Unspecified) => None,
        Ok(pb::AdminAccess::None) => Some(AdminAccess::None),
        Ok(pb::AdminAccess::Self_) => Some(AdminAccess::Itself),
        Ok(pb::AdminAccess::Role) => Some(AdminAccess::Role),
        Err(_) => {
            fields.refuse("key.admin_access", "is not known");
            None
        }
    }
}

fn kind(fields: &mut Fields, number: i32) -> Option<KeyKind> {
    match pb::KeyKind::try_from(number) {
        Ok(pb::KeyKind::Unspecified | pb::KeyKind::Live) => Some(KeyKind::Live),
        Ok(pb::KeyKind::Test) => Some(KeyKind::Test),
        Ok(pb::KeyKind::Imported) | Err(_) => {
            fields.refuse("key.kind", "must be KEY_KIND_LIVE or KEY_KIND_TEST");
            None
        }
    }
}

fn imported_kind(fields: &mut Fields, number: i32) -> Option<KeyKind> {
    match pb::KeyKind::try_from(number) {
        Ok(pb::KeyKind::Unspecified | pb::KeyKind::Imported) => Some(KeyKind::Imported),
        Ok(pb::KeyKind::Live | pb::KeyKind::Test) | Err(_) => {
            fields.refuse("key.kind", "must be KEY_KIND_IMPORTED or empty");
            None
        }
    }
}

pub(super) fn networks(fields: &mut Fields, texts: &[String]) -> Vec<IpNet> {
    const FIELD: &str = "key.allow_cidrs";
    if texts.len() > NETWORKS_MAX {
        fields.refuse(FIELD, format!("at most {NETWORKS_MAX} are allowed"));
        return Vec::new();
    }
    let mut out = Vec::with_capacity(texts.len());
    for (at, text) in texts.iter().enumerate() {
        match network::parse(text) {
            Ok(network) => out.push(network),
            Err(problem) => fields.refuse(format!("{FIELD}[{at}]"), problem),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use tonic::Code;
    use tonic_types::StatusExt as _;

    use super::*;

    fn wanted() -> pb::Key {
        pb::Key {
            display_name: "ci".into(),
            owner: "alice".into(),
            ..pb::Key::default()
        }
    }

    fn bad_fields(status: &Status) -> Vec<String> {
        assert_eq!(status.code(), Code::InvalidArgument);
        let details = status.get_details_bad_request().unwrap();
        details
            .field_violations
            .into_iter()
            .map(|violation| violation.field)
            .collect()
    }

    #[test]
    fn a_key_without_role_and_kind_is_a_users_live_key() {
        let new = new_key(&wanted()).unwrap();
        assert_eq!(
            (new.role, new.kind, new.features),
            (Role::User, KeyKind::Live, None)
        );
    }

    #[test]
    fn no_feature_at_all_is_not_the_same_as_no_narrowing() {
        let narrowed = pb::Key {
            features: Some(pb::FeatureList::default()),
            ..wanted()
        };
        assert_eq!(
            new_key(&narrowed)
                .unwrap()
                .features
                .map(|features| features.len()),
            Some(0)
        );
    }

    #[test]
    fn every_bad_field_of_a_new_key_is_named_at_once() {
        let key = pb::Key {
            display_name: String::new(),
            description: "x".repeat(257),
            owner: "no spaces".into(),
            role: 99,
            kind: pb::KeyKind::Imported.into(),
            scopes: vec!["read".into(), "a,b".into()],
            features: Some(pb::FeatureList {
                names: vec!["".into()],
            }),
            allow_cidrs: vec![
                "10.0.0.1/8".into(),
                "10.0.0.0/8".into(),
                "x".repeat(1 << 20),
            ],
            expire_time: Some(prost_types::Timestamp {
                seconds: i64::MAX,
                nanos: -1,
            }),
            ..pb::Key::default()
        };
        assert_eq!(
            bad_fields(&new_key(&key).unwrap_err()),
            [
                "key.display_name",
                "key.description",
                "key.owner",
                "key.role",
                "key.kind",
                "key.scopes[1]",
                "key.features.names[0]",
                "key.allow_cidrs[0]",
                "key.allow_cidrs[2]",
                "key.expire_time",
            ]
        );
    }

    #[test]
    fn networks_are_exact_and_an_address_is_a_network_of_one() {
        use crate::domain::network::parse as network;
        assert_eq!(network("10.0.0.0/8").unwrap().to_string(), "10.0.0.0/8");
        assert_eq!(network("192.0.2.7").unwrap().to_string(), "192.0.2.7/32");
        assert_eq!(
            network("2001:db8::1").unwrap().to_string(),
            "2001:db8::1/128"
        );
        let refused = network("10.1.2.3/8").unwrap_err();
        assert_eq!(
            refused,
            "has bits behind its prefix: did you mean 10.0.0.0/8?"
        );
        for bad in ["", "10.0.0.0/33", "10.0.0/8", "localhost", "10.0.0.0/-1"] {
            assert!(network(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn resource_names_are_exact() {
        let (tenant, key) = key_name("name", "tenants/acme/keys/abcd2345").unwrap();
        assert_eq!((tenant.as_str(), key.as_str()), ("acme", "abcd2345"));
        for bad in [
            "",
            "tenants/acme",
            "tenants/acme/keys/",
            "tenants/acme/keys/ABCD2345",
            "tenants/acme/keys/abcd2345/",
            "tenants//keys/abcd2345",
            "keys/abcd2345",
        ] {
            assert_eq!(
                bad_fields(&key_name("name", bad).unwrap_err()),
                ["name"],
                "{bad}"
            );
        }
    }
}
