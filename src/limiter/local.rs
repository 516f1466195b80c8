//! Counting by this process alone: no store, no lock that others wait for.

use std::num::NonZeroU64;
use std::time::Duration;

use crate::domain::limit::LimitState;
use crate::limiter::demand::{ArrayVec, LimitDemand};
use crate::limiter::gcra::{Gcra, Pace, TooSoon};
use crate::limiter::slice::{Now, limit_state};
use crate::limiter::{Limiter, Refusal, Subject, Verdict};
use crate::store::budgets::{self, Terms};

/// Nanoseconds in a millisecond.
const MILLI: u64 = 1_000_000;

/// A rate as a pace. The bucket of a quota never refills: its interval is a millisecond, of a clock that stands still.
fn pace(terms: &Terms) -> Pace {
    let interval = match terms.window {
        None => {
            let nanos = u128::from(terms.period) * u128::from(MILLI);
            let nanos = nanos.div_ceil(u128::from(terms.amount.max(1)));
            u64::try_from(nanos).unwrap_or(u64::MAX)
        }
        Some(_) => MILLI,
    };
    Pace {
        interval: NonZeroU64::new(interval).unwrap_or(NonZeroU64::MIN),
        burst: terms.burst,
    }
}

/// After which time it fits.
fn wait(limit: &LimitDemand, nanos: u64, at: Now) -> Duration {
    let millis = match limit.terms.window {
        None => nanos.div_ceil(MILLI),
        Some((_, until)) => u64::try_from(until - at.store_now).unwrap_or(0),
    };
    Duration::from_millis(millis)
}

impl Limiter {
    pub(super) fn check_here(
        &self,
        subject: &Subject<'_>,
        wanted: &ArrayVec<LimitDemand>,
        cost: u64,
        at: Now,
    ) -> Verdict {
        let mut verdict = Verdict::default();
        let mut taken: ArrayVec<(LimitDemand, u64)> = ArrayVec::default();
        for limit in wanted.iter() {
            let pace = pace(&limit.terms);
            let took = self.with_cell(subject, limit, at, |cell, now| cell.take(now, pace, cost));
            match took {
                Ok(used) => taken.push((*limit, used)),
                Err(_) if limit.shadow => verdict.shadow = Some(limit.limit),
                Err(TooSoon(nanos)) => {
                    for (before, _) in taken.iter() {
                        let pace = self::pace(&before.terms);
                        self.with_cell(subject, before, at, |cell, _| cell.put_back(pace, cost));
                    }
                    verdict.refused = Some(Refusal {
                        limit: limit.limit,
                        retry_after: wait(limit, nanos, at),
                    });
                    break;
                }
            }
        }
        if verdict.refused.is_none() {
            for (limit, used) in taken.iter() {
                self.log_crossed(subject, limit, used / MILLI, cost);
            }
        }
        for limit in wanted.iter() {
            verdict.states.push(self.state_here(subject, limit, at));
        }
        verdict
    }

    /// Tells if this request was the one with which a quota came to 80 or 100 %.
    fn log_crossed(&self, subject: &Subject<'_>, limit: &LimitDemand, used: u64, cost: u64) {
        if limit.terms.window.is_none() {
            return;
        }
        let percent = |used| budgets::reached(used, limit.terms.burst);
        let now = percent(used);
        if now > percent(used - cost) {
            let key = Some(subject.key).filter(|_| limit.limit.is_of_key());
            self.notify_reached(subject.tenant, key, limit.limit, &limit.terms, now);
        }
    }

    fn state_here(&self, subject: &Subject<'_>, limit: &LimitDemand, at: Now) -> LimitState {
        let pace = pace(&limit.terms);
        let (left, _) = self.with_cell(subject, limit, at, |cell, now| cell.look(now, pace));
        limit_state(limit.limit, &limit.terms, left, at.store_now)
    }

    fn with_cell<T>(
        &self,
        subject: &Subject<'_>,
        limit: &LimitDemand,
        at: Now,
        act: impl FnOnce(&Gcra, u64) -> T,
    ) -> T {
        let from = limit.terms.window.map_or(0, |(from, _)| from);
        let hash = self.slices.hash(subject, limit.limit, from);
        let millis = u64::try_from(at.store_now).unwrap_or(0);
        // The quota's clock stands at the end of its window: then its cell is as good as none.
        let now = match limit.terms.window {
            None => millis,
            Some((_, until)) => u64::try_from(until).unwrap_or(0),
        } * MILLI;
        self.cells
            .with(hash, millis * MILLI, pace(&limit.terms), |cell| {
                act(cell, now)
            })
    }
}
