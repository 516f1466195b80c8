//! What is shown of damage in the store.

use std::sync::Arc;

use opentelemetry::KeyValue;

use crate::store::Store;
use crate::telemetry::metrics::Metrics;

pub(super) fn observe(metrics: &Metrics, store: &Arc<dyn Store>) {
    let damaged = Arc::clone(store);
    metrics.counters(
        "keystile_store_damaged_reads",
        "Damaged entries that were met in the store, by kind.",
        move || {
            let counts = damaged.damage().counts().into_iter();
            counts
                .map(|(entry, count)| (vec![KeyValue::new("entry", entry.as_str())], count))
                .collect()
        },
    );
    let unhealed = Arc::clone(store);
    metrics.gauge(
        "keystile_store_damaged_tenants",
        "Tenants whose decided changes cannot reach the index because their records are damaged.",
        move || unhealed.damage().unhealed() as u64,
    );
}
