//! Readiness: guards that must all be dropped. gRPC health and `/readyz` say the same thing.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health as HealthApi, HealthServer};
use tonic_health::server::{HealthReporter, health_reporter};

use crate::ext_authz::service::SERVICE_NAME;

/// What is in the way of serving.
pub(super) struct Health {
    /// Reasons and how many guards hold each.
    reasons: Mutex<BTreeMap<&'static str, usize>>,
    ready: watch::Sender<bool>,
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
            ready: watch::Sender::new(true),
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
        self.hold("drained");
    }

    fn hold(&self, reason: &'static str) {
        let mut reasons = self.reasons.lock();
        *reasons.entry(reason).or_default() += 1;
        self.ready.send_replace(false);
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
        (server, follow(self.ready.subscribe(), reporter))
    }
}

/// Repeats our readiness to one health service.
async fn follow(mut ready: watch::Receiver<bool>, reporter: HealthReporter) {
    loop {
        let status = if *ready.borrow_and_update() {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        for service in ["", SERVICE_NAME] {
            reporter.set_service_status(service, status).await;
        }
        if ready.changed().await.is_err() {
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
        if reasons.is_empty() {
            self.health.ready.send_replace(true);
        }
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
        assert!(!*health.ready.borrow());
        drop(b);
        assert!(health.waiting_for().is_empty() && *health.ready.borrow());
        health.drain();
        assert_eq!(health.waiting_for(), ["drained"]);
    }
}
