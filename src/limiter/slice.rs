//! What this process may let through of one bucket by itself: a lease as numbers that threads share without a lock.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::domain::limit::{LimitName, LimitState};
use crate::domain::name::TenantId;
use crate::limiter::place::Wanted;
use crate::store::budgets::{Bucket as Budget, BucketState, LeaseAsk, Terms};

/// For how much time at the observed rate a slice is meant, in ms.
const AHEAD_MS: u64 = 50;
/// The least and the most time for which "nothing is left" is believed, in ms: others may give back.
const REFUSED_MIN: u64 = 10;
const REFUSED_MAX: u64 = 200;
/// A slice that nobody has used for so long is given back, in ms.
pub(super) const IDLE_MS: u64 = 200;
/// Answers that come within this time, in ms, may be read in another order.
const SAME_TIME_MS: u64 = 10;
/// What has not been used for so long is forgotten, in ms: it is known for a while what was left, if the store goes away.
pub(super) const FORGET_MS: u64 = 5_000;
/// The same when there are very many.
pub(super) const FORGET_SOON_MS: u64 = 1_000;

/// How many of a slice's bits count what is left; those above count leases.
const LEFT_BITS: u32 = 44;
const LEFT_MASK: u64 = (1 << LEFT_BITS) - 1;

/// What became of an attempt to take a request's cost from a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Take {
    /// Taken, of which lease: it may be put back.
    Taken(u64),
    /// The store has said a moment ago that it does not fit, until this time.
    Refused(u64),
    /// The store has to be asked.
    Dry,
}

/// One bucket, as far as this process knows it. Times are in ms since the process began.
#[derive(Debug)]
pub(super) struct Slice {
    pub(super) tenant: TenantId,
    /// Which making of the tenant.
    pub(super) making: u64,
    pub(super) key: Option<Box<str>>,
    pub(super) limit: LimitName,
    /// When the window of a quota begins, by the store's clock.
    pub(super) from: i64,
    /// Which lease, and how much is left of it.
    packed: AtomicU64,
    /// When the lease ends.
    valid_until: AtomicU64,
    /// Stands for the terms of the lease and of what is known below.
    terms: AtomicU64,
    /// Until when what costs so much does not fit.
    refused_until: AtomicU64,
    refused_cost: AtomicU64,
    /// When the store says it fits.
    retry_at: AtomicU64,
    used_at: AtomicU64,
    /// Below this, more is asked for ahead of need.
    low: AtomicU64,
    /// It waits for more already.
    pub(super) is_low: AtomicBool,
    /// How many wait for the store's answer.
    pub(super) waiting: AtomicU64,
    /// What was available to all, as of when.
    available: AtomicU64,
    seen_at: AtomicU64,
    /// Whether the store has ever answered.
    is_known: AtomicBool,
    /// Requests that passed without the store.
    pub(super) debt: AtomicU64,
    pub(super) share: Mutex<Option<Box<Budget>>>,
    /// As what it was last asked for.
    wanted: Mutex<Option<Wanted>>,
    /// Who holds it speaks with the store.
    pub(super) talk: tokio::sync::Mutex<Talk>,
}

/// What was said about the lease.
#[derive(Debug, Default)]
pub(super) struct Talk {
    lease: u64,
    sequence: u64,
    granted: u64,
    /// How much of it the store was told to be spent.
    told: u64,
    asked_at: u64,
    target: u64,
}

fn pack(lease: u64, left: u64) -> u64 {
    (lease << LEFT_BITS) | left.min(LEFT_MASK)
}

fn lease_of(packed: u64) -> u64 {
    packed >> LEFT_BITS
}

fn left_of(packed: u64) -> u64 {
    packed & LEFT_MASK
}

/// A number that two different terms do not share but by accident; an accident costs a moment of the old terms.
fn stamp(terms: &Terms) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in [terms.amount, terms.period, terms.burst] {
        hash = (hash ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash ^= hash >> 29;
    }
    hash | 1
}

