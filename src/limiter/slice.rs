//! What this process may let through of one bucket by itself: a lease as numbers that threads share without a lock.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::domain::limit::{LimitName, LimitState};
use crate::domain::name::TenantId;
use crate::limiter::demand::LimitDemand;
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
pub(super) enum Acquired {
    /// Taken, of which lease: it may be put back.
    Taken(u64),
    /// The store said a moment ago that it does not fit, until this time.
    Refused(u64),
    /// The store has to be asked.
    Empty,
}

/// One bucket, as far as this process knows it. Times are in ms since the process began.
#[derive(Debug)]
pub(super) struct Slice {
    pub(super) tenant: TenantId,
    /// Which incarnation of the tenant.
    pub(super) incarnation: u64,
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
    /// The demand that it last served.
    wanted: Mutex<Option<LimitDemand>>,
    /// Held by whoever calls the store for this slice.
    pub(super) session: tokio::sync::Mutex<LeaseSession>,
}

/// What was request about the lease.
#[derive(Debug, Default)]
pub(super) struct LeaseSession {
    lease: u64,
    sequence: u64,
    granted: u64,
    /// How much of it was reported to the store as spent.
    reported: u64,
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
fn fingerprint(terms: &Terms) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in [terms.amount, terms.period, terms.burst] {
        hash = (hash ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash ^= hash >> 29;
    }
    hash | 1
}

impl Slice {
    pub(super) fn new(
        (tenant, incarnation): (TenantId, u64),
        key: Option<&str>,
        limit: LimitName,
        from: i64,
    ) -> Self {
        Self {
            tenant,
            incarnation,
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
            session: tokio::sync::Mutex::new(LeaseSession::default()),
        }
    }

    /// Takes a request's cost.
    pub(super) fn take(&self, terms: &Terms, cost: u64, now: u64) -> Acquired {
        if self.terms.load(Ordering::Acquire) != fingerprint(terms) {
            return Acquired::Empty;
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
                Ok(_) => return Acquired::Taken(lease_of(packed)),
                Err(changed) => packed = changed,
            }
        }
        let until = self.refused_until.load(Ordering::Relaxed);
        if now < until && cost >= self.refused_cost.load(Ordering::Relaxed) {
            return Acquired::Refused(self.retry_at.load(Ordering::Relaxed).max(until));
        }
        Acquired::Empty
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

    /// The lease request that goes with a call which charges a request of this cost.
    pub(super) fn ask(
        &self,
        session: &mut LeaseSession,
        process: &str,
        terms: &Terms,
        cost: u64,
        now: u64,
    ) -> LeaseRequest {
        if now >= self.valid_until.load(Ordering::Acquire) {
            self.start_lease(session);
        }
        let changed = self.terms.load(Ordering::Acquire) != fingerprint(terms);
        // Under other terms, what is left is given back first.
        let drained = if changed { self.drain() } else { 0 };
        let left = drained + left_of(self.packed.load(Ordering::Acquire));
        let spent = session.granted.saturating_sub(left);
        let used = spent.saturating_sub(session.reported) + cost;
        let elapsed = now.saturating_sub(session.asked_at);
        let waiting = self.waiting.load(Ordering::Relaxed);
        let waiting = waiting.saturating_sub(1).saturating_mul(cost.max(1));
        let steady = used.saturating_mul(AHEAD_MS) / elapsed.max(1);
        // Gone much sooner than it was meant to last.
        let rising = if elapsed < AHEAD_MS / 2 {
            2 * session.target
        } else {
            0
        };
        let kept = left - drained;
        let target = steady.max(rising).max(waiting).max(kept);
        // What was leased under a higher limit may be more than there is under this one.
        session.target = if changed { 0 } else { target }
            .min(terms.burst)
            .min(LEFT_MASK / 2);
        session.asked_at = now;
        session.request(process, spent, drained)
    }

    /// The lease request that gives back what is left; none if the store is up to date.
    pub(super) fn give_back(
        &self,
        session: &mut LeaseSession,
        process: &str,
        now: u64,
    ) -> Option<LeaseRequest> {
        if now >= self.valid_until.load(Ordering::Acquire) {
            return None;
        }
        let drained = self.drain();
        let spent = session.granted.saturating_sub(drained);
        if drained == 0 && spent == session.reported {
            return None;
        }
        session.target = 0;
        Some(session.request(process, spent, drained))
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

    /// Whether it holds nothing that a new slice would not learn from the store.
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

    fn start_lease(&self, session: &mut LeaseSession) {
        session.lease += 1;
        (session.sequence, session.granted, session.reported) = (0, 0, 0);
        self.packed.store(pack(session.lease, 0), Ordering::Release);
    }

    /// Applies the store's answer.
    pub(super) fn apply(
        &self,
        session: &mut LeaseSession,
        reply: &LeaseReply<'_>,
        sent_at: u64,
        now: u64,
    ) {
        let LeaseReply {
            request,
            wanted,
            state,
            cost,
        } = reply;
        session.reported = request.ask.spent;
        let more = (state.granted + request.drained).saturating_sub(session.granted);
        session.granted = state.granted;
        let lease = lease_of(pack(session.lease, 0));
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
    pub(super) fn learn(&self, wanted: &LimitDemand, state: &BucketState, cost: u64, now: u64) {
        let mut available = state.available;
        if self.terms.load(Ordering::Acquire) == fingerprint(&wanted.terms)
            && now.saturating_sub(self.seen_at.load(Ordering::Relaxed)) < SAME_TIME_MS
        {
            // Of answers that come together, the last to be read need not be the last that was given.
            available = available.min(self.available.load(Ordering::Relaxed));
        }
        *self.wanted.lock() = Some(*wanted);
        self.terms
            .store(fingerprint(&wanted.terms), Ordering::Release);
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
        wanted: &LimitDemand,
        cost: u64,
        sidecars: u64,
        at: Now,
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

    /// The demand that it last served.
    pub(super) fn wanted(&self) -> Option<LimitDemand> {
        *self.wanted.lock()
    }

    fn is_known(&self) -> bool {
        self.is_known.load(Ordering::Acquire)
    }
}

/// The current time, by this process' clock (ms since its start) and by the store's (Unix ms).
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) now: u64,
    pub(super) store_now: i64,
}

/// What is asked of a lease, and how much was taken out of the slice for it.
#[derive(Debug)]
pub(super) struct LeaseRequest {
    pub(super) ask: LeaseAsk,
    drained: u64,
}

/// The store's answer to a lease request.
#[derive(Debug)]
pub(super) struct LeaseReply<'a> {
    pub(super) request: &'a LeaseRequest,
    pub(super) wanted: &'a LimitDemand,
    pub(super) state: &'a BucketState,
    pub(super) cost: u64,
}

impl LeaseSession {
    fn request(&mut self, process: &str, spent: u64, drained: u64) -> LeaseRequest {
        self.sequence += 1;
        LeaseRequest {
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
