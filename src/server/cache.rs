//! The cache in a running process: its settings, and what is shown of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::cache::{Cache, Settings};
use crate::config::Config;
use crate::telemetry::metrics::Metrics;

pub(super) fn settings(config: &Config) -> Settings {
    Settings {
        ttl: config.cache.ttl.0,
        max_stale: config.cache.max_stale.0,
        negative_ttl: config.cache.negative_ttl.0,
        max_entries: config.cache.max_entries,
        max_bytes: config.cache.max_bytes.0,
        max_negative_entries: config.cache.max_negative_entries,
    }
}

pub(super) fn observe(metrics: &Metrics, cache: &Arc<Cache>) {
    type Read = fn(&Cache) -> u64;
    fn read(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
    let counters: [(&'static str, &'static str, Read); 5] = [
        (
            "keystile_cache_hits",
            "Keys answered from memory.",
            |cache| read(&cache.counters().hits),
        ),
        (
            "keystile_cache_negative_hits",
            "Unknown keys answered from memory.",
            |cache| read(&cache.counters().negative_hits),
        ),
        (
            "keystile_cache_misses",
            "Keys that the store had to be asked for.",
            |cache| read(&cache.counters().misses),
        ),
        (
            "keystile_cache_stale_served",
            "Keys used past their ttl because the store did not answer.",
            |cache| read(&cache.counters().stale_served),
        ),
        (
            "keystile_cache_load_errors",
            "Loads from the store that failed.",
            |cache| read(&cache.counters().load_errors),
        ),
    ];
    for (name, description, read) in counters {
        let cache = Arc::clone(cache);
        metrics.counter(name, description, move || read(&cache));
    }
    let cache = Arc::clone(cache);
    metrics.gauge("keystile_cache_entries", "Keys in memory.", move || {
        cache.len() as u64
    });
}