impl Slice {
    pub(super) fn new(
        (tenant, making): (TenantId, u64),
        key: Option<&str>,
        limit: LimitName,
        from: i64,
    ) -> Self {
        Self {
            tenant,
            making,
            key: key.map(Into::into),
            limit,
            from,
            packed: AtomicU64::new(0),
            valid_until: AtomicU64::new(0),
            terms: AtomicU64::new(0),
            refused_until: AtomicU64::new(0),
            refused_cost: AtomicU64::new(0),
            retry_at: AtomicU64::new(0),
            used_at: AtomicU64::new(0),
            low: AtomicU64::new(0),
            is_low: AtomicBool::new(false),
            waiting: AtomicU64::new(0),
            available: AtomicU64::new(0),
            seen_at: AtomicU64::new(0),
            is_known: AtomicBool::new(false),
            debt: AtomicU64::new(0),
            share: Mutex::new(None),
            wanted: Mutex::new(None),
            talk: tokio::sync::Mutex::new(Talk::default()),
        }
    }

    /// Takes a request's cost.
    pub(super) fn take(&self, terms: &Terms, cost: u64, now: u64) -> Take {
        if self.terms.load(Ordering::Acquire) != stamp(terms) {
            return Take::Dry;
        }
        self.used_at.store(now, Ordering::Relaxed);
        let mut packed = self.packed.load(Ordering::Acquire);
        while now < self.valid_until.load(Ordering::Acquire) && left_of(packed) >= cost {
            let taken = packed - cost;
            match self.packed.compare_exchange_weak(
                packed,
                taken,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return Take::Taken(lease_of(packed)),
                Err(changed) => packed = changed,
            }
        }
        let until = self.refused_until.load(Ordering::Relaxed);
        if now < until && cost >= self.refused_cost.load(Ordering::Relaxed) {
            return Take::Refused(self.retry_at.load(Ordering::Relaxed).max(until));
        }
        Take::Dry
    }

