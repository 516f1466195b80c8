//! Rotation by schedule: a control plane gives keys of plans with a `rotation` another token when theirs is old enough,
//! and the holder of the old one claims it.
//!
//! One control plane looks at a time, by a lease. Should two look for a moment, a key is still rotated once: each
//! rotation is against the state of the key that was looked at.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::clock::Span;
use crate::crypto::token::Token;
use crate::domain::change::{Action, Actor};
use crate::domain::key::{Delivery, Key};
use crate::domain::name::{KeyId, TenantId};
use crate::domain::plan::{Plans, Rotation};
use crate::domain::role::AdminAccess;
use crate::domain::tenant::{Tenant, TenantStatus};
use crate::registry::idempotency::Verb;
use crate::registry::key_changes::{Edit, Outcome};
use crate::registry::{CreatedKey, Etag, Opened, Registry, RegistryError, RequestId};
use crate::store::{CountChange, records};
use crate::telemetry::Throttle;

/// How often it is looked whether it is time to look: a plan that is new is heeded so soon.
const WAKE_EVERY: Duration = Duration::from_secs(1);
/// The longest time between two looks.
const LOOK_EVERY_MAX: Duration = Duration::from_secs(60 * 60);
/// How long one control plane leads after it was last seen to.
const LEASE_LENGTH: Duration = Duration::from_secs(30);
const LEASE: &str = "rotation";
/// How many tenants or keys are read at once.
const PAGE: usize = 200;

/// What has come of rotations by schedule, as far as this process did them.
#[derive(Debug, Default)]
pub struct Rotations {
    rotated: AtomicU64,
    claimed: AtomicU64,
    not_kept: AtomicU64,
    failed: AtomicU64,
    /// Keys that nobody could claim a token of, told now and then.
    without_access: Throttle,
}

