//! Limits with the store: requests are charged to local slices while they last, else by a call of the store that
//! charges the request and renews the leases.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::MutexGuard;

use crate::clock::Timestamp;
use crate::domain::name::TenantId;
use crate::limiter::counters::add;
use crate::limiter::demand::{ArrayVec, LimitDemand};
use crate::limiter::slice::{Acquired, LeaseReply, LeaseRequest, LeaseSession, Now, Slice};
use crate::limiter::{Limiter, LimiterDown, Refusal, Subject, Verdict};
use crate::store::StoreError;
use crate::store::budgets::{BUCKETS_MAX, BucketAsk, BucketState, Settle, Settled};

/// How long a lease lasts, in ms.
pub(super) const LEASE_MS: u64 = 1_000;
/// A store that has answered within this time, in ms, is late, not gone.
const LATE_MS: u64 = 1_000;
/// How often a request begins anew because the window has changed, or another's slice was taken meanwhile.
const ATTEMPTS: usize = 4;

/// One limit of a request that is under way.
#[derive(Debug)]
pub(super) struct Need {
    pub(super) wanted: LimitDemand,
    pub(super) slice: Arc<Slice>,
    /// From which lease it is taken.
    taken: Option<u64>,
    /// A limit in shadow that would refuse.
    shadowed: bool,
}

/// The limits of a request. What was taken is put back unless it is kept.
#[derive(Debug)]
pub(super) struct Needs {
    all: [Option<Need>; BUCKETS_MAX],
    cost: u64,
}

impl Drop for Needs {
    fn drop(&mut self) {
        for need in self.all.iter().flatten() {
            if let Some(lease) = need.taken {
                need.slice.put_back(lease, self.cost);
            }
        }
    }
}

/// What came of taking from slices.
enum Attempt {
    Taken,
    Refused(Refusal),
    /// The store has to be asked about some.
    Empty,
}

/// The lease session of a need, by the need's index; who holds it is the only one that calls the store for the lease.
type LockedSession<'a> = (usize, MutexGuard<'a, LeaseSession>);

/// What a call asks of a need's lease, by the need's index.
type Asked = (usize, Option<LeaseRequest>);

/// Debts on their way to the store. Those of a call that fails or is given up are owed again: should the store have taken
/// them over all the same, they are charged twice, which lets nobody pass who should not.
struct Debts(Vec<(Arc<Slice>, u64)>);

impl Debts {
    fn of(needs: &Needs, asked: &[Asked], call: &Settle) -> Self {
        let all = asked.iter().zip(&call.buckets);
        let owed = all.filter(|(_, ask)| ask.debt > 0);
        let of_slice = owed.filter_map(|((index, _), ask)| {
            let need = needs.all[*index].as_ref()?;
            Some((Arc::clone(&need.slice), ask.debt))
        });
        Self(of_slice.collect())
    }

    fn are_paid(mut self) {
        self.0.clear();
    }
}

impl Drop for Debts {
    fn drop(&mut self) {
        for (slice, debt) in &self.0 {
            slice.debt.fetch_add(*debt, Ordering::Relaxed);
        }
    }
}

impl Needs {
    fn iter(&self) -> impl Iterator<Item = &Need> {
        self.all.iter().flatten()
    }

    /// Those that the store has to be asked about.
    pub(super) fn empty(&self) -> impl Iterator<Item = (usize, &Need)> {
        let all = self.all.iter().enumerate();
        let all = all.filter_map(|(at, need)| Some((at, need.as_ref()?)));
        all.filter(|(_, need)| need.taken.is_none() && !need.shadowed)
    }