    /// Puts back what was taken, unless its lease has ended.
    pub(super) fn put_back(&self, lease: u64, cost: u64) {
        self.packed
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |packed| {
                (lease_of(packed) == lease).then(|| pack(lease, left_of(packed) + cost))
            })
            .ok();
    }

    /// Whether more should be asked for ahead of need.
    pub(super) fn runs_low(&self) -> bool {
        left_of(self.packed.load(Ordering::Relaxed)) < self.low.load(Ordering::Relaxed)
    }

    /// What to say to the store when a request of this cost is to be charged, by who holds `talk`.
    pub(super) fn ask(
        &self,
        talk: &mut Talk,
        process: &str,
        terms: &Terms,
        cost: u64,
        now: u64,
    ) -> Said {
        if now >= self.valid_until.load(Ordering::Acquire) {
            self.begin_anew(talk);
        }
        let changed = self.terms.load(Ordering::Acquire) != stamp(terms);
        // Under other terms, what is left is given back first.
        let drained = if changed { self.drain() } else { 0 };
        let left = drained + left_of(self.packed.load(Ordering::Acquire));
        let spent = talk.granted.saturating_sub(left);
        let used = spent.saturating_sub(talk.told) + cost;
        let elapsed = now.saturating_sub(talk.asked_at);
        let waiting = self.waiting.load(Ordering::Relaxed);
        let waiting = waiting.saturating_sub(1).saturating_mul(cost.max(1));
        let steady = used.saturating_mul(AHEAD_MS) / elapsed.max(1);
        // Gone much sooner than it was meant to last.
        let rising = if elapsed < AHEAD_MS / 2 {
            2 * talk.target
        } else {
            0
        };
        let kept = left - drained;
        let target = steady.max(rising).max(waiting).max(kept);
        // What was leased under a higher limit may be more than there is under this one.
        talk.target = if changed { 0 } else { target }
            .min(terms.burst)
            .min(LEFT_MASK / 2);
        talk.asked_at = now;
        talk.say(process, spent, drained)
    }

    /// What to say to the store to give back what is left; none if it knows all there is to know.
    pub(super) fn give_back(&self, talk: &mut Talk, process: &str, now: u64) -> Option<Said> {
        if now >= self.valid_until.load(Ordering::Acquire) {
            return None;
        }
        let drained = self.drain();
        let spent = talk.granted.saturating_sub(drained);
        if drained == 0 && spent == talk.told {
            return None;
        }
        talk.target = 0;
        Some(talk.say(process, spent, drained))
    }

    /// Whether somebody should give it back, or go on with it, before its lease ends.
    pub(super) fn is_due(&self, now: u64) -> bool {
        let valid_until = self.valid_until.load(Ordering::Relaxed);
        let idle = self.is_idle(now);
        let has_debt = self.debt.load(Ordering::Relaxed) > 0;
        has_debt || now < valid_until && (idle || valid_until - now < 2 * IDLE_MS)
    }

    /// Whether nobody has used it for a while.
    pub(super) fn is_idle(&self, now: u64) -> bool {
        now.saturating_sub(self.used_at.load(Ordering::Relaxed)) >= IDLE_MS
    }

    /// Whether it says nothing any more that the store would not say again.
    pub(super) fn can_be_forgotten(&self, now: u64, unused_ms: u64) -> bool {
        let used_at = self.used_at.load(Ordering::Relaxed);
        now >= self.valid_until.load(Ordering::Relaxed)
            && now >= self.refused_until.load(Ordering::Relaxed)
            && now.saturating_sub(used_at) >= unused_ms
            && self.debt.load(Ordering::Relaxed) == 0
    }

    /// Takes what is left out of everybody's reach.
    fn drain(&self) -> u64 {
        let before = self
            .packed
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |packed| {
                Some(pack(lease_of(packed), 0))
            });
        before.map_or(0, left_of)
    }

    fn begin_anew(&self, talk: &mut Talk) {
        talk.lease += 1;
        (talk.sequence, talk.granted, talk.told) = (0, 0, 0);
        self.packed.store(pack(talk.lease, 0), Ordering::Release);
    }

    /// Takes in what the store has answered.
    pub(super) fn apply(&self, talk: &mut Talk, heard: &Heard<'_>, sent_at: u64, now: u64) {
        let Heard {
            said,
            wanted,
            state,
            cost,
        } = heard;
        talk.told = said.ask.spent;
        let more = (state.granted + said.drained).saturating_sub(talk.granted);
        talk.granted = state.granted;
        let lease = lease_of(pack(talk.lease, 0));
        let added = self
            .packed
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |packed| {
                (lease_of(packed) == lease).then(|| pack(lease, left_of(packed) + more))
            });
        let left = added.map_or(0, left_of) + more;
        self.low.store(left / 2, Ordering::Relaxed);
        self.learn(wanted, state, *cost, now);
        self.valid_until
            .store(sent_at + state.lease_ms, Ordering::Release);
    }

    /// Remembers how the bucket stands.
    pub(super) fn learn(&self, wanted: &Wanted, state: &BucketState, cost: u64, now: u64) {
        let mut available = state.available;
        if self.terms.load(Ordering::Acquire) == stamp(&wanted.terms)
            && now.saturating_sub(self.seen_at.load(Ordering::Relaxed)) < SAME_TIME_MS
        {
            // Of answers that come together, the last to be read need not be the last that was given.
            available = available.min(self.available.load(Ordering::Relaxed));
        }
        *self.wanted.lock() = Some(*wanted);
        self.terms.store(stamp(&wanted.terms), Ordering::Release);
        self.available.store(available, Ordering::Relaxed);
        self.seen_at.store(now, Ordering::Relaxed);
        self.is_known.store(true, Ordering::Release);
        if state.fits {
            self.refused_until.store(0, Ordering::Relaxed);
        } else {
            let believed = state.retry_ms.clamp(REFUSED_MIN, REFUSED_MAX);
            self.refused_cost.store(cost, Ordering::Relaxed);
            self.retry_at.store(now + state.retry_ms, Ordering::Relaxed);
            self.refused_until.store(now + believed, Ordering::Relaxed);
        }
        self.used_at.fetch_max(now, Ordering::Relaxed);
        *self.share.lock() = None;
    }

    /// How many requests fit, to the best of this process' knowledge.
    fn remaining(&self, terms: &Terms, now: u64) -> u64 {
        if !self.is_known.load(Ordering::Acquire) {
            return terms.burst;
        }
        let elapsed = now.saturating_sub(self.seen_at.load(Ordering::Relaxed));
        let leaked = terms.amount.saturating_mul(elapsed) / terms.period;
        let left = match now < self.valid_until.load(Ordering::Relaxed) {
            true => left_of(self.packed.load(Ordering::Relaxed)),
            false => 0,
        };
        let available = self.available.load(Ordering::Relaxed);
        available
            .saturating_add(leaked)
            .saturating_add(left)
            .min(terms.burst)
    }

    /// How it stands, for the client.
    pub(super) fn state(&self, terms: &Terms, now: u64, store_now: i64) -> LimitState {
        let remaining = self.remaining(terms, now);
        limit_state(self.limit, terms, remaining, store_now)
    }

    /// Without the store: takes from this process' share of what was last known to be there.
    pub(super) fn take_share(
        &self,
        wanted: &Wanted,
        cost: u64,
        sidecars: u64,
        at: Moment,
    ) -> (LimitState, Option<u64>) {
        let terms = &wanted.terms;
        *self.wanted.lock() = Some(*wanted);
        // As many parts more to a request, so that it leaks so much more slowly.
        let terms_of_one = Terms {
            period: terms.period.saturating_mul(sidecars),
            burst: (terms.burst / sidecars).max(1),
            ..*terms
        };
        let mut share = self.share.lock();
        let share = share.get_or_insert_with(|| {
            let available = (self.remaining(terms, at.now) / sidecars).min(terms_of_one.burst);
            let used = terms_of_one.burst - available.max(u64::from(!self.is_known()));
            Box::new(Budget {
                period: terms_of_one.period,
                level: used.saturating_mul(terms_of_one.period),
                at: at.store_now,
                ..Budget::default()
            })
        });
        share.advance(&terms_of_one, at.store_now);
        let fits = share.available(&terms_of_one) >= cost;
        if fits {
            share.add(cost);
            self.debt.fetch_add(cost, Ordering::Relaxed);
        }
        let retry = (!fits).then(|| share.retry_ms(&terms_of_one, cost, at.store_now));
        let left = share.available(&terms_of_one);
        let state = limit_state(self.limit, &terms_of_one, left, at.store_now);
        (state, retry)
    }

    /// Gives back what was taken from the share.
    pub(super) fn put_back_share(&self, cost: u64) {
        if let Some(share) = self.share.lock().as_mut() {
            share.level = share
                .level
                .saturating_sub(cost.saturating_mul(share.period));
            self.debt.fetch_sub(cost, Ordering::Relaxed);
        }
    }

    /// As what it was last asked for.
    pub(super) fn wanted(&self) -> Option<Wanted> {
        *self.wanted.lock()
    }

    fn is_known(&self) -> bool {
        self.is_known.load(Ordering::Acquire)
    }
}