impl Rotations {
    /// The counts by outcome.
    pub fn counts(&self) -> [(&'static str, u64); 4] {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        [
            ("rotated", read(&self.rotated)),
            ("claimed", read(&self.claimed)),
            ("not_kept", read(&self.not_kept)),
            ("failed", read(&self.failed)),
        ]
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// How long it is between two looks: short against the shortest schedule. None without any.
fn pause(plans: &Plans) -> Option<Duration> {
    let schedules = plans.values().filter_map(|plan| plan.rotation);
    let shortest = schedules.map(|schedule| schedule.every).min()?;
    Some((shortest / 100).clamp(WAKE_EVERY, LOOK_EVERY_MAX))
}

impl Registry {
    /// What has come of rotations by schedule.
    pub fn rotations(&self) -> &Rotations {
        &self.rotations
    }

    /// Rotates what is due, until `stop`.
    pub async fn keep_rotating(self, stop: CancellationToken) {
        let holder = format!("{:016x}", rand::random::<u64>());
        let mut looked_at: Option<Instant> = None;
        let mut logged = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(WAKE_EVERY) => {}
            }
            let Some(pause) = pause(&self.plans()) else {
                continue;
            };
            if looked_at.is_some_and(|at| at.elapsed() < pause) {
                continue;
            }
            looked_at = Some(Instant::now());
            match self.rotate_due(&holder, &stop).await {
                Ok(()) => logged = false,
                Err(error) if !logged => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "keys cannot be rotated by schedule now");
                    logged = true;
                }
                Err(_) => {}
            }
        }
    }

    /// Rotates every key that is due, if `holder` leads.
    pub async fn rotate_due(
        &self,
        holder: &str,
        stop: &CancellationToken,
    ) -> Result<(), RegistryError> {
        let plans = self.plans();
        let mut after: Option<TenantId> = None;
        while self.store.lease(LEASE, holder, LEASE_LENGTH).await? {
            let page = self.store.tenants(after.as_ref(), PAGE).await?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = Some(last.id.clone());
            for row in &page {
                let Ok((tenant, _)) = records::open_tenant(&self.data, row) else {
                    count(&self.rotations.failed);
                    tracing::warn!(tenant = %row.id, "a tenant's record cannot be used: none of its keys is rotated");
                    continue;
                };
                let plan = tenant.plan.as_ref().and_then(|plan| plans.get(plan));
                let Some(schedule) = plan.and_then(|plan| plan.rotation) else {
                    continue;
                };
                if !self.rotate_tenant(&tenant, &schedule, holder, stop).await? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Rotates the keys of one tenant that are due. Answers whether to go on.
    async fn rotate_tenant(
        &self,
        tenant: &Tenant,
        schedule: &Rotation,
        holder: &str,
        stop: &CancellationToken,
    ) -> Result<bool, RegistryError> {
        if tenant.status == TenantStatus::Suspended {
            return Ok(true);
        }
        let mut after = None;
        loop {
            if !self.store.lease(LEASE, holder, LEASE_LENGTH).await? {
                return Ok(false);
            }
            let page = match self.keys(&tenant.id, after.as_ref(), PAGE).await {
                // Deleted while we looked.
                Err(RegistryError::NotFound { .. }) => return Ok(true),
                Err(error @ RegistryError::Store(_)) => return Err(error),
                Err(error) => {
                    self.failed(&tenant.id, &error);
                    return Ok(true);
                }
                Ok(page) => page,
            };
            let Some(last) = page.last() else {
                return Ok(true);
            };
            after = Some(match last {
                Ok(key) => key.id.clone(),
                Err(id) => id.clone(),
            });
            self.log_without_access(&page);
            for key in page
                .iter()
                .flatten()
                .filter(|key| key.is_due(schedule, self.now()))
            {
                if stop.is_cancelled() {
                    return Ok(false);
                }
                self.rotate_by_schedule(key, schedule).await?;
            }
        }
    }

    /// A schedule passes over keys whose holders could not claim: whoever wrote it does not expect that of the default of
    /// a profile.
    fn log_without_access(&self, page: &[Result<Key, KeyId>]) {
        let closed = |key: &&Key| key.is_live() && key.admin_access == AdminAccess::None;
        if let Some(key) = page.iter().flatten().find(closed)
            && let Some(held_back) = self.rotations.without_access.admit(self.now())
        {
            tracing::warn!(
                tenant = %key.tenant, key = %key.id, held_back,
                "a key is not rotated by schedule: its admin_access is none, so its holder could not claim the next token"
            );
        }
    }

    fn failed(&self, tenant: &TenantId, error: &RegistryError) {
        count(&self.rotations.failed);
        let error = error as &dyn std::error::Error;
        tracing::warn!(%tenant, error, "keys cannot be rotated by schedule");
    }

    async fn rotate_by_schedule(
        &self,
        key: &Key,
        schedule: &Rotation,
    ) -> Result<(), RegistryError> {
        let grace = schedule.grace;
        let edit = Edit {
            actor: &Actor::Keystile,
            action: Action::KeyRotated,
            count: CountChange::None,
            note: format!("by schedule, grace {}", Span(grace)),
            etag: Some(Etag::of_key(key)),
            request: None,
            change: |opened: &Opened, key: &mut Key, now| {
                self.rotate(opened, key, grace, Delivery::Waiting, now)?;
                // Nobody has seen the token: where it is not kept, nobody ever would.
                let kept = key
                    .current()
                    .is_some_and(|next| next.sealed_token.is_some());
                kept.then_some(())
                    .ok_or(RegistryError::NotKept("the token would not be kept"))
            },
        };
        let rotated = match self.read_key(&key.tenant, &key.id).await {
            Ok(read) => self.edit_key(read, edit).await,
            Err(error) => Err(error),
        };
        match rotated {
            Ok(Outcome::Changed(key, ())) => {
                count(&self.rotations.rotated);
                tracing::info!(tenant = %key.tenant, key = %key.id, "rotated by schedule");
            }
            // Somebody else was faster: it is looked at again the next time.
            Ok(Outcome::Same(_) | Outcome::Revoked(_))
            | Err(
                RegistryError::Conflict { .. }
                | RegistryError::NotFound { .. }
                | RegistryError::KeyExpired,
            ) => {}
            Err(RegistryError::NotKept(_)) => count(&self.rotations.not_kept),
            Err(error @ RegistryError::Store(_)) => return Err(error),
            Err(error) => self.failed(&key.tenant, &error),
        }
        Ok(())
    }

    /// Gives the holder of a token the one that a schedule has made to take its place: once, while its grace lasts. With
    /// a request, the answer is given again to who asks again.
    pub async fn claim_key(
        &self,
        token: &str,
        request: Option<&RequestId>,
    ) -> Result<CreatedKey, RegistryError> {
        let proven = self.prove(token).await?;
        let proven = proven.ok_or(RegistryError::NotFound { what: "key" })?;
        let read = self.read_key(&proven.tenant.id, &proven.key.id).await?;
        let opened = Arc::clone(&read.opened);
        let (tenant, id) = (&opened.tenant.id, &proven.key.id);
        let actor = Actor::Key {
            tenant: tenant.clone(),
            key: id.clone(),
        };
        let request = request.map(|request| self.tag(Verb::ClaimKey, &actor, tenant, request));
        if let Some(before) = self.rotated_before(&opened, request.as_ref()).await? {
            return Ok(before);
        }
        let edit = Edit {
            actor: &actor,
            action: Action::KeyClaimed,
            count: CountChange::None,
            note: String::new(),
            etag: None,
            request: request.as_ref(),
            change: |opened: &Opened, key: &mut Key, now| {
                let number = key.claim(proven.generation, now)?;
                let token = self.kept_token(opened, key, number)?;
                token.ok_or(RegistryError::NotKept(
                    "this control plane cannot open the token: it has no vault keyring",
                ))
            },
        };
        let claimed = self.edit_key::<Token, _>(read, edit).await;
        match claimed {
            Ok(Outcome::Changed(key, token)) => {
                count(&self.rotations.claimed);
                Ok(CreatedKey { key, token })
            }
            Ok(Outcome::Revoked(_)) => Err(RegistryError::KeyRevoked),
            Ok(Outcome::Same(_)) => Err(RegistryError::Conflict { what: "key" }),
            // It was done meanwhile by this very request.
            Err(error @ (RegistryError::AlreadyExists { .. } | RegistryError::NoClaim(_))) => {
                let before = self.rotated_before(&opened, request.as_ref()).await?;
                before.ok_or(error)
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::name::PlanName;
    use crate::domain::plan::Plan;

    #[test]
    fn it_looks_often_enough_for_the_shortest_schedule() {
        let every = |seconds| Plan {
            rotation: Some(Rotation {
                every: Duration::from_secs(seconds),
                grace: Duration::ZERO,
            }),
            ..Plan::default()
        };
        let plans = |all: &[Plan]| -> Plans {
            let named = all.iter().enumerate().map(|(at, plan)| {
                let name = PlanName::parse(&format!("p{at}")).unwrap();
                (name, plan.clone())
            });
            named.collect()
        };
        let day = 24 * 60 * 60;
        assert_eq!(pause(&plans(&[])), None);
        assert_eq!(pause(&plans(&[Plan::default()])), None);
        for (all, seconds) in [
            (&[every(90 * day)][..], 3600),
            (&[every(90 * day), every(day)], 864),
            (&[every(1)], 1),
        ] {
            assert_eq!(pause(&plans(all)), Some(Duration::from_secs(seconds)));
        }
    }
}
