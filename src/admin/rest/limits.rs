//! `/api/v1/auth/apikey-limits`: how many keys the owners of a tenant may have.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use tonic_types::FieldViolation;
use utoipa::{IntoParams, ToSchema};

use super::Rest;
use super::answer::Refusal;
use super::caller::{Caller, CallersContent, Parameters};
use super::document::{Always, May, OfBody};
use super::keys::tenant_of;
use crate::admin::limits::Limits as Service;
use crate::domain::governance::{KEY_LIMIT_MAX, limit_field};
use crate::domain::role::Role;
use crate::proto::admin as pb;
use crate::proto::admin::limit_service_server::LimitService as _;
use crate::status;

/// One thing for each role.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct LimitSources {
    /// `default`, `tenant_config`, `tenant_runtime` or `global_override`.
    max_keys_per_user: String,
    max_keys_per_tenant_admin: String,
    max_keys_per_global_admin: String,
}

/// The limits that hold in a tenant.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Limits {
    tenant_id: String,
    /// The most live keys of an owner for one more with the role `user`.
    max_keys_per_user: u32,
    /// The same for the role `tenant_admin`.
    max_keys_per_tenant_admin: u32,
    /// The same for the role `global_admin`.
    max_keys_per_global_admin: u32,
    /// Who says so.
    sources: LimitSources,
}

/// The frame in which limits can be changed and keys can live.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Configuration {
    /// Whether tenant admins may change their tenant's limits.
    allow_tenant_override: bool,
    /// Whether anybody may change limits at run time.
    allow_admin_override: bool,
    /// Whether every new key must have an expiry.
    enforce_expiry: bool,
    /// Longest life of a key in days; 0: no maximum.
    max_expiry_days: u32,
    /// Shortest life of a key that has an expiry, in days.
    min_expiry_days: u32,
}

/// What went well, and the frame beside it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Framed {
    #[schema(pattern = "^success$")]
    status: &'static str,
    data: Limits,
    configuration: Configuration,
}

/// Limits to be set; what is absent stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(min_properties = 1)]
pub(super) struct NewLimits {
    #[serde(default, deserialize_with = "number")]
    #[schema(value_type = u32, required = false, minimum = 1, maximum = 100_000)]
    max_keys_per_user: Option<i64>,
    #[serde(default, deserialize_with = "number")]
    #[schema(value_type = u32, required = false, minimum = 1, maximum = 100_000)]
    max_keys_per_tenant_admin: Option<i64>,
    #[serde(default, deserialize_with = "number")]
    #[schema(value_type = u32, required = false, minimum = 1, maximum = 100_000)]
    max_keys_per_global_admin: Option<i64>,
}

/// A whole number, `15` or `15.0`, and no `null`, which could be meant to take a limit away.
fn number<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<i64>, D::Error> {
    let number = serde_json::Number::deserialize(from)?;
    let whole = number.as_i64().or_else(|| {
        let number = number.as_f64().filter(|number| number.fract() == 0.0)?;
        // Far beyond every limit, and still exact.
        format!("{number:.0}").parse().ok()
    });
    whole.map(Some).ok_or_else(|| {
        serde::de::Error::invalid_type(serde::de::Unexpected::Other("number"), &"a whole number")
    })
}

/// Of which tenant.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// The tenant, if not the caller's; needs `global_admin`.
    #[param(
        min_length = 1,
        max_length = 63,
        pattern = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"
    )]
    tenant_id: Option<String>,
}

/// Read the limits of a tenant
#[utoipa::path(
    get,
    path = "/api/v1/auth/apikey-limits",
    operation_id = "getApiKeyLimits",
    tag = "apikeys",
    params(Which),
    responses((status = 200, description = "The limits that hold.", body = Framed), Always, May<404>),
    security(("bearer" = []), ("api_key" = [])),
)]
pub(super) async fn get(
    State(rest): State<Rest>,
    caller: Caller,
    Parameters(which): Parameters<Which>,
) -> Result<Response, Refusal> {
    let identity = caller.identity(&rest).await?;
    let tenant = tenant_of(&identity, which.tenant_id.as_deref())?;
    let request = pb::GetKeyLimitsRequest {
        name: format!("tenants/{tenant}/keyLimits"),
    };
    let service = Service(rest.admin.clone());
    let found = service.get_key_limits(caller.call(request)).await?;
    Ok(framed(found.into_inner()))
}

