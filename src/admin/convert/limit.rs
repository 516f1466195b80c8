//! Limits on keys, proto to domain and back.

use tonic::Status;

use crate::admin::convert::{Fields, bad, masked};
use crate::domain::governance::{KEY_LIMIT_MAX, KeyLimits, KeyRules, Origin, limit_field};
use crate::domain::name::TenantId;
use crate::domain::role::Role;
use crate::domain::tenant::Tenant;
use crate::proto::admin as pb;
use crate::registry::Etag;

/// The tenant of a resource name `tenants/{tenant}/keyLimits`.
pub(in crate::admin) fn key_limits_name(field: &str, name: &str) -> Result<TenantId, Status> {
    let parse = || {
        let tenant = name.strip_prefix("tenants/")?.strip_suffix("/keyLimits")?;
        TenantId::parse(tenant).ok()
    };
    parse().ok_or_else(|| {
        let rule = TenantId::RULE;
        bad(
            field,
            format!("must be `tenants/{{tenant}}/keyLimits`, the tenant {rule}"),
        )
    })
}

/// The limits that an update names, each with its value or, to be set no more, without.
pub(in crate::admin) fn key_limit_changes(
    wanted: &pb::KeyLimits,
    mask: &[String],
) -> Result<Vec<(Role, Option<u32>)>, Status> {
    let mut fields = Fields::default();
    let named = masked(&mut fields, mask, &Role::ALL, limit_field);
    let mut changes = Vec::with_capacity(named.len());
    for role in Role::ALL {
        let field = limit_field(role);
        let value = match role {
            Role::User => wanted.max_keys_per_user,
            Role::TenantAdmin => wanted.max_keys_per_tenant_admin,
            Role::GlobalAdmin => wanted.max_keys_per_global_admin,
        };
        if !named.contains(&role) {
            continue;
        }
        if value.is_some_and(|max| !(1..=KEY_LIMIT_MAX).contains(&max)) {
            fields.refuse(
                format!("key_limits.{field}"),
                format!("must be 1 to {KEY_LIMIT_MAX}, or absent to be set no more"),
            );
        }
        changes.push((role, value));
    }
    fields.finish(Some(changes))
}

pub(in crate::admin) fn key_limits_to_proto(tenant: &Tenant, rules: &KeyRules) -> pb::KeyLimits {
    let effective = Role::ALL.map(|role| {
        let limit = rules.limit(&tenant.id, &tenant.key_limits, role);
        pb::EffectiveKeyLimit {
            name: limit_field(role).to_owned(),
            value: limit.max,
            source: limit.source.as_str().to_owned(),
        }
    });
    pb::KeyLimits {
        name: format!("tenants/{}/keyLimits", tenant.id),
        tenant_id: tenant.id.to_string(),
        max_keys_per_user: tenant.key_limits.user,
        max_keys_per_tenant_admin: tenant.key_limits.tenant_admin,
        max_keys_per_global_admin: tenant.key_limits.global_admin,
        effective_limits: effective.into(),
        configured: rules.tenants.get(&tenant.id).map(role_limits),
        configuration: Some(configuration(rules)),
        etag: Etag::of_tenant(tenant).to_string(),
    }
}

fn role_limits(limits: &KeyLimits) -> pb::RoleLimits {
    pb::RoleLimits {
        max_keys_per_user: limits.user,
        max_keys_per_tenant_admin: limits.tenant_admin,
        max_keys_per_global_admin: limits.global_admin,
    }
}

fn configuration(rules: &KeyRules) -> pb::LimitConfiguration {
    let sources = [
        "allow_tenant_override",
        "allow_admin_override",
        "enforce_expiry",
        "max_expiry_days",
        "min_expiry_days",
    ];
    let sources = sources.map(|path| (path.to_owned(), rules.origin(path).as_str().to_owned()));
    pb::LimitConfiguration {
        allow_tenant_override: rules.allow_tenant_override,
        allow_admin_override: rules.allow_admin_override,
        enforce_expiry: rules.expiry.enforce,
        max_expiry_days: rules.expiry.max_days,
        min_expiry_days: rules.expiry.min_days,
        sources: sources.into(),
    }
}

