//! Budgets of one process: rates in memory, since they are full again soon after a start; quotas in the file as well,
//! written before they are answered for, so that a restart or a crash forgets none.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::EmbeddedStore;
use super::operation::{Operation, QuotaRow};
use super::tables as t;
use crate::clock::{Clock as _, SystemClock, Timestamp};
use crate::domain::limit::LimitName;
use crate::domain::name::TenantId;
use crate::store::budgets::{self, Bucket, BucketAsk, Settle, Settled};
use crate::store::{CommitError, StoreError};

/// When so many buckets are in memory, those that are empty are looked for.
const SWEEP_AT: usize = 4096;

/// tenant, key or the tenant's incarnation, limit, beginning of the window
type Place = (TenantId, String, LimitName, i64);

#[derive(Debug)]
pub(super) struct Budgets(Mutex<Buckets>);

#[derive(Debug)]
struct Buckets {
    all: HashMap<Place, Bucket>,
    sweep_at: usize,
}

impl Default for Budgets {
    fn default() -> Self {
        Self(Mutex::new(Buckets {
            all: HashMap::new(),
            sweep_at: SWEEP_AT,
        }))
    }
}

fn place(tenant: &TenantId, call: &Settle, ask: &BucketAsk) -> Place {
    // Keys' ids are never used again; tenants' are.
    let key = call.key.clone().filter(|_| ask.limit.is_of_key());
    let whose = key.unwrap_or_else(|| format!("{:x}", call.incarnation));
    let from = ask.terms.window.map_or(0, |(from, _)| from);
    (tenant.clone(), whose, ask.limit, from)
}

/// What a place is called in the file.
fn name((_, key, limit, from): &Place) -> String {
    format!("{}:{from}:{key}", limit.as_str())
}

impl EmbeddedStore {
    pub(super) async fn settle_call(
        &self,
        tenant: &TenantId,
        call: &Settle,
    ) -> Result<Settled, StoreError> {
        let places: Vec<Place> = call
            .buckets
            .iter()
            .map(|ask| place(tenant, call, ask))
            .collect();
        self.recall(&places, call)?;
        let now = SystemClock.now();
        let (settled, rows) = self.budgets.settle(&places, call, now);
        if rows.is_empty() {
            return Ok(settled);
        }
        match self.writer.submit(Operation::Quotas(rows, now)).await {
            Ok(()) => Ok(settled),
            Err(CommitError::Store(error)) => Err(error),
            Err(refused) => Err(StoreError::Damaged(refused.to_string())),
        }
    }

    /// Takes quotas into memory that are only in the file.
    fn recall(&self, places: &[Place], call: &Settle) -> Result<(), StoreError> {
        for (place, ask) in places.iter().zip(&call.buckets) {
            if ask.terms.window.is_none() || self.budgets.0.lock().all.contains_key(place) {
                continue;
            }
            let used = self.point(|txn| t::quota(txn, &place.0, &name(place)))?;
            let used = used.unwrap_or(0);
            let bucket = Bucket {
                period: 1,
                level: used,
                warned: budgets::reached(used, ask.terms.burst),
                ..Bucket::default()
            };
            // Whoever was faster has charged it already.
            self.budgets
                .0
                .lock()
                .all
                .entry(place.clone())
                .or_insert(bucket);
        }
        Ok(())
    }
}

impl Budgets {
    /// Forgets a tenant that was deleted.
    pub(super) fn forget(&self, tenant: &TenantId) {
        self.0.lock().all.retain(|place, _| place.0 != *tenant);
    }

    /// Does the call; what of quotas is to be written.
    fn settle(&self, places: &[Place], call: &Settle, now: Timestamp) -> (Settled, Vec<QuotaRow>) {
        let mut buckets = self.0.lock();
        let taken = places.iter().map(|place| buckets.all.remove(place));
        let mut taken: Vec<Bucket> = taken.map(Option::unwrap_or_default).collect();
        let before: Vec<u64> = taken.iter().map(used).collect();
        let settled = budgets::settle(&mut taken, call, now.as_millis());
        let mut rows = Vec::new();
        for (((place, bucket), ask), before) in
            places.iter().zip(taken).zip(&call.buckets).zip(before)
        {
            if let Some((_, until)) = ask.terms.window
                && used(&bucket) != before
            {
                rows.push(QuotaRow {
                    tenant: place.0.clone(),
                    name: name(place),
                    until,
                    used: used(&bucket),
                });
            }
            buckets.all.insert(place.clone(), bucket);
        }
        buckets.sweep(now.as_millis());
        (settled, rows)
    }
}

impl Buckets {
    /// Forgets what is empty, now and then. A quota is found in the file again.
    fn sweep(&mut self, now: i64) {
        if self.all.len() < self.sweep_at {
            return;
        }
        self.all.retain(|(_, _, limit, _), bucket| {
            let is_idle = limit.window().is_some() && now - bucket.at > 3_600_000;
            !(bucket.leases.is_empty() && (bucket.is_drained(now) || is_idle))
        });
        self.sweep_at = SWEEP_AT.max(2 * self.all.len());
    }
}

/// What of a quota is used, if every lease is spent.
fn used(bucket: &Bucket) -> u64 {
    bucket.level / bucket.period.max(1) + bucket.held()
}
