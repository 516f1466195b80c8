//! `/api/v1/auth/apikey-config`: the block `api_keys` of the configuration, as it works.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::Rest;
use super::answer::{Refusal, Success, success};
use super::caller::Caller;
use super::document::Always;
use crate::admin::limits::Limits;
use crate::proto::admin as pb;
use crate::proto::admin::limit_service_server::LimitService as _;

/// The block `api_keys` of the configuration, as it works.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Settings {
    /// Whether keys can be made.
    enabled: bool,
    /// Limits where nobody says anything else.
    default_limits: RoleLimits,
    /// Limits of single tenants, in the order of their ids.
    tenant_limits: Vec<TenantLimits>,
    /// Limits that win over all others; null: none.
    #[schema(required)]
    global_limits_override: Option<GlobalLimits>,
    permissions: Permissions,
    expiry_settings: Expiry,
    /// The profile whose defaults hold: `default`, `development` or `production`.
    profile: String,
    sources: ConfigSources,
}

/// One limit for each role; null where nothing is said.
#[derive(Debug, Serialize, ToSchema)]
struct RoleLimits {
    #[schema(required)]
    max_keys_per_user: Option<u32>,
    #[schema(required)]
    max_keys_per_tenant_admin: Option<u32>,
    #[schema(required)]
    max_keys_per_global_admin: Option<u32>,
}

/// What the configuration says of one tenant.
#[derive(Debug, Serialize, ToSchema)]
struct TenantLimits {
    tenant_id: String,
    #[serde(flatten)]
    limits: RoleLimits,
}

/// What the configuration says of all tenants, above everything else.
#[derive(Debug, Serialize, ToSchema)]
struct GlobalLimits {
    #[serde(flatten)]
    limits: RoleLimits,
    /// The most live keys of all tenants together.
    #[schema(required)]
    max_total_keys: Option<u32>,
}

/// Who may do what.
#[derive(Debug, Serialize, ToSchema)]
struct Permissions {
    /// Whether tenant admins may change their tenant's limits.
    allow_tenant_override: bool,
    /// Whether anybody may change limits at run time.
    allow_admin_override: bool,
    /// Each role has the permissions of the roles before it too.
    roles: Vec<RolePermission>,
}

/// A permission and the role that has it.
#[derive(Debug, Serialize, ToSchema)]
struct RolePermission {
    permission: String,
    role: String,
    /// In words.
    allows: String,
}

/// How long keys may live.
#[derive(Debug, Serialize, ToSchema)]
struct Expiry {
    /// Whether every new key must have an expiry.
    enforce_expiry: bool,
    /// Longest life of a key in days; 0: no maximum.
    max_expiry_days: u32,
    /// Shortest life of a key that has an expiry, in days.
    min_expiry_days: u32,
}

/// Where each value comes from: `default`, `profile`, `file` or `environment`. A list has one source.
#[derive(Debug, Serialize, ToSchema)]
struct ConfigSources {
    enabled: String,
    default_limits: RoleSources,
    tenant_limits: String,
    global_limits_override: GlobalSources,
    permissions: PermissionSources,
    expiry_settings: ExpirySources,
    profile: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct RoleSources {
    max_keys_per_user: String,
    max_keys_per_tenant_admin: String,
    max_keys_per_global_admin: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct GlobalSources {
    max_keys_per_user: String,
    max_keys_per_tenant_admin: String,
    max_keys_per_global_admin: String,
    max_total_keys: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct PermissionSources {
    allow_tenant_override: String,
    allow_admin_override: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct ExpirySources {
    enforce_expiry: String,
    max_expiry_days: String,
    min_expiry_days: String,
}

/// Read the configuration of the limits of all tenants
///
/// Needs `global_admin`. It is audited.
#[utoipa::path(
    get,
    path = "/api/v1/auth/apikey-config",
    operation_id = "getApiKeyConfig",
    tag = "apikeys",
    responses((status = 200, description = "The configuration.", body = Success<Settings>), Always),
    security(("bearer" = []), ("api_key" = [])),
)]
pub(super) async fn get(State(rest): State<Rest>, caller: Caller) -> Result<Response, Refusal> {
    let service = Limits(rest.admin.clone());
    let request = pb::GetSystemConfigRequest {};
    let found = service.get_system_config(caller.call(request)).await?;
    Ok(success(StatusCode::OK, settings(found.into_inner())))
}

fn settings(config: pb::SystemConfig) -> Settings {
    let sources = sources(&config.sources);
    let expiry = config.expiry_settings.unwrap_or_default();
    let tenants = config.tenant_limits.into_iter().map(|one| TenantLimits {
        tenant_id: one.tenant_id,
        limits: role_limits(one.limits),
    });
    let global = config.global_limits_override.map(|all| GlobalLimits {
        limits: role_limits(all.limits),
        max_total_keys: all.max_total_keys,
    });
    let roles = config.permissions.into_iter().map(|one| RolePermission {
        permission: one.permission,
        role: one.role,
        allows: one.allows,
    });
    Settings {
        enabled: config.enabled,
        default_limits: role_limits(config.default_limits),
        tenant_limits: tenants.collect(),
        global_limits_override: global,
        permissions: Permissions {
            allow_tenant_override: config.allow_tenant_override,
            allow_admin_override: config.allow_admin_override,
            roles: roles.collect(),
        },
        expiry_settings: Expiry {
            enforce_expiry: expiry.enforce_expiry,
            max_expiry_days: expiry.max_expiry_days,
            min_expiry_days: expiry.min_expiry_days,
        },
        profile: config.profile,
        sources,
    }
}

fn role_limits(limits: Option<pb::RoleLimits>) -> RoleLimits {
    let limits = limits.unwrap_or_default();
    RoleLimits {
        max_keys_per_user: limits.max_keys_per_user,
        max_keys_per_tenant_admin: limits.max_keys_per_tenant_admin,
        max_keys_per_global_admin: limits.max_keys_per_global_admin,
    }
}

/// By the shape of the answer what the service says by path. What it does not name nobody wrote.
fn sources(by_path: &BTreeMap<String, String>) -> ConfigSources {
    let of = |path: &str| {
        by_path
            .get(path)
            .map_or("default", String::as_str)
            .to_owned()
    };
    ConfigSources {
        enabled: of("enabled"),
        default_limits: RoleSources {
            max_keys_per_user: of("default_limits.max_keys_per_user"),
            max_keys_per_tenant_admin: of("default_limits.max_keys_per_tenant_admin"),
            max_keys_per_global_admin: of("default_limits.max_keys_per_global_admin"),
        },
        tenant_limits: of("tenant_limits"),
        global_limits_override: GlobalSources {
            max_keys_per_user: of("global_limits_override.max_keys_per_user"),
            max_keys_per_tenant_admin: of("global_limits_override.max_keys_per_tenant_admin"),
            max_keys_per_global_admin: of("global_limits_override.max_keys_per_global_admin"),
            max_total_keys: of("global_limits_override.max_total_keys"),
        },
        permissions: PermissionSources {
            allow_tenant_override: of("allow_tenant_override"),
            allow_admin_override: of("allow_admin_override"),
        },
        expiry_settings: ExpirySources {
            enforce_expiry: of("enforce_expiry"),
            max_expiry_days: of("max_expiry_days"),
            min_expiry_days: of("min_expiry_days"),
        },
        profile: of("profile"),
    }
}
