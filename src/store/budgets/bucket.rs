//! One bucket, as plain arithmetic: what the embedded store keeps, and what the script in Redis is held against.

use std::collections::BTreeMap;

use super::{BucketAsk, BucketState, LEVEL_MAX, LeaseAsk, Settle, Terms};

/// How much longer than its holder is told a lease is honoured, in ms: for servers whose clocks differ.
const GRACE_MS: i64 = 1_000;
/// The part of the burst that may be held by leases.
const HELD_SHARE: u64 = 10;
/// A time that is further ahead than this is not believed, in ms.
const CLOCK_STEP_MS: i64 = 60_000;

/// The state of a bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// How many parts a request is in `level`.
    pub period: u64,
    /// What is used, in parts.
    pub level: u64,
    /// As of when, in ms since the epoch.
    pub at: i64,
    /// When it will be empty if nobody is charged, in ms since the epoch.
    pub drained_at: i64,
    /// By holder.
    pub leases: BTreeMap<String, Lease>,
    /// How much of a quota was used when somebody was last told: 0, 80 or 100 %.
    pub warned: u8,
}

/// A lease on a bucket; see [`LeaseAsk`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The last message that was listened to.
    pub sequence: u64,
    /// How many requests were granted in all, given-back ones taken off.
    pub granted: u64,
    /// How many of them were spent.
    pub spent: u64,
    /// When it ends, in ms since the epoch.
    pub ends_at: i64,
}

impl Lease {
    fn held(&self) -> u64 {
        self.granted - self.spent
    }
}

impl Bucket {
    /// How many leased requests are not spent.
    pub fn held(&self) -> u64 {
        self.leases.values().map(Lease::held).sum()
    }

    /// Whether nothing is used of it any more, as far as it knows its own terms.
    pub fn is_drained(&self, now: i64) -> bool {
        self.leases.is_empty() && self.drained_at <= now
    }

    /// Brings it to the terms and the time of a call: rescales, leaks, and takes ended leases as spent.
    pub fn advance(&mut self, terms: &Terms, now: i64) {
        if self.period != terms.period && self.period != 0 {
            let level = u128::from(self.level) * u128::from(terms.period);
            self.level = clamp(level.div_ceil(u128::from(self.period)));
        }
        self.period = terms.period;
        if self.at > now.saturating_add(CLOCK_STEP_MS) {
            self.at = now;
        }
        // A clock that was set back a little: nothing leaks twice.
        let elapsed = u64::try_from(now - self.at).unwrap_or(0);
        let leaked = terms.amount.saturating_mul(elapsed);
        self.level = self.level.saturating_sub(leaked);
        self.at = self.at.max(now);
        let mut lost = 0;
        self.leases.retain(|_, lease| {
            let lives = lease.ends_at > now;
            if !lives {
                lost += lease.held();
            }
            lives
        });
        self.add(lost);
    }

    /// Listens to what a holder says, and charges its debt. Answers whether it may be granted more.
    pub fn report(&mut self, ask: &BucketAsk) -> bool {
        self.add(ask.debt);
        let Some(lease_ask) = &ask.lease else {
            return false;
        };
        let Some(lease) = self.leases.get_mut(&lease_ask.holder) else {
            return true;
        };
        if lease_ask.sequence <= lease.sequence {
            return false;
        }
        lease.sequence = lease_ask.sequence;
        let spent = lease_ask.spent.clamp(lease.spent, lease.granted);
        let newly = spent - lease.spent;
        lease.spent = spent;
        lease.granted -= lease.held().saturating_sub(lease_ask.target);
        self.add(newly);
        true
    }

    /// How many requests fit.
    pub fn available(&self, terms: &Terms) -> u64 {
        let room = (terms.burst * terms.period).saturating_sub(self.level);
        (room / terms.period).saturating_sub(self.held())
    }

    /// Charges requests, room or not.
    pub fn add(&mut self, requests: u64) {
        let more = u128::from(requests) * u128::from(self.period);
        self.level = clamp(u128::from(self.level) + more);
    }

    /// Grants what the holder would like to have, so far as it is there: all holders together never keep more than a
    /// tenth of the burst from the others, and none more than its part of that.
    pub fn grant(&mut self, terms: &Terms, lease_ask: &LeaseAsk, call: &Settle, now: i64) {
        let most_held = terms.burst / HELD_SHARE;
        let room = most_held.saturating_sub(self.held());
        let room = room.min(self.available(terms));
        let is_new = !self.leases.contains_key(&lease_ask.holder);
        let holders = self.leases.len() as u64 + u64::from(is_new);
        let lease = self
            .leases
            .entry(lease_ask.holder.clone())
            .or_insert(Lease {
                sequence: lease_ask.sequence,
                granted: lease_ask.spent,
                spent: lease_ask.spent,
                ends_at: 0,
            });
        let most = lease_ask.target.min(most_held / holders);
        let granted = most.saturating_sub(lease.held()).min(room);
        // A part of a request is of no use to the holder.
        lease.granted += granted - granted % call.cost.max(1);
        lease.ends_at = now + i64::try_from(call.lease_ms).unwrap_or(0) + GRACE_MS;
    }

