//! Readiness: guards that must all be dropped. gRPC health and `/readyz` say the same thing.

mod questions;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health as HealthApi, HealthServer};
use tonic_health::server::{HealthReporter, health_reporter};

use crate::ext_authz::service::SERVICE_NAME;

/// The reason that never goes away.
const DRAINED: &str = "drained";

/// What is in the way of serving.
pub(super) struct Health {
    /// Reasons and how many guards hold each.
    reasons: Mutex<BTreeMap<&'static str, usize>>,
    phase: watch::Sender<Phase>,
    /// Places of those who watch, on every listener together.
    watchers: Arc<Semaphore>,
}

/// What callers are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    NotReady,
    Ready,
    /// Not ready, and never again.
    Draining,
}

/// As long as it lives, we are not ready.
#[must_use]
pub(super) struct NotReady {
    health: Arc<Health>,
    reason: &'static str,
}

impl Health {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            reasons: Mutex::default(),
            phase: watch::Sender::new(Phase::Ready),
            watchers: Arc::new(Semaphore::new(questions::WATCHERS_MAX)),
        })
    }

    /// Not ready until the guard is dropped.
    pub(super) fn not_ready_until(self: &Arc<Self>, reason: &'static str) -> NotReady {
        self.hold(reason);
        NotReady {
            health: Arc::clone(self),
            reason,
        }
    }

    /// Not ready for the rest of the process's life.
    pub(super) fn drain(&self) {
        self.hold(DRAINED);
    }

    fn hold(&self, reason: &'static str) {
        let mut reasons = self.reasons.lock();
        *reasons.entry(reason).or_default() += 1;
        self.publish(&reasons);
    }

    fn publish(&self, reasons: &BTreeMap<&'static str, usize>) {
        self.phase.send_replace(if reasons.contains_key(DRAINED) {
            Phase::Draining
        } else if reasons.is_empty() {
            Phase::Ready
        } else {
            Phase::NotReady
        });
    }

    /// What is waited for; empty when ready.
    pub(super) fn waiting_for(&self) -> Vec<&'static str> {
        self.reasons.lock().keys().copied().collect()
    }

    /// The gRPC health service of one listener (`grpc.health.v1`), for `""` and the authorization service.
    pub(super) fn grpc(
        self: &Arc<Self>,
    ) -> (
        HealthServer<impl HealthApi>,
        impl Future<Output = ()> + use<>,
    ) {
        let (reporter, server) = health_reporter();
        let server = server.max_decoding_message_size(questions::MESSAGE_BYTES_MAX);
        (server, follow(self.phase.subscribe(), reporter))
    }

    /// The routes of a listener, of which those of the health service hold little however they are asked.
    pub(super) fn bounded(&self, routes: Router) -> Router {
        questions::bounded(routes, Arc::clone(&self.watchers))
    }
}

/// Repeats our readiness to one health service, until the process drains.
async fn follow(mut phase: watch::Receiver<Phase>, mut reporter: HealthReporter) {
    loop {
        let now = *phase.borrow_and_update();
        let status = match now {
            Phase::Ready => ServingStatus::Serving,
            Phase::NotReady | Phase::Draining => ServingStatus::NotServing,
        };
        for service in ["", SERVICE_NAME] {
            reporter.set_service_status(service, status).await;
            if now == Phase::Draining {
                // Ends every `Watch` after this last status: an open one would hold the drain to its deadline.
                reporter.clear_service_status(service).await;
                reporter.set_service_status(service, status).await;
            }
        }
        if now == Phase::Draining || phase.changed().await.is_err() {
            return;
        }
    }
}

impl Drop for NotReady {
    fn drop(&mut self) {
        let mut reasons = self.health.reasons.lock();
        if let Some(count) = reasons.get_mut(self.reason) {
            *count -= 1;
            if *count == 0 {
                reasons.remove(self.reason);
            }
        }
        self.health.publish(&reasons);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_the_last_guard_is_gone() {
        let health = Health::new();
        let (a, b) = (health.not_ready_until("a"), health.not_ready_until("b"));
        assert_eq!(health.waiting_for(), ["a", "b"]);
        drop(a);
        assert_eq!(*health.phase.borrow(), Phase::NotReady);
        drop(b);
        assert!(health.waiting_for().is_empty());
        assert_eq!(*health.phase.borrow(), Phase::Ready);
        health.drain();
        assert_eq!(health.waiting_for(), ["drained"]);
        drop(health.not_ready_until("c"));
        assert_eq!(*health.phase.borrow(), Phase::Draining, "for good");
    }
}