    fn take(&mut self, at: Now) -> Attempt {
        let cost = self.cost;
        let mut attempt = Attempt::Taken;
        for need in self.all.iter_mut().flatten() {
            // A second attempt, after another request has filled a slice: what the first one took stays taken.
            if need.taken.is_some() || need.shadowed {
                continue;
            }
            match need.slice.take(&need.wanted.terms, cost, at.now) {
                Acquired::Taken(lease) => need.taken = Some(lease),
                // Goes on: a later limit may refuse by what is known here, and then the store is not called at all.
                Acquired::Empty => attempt = Attempt::Empty,
                Acquired::Refused(_) if need.wanted.shadow => need.shadowed = true,
                Acquired::Refused(until) => {
                    return Attempt::Refused(Refusal {
                        limit: need.wanted.limit,
                        retry_after: Duration::from_millis(until.saturating_sub(at.now)),
                    });
                }
            }
        }
        attempt
    }

    fn keep(&mut self) {
        for need in self.all.iter_mut().flatten() {
            need.taken = None;
        }
    }

    /// A limit that would refuse and is in shadow.
    pub(super) fn shadow(&mut self, at: usize) {
        if let Some(need) = self.all[at].as_mut().filter(|need| need.wanted.shadow) {
            need.shadowed = true;
        }
    }

    /// Stores the answer of a call in the slices; the first limit that refuses the request, if any does.
    fn settle(
        &mut self,
        asked: &[Asked],
        states: &[BucketState],
        sessions: &mut [LockedSession<'_>],
        (sent_at, now): (u64, u64),
    ) -> Option<Refusal> {
        let mut refused = None;
        for ((index, request), state) in asked.iter().zip(states) {
            let Some(need) = self.all[*index].as_mut() else {
                continue;
            };
            let wanted = &need.wanted;
            let session = sessions.iter_mut().find(|(of, _)| of == index);
            match (request, session) {
                // Who holds the session is the only one that may replace the lease; who does not learns only how full the
                // bucket is.
                (Some(request), Some((_, session))) => {
                    let reply = LeaseReply {
                        request,
                        wanted,
                        state,
                        cost: self.cost,
                    };
                    need.slice.apply(session, &reply, sent_at, now);
                }
                _ => need.slice.learn(wanted, state, self.cost, now),
            }
            // Every reply is stored before anybody is refused: leases that the store has granted are held by nobody else,
            // so an early return would lose them until they end.
            if state.fits {
                continue;
            }
            if wanted.shadow {
                need.shadowed = true;
            } else if refused.is_none() {
                refused = Some(Refusal {
                    limit: wanted.limit,
                    retry_after: Duration::from_millis(state.retry_ms),
                });
            }
        }
        refused
    }

    pub(super) fn cost(&self) -> u64 {
        self.cost
    }

    /// How everything stands. What was taken is kept if the request is not refused.
    pub(super) fn verdict(&mut self, refused: Option<Refusal>, at: Now) -> Verdict {
        if refused.is_none() {
            self.keep();
        }
        let mut verdict = Verdict {
            refused,
            ..Verdict::default()
        };
        for need in self.all.iter().flatten() {
            let state = need.slice.state(&need.wanted.terms, at.now, at.store_now);
            verdict.states.push(state);
            if need.shadowed {
                verdict.shadow = verdict.shadow.or(Some(need.wanted.limit));
            }
        }
        verdict
    }
}

/// Why the store has decided nothing.
pub(super) enum Undecided {
    /// It is another window there.
    OtherWindow,
    Store(StoreError),
}

impl Undecided {
    pub(super) fn is_of_the_store(&self) -> bool {
        matches!(self, Self::Store(_))
    }
}

impl Limiter {
    pub(super) async fn check_with_store(
        &self,
        subject: &Subject<'_>,
        mut wanted: ArrayVec<LimitDemand>,
        cost: u64,
        time_limit: Duration,
        leases: bool,
        mut at: Now,
    ) -> Result<Verdict, LimiterDown> {
        for _ in 0..ATTEMPTS {
            // Anew in each attempt: another window has other slices, and what was taken of these is put back.
            let mut needs = self.needs(subject, &wanted, cost);
            // Memory first; in mode `strict` only what costs nothing is answered from it.
            if leases || cost == 0 {
                match needs.take(at) {
                    Attempt::Taken => {
                        self.fill_ahead(&needs);
                        return Ok(needs.verdict(None, at));
                    }
                    Attempt::Refused(refusal) => return Ok(needs.verdict(Some(refusal), at)),
                    Attempt::Empty => {}
                }
            }
            let asked = self.ask(subject, &mut needs, leases);
            match tokio::time::timeout(time_limit, asked).await {
                Ok(Ok(verdict)) => return Ok(verdict),
                // The clocks differ around the end of a window: the store's holds, and the call has taught it to us.
                Ok(Err(Undecided::OtherWindow)) => {
                    at = self.instant();
                    wanted = subject.wanted(Timestamp::from_millis(at.store_now));
                }
                Ok(Err(Undecided::Store(error))) => {
                    return self.without_store(needs, LimiterDown::Store(error));
                }
                Err(_) => return self.without_store(needs, self.late()),
            }
        }
        Err(LimiterDown::Late)
    }

