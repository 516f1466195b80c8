//! The admin listener: its services, and our own keys as their callers' credentials.

use std::sync::Arc;

use axum::Router;
use tonic_health::pb::health_server::{Health as HealthApi, HealthServer};

use crate::admin;
use crate::admin::caller::{AuthFailure, AuthFuture, Authenticate, Identity};
use crate::authorizer::Authorizer;
use crate::cache::Found;
use crate::clock::SystemClock;
use crate::domain::decision::DenyReason;
use crate::domain::name::{KeyId, Owner};
use crate::server::parts::Parts;

/// Recognises callers by the same path that decides requests.
struct ByKey(Arc<Authorizer>);

impl Authenticate for ByKey {
    fn authenticate<'a>(&'a self, token: &'a [u8]) -> AuthFuture<'a> {
        Box::pin(async move {
            match self.0.authenticate(token).await {
                Ok(Ok(found)) => identity(&found),
                Ok(Err(reason)) => Err(failure(reason)),
                Err(outage) => {
                    tracing::warn!(
                        error = &outage as &dyn std::error::Error,
                        "cannot authenticate a caller"
                    );
                    Err(AuthFailure::Unavailable)
                }
            }
        })
    }
}

fn identity(found: &Found) -> Result<Identity, AuthFailure> {
    let key = &found.key;
    Ok(Identity {
        tenant: key.tenant().clone(),
        key: KeyId::parse(key.key()).map_err(|_| AuthFailure::Unavailable)?,
        owner: Owner::parse(key.owner()).map_err(|_| AuthFailure::Unavailable)?,
        role: key.role(),
    })
}

fn failure(reason: DenyReason) -> AuthFailure {
    match reason {
        DenyReason::ApiKeyExpired => AuthFailure::Expired,
        DenyReason::TenantSuspended => AuthFailure::TenantSuspended,
        DenyReason::AuthorizationUnavailable => AuthFailure::Unavailable,
        // A key that is bound to networks cannot prove where its holder is on this listener: refused.
        DenyReason::NetworkNotAllowed
        | DenyReason::MissingApiKey
        | DenyReason::InvalidApiKey
        | DenyReason::FeatureNotEnabled
        | DenyReason::ScopeNotGranted
        | DenyReason::AmbiguousRequest => AuthFailure::Refused,
    }
}

/// Everything that the admin listener serves.
pub(super) fn router(parts: &Parts, health: HealthServer<impl HealthApi>) -> Router {
    let auth = Arc::new(ByKey(Arc::clone(&parts.authorizer)));
    let routes = admin::routes(
        parts.registry.clone(),
        auth,
        Arc::new(SystemClock),
        &parts.page_token_key(),
    );
    admin::router(routes.add_service(health))
}
