//! `/api/v1/auth/apikeys`: an owner's keys.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use tonic_types::FieldViolation;
use utoipa::{IntoParams, ToSchema};

use super::Rest;
use super::answer::{Refusal, Success, success};
use super::caller::{Caller, CallersContent, Parameters};
use super::document::{self, Always, May, OfBody};
use crate::admin::caller::{Identity, Permission, require};
use crate::admin::keys::Keys;
use crate::clock::Timestamp;
use crate::domain::name::{KeyId, Owner, TenantId};
use crate::proto::admin as pb;
use crate::proto::admin::key_service_server::KeyService as _;
use crate::status;

/// As many keys as one page of the service holds.
const PAGE: i32 = 1000;

const WARNING: &str = "This is the only time that the key is shown: store it now.";

/// A key to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewKey {
    /// For people.
    #[schema(schema_with = document::name)]
    name: String,
    /// For people.
    #[serde(default)]
    #[schema(schema_with = document::description)]
    description: Option<String>,
    /// When it stops working (RFC 3339); never, if it is not said and the rules allow it.
    #[serde(default)]
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// What it may do.
    #[serde(default)]
    #[schema(schema_with = document::scopes)]
    scopes: Option<Vec<String>>,
    /// Whose it is, if not the caller's; needs `tenant_admin`.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._@:+/=|-]+$")]
    owner: Option<String>,
}

/// A key that was just made.
#[derive(Serialize, ToSchema)]
pub(super) struct Created {
    id: String,
    /// The key itself. It is not shown again.
    api_key: String,
    /// Its first characters, to recognise it by.
    key_prefix: String,
    name: String,
    #[schema(format = DateTime, required)]
    expires_at: Option<String>,
    scopes: Vec<String>,
    warning: &'static str,
}

/// A key without its token.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Shown {
    id: String,
    name: String,
    /// The first characters of its token, to recognise it by.
    prefix: String,
    #[schema(format = DateTime, required)]
    expires_at: Option<String>,
    scopes: Vec<String>,
    #[schema(format = DateTime, required)]
    created_at: Option<String>,
    /// When it was last used, as far as that is known.
    #[schema(format = DateTime, required)]
    last_used: Option<String>,
    /// Whether it works.
    is_active: bool,
}

/// The keys of an owner.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Listed {
    api_keys: Vec<Shown>,
    total: usize,
}

/// A key that does not work any more.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Revoked {
    id: String,
    is_active: bool,
}

/// Of whom.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Whose {
    /// Whose keys, if not the caller's; needs `tenant_admin`.
    #[param(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._@:+/=|-]+$")]
    owner: Option<String>,
    /// The tenant, if not the caller's; needs `global_admin`.
    #[param(
        min_length = 1,
        max_length = 63,
        pattern = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"
    )]
    tenant_id: Option<String>,
}

/// Make a key
#[utoipa::path(
    post,
    path = "/api/v1/auth/apikeys",
    operation_id = "createApiKey",
    tag = "apikeys",
    request_body = NewKey,
    responses(
        (
            status = 201,
            description = "It was made.",
            body = Success<Created>,
            links(("revoke" = (operation_id = "revokeApiKey", parameters(("id" = "$response.body#/data/id"))))),
        ),
        Always, OfBody, May<404>, May<409>,
    ),
    security(("bearer" = []), ("api_key" = [])),
)]
pub(super) async fn create(
    State(rest): State<Rest>,
    caller: Caller,
    CallersContent(new): CallersContent<NewKey>,
) -> Result<Response, Refusal> {
    let identity = caller.identity(&rest).await?;
    let tenant = tenant_of(&identity, None)?;
    let owner = owner_of(&identity, &tenant, new.owner.as_deref())?;
    let expire_time = new.expires_at.as_deref().map(time).transpose()?;
    let key = pb::Key {
        display_name: new.name,
        description: new.description.unwrap_or_default(),
        owner: owner.to_string(),
        role: pb::Role::User.into(),
        scopes: new.scopes.unwrap_or_default(),
        expire_time,
        ..pb::Key::default()
    };
    let request = pb::CreateKeyRequest {
        parent: format!("tenants/{tenant}"),
        key: Some(key),
        ..pb::CreateKeyRequest::default()
    };
    let service = Keys(rest.admin.clone());
    let made = service.create_key(caller.call(request)).await?.into_inner();
    let key = made.key.unwrap_or_default();
    let data = Created {
        expires_at: shown_time(key.expire_time.as_ref()),
        id: key.key_id,
        api_key: made.plaintext,
        key_prefix: key.key_prefix,
        name: key.display_name,
        scopes: key.scopes,
        warning: WARNING,
    };
    Ok(success(StatusCode::CREATED, data))
}