    /// Late, or gone.
    fn late(&self) -> LimiterDown {
        add(&self.counters.failed);
        let silent = self.millis() - self.answered_at.load(Ordering::Relaxed).min(self.millis());
        if silent < LATE_MS {
            return LimiterDown::Late;
        }
        let late = "no answer within the time allowed";
        LimiterDown::Store(StoreError::Unavailable(late.into()))
    }

    fn needs(&self, subject: &Subject<'_>, wanted: &ArrayVec<LimitDemand>, cost: u64) -> Needs {
        let mut all = [const { None }; BUCKETS_MAX];
        for (place, wanted) in all.iter_mut().zip(wanted.iter()) {
            let from = wanted.terms.window.map_or(0, |(from, _)| from);
            *place = Some(Need {
                wanted: *wanted,
                slice: self.slices.get(subject, wanted.limit, from),
                taken: None,
                shadowed: false,
            });
        }
        Needs { all, cost }
    }

    fn fill_ahead(&self, needs: &Needs) {
        for need in needs.iter() {
            if need.slice.runs_low() && !need.slice.is_low.swap(true, Ordering::Relaxed) {
                // Without a place in the queue, it is filled when it is empty.
                if let Err(error) = self.low.try_send(Arc::clone(&need.slice)) {
                    error.into_inner().is_low.store(false, Ordering::Relaxed);
                }
            }
        }
    }

    /// Asks the store about the slices that are empty. One request at a time calls the store for a slice; the others wait
    /// for its answer and then try the slice again.
    async fn ask(
        &self,
        subject: &Subject<'_>,
        needs: &mut Needs,
        leases: bool,
    ) -> Result<Verdict, Undecided> {
        if !leases {
            return self.charge(subject, needs, Vec::new()).await;
        }
        let slices: Vec<(usize, Arc<Slice>)> = needs
            .empty()
            .map(|(at, need)| (at, Arc::clone(&need.slice)))
            .collect();
        let mut sessions: Vec<LockedSession<'_>> = Vec::with_capacity(slices.len());
        for (at, slice) in &slices {
            let _waits = Waiting::for_answer(slice);
            // All take these locks in the order of the limits.
            sessions.push((*at, slice.session.lock().await));
        }
        // Whoever held the locks before has perhaps filled the slices: most of those who waited need no call.
        match needs.take(self.instant()) {
            Attempt::Taken => return Ok(needs.verdict(None, self.instant())),
            Attempt::Refused(refusal) => return Ok(needs.verdict(Some(refusal), self.instant())),
            Attempt::Empty => {}
        }
        // The slices that were filled meanwhile are let go before the call, so that others do not wait for it.
        sessions.retain(|(index, _)| needs.empty().any(|(empty, _)| empty == *index));
        self.charge(subject, needs, sessions).await
    }

