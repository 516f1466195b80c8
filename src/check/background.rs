//! A check that a control plane makes by itself, now and then: it looks, slowly, repairs nothing, and tells of what it
//! finds as of any damage that is met.
//!
//! What nobody reads, nobody meets: a key that is used once a month could be damaged for as long. One control plane looks
//! at a time, by a lease that lasts until the next check is due.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{Check, CheckError, Entry, Finding, Mode, Report};
use crate::clock::Clock;
use crate::crypto::keyring::Keyring;
use crate::domain::name::TenantId;
use crate::registry::Registry;

const LEASE: &str = "check";

/// How often, and how slowly.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How often it tries to start a check: one is due, and the lease is free.
    pub ask_every: Duration,
    /// The time from the beginning of one check to that of the next.
    pub every: Duration,
    /// After each batch (a page of keys, some index entries) it rests for so many times as long as that took.
    pub rest: u32,
    /// After this time it looks again at what looked wrong: it may have been a change under way.
    pub look_again_after: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            ask_every: Duration::from_secs(10),
            // Far more often than backups are thrown away, by which a lost record is put back.
            every: Duration::from_secs(6 * 60 * 60),
            // It takes a twentieth of the time of one connection.
            rest: 19,
            look_again_after: Duration::from_secs(2),
        }
    }
}

/// Makes checks while a control plane runs.
pub struct Background {
    registry: Registry,
    keyring: Arc<Keyring>,
    clock: Arc<dyn Clock>,
    pace: Pace,
}

impl fmt::Debug for Background {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Background({:?})", self.pace)
    }
}

impl Background {
    /// Of the store that `registry` is over, whose records `keyring` opens.
    pub fn new(
        registry: Registry,
        keyring: Arc<Keyring>,
        clock: Arc<dyn Clock>,
        pace: Pace,
    ) -> Self {
        Self {
            registry,
            keyring,
            clock,
            pace,
        }
    }

    /// Checks when it is due, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let checks = async {
            let mut begun: Option<Instant> = None;
            loop {
                sleep(self.pace.ask_every).await;
                if begun.is_some_and(|at| at.elapsed() < self.pace.every) || !self.leads().await {
                    continue;
                }
                begun = Some(Instant::now());
                match self.look().await {
                    Ok(0) => tracing::debug!("the store was checked in the background"),
                    Ok(findings) => tracing::warn!(
                        findings,
                        "a check of the store in the background has found damage: `keystile store check` lists it"
                    ),
                    Err(error) => {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(error, "the store could not be checked in the background");
                    }
                }
            }
        };
        Box::pin(stop.run_until_cancelled(checks)).await;
    }

    /// Whether a check is due, and is ours to make.
    async fn leads(&self) -> bool {
        // Another one each time: who has made a check waits as long as the others.
        let holder = format!("{:016x}", rand::random::<u64>());
        let lease = self.registry.store().lease(LEASE, &holder, self.pace.every);
        lease.await.unwrap_or(false)
    }

    /// Looks at everything. Answers how much was found.
    async fn look(&self) -> Result<u64, CheckError> {
        let mut found = 0;
        for tenant in self.check().all_tenants().await? {
            found += self.look_at_tenant(&tenant).await?;
        }
        found += self.look_at_entries().await?;
        Ok(found + self.look_at_sum().await?)
    }

    /// A check that has found nothing yet.
    fn check(&self) -> Check {
        let (registry, keyring) = (self.registry.clone(), Arc::clone(&self.keyring));
        let mut check = Check::new(registry, keyring, Mode::Check, self.clock.now());
        check.rest = self.pace.rest;
        // That of an earlier version's store is not whole, which is no damage: whoever lists by it completes it.
        check.compares_owners = false;
        check
    }

    async fn look_at_tenant(&self, tenant: &TenantId) -> Result<u64, CheckError> {
        let check = self.check();
        check.check_tenant(tenant).await?;
        if damage(check.into_report()).is_empty() {
            return Ok(0);
        }
        sleep(self.pace.look_again_after).await;
        let again = self.check();
        again.check_tenant(tenant).await?;
        Ok(self.report(&damage(again.into_report())))
    }

    async fn look_at_entries(&self) -> Result<u64, CheckError> {
        let check = self.check();
        check.check_entries().await?;
        let mut found = Vec::new();
        for finding in damage(check.into_report()) {
            let Some(id) = finding.lookup_id else {
                found.push(finding);
                continue;
            };
            let again = self.check();
            if let Some(entry) = self.registry.store().repair().find_entry(id).await? {
                again.check_entry(id, entry).await?;
            }
            found.extend(damage(again.into_report()));
        }
        Ok(self.report(&found))
    }

    async fn look_at_sum(&self) -> Result<u64, CheckError> {
        let check = self.check();
        check.check_sum().await?;
        if damage(check.into_report()).is_empty() {
            return Ok(0);
        }
        sleep(self.pace.look_again_after).await;
        let again = self.check();
        again.check_sum().await?;
        Ok(self.report(&damage(again.into_report())))
    }

    fn report(&self, findings: &[Finding]) -> u64 {
        let damage = self.registry.store().damage();
        for finding in findings {
            let what = match &finding.key {
                Some(key) => format!("key {key}: {}", finding.problem),
                None => finding.problem.clone(),
            };
            damage.met(finding.entry, finding.tenant.as_ref(), &what);
        }
        findings.len() as u64
    }
}

/// What of a report is damage. Changes that wait for the index are not: the store's own worker sees to them, and tells
/// of those that it cannot do.
fn damage(report: Report) -> Vec<Finding> {
    let findings = report.findings.into_iter();
    findings
        .filter(|finding| finding.entry != Entry::Outbox)
        .collect()
}
