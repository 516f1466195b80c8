//! The last question: whether the tenant and the key may ask for this much, this soon.

use std::time::Duration;

use crate::authorizer::{Allowed, Authorizer, Decision, Grant, Outage, deny, subject};
use crate::cache::Found;
use crate::domain::decision::{Denial, DenyReason};
use crate::domain::limit::{LimitName, LimitState, Limits};
use crate::domain::request::{AccessRequest, Charge};
use crate::limiter::{Refusal, Subject, Verdict};

impl Authorizer {
    /// Charges a request that may pass else. Nothing is asked where nothing is limited.
    pub(super) async fn charge(
        &self,
        found: Found,
        shadow: Option<DenyReason>,
        request: &AccessRequest<'_>,
    ) -> Result<Decision, Outage> {
        let cost = u64::from(request.rule.cost);
        let asked = match request.charge {
            Charge::Cost => cost,
            Charge::Look | Charge::Nothing => 0,
        };
        let is_free = cost == 0 || request.charge == Charge::Nothing;
        let limiter = self.limiter.as_ref().filter(|_| !is_free);
        let verdict = match limiter {
            Some(limiter) => {
                let subject = Subject {
                    tenant: &found.tenant.access().id,
                    incarnation: found.tenant.incarnation(),
                    tenant_limits: &found.tenant.access().limits,
                    key: found.key.charged(),
                    key_limits: found.key.limits(),
                };
                limiter.check(&subject, asked, request.time_left).await?
            }
            None => Verdict::default(),
        };
        let limits: Vec<LimitState> = verdict.states.iter().copied().collect();
        let refused = match request.charge {
            Charge::Look => short(&found, &limits, cost),
            Charge::Cost | Charge::Nothing => verdict.refused,
        };
        if let Some(refusal) = refused {
            return Ok(deny(Denial {
                limits,
                ..refuse(&found, refusal)
            }));
        }
        let limited = verdict.shadow.map(DenyReason::from);
        Ok(Decision::Allow(Allowed {
            grant: Grant::Key(found),
            shadow: shadow.or(limited),
            limits,
        }))
    }
}

/// The limit that would refuse a request that is only looked at.
fn short(found: &Found, limits: &[LimitState], cost: u64) -> Option<Refusal> {
    let is_short = |state: &&LimitState| state.remaining < cost && !is_shadow(found, state.limit);
    limits.iter().find(is_short).map(|state| Refusal {
        limit: state.limit,
        retry_after: state.reset,
    })
}

fn of(found: &Found, limit: LimitName) -> &Limits {
    if limit.is_of_key() {
        found.key.limits()
    } else {
        &found.tenant.access().limits
    }
}

fn is_shadow(found: &Found, limit: LimitName) -> bool {
    let limits = of(found, limit);
    match limit.window() {
        None => limits.rate.is_some_and(|rate| rate.is_shadow()),
        Some(window) => limits
            .quota
            .and_then(|quota| quota.cap(window))
            .is_some_and(|cap| cap.is_shadow()),
    }
}

fn refuse(found: &Found, refusal: Refusal) -> Denial {
    // A client that comes back within the same instant is refused again.
    let wait = refusal.retry_after.max(Duration::from_millis(1));
    Denial {
        detail: Some(in_words(found, refusal.limit)),
        retry_after: Some(wait),
        refused_by: Some(refusal.limit),
        subject: subject(found),
        ..Denial::because(refusal.limit.into())
    }
}

/// `tenant's rate of 100/s`
fn in_words(found: &Found, limit: LimitName) -> String {
    let whose = if limit.is_of_key() {
        "API key"
    } else {
        "tenant"
    };
    let limits = of(found, limit);
    match limit.window() {
        None => {
            let rate = limits.rate.map(|rate| rate.enforced().to_string());
            format!("{whose}'s rate of {}", rate.unwrap_or_default())
        }
        Some(window) => {
            let cap = limits.quota.and_then(|quota| quota.cap(window));
            let amount = cap.map_or(0, |cap| cap.amount());
            format!("{whose}'s quota of {amount}/{}", window.as_str())
        }
    }
}