/// Change the limits of a tenant
///
/// Needs `tenant_admin`, and that the configuration lets limits be changed at run time. A limit that is lowered below
/// what exists leaves all keys as they are and refuses new ones.
#[utoipa::path(
    put,
    path = "/api/v1/auth/apikey-limits",
    operation_id = "setApiKeyLimits",
    tag = "apikeys",
    params(Which),
    request_body = NewLimits,
    responses(
        (status = 200, description = "The limits that hold now.", body = Framed),
        Always, OfBody, May<404>, May<409>,
    ),
    security(("bearer" = []), ("api_key" = [])),
)]
pub(super) async fn set(
    State(rest): State<Rest>,
    caller: Caller,
    Parameters(which): Parameters<Which>,
    CallersContent(new): CallersContent<NewLimits>,
) -> Result<Response, Refusal> {
    let identity = caller.identity(&rest).await?;
    let tenant = tenant_of(&identity, which.tenant_id.as_deref())?;
    let [user, tenant_admin, global_admin] = new.checked()?;
    let set = Role::ALL
        .into_iter()
        .zip([user, tenant_admin, global_admin]);
    let named = set.filter(|(_, max)| max.is_some());
    let request = pb::UpdateKeyLimitsRequest {
        key_limits: Some(pb::KeyLimits {
            name: format!("tenants/{tenant}/keyLimits"),
            max_keys_per_user: user,
            max_keys_per_tenant_admin: tenant_admin,
            max_keys_per_global_admin: global_admin,
            ..pb::KeyLimits::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: named
                .map(|(role, _)| limit_field(role).to_owned())
                .collect(),
        }),
    };
    let service = Service(rest.admin.clone());
    let changed = service.update_key_limits(caller.call(request)).await?;
    Ok(framed(changed.into_inner()))
}

impl NewLimits {
    /// In the order of the roles; every bad one is named at once.
    fn checked(&self) -> Result<[Option<u32>; 3], Refusal> {
        let all = [
            ("maxKeysPerUser", self.max_keys_per_user),
            ("maxKeysPerTenantAdmin", self.max_keys_per_tenant_admin),
            ("maxKeysPerGlobalAdmin", self.max_keys_per_global_admin),
        ];
        let mut bad = Vec::new();
        let checked = all.map(|(name, max)| {
            let max = max?;
            let fits = u32::try_from(max)
                .ok()
                .filter(|max| (1..=KEY_LIMIT_MAX).contains(max));
            if fits.is_none() {
                let problem = format!("must be 1 to {KEY_LIMIT_MAX}, and is {max}");
                bad.push(FieldViolation::new(name, problem));
            }
            fits
        });
        if bad.is_empty() && checked.iter().all(Option::is_none) {
            let names = all.map(|(name, _)| name).join(", ");
            bad.push(FieldViolation::new(
                "body",
                format!("must set one of {names} at least"),
            ));
        }
        match bad.is_empty() {
            true => Ok(checked),
            false => Err(status::invalid(bad).into()),
        }
    }
}

fn framed(limits: pb::KeyLimits) -> Response {
    let holds = |role: Role| {
        let name = limit_field(role);
        let found = limits
            .effective_limits
            .iter()
            .find(|limit| limit.name == name);
        found
            .map(|limit| (limit.value, limit.source.clone()))
            .unwrap_or_default()
    };
    let [user, tenant_admin, global_admin] = Role::ALL.map(holds);
    let frame = limits.configuration.unwrap_or_default();
    let body = Framed {
        status: "success",
        data: Limits {
            tenant_id: limits.tenant_id,
            max_keys_per_user: user.0,
            max_keys_per_tenant_admin: tenant_admin.0,
            max_keys_per_global_admin: global_admin.0,
            sources: LimitSources {
                max_keys_per_user: user.1,
                max_keys_per_tenant_admin: tenant_admin.1,
                max_keys_per_global_admin: global_admin.1,
            },
        },
        configuration: Configuration {
            allow_tenant_override: frame.allow_tenant_override,
            allow_admin_override: frame.allow_admin_override,
            enforce_expiry: frame.enforce_expiry,
            max_expiry_days: frame.max_expiry_days,
            min_expiry_days: frame.min_expiry_days,
        },
    };
    (StatusCode::OK, Json(body)).into_response()
}
