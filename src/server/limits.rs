//! The limiter in a running process: its settings, its task, and what is shown of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry::KeyValue;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::domain::limit::LimitName;
use crate::limiter::{Counters, Limiter, Settings};
use crate::telemetry::metrics::Metrics;

pub(super) fn settings(config: &Config) -> Settings {
    Settings {
        mode: config.rate_limits.mode,
        on_outage: config.failure_policy.limiter_outage,
    }
}

/// Fills slices ahead of need until `stop`, if this process checks requests.
pub(super) fn start(
    config: &Config,
    limiter: &Arc<Limiter>,
    metrics: &Metrics,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) {
    if config.authz.is_none() {
        return;
    }
    observe(metrics, limiter);
    let (limiter, stop) = (Arc::clone(limiter), stop.clone());
    tasks.spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = limiter.run() => {}
        }
    });
}

fn observe(metrics: &Metrics, limiter: &Arc<Limiter>) {
    type Read = fn(&Counters) -> &AtomicU64;
    let counters: [(&'static str, &'static str, Read); 4] = [
        (
            "keystile_limits_allowed",
            "Requests with limits that passed.",
            |counters| &counters.allowed,
        ),
        (
            "keystile_limits_store_calls",
            "Calls of the store about limits.",
            |counters| &counters.calls,
        ),
        (
            "keystile_limits_store_failures",
            "Calls of the store about limits that failed or were late.",
            |counters| &counters.failed,
        ),
        (
            "keystile_limits_without_store",
            "Requests whose limits were counted here because the store did not answer.",
            |counters| &counters.without_store,
        ),
    ];
    for (name, description, read) in counters {
        let limiter = Arc::clone(limiter);
        metrics.counter(name, description, move || {
            read(limiter.counters()).load(Ordering::Relaxed)
        });
    }
    observe_by_limit(metrics, limiter);
    observe_warnings(metrics, limiter);
    let sharing = Arc::clone(limiter);
    metrics.gauge(
        "keystile_limits_sidecars",
        "Sidecars that share the budgets, this one among them, as last counted.",
        move || sharing.sidecars(),
    );
    let limiter = Arc::clone(limiter);
    metrics.gauge("keystile_limits_entries", "Limits in memory.", move || {
        limiter.entries() as u64
    });
}

fn observe_by_limit(metrics: &Metrics, limiter: &Arc<Limiter>) {
    type ReadAll = fn(&Counters) -> &[AtomicU64];
    let by_limit: [(&'static str, &'static str, ReadAll); 2] = [
        (
            "keystile_limits_refused",
            "Requests that were refused, by limit.",
            |counters| &counters.refused,
        ),
        (
            "keystile_limits_shadow",
            "Requests that passed because the limit is in shadow, by limit.",
            |counters| &counters.shadow,
        ),
    ];
    for (name, description, read) in by_limit {
        let limiter = Arc::clone(limiter);
        metrics.counters(name, description, move || {
            let counts = LimitName::ALL.iter().zip(read(limiter.counters()));
            let shown = counts.map(|(limit, count)| {
                let label = KeyValue::new("limit", limit.as_str());
                (vec![label], count.load(Ordering::Relaxed))
            });
            shown.collect()
        });
    }
}

fn observe_warnings(metrics: &Metrics, limiter: &Arc<Limiter>) {
    let warning = Arc::clone(limiter);
    let description =
        "How often a quota came to 80 and to 100 percent, told by the sidecar that found it so.";
    metrics.counters("keystile_quota_warnings", description, move || {
        let counters = warning.counters();
        let reached = [
            ("80", &counters.quota_nearly_used_up),
            ("100", &counters.quota_used_up),
        ];
        let shown = reached.into_iter().map(|(percent, count)| {
            let label = KeyValue::new("percent", percent);
            (vec![label], count.load(Ordering::Relaxed))
        });
        shown.collect()
    });
}