pub(in crate::admin) fn system_config_to_proto(rules: &KeyRules) -> pb::SystemConfig {
    let defaults = KeyLimits {
        user: Some(rules.defaults.user),
        tenant_admin: Some(rules.defaults.tenant_admin),
        global_admin: Some(rules.defaults.global_admin),
    };
    let tenants = rules.tenants.iter();
    let tenants = tenants.map(|(tenant, limits)| pb::TenantKeyLimits {
        tenant_id: tenant.to_string(),
        limits: Some(role_limits(limits)),
    });
    let global = rules.global_override.as_ref();
    let permissions = Role::ALL.map(|role| pb::PermissionInfo {
        permission: role.permission().to_owned(),
        role: role.as_str().to_owned(),
        allows: role.allows().to_owned(),
    });
    let origin = |(path, origin): (&String, &Origin)| (path.clone(), origin.as_str().to_owned());
    pb::SystemConfig {
        enabled: rules.enabled,
        default_limits: Some(role_limits(&defaults)),
        tenant_limits: tenants.collect(),
        global_limits_override: global.map(|global| pb::GlobalKeyLimits {
            limits: Some(role_limits(&global.limits)),
            max_total_keys: global.max_total,
        }),
        permissions: permissions.into(),
        expiry_settings: Some(pb::ExpirySettings {
            enforce_expiry: rules.expiry.enforce,
            max_expiry_days: rules.expiry.max_days,
            min_expiry_days: rules.expiry.min_days,
        }),
        profile: rules.profile.to_owned(),
        allow_tenant_override: rules.allow_tenant_override,
        allow_admin_override: rules.allow_admin_override,
        sources: rules.origins.iter().map(origin).collect(),
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt as _;

    use super::*;

    #[test]
    fn every_bad_limit_is_named_at_once() {
        let wanted = pb::KeyLimits {
            max_keys_per_user: Some(0),
            max_keys_per_tenant_admin: Some(100_000),
            max_keys_per_global_admin: Some(100_001),
            ..pb::KeyLimits::default()
        };
        let mask = ["*".to_owned(), "etag".to_owned()];
        let refused = key_limit_changes(&wanted, &mask).unwrap_err();
        let details = refused.get_details_bad_request().unwrap();
        let fields: Vec<_> = details
            .field_violations
            .iter()
            .map(|one| one.field.as_str())
            .collect();
        assert_eq!(
            fields,
            [
                "update_mask.paths[1]",
                "key_limits.max_keys_per_user",
                "key_limits.max_keys_per_global_admin"
            ]
        );
        assert!(key_limit_changes(&pb::KeyLimits::default(), &[]).is_err());
    }

    #[test]
    fn what_is_named_and_absent_is_removed_and_the_rest_stays() {
        let wanted = pb::KeyLimits {
            max_keys_per_user: Some(7),
            max_keys_per_global_admin: Some(8),
            ..pb::KeyLimits::default()
        };
        for (mask, expected) in [
            (&["max_keys_per_user"][..], &[(Role::User, Some(7))][..]),
            (&["max_keys_per_tenant_admin"], &[(Role::TenantAdmin, None)]),
            (
                &["*"],
                &[
                    (Role::User, Some(7)),
                    (Role::TenantAdmin, None),
                    (Role::GlobalAdmin, Some(8)),
                ],
            ),
        ] {
            let mask: Vec<String> = mask.iter().map(|path| (*path).to_owned()).collect();
            assert_eq!(key_limit_changes(&wanted, &mask).unwrap(), expected);
        }
    }

    #[test]
    fn names_are_whole() {
        assert!(key_limits_name("name", "tenants/acme/keyLimits").is_ok());
        for bad in [
            "",
            "tenants/acme",
            "tenants//keyLimits",
            "tenants/Acme/keyLimits",
            "tenants/acme/keylimits",
            "tenants/acme/keyLimits/",
            "tenants/a/b/keyLimits",
        ] {
            assert!(key_limits_name("name", bad).is_err(), "{bad}");
        }
    }
}
