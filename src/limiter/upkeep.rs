//! What goes on beside requests: slices are filled ahead of need, given back when idle, and debts are told.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::{self, FuturesUnordered};
use tokio::time::{MissedTickBehavior, interval};

use crate::limiter::Limiter;
use crate::limiter::leased::LEASE_MS;
use crate::limiter::slice::{
    FORGET_MS, FORGET_SOON_MS, IDLE_MS, LeaseReply, LeaseRequest, LeaseSession, Slice,
};
use crate::store::budgets::{BucketAsk, Settle};

/// How often slices are looked at, in ms.
const SWEEP_MS: u64 = IDLE_MS / 2;
/// How often the sidecars are counted.
const COUNT_EVERY: Duration = Duration::from_secs(5);
/// With more slices than this, those that are not used are forgotten sooner.
const MANY: usize = 20_000;
/// The most calls of the store at a time.
const CALLS_MAX: usize = 64;
/// The most slices that one look gives back or goes on with; the rest is for the next.
const SWEPT_MAX: usize = 4096;

impl Limiter {
    /// Fills slices ahead of need and gives idle ones back. Never returns; drop the future to stop.
    pub async fn run(self: Arc<Self>) {
        let to_fill = self.to_fill.lock().take();
        let Some(mut to_fill) = to_fill else {
            return;
        };
        let mut sweeps = interval(Duration::from_millis(SWEEP_MS));
        sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut counts = interval(COUNT_EVERY);
        counts.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut fills = FuturesUnordered::new();
        let mut sweeping = None;
        loop {
            tokio::select! {
                Some(slice) = to_fill.recv(), if fills.len() < CALLS_MAX => {
                    let this = Arc::clone(&self);
                    fills.push(async move { this.fill(&slice).await });
                }
                Some(()) = fills.next(), if !fills.is_empty() => {}
                _ = sweeps.tick(), if sweeping.is_none() => {
                    sweeping = Some(Box::pin(Arc::clone(&self).sweep()));
                }
                () = async { sweeping.as_mut().expect("checked").await }, if sweeping.is_some() => {
                    sweeping = None;
                }
                _ = counts.tick() => self.count_sidecars().await,
            }
        }
    }

    async fn count_sidecars(&self) {
        let counting = self.store.sidecars();
        if let Ok(Ok(all)) = tokio::time::timeout(COUNT_EVERY, counting).await {
            let count = u64::try_from(all.len()).unwrap_or(u64::MAX);
            self.sidecars.store(count.max(1), Ordering::Relaxed);
        }
    }

    async fn sweep(self: Arc<Self>) {
        let now = self.millis();
        let unused_ms = match self.slices.len() > MANY {
            true => FORGET_SOON_MS,
            false => FORGET_MS,
        };
        let mut due = self.slices.sweep(
            |slice| slice.is_due(now),
            |slice| slice.can_be_forgotten(now, unused_ms),
        );
        due.truncate(SWEPT_MAX);
        stream::iter(due)
            .for_each_concurrent(CALLS_MAX, |slice| {
                let this = Arc::clone(&self);
                async move {
                    if slice.is_idle(now) {
                        this.return_slice(&slice).await;
                    } else {
                        this.fill(&slice).await;
                    }
                }
            })
            .await;
    }

    /// Gives back all that is leased, so that others need not wait for the leases' end.
    pub async fn give_back(&self) {
        let all = self.slices.sweep(|_| true, |_| false);
        stream::iter(all)
            .for_each_concurrent(CALLS_MAX, |slice| async move {
                self.return_slice(&slice).await;
            })
            .await;
    }

    /// Asks for more, unless somebody does.
    async fn fill(&self, slice: &Slice) {
        if let Ok(mut session) = slice.session.try_lock()
            && let Some(wanted) = slice.wanted()
        {
            let now = self.millis();
            let request = slice.ask(&mut session, &self.process, &wanted.terms, 0, now);
            self.report(slice, &mut session, Some(request), now).await;
        }
        slice.is_low.store(false, Ordering::Relaxed);
    }

    async fn return_slice(&self, slice: &Slice) {
        let Ok(mut session) = slice.session.try_lock() else {
            return;
        };
        let now = self.millis();
        let request = slice.give_back(&mut session, &self.process, now);
        if request.is_some() || slice.debt.load(Ordering::Relaxed) > 0 {
            self.report(slice, &mut session, request, now).await;
        }
    }

    async fn report(
        &self,
        slice: &Slice,
        session: &mut LeaseSession,
        request: Option<LeaseRequest>,
        sent_at: u64,
    ) {
        let Some(wanted) = slice.wanted() else {
            return;
        };
        let debt = slice.debt.swap(0, Ordering::Relaxed);
        let call = Settle {
            incarnation: slice.incarnation,
            key: slice.key.as_deref().map(str::to_owned),
            cost: 0,
            lease_ms: LEASE_MS,
            buckets: vec![BucketAsk {
                limit: slice.limit,
                terms: wanted.terms,
                shadow: true,
                debt,
                lease: request.as_ref().map(|request| request.ask.clone()),
            }],
        };
        let answer = self.call(&slice.tenant, &call).await;
        match (answer, request) {
            (Ok((_, states)), Some(request)) => {
                if let Some(state) = states.first() {
                    let reply = LeaseReply {
                        request: &request,
                        wanted: &wanted,
                        state,
                        cost: 0,
                    };
                    slice.apply(session, &reply, sent_at, self.millis());
                }
            }
            (Ok(_), None) => {}
            // Of a window that has ended, nobody wants to know any more.
            (Err(undecided), _) if undecided.is_of_the_store() => {
                slice.debt.fetch_add(debt, Ordering::Relaxed);
            }
            (Err(_), _) => {}
        }
    }
}
