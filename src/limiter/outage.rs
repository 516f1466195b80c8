//! When the store does not answer.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::limiter::counters::add;
use crate::limiter::leased::Needs;
use crate::limiter::slice::Now;
use crate::limiter::{Limiter, LimiterDown, OnOutage, Refusal, Verdict};
use crate::telemetry::chain;

impl Limiter {
    /// Decides about what failed to reach the store, as the operator has chosen. What was taken from slices stays
    /// taken.
    pub(super) fn without_store(
        &self,
        mut needs: Needs,
        down: LimiterDown,
    ) -> Result<Verdict, LimiterDown> {
        if let Some(held_back) = self.outages.admit(self.clock.now()) {
            let error = chain(&down);
            tracing::warn!(%error, held_back, "limits are counted without the store");
        }
        let at = self.instant();
        let on_outage = self.settings.load().on_outage;
        match (on_outage, &down) {
            // A store that is only slow counts on: what two count is counted twice, or not at all.
            (OnOutage::Deny, _) | (OnOutage::Local, LimiterDown::Late) => Err(down),
            (OnOutage::Allow, _) => {
                add(&self.counters.without_store);
                for (_, need) in needs.empty() {
                    need.slice.debt.fetch_add(needs.cost(), Ordering::Relaxed);
                }
                Ok(needs.verdict(None, at))
            }
            (OnOutage::Local, LimiterDown::Store(_)) => {
                add(&self.counters.without_store);
                Ok(self.take_shares(&mut needs, at))
            }
        }
    }

    fn take_shares(&self, needs: &mut Needs, at: Now) -> Verdict {
        let sidecars = self.sidecars.load(Ordering::Relaxed).max(1);
        let cost = needs.cost();
        let mut states = Vec::new();
        let mut shadowed = Vec::new();
        let mut refused = None;
        let mut taken = Vec::new();
        for (index, need) in needs.empty() {
            let (state, retry) = need.slice.take_share(&need.wanted, cost, sidecars, at);
            states.push(state);
            match retry {
                None => taken.push(std::sync::Arc::clone(&need.slice)),
                Some(_) if need.wanted.shadow => shadowed.push(index),
                Some(retry_ms) => {
                    refused = Some(Refusal {
                        limit: need.wanted.limit,
                        retry_after: Duration::from_millis(retry_ms),
                    });
                    break;
                }
            }
        }
        if refused.is_some() {
            for slice in taken {
                slice.put_back_share(cost);
            }
        }
        shadowed.into_iter().for_each(|index| needs.shadow(index));
        let mut verdict = needs.verdict(refused, at);
        verdict.states.replace(&states, |state| state.limit);
        verdict
    }
}
