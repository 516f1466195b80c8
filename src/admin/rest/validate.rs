//! `POST /api/v1/auth/validate`: whose a token is.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Rest;
use super::answer::{Refusal, Success, success};
use super::caller::{Caller, Content};
use super::document::{Always, OfBody};
use crate::admin::caller::{Credential, Identity, refused};
use crate::domain::block::Presenter;
use crate::domain::role::Role;

/// A token to be looked at.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Presented {
    /// The token. Never logged.
    token: String,
}

/// Whose it is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Valid {
    /// Always true: a token that is not valid is answered with 401.
    valid: bool,
    #[serde(rename = "type")]
    #[schema(pattern = "^api_key$")]
    kind: &'static str,
    tenant_id: String,
    /// The owner of the key.
    user_id: String,
}

/// Say whose a token is
///
/// A token is its own credential: whoever has it may ask this of it. A caller who says who it is learns of tokens
/// within its reach alone. Unknown, revoked and malformed tokens are answered alike.
#[utoipa::path(
    post,
    path = "/api/v1/auth/validate",
    operation_id = "validateApiKey",
    tag = "apikeys",
    request_body = Presented,
    responses((status = 200, description = "It is valid.", body = Success<Valid>), Always, OfBody),
    security((), ("bearer" = []), ("api_key" = [])),
)]
pub(super) async fn validate(
    State(rest): State<Rest>,
    caller: Caller,
    Content(presented): Content<Presented>,
) -> Result<Response, Refusal> {
    let token = zeroize::Zeroizing::new(presented.token);
    let source = caller.source();
    let (caller, presenter) = match caller.is_anonymous() {
        true => (None, Presenter::Stranger(source)),
        false => (
            Some(caller.identity(&rest).await?),
            Presenter::Recognised(source),
        ),
    };
    let holder = rest
        .admin
        .auth
        .authenticate(token.as_bytes(), presenter)
        .await;
    let holder = holder.map_err(refused)?;
    match &holder.credential {
        Credential::Key { tenant, owner, .. } if reaches(caller.as_ref(), &holder) => {
            let valid = Valid {
                valid: true,
                kind: "api_key",
                tenant_id: tenant.to_string(),
                user_id: owner.to_string(),
            };
            Ok(success(StatusCode::OK, valid).into_response())
        }
        Credential::Key { .. } | Credential::Certificate { .. } | Credential::Jwt { .. } => {
            // As wrong as an unknown one, in this too: a block must not tell them apart.
            rest.admin.auth.presented_wrong(presenter);
            Err(Refusal::invalid_key())
        }
    }
}

/// Whether the caller may know of the holder.
fn reaches(caller: Option<&Identity>, holder: &Identity) -> bool {
    let Some(caller) = caller else {
        return true;
    };
    caller.role == Role::GlobalAdmin
        || caller.tenant() == holder.tenant()
            && caller
                .only_owner()
                .is_none_or(|owner| Some(owner) == holder.owner())
}
