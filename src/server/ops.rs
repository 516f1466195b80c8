//! `/healthz`, `/readyz`, `/metrics` and `/.well-known/jwks.json`.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};

use crate::crypto::signing::MAX_AGE;
use crate::server::health::Health;
use crate::server::signing::SigningKeys;
use crate::store::Store;
use crate::store::damage::Damage;
use crate::telemetry::metrics::Metrics;

/// For who expected keys: a bare 404 could be a wrong port.
const NO_JWKS: &str =
    "no signing keys: the configuration of this process has no `keyring.signing`\n";

#[derive(Clone)]
struct Ops {
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    store: Option<Arc<dyn Store>>,
}

pub(super) fn router(
    health: &Arc<Health>,
    metrics: &Arc<Metrics>,
    store: Option<&Arc<dyn Store>>,
    signing: Option<&SigningKeys>,
) -> Router {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text))
        .with_state(Ops {
            health: Arc::clone(health),
            metrics: Arc::clone(metrics),
            store: store.cloned(),
        });
    let jwks = match signing {
        Some(signing) => get(jwks).with_state(signing.clone()),
        None => get(|| async { (StatusCode::NOT_FOUND, NO_JWKS) }),
    };
    router.route("/.well-known/jwks.json", jwks)
}

/// Public keys: anybody may have them.
async fn jwks(State(signing): State<SigningKeys>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/jwk-set+json".to_owned()),
        (
            header::CACHE_CONTROL,
            format!("public, max-age={}", MAX_AGE.as_secs()),
        ),
    ];
    (headers, signing.jwks()).into_response()
}

async fn readyz(State(ops): State<Ops>) -> (StatusCode, String) {
    let waiting = ops.health.waiting_for();
    if waiting.is_empty() {
        let store = ops.store.as_ref();
        let degraded = store.map_or_else(String::new, |store| degraded(store.damage()));
        (StatusCode::OK, format!("ready\n{degraded}"))
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not ready: {}\n", waiting.join(", ")),
        )
    }
}

/// What is not as it should be and no reason to send requests elsewhere: no other process has a better store. Whose
/// records they are is in the log: who asks here need not be an operator.
fn degraded(damage: &Damage) -> String {
    match damage.unhealed() {
        0 => String::new(),
        count => format!(
            "degraded: changes of {count} tenants with damaged records wait for the index (`keystile store check`)\n"
        ),
    }
}

async fn metrics_text(State(ops): State<Ops>) -> Response {
    match ops.metrics.render() {
        Ok(text) => (
            [(
                header::CONTENT_TYPE,
                "text/plain; version=0.0.4; charset=utf-8",
            )],
            text,
        )
            .into_response(),
        Err(error) => {
            tracing::error!(
                error = %crate::telemetry::chain(&error),
                "cannot render the metrics"
            );
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
