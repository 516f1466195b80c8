//! The webhook over HTTP: one path, JSON in, JSON out, everything bounded.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use opentelemetry::KeyValue;
use serde_json::json;

use super::review::{self, Outcome};
use crate::config::Injector;
use crate::telemetry::metrics::Metrics;

/// The path that the webhook's configuration names.
pub const PATH: &str = "/inject";
/// Of a review: the largest object that the API server takes is 3 MiB, and a review of a new pod holds it once.
pub const BODY_BYTES_MAX: usize = 4 << 20;

/// The ways that a review can end, as metrics call them.
const OUTCOMES: [&str; 4] = ["patched", "left", "refused", "invalid"];
const INVALID: usize = 3;

/// The webhook: its settings and its counts.
#[derive(Clone)]
pub struct Webhook {
    settings: Arc<Injector>,
    counts: Arc<[AtomicU64; OUTCOMES.len()]>,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Webhook")
    }
}

impl Webhook {
    /// With these settings.
    pub fn new(settings: &Injector) -> Self {
        Self {
            settings: Arc::new(settings.clone()),
            counts: Arc::default(),
        }
    }

    /// Shows how reviews end.
    pub fn observe(&self, metrics: &Metrics) {
        let counts = Arc::clone(&self.counts);
        metrics.counters(
            "keystile_injector_reviews",
            "Admission reviews by how they ended.",
            move || {
                let row = |(name, count): (&'static str, &AtomicU64)| {
                    let count = count.load(Ordering::Relaxed);
                    (vec![KeyValue::new("outcome", name)], count)
                };
                OUTCOMES.into_iter().zip(counts.iter()).map(row).collect()
            },
        );
    }

    /// The routes of the listener.
    pub fn router(self) -> Router {
        Router::new().route(PATH, post(inject)).with_state(self)
    }

    fn count(&self, outcome: usize) {
        if let Some(count) = self.counts.get(outcome) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn invalid(&self, status: StatusCode, message: &str) -> Response {
        self.count(INVALID);
        tracing::warn!(
            status = status.as_u16(),
            message,
            "refused an admission review"
        );
        // The form in which the API server repeats the sentence to whoever makes the pod.
        let body = json!({
            "apiVersion": "v1", "kind": "Status", "status": "Failure",
            "message": format!("keystile: {message}"), "code": status.as_u16(),
        });
        (status, axum::Json(body)).into_response()
    }
}

async fn inject(State(webhook): State<Webhook>, headers: HeaderMap, body: Body) -> Response {
    let media_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|it| it.to_str().ok());
    let media_type = media_type
        .and_then(|it| it.split(';').next())
        .unwrap_or_default();
    if !media_type.trim().eq_ignore_ascii_case("application/json") {
        let message = "the content type must be application/json";
        return webhook.invalid(StatusCode::UNSUPPORTED_MEDIA_TYPE, message);
    }
    let body = match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            let message = format!("the review has more than {BODY_BYTES_MAX} bytes");
            return webhook.invalid(StatusCode::PAYLOAD_TOO_LARGE, &message);
        }
        Err(error) => {
            let message = format!("the body cannot be read: {error}");
            return webhook.invalid(StatusCode::SERVICE_UNAVAILABLE, &message);
        }
    };
    match review::answer(&body, &webhook.settings) {
        Ok(answer) => webhook.answered(answer),
        Err(unreadable) => webhook.invalid(StatusCode::BAD_REQUEST, &unreadable.to_string()),
    }
}

impl Webhook {
    fn answered(&self, answer: review::Answer) -> Response {
        let review::Answer {
            outcome,
            namespace,
            pod,
            dry_run,
            words,
            body,
        } = answer;
        self.count(outcome as usize);
        match outcome {
            Outcome::Patched => {
                tracing::info!(namespace, pod, dry_run, words, "injected a sidecar");
            }
            Outcome::Left => tracing::info!(namespace, pod, dry_run, words, "left a pod as it is"),
            Outcome::Refused => tracing::warn!(namespace, pod, dry_run, words, "refused a pod"),
        }
        axum::Json(body).into_response()
    }
}
