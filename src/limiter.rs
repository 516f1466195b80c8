//! Decides whether a request that would be allowed comes too soon or is one too many (DESIGN section 6).
//!
//! A tenant's and a key's limits are asked together: a request is charged to all of them or to none. How they are
//! counted is the operator's choice: in the store for each request (`strict`), in slices that this process leases ahead
//! of need and spends in memory (`leased`), or here alone (`local`). docs/LIMITS.md tells the whole story.
#![warn(missing_docs)]
#![warn(clippy::wildcard_enum_match_arm)]

mod counters;
mod demand;
pub mod gcra;
mod leased;
mod local;
mod outage;
mod slice;
mod table;
mod upkeep;
mod window;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rand::Rng as _;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::clock::{Clock, Timestamp};
use crate::domain::limit::{LimitName, LimitState};
use crate::domain::name::TenantId;
use crate::store::budgets::Terms;
use crate::store::{BudgetStore, StoreError};
use crate::telemetry::Throttle;

pub use counters::Counters;
use counters::add;
use demand::LimitDemand;
pub use demand::{ArrayVec, Subject};
use gcra::Cells;
use slice::{Now, Slice};
use table::Table;

/// How many slices may wait to be filled ahead of need; one that finds no place is filled at need.
const LOW_MAX: usize = 4096;
/// The most limits that `local` mode counts at a time; see [`Cells`].
const CELLS_MAX: usize = 4_000_000;
/// Longest wait for the store's answer about a limit, whatever the caller's deadline.
const PATIENCE_MAX: Duration = Duration::from_millis(500);

/// How limits are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// In the store, at each request.
    Strict,
    /// In slices that are leased from the store ahead of need and spent in memory.
    #[default]
    Leased,
    /// By each process for itself.
    Local,
}

/// What happens when the store does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnOutage {
    /// Each process goes on with its share of what was last known to be left.
    #[default]
    Local,
    /// Every request passes.
    Allow,
    /// No request passes that the store would have to be asked about.
    Deny,
}

/// The operator's choices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// How limits are counted.
    pub mode: Mode,
    /// What happens when the store does not answer.
    pub on_outage: OnOutage,
}

/// We could not find out.
#[derive(Debug, thiserror::Error)]
pub enum LimiterDown {
    /// The store does not answer, and the policy is to let nothing pass then.
    #[error("cannot count against the limits")]
    Store(#[source] StoreError),
    /// The store answers, but not within the time that the request has.
    #[error("no answer about the limits in time")]
    Late,
}

/// What came of asking.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// How every limit stands.
    pub states: ArrayVec<LimitState>,
    /// The limit that refuses the request; it was charged to none.
    pub refused: Option<Refusal>,
    /// A limit in shadow that would have refused it.
    pub shadow: Option<LimitName>,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// By which limit.
    pub limit: LimitName,
    /// After which time the same request passes if nobody else sends one.
    pub retry_after: Duration,
}

/// Counts requests against limits.
pub struct Limiter {
    store: Arc<dyn BudgetStore>,
    clock: Arc<dyn Clock>,
    settings: ArcSwap<Settings>,
    /// Names this process among those that lease.
    process: String,
    began: Instant,
    slices: Table<Slice>,
    cells: Cells,
    /// How far the store's clock is ahead of ours, in ms.
    ahead: AtomicI64,
    /// How many sidecars share the budgets; at least 1.
    sidecars: AtomicU64,
    /// When the store last answered.
    answered_at: AtomicU64,
    low: mpsc::Sender<Arc<Slice>>,
    // Taken by `run`.
    to_fill: Mutex<Option<mpsc::Receiver<Arc<Slice>>>>,
    counters: Counters,
    outages: Throttle,
    oversized: Throttle,
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter")
            .field("settings", &self.settings.load())
            .finish_non_exhaustive()
    }
}