    /// Charges the request in one call of the store, which also renews the leases whose sessions are held.
    async fn charge(
        &self,
        subject: &Subject<'_>,
        needs: &mut Needs,
        mut sessions: Vec<LockedSession<'_>>,
    ) -> Result<Verdict, Undecided> {
        let at = self.instant();
        let (call, asked) = self.prepare(subject, needs, &mut sessions, at);
        // Before the call: if it fails or is given up, dropping them owes them again.
        let debts = Debts::of(needs, &asked, &call);
        let (charged, states) = self.call(subject.tenant, &call).await?;
        debts.are_paid();
        let refused = needs.settle(&asked, &states, &mut sessions, (at.now, self.millis()));
        // What the store has charged passes, even where a limit of it was full: that limit is in shadow.
        Ok(needs.verdict(refused.filter(|_| !charged), self.instant()))
    }

    /// The call that charges a request, and what it asks of each lease.
    fn prepare(
        &self,
        subject: &Subject<'_>,
        needs: &Needs,
        sessions: &mut [LockedSession<'_>],
        at: Now,
    ) -> (Settle, Vec<Asked>) {
        let cost = needs.cost;
        let mut buckets = Vec::with_capacity(BUCKETS_MAX);
        let mut asked: Vec<Asked> = Vec::with_capacity(BUCKETS_MAX);
        for (index, need) in needs.empty() {
            // Without a session (mode `strict`) the bucket is charged and nothing is leased.
            let session = sessions.iter_mut().find(|(of, _)| *of == index);
            let request = session.map(|(_, session)| {
                let terms = &need.wanted.terms;
                need.slice.ask(session, &self.process, terms, cost, at.now)
            });
            buckets.push(BucketAsk {
                limit: need.wanted.limit,
                terms: need.wanted.terms,
                shadow: need.wanted.shadow,
                // Taken out first, so that no other call reports the same debt.
                debt: need.slice.debt.swap(0, Ordering::Relaxed),
                lease: request.as_ref().map(|request| request.ask.clone()),
            });
            asked.push((index, request));
        }
        let call = Settle {
            incarnation: subject.incarnation,
            key: Some(subject.key.to_owned()),
            cost,
            lease_ms: LEASE_MS,
            buckets,
        };
        (call, asked)
    }

    /// One call of the store, counted; whether the cost was charged, and how each bucket stands.
    pub(super) async fn call(
        &self,
        tenant: &TenantId,
        call: &Settle,
    ) -> Result<(bool, Vec<BucketState>), Undecided> {
        add(&self.counters.calls);
        let settled = self.store.settle(tenant, call).await;
        if settled.is_ok() {
            self.answered_at.store(self.millis(), Ordering::Relaxed);
        }
        let (now, done) = match settled {
            Ok(Settled::OtherWindow { now }) => (now, Err(Undecided::OtherWindow)),
            Ok(Settled::Done {
                now,
                charged,
                buckets,
            }) => (now, Ok((charged, buckets))),
            Err(error) => {
                add(&self.counters.failed);
                return Err(Undecided::Store(error));
            }
        };
        // Before the answer is used: another window is looked for by the store's clock.
        let ahead = now - self.clock.now().as_millis();
        self.ahead.store(ahead, Ordering::Relaxed);
        if let Ok((_, states)) = &done {
            for (ask, state) in call.buckets.iter().zip(states) {
                let key = call.key.as_deref().filter(|_| ask.limit.is_of_key());
                self.notify_reached(tenant, key, ask.limit, &ask.terms, state.reached);
            }
        }
        done
    }
}

/// Counts who waits, also when the wait is given up.
struct Waiting<'a>(&'a Slice);

impl<'a> Waiting<'a> {
    fn for_answer(slice: &'a Slice) -> Self {
        slice.waiting.fetch_add(1, Ordering::Relaxed);
        Self(slice)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}
