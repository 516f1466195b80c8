//! Looks after certificates while they are served: takes new files, and warns before the old ones end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use tokio::signal::unix::Signal;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Timestamp};
use crate::config::TlsConfig;
use crate::server::stamp::FileStamp;
use crate::server::tls::handshake::Outcome;
use crate::server::tls::{Listeners, Tls};
use crate::telemetry::metrics::Metrics;

/// How often the files are looked at. Polled, because mounted volumes are swapped in ways that events miss.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const WARN_EVERY: Duration = Duration::from_secs(24 * 60 * 60);
/// From when on a certificate is warned about.
const WARN_BEFORE: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// Which files these are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp(Vec<Option<FileStamp>>);

impl Stamp {
    pub(super) fn of(files: &TlsConfig) -> Self {
        let client_ca = files.client_ca_file.as_deref();
        let paths = [Some(&*files.cert_file), Some(&*files.key_file), client_ca];
        Self(paths.into_iter().flatten().map(FileStamp::of).collect())
    }
}

/// How many reloads there were.
#[derive(Debug, Default)]
pub(in crate::server) struct Reloads {
    ok: AtomicU64,
    failed: AtomicU64,
}

/// Why the files are looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    ItIsTime,
    Asked,
}

struct Watched {
    tls: Arc<Tls>,
    /// What was there when it was last read, or tried.
    tried: Stamp,
    /// What was there at the last look.
    last: Stamp,
}

/// Looks after every listener's certificates.
pub(in crate::server) struct Reloader {
    all: Vec<Watched>,
    reloads: Arc<Reloads>,
    clock: Arc<dyn Clock>,
}

impl Reloader {
    pub(in crate::server) fn new(listeners: &Listeners, clock: Arc<dyn Clock>) -> Self {
        let watch = |tls: Arc<Tls>| Watched {
            tried: tls.first.clone(),
            last: tls.first.clone(),
            tls,
        };
        Self {
            all: listeners.all().into_iter().map(watch).collect(),
            reloads: Arc::default(),
            clock,
        }
    }

    /// Until `stop`. `hangups` ask to read the files whether they seem changed or not.
    pub(in crate::server) async fn run(mut self, mut hangups: Signal, stop: CancellationToken) {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut warn_at = Instant::now();
        loop {
            let why = tokio::select! {
                () = stop.cancelled() => return,
                _ = looks.tick() => Why::ItIsTime,
                Some(()) = hangups.recv() => Why::Asked,
            };
            // Files may be on a disk that does not answer: nothing else may wait for it.
            let looked = tokio::task::spawn_blocking(move || {
                let changed = self.look(why);
                (self, changed)
            });
            let Ok((this, changed)) = looked.await else {
                tracing::error!("certificates are no longer looked after: a reload panicked");
                return;
            };
            self = this;
            if changed || Instant::now() >= warn_at {
                self.warn();
                warn_at = Instant::now() + WARN_EVERY;
            }
        }
    }

    /// Whether anything was replaced.
    fn look(&mut self, why: Why) -> bool {
        let mut changed = false;
        for watched in &mut self.all {
            if watched.is_due(why) {
                changed |= watched.reload(&self.reloads, self.clock.now());
            }
        }
        changed
    }

    fn warn(&self) {
        let now = self.clock.now();
        for Watched { tls, .. } in &self.all {
            let (listener, at) = (tls.listener, tls.expires_at());
            if at <= now {
                tracing::error!(listener, %at, "the certificate has expired; clients refuse it");
            } else if at.since(now) < WARN_BEFORE {
                tracing::warn!(listener, %at, "the certificate expires soon; replace the file");
            }
        }
    }
}

impl Watched {
    fn is_due(&mut self, why: Why) -> bool {
        let found = Stamp::of(&self.tls.files);
        // A pair is two files: whoever replaces them gets until the next look to finish.
        let settled = found == self.last;
        self.last = found;
        let is_due = why == Why::Asked || settled && self.last != self.tried;
        if is_due {
            self.tried = self.last.clone();
        }
        is_due
    }

    fn reload(&self, reloads: &Reloads, now: Timestamp) -> bool {
        let listener = self.tls.listener;
        match self.tls.reload(now) {
            Ok(()) => {
                reloads.ok.fetch_add(1, Ordering::Relaxed);
                let until = self.tls.expires_at();
                tracing::info!(listener, %until, "certificates were read again");
                true
            }
            Err(error) => {
                reloads.failed.fetch_add(1, Ordering::Relaxed);
                let error = &error as &dyn std::error::Error;
                tracing::error!(
                    listener,
                    error,
                    "new certificates cannot be used; the old ones stay"
                );
                false
            }
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
    let reloads = Arc::clone(&reloader.reloads);
    metrics.counters(
        "keystile_tls_reloads",
        "Reads of replaced certificate files, by how they ended.",
        move || {
            let row = |outcome, count: &AtomicU64| {
                (
                    vec![KeyValue::new("outcome", outcome)],
                    count.load(Ordering::Relaxed),
                )
            };
            vec![row("ok", &reloads.ok), row("failed", &reloads.failed)]
        },
    );
}