impl Limiter {
    /// A limiter over a store. Slices are filled ahead of need and given back only while [`Self::run`] runs.
    pub fn new(
        store: Arc<dyn BudgetStore>,
        clock: Arc<dyn Clock>,
        settings: Settings,
    ) -> Arc<Self> {
        let (low, to_fill) = mpsc::channel(LOW_MAX);
        let process: u64 = rand::rng().next_u64();
        Arc::new(Self {
            store,
            clock,
            settings: ArcSwap::from_pointee(settings),
            process: format!("{process:016x}"),
            began: Instant::now(),
            slices: Table::default(),
            cells: Cells::new(CELLS_MAX),
            ahead: AtomicI64::new(0),
            sidecars: AtomicU64::new(1),
            answered_at: AtomicU64::new(0),
            low,
            to_fill: Mutex::new(Some(to_fill)),
            counters: Counters::default(),
            outages: Throttle::default(),
            oversized: Throttle::default(),
        })
    }

    /// Other choices from now on; what is used stays used.
    pub fn configure(&self, settings: Settings) {
        self.settings.store(Arc::new(settings));
    }

    /// What it has counted, for metrics.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How many sidecars share the budgets, as last counted.
    pub fn sidecars(&self) -> u64 {
        self.sidecars.load(Ordering::Relaxed)
    }

    /// How many limits are in memory.
    pub fn entries(&self) -> usize {
        self.slices.len() + self.cells.len()
    }

    /// Charges a request to every limit of its subject, or to none. `time_left` is what the caller's deadline leaves.
    pub async fn check(
        &self,
        subject: &Subject<'_>,
        cost: u64,
        time_left: Option<Duration>,
    ) -> Result<Verdict, LimiterDown> {
        if subject.tenant_limits.is_empty() && subject.key_limits.is_empty() {
            return Ok(Verdict::default());
        }
        let settings = **self.settings.load();
        let at = self.instant();
        let wanted = subject.wanted(Timestamp::from_millis(at.store_now));
        let verdict = match settings.mode {
            Mode::Local => Ok(self.check_here(subject, &wanted, cost, at)),
            Mode::Strict | Mode::Leased => {
                let time_limit = time_left.map_or(PATIENCE_MAX, |left| left.min(PATIENCE_MAX));
                let leases = settings.mode == Mode::Leased;
                self.check_with_store(subject, wanted, cost, time_limit, leases, at)
                    .await
            }
        };
        if let Ok(verdict) = &verdict {
            self.counters.count(verdict);
            self.log_oversized(subject, &wanted, cost, verdict);
        }
        verdict
    }

    fn instant(&self) -> Now {
        Now {
            now: self.millis(),
            store_now: self.clock.now().as_millis() + self.ahead.load(Ordering::Relaxed),
        }
    }

    /// Since the process began, in ms.
    fn millis(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Tells that so much per cent of a quota is used, if it is some.
    fn notify_reached(
        &self,
        tenant: &TenantId,
        key: Option<&str>,
        limit: LimitName,
        terms: &Terms,
        percent: u8,
    ) {
        let counter = match percent {
            0 => return,
            100.. => &self.counters.quota_used_up,
            _ => &self.counters.quota_nearly_used_up,
        };
        add(counter);
        tracing::warn!(
            %tenant, key, limit = limit.as_str(), quota = terms.burst, percent,
            "a quota is being used up"
        );
    }

    /// A route whose cost no bucket can hold is a mistake in a configuration, and looks like a limit that is reached.
    fn log_oversized(
        &self,
        subject: &Subject<'_>,
        wanted: &ArrayVec<LimitDemand>,
        cost: u64,
        verdict: &Verdict,
    ) {
        let Some(refusal) = verdict.refused else {
            return;
        };
        let limit = wanted.iter().find(|wanted| wanted.limit == refusal.limit);
        if limit.is_some_and(|wanted| cost > wanted.terms.burst)
            && let Some(held_back) = self.oversized.admit(self.clock.now())
        {
            tracing::warn!(
                tenant = %subject.tenant, key = subject.key, limit = refusal.limit.as_str(), cost, held_back,
                "a request costs more than its limit can ever hold, and is always refused"
            );
        }
    }
}