    /// How it stands, for the one who asked.
    pub fn state(&mut self, ask: &BucketAsk, cost: u64, fits: bool, now: i64) -> BucketState {
        let terms = &ask.terms;
        let reset_ms = self.drained_in(terms, 0, now);
        self.drained_at = now.saturating_add_unsigned(reset_ms);
        let mut state = BucketState {
            fits,
            granted: 0,
            lease_ms: 0,
            available: self.available(terms),
            retry_ms: 0,
            reset_ms,
            reached: self.newly_reached(terms),
        };
        if !fits {
            state.retry_ms = self.retry_ms(terms, cost, now);
        }
        if let Some(lease_ask) = &ask.lease {
            state.granted = lease_ask.spent;
            if let Some(lease) = self.leases.get(&lease_ask.holder) {
                state.granted = lease.granted;
                let until = terms.window.map_or(i64::MAX, |(_, until)| until);
                let left = (lease.ends_at - GRACE_MS).min(until) - now;
                state.lease_ms = u64::try_from(left).unwrap_or(0);
                if lease.held() == 0 {
                    self.leases.remove(&lease_ask.holder);
                }
            }
        }
        state
    }

    /// What has come to be used of a quota since somebody was last told. What is leased is not used yet.
    fn newly_reached(&mut self, terms: &Terms) -> u8 {
        if terms.window.is_none() {
            return 0;
        }
        // A quota that was raised can be reached again.
        let before = std::mem::replace(&mut self.warned, reached(self.level, terms.burst));
        if self.warned > before { self.warned } else { 0 }
    }

    /// After how many ms a request fits that does not fit now, if nobody else is charged; one that is larger than the
    /// bucket never does, and is told when the bucket is empty.
    pub fn retry_ms(&self, terms: &Terms, cost: u64, now: i64) -> u64 {
        self.drained_in(terms, terms.burst.saturating_sub(cost), now)
    }

    /// In how many ms no more than `requests` are used or held, if what is held is spent now and nothing else is.
    fn drained_in(&self, terms: &Terms, requests: u64, now: i64) -> u64 {
        let held = u128::from(self.held()) * u128::from(terms.period);
        let used = u128::from(self.level) + held;
        let excess = used.saturating_sub(u128::from(requests) * u128::from(terms.period));
        match terms.window {
            _ if excess == 0 => 0,
            Some((_, until)) => u64::try_from(until - now).unwrap_or(0),
            None => clamp(excess.div_ceil(u128::from(terms.amount.max(1)))),
        }
    }
}

/// Which of the percentages that are told of, 80 and 100, so much of a quota comes to; 0 if it is less.
pub fn reached(used: u64, quota: u64) -> u8 {
    let (used, quota) = (u128::from(used), u128::from(quota));
    match used * 5 {
        five if five >= quota * 5 => 100,
        five if five >= quota * 4 => 80,
        _ => 0,
    }
}

fn clamp(parts: u128) -> u64 {
    u64::try_from(parts).unwrap_or(u64::MAX).min(LEVEL_MAX)
}

/// Does a call on the buckets of a tenant that it is about, in the order of its asks.
pub fn settle(buckets: &mut [Bucket], call: &Settle, now: i64) -> super::Settled {
    let outside = |ask: &BucketAsk| {
        let window = ask.terms.window;
        window.is_some_and(|(from, until)| now < from || now >= until)
    };
    if call.buckets.iter().any(outside) {
        return super::Settled::OtherWindow { now };
    }
    let mut listened = [false; super::BUCKETS_MAX];
    let mut fits = [false; super::BUCKETS_MAX];
    let each = || call.buckets.iter().enumerate();
    for (at, ask) in each() {
        buckets[at].advance(&ask.terms, now);
        listened[at] = buckets[at].report(ask);
        fits[at] = buckets[at].available(&ask.terms) >= call.cost;
    }
    let charged = each().all(|(at, ask)| fits[at] || ask.shadow);
    if charged {
        for (at, ask) in each() {
            if fits[at] {
                buckets[at].add(call.cost);
            }
            if let Some(lease_ask) = ask.lease.as_ref().filter(|_| listened[at]) {
                buckets[at].grant(&ask.terms, lease_ask, call, now);
            }
        }
    }
    let states = each().map(|(at, ask)| buckets[at].state(ask, call.cost, fits[at], now));
    super::Settled::Done {
        now,
        charged,
        buckets: states.collect(),
    }
}
