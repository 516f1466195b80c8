//! REST on the admin port (DESIGN section 8), for callers without gRPC: each endpoint is a call of the gRPC services,
//! so that rights, rules and audit are the same whichever way somebody comes.
//!
//! Every answer is JSON: `{"status":"success","data":…}` or `{"status":"error","error":…}`. What is accepted and
//! answered is described in OpenAPI 3.1 at `/openapi.json`, made from these very handlers.

mod answer;
mod caller;
mod document;
mod keys;
mod limits;
mod settings;
mod validate;

use axum::Router;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use tonic::Status;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::admin::Admin;
use crate::grpc::is_grpc;
use answer::Refusal;
pub(super) use answer::guarded;

/// What every endpoint needs.
#[derive(Clone)]
pub(super) struct Rest {
    admin: Admin,
}

/// The endpoints; what is none of them is the caller's matter, see [`nothing_here`].
pub(super) fn router(admin: &Admin) -> Router {
    let rest = Rest {
        admin: admin.clone(),
    };
    let (router, description) = OpenApiRouter::with_openapi(document::begin())
        .routes(routes!(keys::create, keys::list))
        .routes(routes!(keys::revoke))
        .routes(routes!(validate::validate))
        .routes(routes!(limits::get, limits::set))
        .routes(routes!(settings::get))
        .with_state(rest)
        .split_for_parts();
    let description = Bytes::from(document::complete(&description).to_string());
    router
        .route(
            "/openapi.json",
            axum::routing::get(async move || ([(CONTENT_TYPE, "application/json")], description)),
        )
        .method_not_allowed_fallback(async || Refusal::method_not_allowed())
}

/// What is answered where nothing is, in the words of the protocol that asked.
pub(super) async fn nothing_here(request: Request) -> Response {
    if is_grpc(request.headers()) {
        return Status::unimplemented("").into_http();
    }
    Refusal::no_such_path().into_response()
}

/// Lets gRPC on to its methods; a browser or `curl` that comes there would be answered with 200 and no body.
pub(super) async fn only_grpc(request: Request, next: Next) -> Response {
    if is_grpc(request.headers()) {
        return next.run(request).await;
    }
    Refusal::only_grpc().into_response()
}