/// List keys
///
/// The caller's own; a tenant admin may name another owner. Revoked and expired ones are listed too.
#[utoipa::path(
    get,
    path = "/api/v1/auth/apikeys",
    operation_id = "listApiKeys",
    tag = "apikeys",
    params(Whose),
    responses((status = 200, description = "The keys.", body = Success<Listed>), Always, May<404>),
    security(("bearer" = []), ("api_key" = [])),
)]
pub(super) async fn list(
    State(rest): State<Rest>,
    caller: Caller,
    Parameters(whose): Parameters<Whose>,
) -> Result<Response, Refusal> {
    let identity = caller.identity(&rest).await?;
    let tenant = tenant_of(&identity, whose.tenant_id.as_deref())?;
    let owner = owner_of(&identity, &tenant, whose.owner.as_deref())?;
    let service = Keys(rest.admin.clone());
    let mut api_keys = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = pb::ListKeysRequest {
            parent: format!("tenants/{tenant}"),
            page_size: PAGE,
            page_token,
            // An owner's name holds nothing that a filter would read differently.
            filter: format!("owner = \"{owner}\""),
        };
        let page = service.list_keys(caller.call(request)).await?.into_inner();
        api_keys.extend(page.keys.into_iter().map(shown));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let total = api_keys.len();
    Ok(success(StatusCode::OK, Listed { api_keys, total }))
}

/// Revoke a key, at once and for good
#[utoipa::path(
    delete,
    path = "/api/v1/auth/apikeys/{id}",
    operation_id = "revokeApiKey",
    tag = "apikeys",
    params(("id" = String, Path, description = "The key's id.", min_length = 8, max_length = 40, pattern = "^[a-z0-9]+$")),
    responses(
        (status = 200, description = "It does not work any more.", body = Success<Revoked>),
        Always, May<404>, May<409>,
    ),
    security(("bearer" = []), ("api_key" = [])),
)]
pub(super) async fn revoke(
    State(rest): State<Rest>,
    caller: Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Refusal> {
    let identity = caller.claimed_identity(&rest).await?;
    let tenant = tenant_of(&identity, None)?;
    let Some(id) = id.ok().and_then(|Path(id)| KeyId::parse(&id).ok()) else {
        // What cannot be the id of a key is not there, for a caller who may look at all.
        caller.identity(&rest).await?;
        return Err(status::not_found("key").into());
    };
    let request = pb::RevokeKeyRequest {
        name: format!("tenants/{tenant}/keys/{id}"),
        reason: "revoked over REST".to_owned(),
        ..pb::RevokeKeyRequest::default()
    };
    let service = Keys(rest.admin.clone());
    service.revoke_key(caller.call(request)).await?;
    let data = Revoked {
        id: id.to_string(),
        is_active: false,
    };
    Ok(success(StatusCode::OK, data))
}

/// The tenant that is meant, if the caller may know of it.
pub(super) fn tenant_of(caller: &Identity, named: Option<&str>) -> Result<TenantId, Refusal> {
    let Some(named) = named else {
        return caller.tenant().cloned().ok_or_else(|| {
            let word = caller.credential.word();
            let problem = format!("is needed: this {word} belongs to no tenant");
            Refusal::bad("tenant_id", &problem)
        });
    };
    // What cannot be the id of a tenant is not there.
    let tenant = TenantId::parse(named).map_err(|_| status::not_found("tenant"))?;
    require(caller, Permission::OwnKeys, Some(&tenant))?;
    Ok(tenant)
}

/// The owner that is meant, if the caller reaches its keys.
fn owner_of(caller: &Identity, tenant: &TenantId, named: Option<&str>) -> Result<Owner, Refusal> {
    let Some(named) = named else {
        return caller.owner().cloned().ok_or_else(|| {
            let word = caller.credential.word();
            let problem = format!("is needed: this {word} has no keys of its own");
            Refusal::bad("owner", &problem)
        });
    };
    let owner = Owner::parse(named)
        .map_err(|broken| Refusal::bad("owner", &format!("must be {}", broken.rule)))?;
    if Some(&owner) != caller.owner() {
        require(caller, Permission::OwnTenant, Some(tenant))?;
    }
    Ok(owner)
}

fn time(text: &str) -> Result<prost_types::Timestamp, Refusal> {
    let time = text.parse::<jiff::Timestamp>().map_err(|_| {
        let problem = "must be a time such as 2027-01-31T00:00:00Z";
        let violation = FieldViolation::new("expires_at", problem);
        Refusal::from(status::invalid(vec![violation]))
    })?;
    Ok(prost_types::Timestamp {
        seconds: time.as_second(),
        nanos: time.subsec_nanosecond(),
    })
}

fn shown_time(time: Option<&prost_types::Timestamp>) -> Option<String> {
    let time = time?;
    let millis = time.seconds.saturating_mul(1000) + i64::from(time.nanos / 1_000_000);
    Some(Timestamp::from_millis(millis).to_string())
}

fn shown(key: pb::Key) -> Shown {
    Shown {
        is_active: key.state == i32::from(pb::KeyState::Active),
        expires_at: shown_time(key.expire_time.as_ref()),
        created_at: shown_time(key.create_time.as_ref()),
        last_used: None,
        id: key.key_id,
        name: key.display_name,
        prefix: key.key_prefix,
        scopes: key.scopes,
    }
}
