//! REST on the admin port (DESIGN section 8), for callers without gRPC: each endpoint is a call of the gRPC services,
//! so that rights, rules and audit are the same whichever way somebody comes.
//!
//! Every answer is JSON: `{"status":"success","data":…}` or `{"status":"error","error":…}`. What is accepted and
//! answered is described in OpenAPI 3.1 at `/openapi.json`, made from these very handlers.

mod answer;
mod caller;
mod keys;
mod validate;

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use tonic::Status;
use utoipa::Modify;
use utoipa::OpenApi;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::admin::Admin;
use answer::{Refusal, document};

/// What every endpoint needs.
#[derive(Clone)]
pub(super) struct Rest {
    admin: Admin,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Keystile admin API",
        description = "API keys over REST. Every other operation is on gRPC, on the same port.",
    ),
    modifiers(&Credentials),
    tags((name = "apikeys", description = "API keys and what limits them")),
)]
struct Description;

/// How callers say who they are.
struct Credentials;

impl Modify for Credentials {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let header = ApiKey::Header(ApiKeyValue::new("x-api-key"));
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        components.add_security_scheme("api_key", SecurityScheme::ApiKey(header));
    }
}

/// The endpoints; what is none of them is the caller's matter, see [`nothing_here`].
pub(super) fn router(admin: &Admin) -> Router {
    let rest = Rest {
        admin: admin.clone(),
    };
    let (router, description) = OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(keys::create, keys::list))
        .routes(routes!(keys::revoke))
        .routes(routes!(validate::validate))
        .with_state(rest)
        .split_for_parts();
    let description = document(&description);
    router
        .route(
            "/openapi.json",
            axum::routing::get(move || std::future::ready(description.clone().into_response())),
        )
        .method_not_allowed_fallback(async || Refusal::method_not_allowed())
}

/// What is answered where nothing is, in the words of the protocol that asked.
pub(super) async fn nothing_here(request: Request) -> Response {
    let kind = request.headers().get(http::header::CONTENT_TYPE);
    let is_grpc = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if is_grpc {
        return Status::unimplemented("").into_http();
    }
    Refusal::no_such_path().into_response()
}
