//! What the limiter has done, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::domain::limit::LimitName;
use crate::limiter::Verdict;

pub(super) type ByLimit = [AtomicU64; LimitName::ALL.len()];

/// Counts since the process began.
#[derive(Debug, Default)]
pub struct Counters {
    /// Requests that had limits and passed.
    pub allowed: AtomicU64,
    /// Requests that were refused, by the limit that did.
    pub refused: ByLimit,
    /// Requests that passed because the limit is in shadow, by limit.
    pub shadow: ByLimit,
    /// Calls of the store.
    pub calls: AtomicU64,
    /// Calls of the store that failed or were late.
    pub failed: AtomicU64,
    /// Requests that were decided without the store because it did not answer.
    pub without_store: AtomicU64,
    /// How often a quota came to 80 %.
    pub quota_nearly_used_up: AtomicU64,
    /// How often one came to 100 %.
    pub quota_used_up: AtomicU64,
}

pub(super) fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counters {
    pub(super) fn count(&self, verdict: &Verdict) {
        match verdict.refused {
            Some(refusal) => add(&self.refused[refusal.limit as usize]),
            None => add(&self.allowed),
        }
        if let Some(limit) = verdict.shadow {
            add(&self.shadow[limit as usize]);
        }
    }
}