/// A time, by this process' clock and as the store would have it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) now: u64,
    pub(super) store_now: i64,
}

/// What was said of a lease, and how much was taken out of reach for it.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) ask: LeaseAsk,
    drained: u64,
}

/// An answer of the store, and to what.
#[derive(Debug)]
pub(super) struct Heard<'a> {
    pub(super) said: &'a Said,
    pub(super) wanted: &'a Wanted,
    pub(super) state: &'a BucketState,
    pub(super) cost: u64,
}

impl Talk {
    fn say(&mut self, process: &str, spent: u64, drained: u64) -> Said {
        self.sequence += 1;
        Said {
            ask: LeaseAsk {
                holder: format!("{process}.{}", self.lease),
                sequence: self.sequence,
                spent,
                target: self.target,
            },
            drained,
        }
    }
}

/// How a limit stands when so much is left of it.
pub(super) fn limit_state(
    limit: LimitName,
    terms: &Terms,
    remaining: u64,
    store_now: i64,
) -> LimitState {
    let refill = |requests: u64| {
        let parts = u128::from(requests) * u128::from(terms.period);
        let millis = parts.div_ceil(u128::from(terms.amount.max(1)));
        Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
    };
    let (window, reset) = match terms.window {
        None => (
            refill(terms.burst),
            refill(terms.burst.saturating_sub(remaining)),
        ),
        Some((from, until)) => {
            let span = |from: i64| Duration::from_millis(u64::try_from(until - from).unwrap_or(0));
            (span(from), span(store_now))
        }
    };
    LimitState {
        limit,
        amount: terms.burst,
        window,
        remaining,
        reset,
    }
}

#[cfg(test)]
mod tests;
