//! What a request is limited by: its limits as buckets with terms.

use crate::clock::Timestamp;
use crate::domain::limit::{LimitName, Limits, Rate};
use crate::domain::name::TenantId;
use crate::limiter::window;
use crate::store::budgets::{BUCKETS_MAX, Terms};

/// Whose request it is, and what limits it.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The tenant.
    pub tenant: &'a TenantId,
    /// Which incarnation of it: what a deleted one has used is not charged to one that has its name.
    pub incarnation: u64,
    /// What holds for all of its keys together.
    pub tenant_limits: &'a Limits,
    /// The key.
    pub key: &'a str,
    /// What holds for the key beside that.
    pub key_limits: &'a Limits,
}

/// One limit of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct LimitDemand {
    pub(super) limit: LimitName,
    pub(super) terms: Terms,
    pub(super) shadow: bool,
}

/// Up to [`BUCKETS_MAX`] things, without a heap.
#[derive(Clone, Copy, Debug)]
pub struct ArrayVec<T> {
    all: [Option<T>; BUCKETS_MAX],
}

impl<T: Copy> Default for ArrayVec<T> {
    fn default() -> Self {
        Self {
            all: [None; BUCKETS_MAX],
        }
    }
}

impl<T: Copy> ArrayVec<T> {
    /// Adds one; what is beyond the room is dropped, which cannot happen with one of each limit.
    pub(super) fn push(&mut self, item: T) {
        if let Some(place) = self.all.iter_mut().find(|place| place.is_none()) {
            *place = Some(item);
        }
    }

    /// Puts these in the place of those that stand for the same.
    pub(super) fn replace<K: PartialEq>(&mut self, items: &[T], key: impl Fn(&T) -> K) {
        for place in self.all.iter_mut().flatten() {
            if let Some(item) = items.iter().find(|item| key(item) == key(place)) {
                *place = *item;
            }
        }
    }

    /// What there is, in the order in which it came.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.all.iter().flatten()
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.all[0].is_none()
    }
}

/// A rate's terms.
pub(super) fn rate_terms(rate: Rate) -> Terms {
    Terms {
        amount: rate.amount(),
        period: rate.period().millis(),
        burst: rate.burst(),
        window: None,
    }
}

impl Subject<'_> {
    /// Its limits, at a time of the store's clock.
    pub(super) fn wanted(&self, store_now: Timestamp) -> ArrayVec<LimitDemand> {
        let mut few = ArrayVec::default();
        for limit in LimitName::ALL {
            let limits = if limit.is_of_key() {
                self.key_limits
            } else {
                self.tenant_limits
            };
            few.extend(of(limit, limits, store_now));
        }
        few
    }
}

impl<T: Copy> ArrayVec<T> {
    fn extend(&mut self, item: Option<T>) {
        if let Some(item) = item {
            self.push(item);
        }
    }
}

fn of(limit: LimitName, limits: &Limits, store_now: Timestamp) -> Option<LimitDemand> {
    let Some(window) = limit.window() else {
        let rate = limits.rate?;
        return Some(LimitDemand {
            limit,
            terms: rate_terms(rate),
            shadow: rate.is_shadow(),
        });
    };
    let cap = limits.quota?.cap(window)?;
    Some(LimitDemand {
        limit,
        terms: Terms {
            amount: 0,
            period: 1,
            burst: cap.amount(),
            window: Some(window::around(window, store_now)),
        },
        shadow: cap.is_shadow(),
    })
}
