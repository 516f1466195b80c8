//! Looks after certificates while they are served: takes new files, and warns before the old ones end.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use tokio::time::Instant;

use crate::clock::{Clock, Timestamp};
use crate::server::file_watch::{Followed, Reloads, WatchedFiles};
use crate::server::tls::handshake::Outcome;
use crate::server::tls::{Listeners, Tls};
use crate::telemetry::chain;
use crate::telemetry::metrics::Metrics;

const WARN_EVERY: Duration = Duration::from_secs(24 * 60 * 60);
/// From when on a certificate is warned about.
const WARN_BEFORE: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// Looks after every listener's certificates.
pub(in crate::server) struct Reloader {
    all: Vec<(Arc<Tls>, WatchedFiles)>,
    reloads: Arc<Reloads>,
    clock: Arc<dyn Clock>,
    warn_at: Instant,
}

impl Reloader {
    pub(in crate::server) fn new(listeners: &Listeners, clock: Arc<dyn Clock>) -> Self {
        let watch = |tls: Arc<Tls>| {
            let files = tls.watched.clone();
            (tls, files)
        };
        Self {
            all: listeners.all().into_iter().map(watch).collect(),
            reloads: Reloads::new("certificates"),
            clock,
            warn_at: Instant::now(),
        }
    }

    /// Whether it was replaced.
    fn reload(&self, tls: &Tls) -> bool {
        let listener = tls.listener;
        match tls.reload(self.clock.now()) {
            Ok(()) => {
                let until = tls.expires_at();
                self.reloads
                    .reloaded(format_args!("{listener}: valid until {until}"));
                true
            }
            Err(error) => {
                self.reloads
                    .rejected(format_args!("{listener}: {}", chain(&error)));
                false
            }
        }
    }

    fn warn(&self) {
        let now = self.clock.now();
        for (tls, _) in &self.all {
            let (listener, at) = (tls.listener, tls.expires_at());
            if at <= now {
                tracing::error!(listener, %at, "the certificate has expired; clients refuse it");
            } else if at.since(now) < WARN_BEFORE {
                tracing::warn!(listener, %at, "the certificate expires soon; replace the file");
            }
        }
    }
}

impl Followed for Reloader {
    const WHAT: &'static str = "certificates";

    fn poll(&mut self, forced: bool) {
        let due = |(tls, files): &mut (Arc<Tls>, WatchedFiles)| {
            files.is_due(forced).then(|| Arc::clone(tls))
        };
        let due: Vec<Arc<Tls>> = self.all.iter_mut().filter_map(due).collect();
        let replaced = due.iter().filter(|tls| self.reload(tls)).count();
        if replaced > 0 || Instant::now() >= self.warn_at {
            self.warn();
            self.warn_at = Instant::now() + WARN_EVERY;
        }
    }
}

/// Shows expiry, reloads and handshakes.
pub(in crate::server) fn observe(metrics: &Metrics, listeners: &Listeners, reloader: &Reloader) {
    let label = |tls: &Tls| KeyValue::new("listener", tls.listener);
    let all = listeners.all();
    metrics.gauges(
        "keystile_tls_certificate_expiry_seconds",
        "When the first certificate of the served chain expires, in seconds since the Unix epoch.",
        move || {
            let seconds = |at: Timestamp| u64::try_from(at.as_millis() / 1000).unwrap_or(0);
            let row = |tls: &Arc<Tls>| (vec![label(tls)], seconds(tls.expires_at()));
            all.iter().map(row).collect()
        },
    );
    let all = listeners.all();
    metrics.counters(
        "keystile_tls_handshakes",
        "TLS handshakes by listener and how they ended.",
        move || {
            let row = |tls: &Tls, outcome: Outcome| {
                let outcome_label = KeyValue::new("outcome", outcome.as_str());
                (
                    vec![label(tls), outcome_label],
                    tls.handshakes.read(outcome),
                )
            };
            let rows = all
                .iter()
                .flat_map(|tls| Outcome::ALL.map(|outcome| row(tls, outcome)));
            rows.collect()
        },
    );
    reloader.reloads.observe(
        metrics,
        "keystile_tls_reloads",
        "Reads of replaced certificate files, by how they ended.",
    );
}
