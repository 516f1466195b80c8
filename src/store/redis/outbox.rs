//! The worker that ends what others began and did not: a control plane's task, safe beside any number of its kind.

use std::time::Duration;

use redis::Value;
use tokio::time::sleep;

use super::RedisStore;
use super::change::{Change, IndexWrite, damaged};
use super::commit::Completed;
use super::mark::Mark;
use super::scripts;
use crate::domain::name::TenantId;
use crate::store::StoreError;
use crate::telemetry::chain;

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A change that is younger than this is left to who began it, in ms.
const YOUNG_MS: u64 = 1_000;
/// A mark that is older than this is of no change that can still commit, in ms: above `commit::CHANGE_MS`.
const OLD_MS: u64 = 7_000;
/// How many marks are looked at in one go.
const MARKS_AT_ONCE: usize = 256;

impl RedisStore {
    /// Looks after what was begun, for ever.
    pub(super) async fn work(&self) {
        let mut told = false;
        loop {
            sleep(LOOK_EVERY).await;
            match self.heal_all().await {
                Ok(()) => told = false,
                // The link says so itself.
                Err(StoreError::Unavailable(_)) => {}
                Err(error) if !told => {
                    tracing::error!(error = %chain(&error), "the outbox cannot be worked off");
                    told = true;
                }
                Err(_) => {}
            }
        }
    }

    async fn heal_all(&self) -> Result<(), StoreError> {
        let time: (u64, u64) = self.link.ask(&redis::cmd("TIME")).await?;
        let now = time.0 * 1000 + time.1 / 1000;
        let mut begun = redis::cmd("ZRANGEBYSCORE");
        begun.arg(self.names.begun()).arg("-inf");
        begun.arg(now.saturating_sub(YOUNG_MS)).arg("WITHSCORES");
        begun.arg("LIMIT").arg(0).arg(MARKS_AT_ONCE);
        let marks: Vec<(String, f64)> = self.link.ask(&begun).await?;
        for (text, score) in marks {
            let Some(mark) = Mark::parse(&text) else {
                return Err(damaged("a mark of a change"));
            };
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a time in ms, which we wrote"
            )]
            let is_old = (score as u64) + OLD_MS < now;
            self.heal(&mark, is_old).await?;
        }
        Ok(())
    }

    /// Does what is left to do of a tenant. `is_old`: nothing can come of the mark any more.
    async fn heal(&self, mark: &Mark, is_old: bool) -> Result<(), StoreError> {
        let dek_id = mark.dek_id.to_string();
        if !self.flush(&mark.tenant, dek_id.as_bytes()).await? {
            // Deleted, or not made yet.
            return if is_old || self.has_leftovers(mark).await? {
                self.finish_removal(mark).await
            } else {
                Ok(())
            };
        }
        if let Some(told) = self.state(&mark.tenant, dek_id.as_bytes()).await? {
            let begun = if is_old { mark.text() } else { String::new() };
            self.tell(&begun, mark, Some(told), true).await?;
        }
        Ok(())
    }

    /// Does what is decided of a tenant and not yet in the index. Answers whether the tenant is there.
    pub(super) async fn flush(&self, tenant: &TenantId, dek_id: &[u8]) -> Result<bool, StoreError> {
        let names = self.names.of_tenant(tenant);
        let keys = [names.tenant.clone(), names.outbox(), names.revoking()];
        let pending: Vec<Value> = self.link.run(&scripts::PENDING, &keys, &[dek_id]).await?;
        let [_, Value::Array(revocations), Value::Array(writes)] = pending.as_slice() else {
            return Ok(false);
        };
        for revocation in revocations {
            let change = Change::parse(revocation)?;
            if let Completed::Here(..) = self.complete(tenant, &change).await? {
                tracing::info!(%tenant, "a revocation that was interrupted is complete");
            }
        }
        if !writes.is_empty() {
            let writes: Vec<_> = writes
                .iter()
                .map(IndexWrite::parse)
                .collect::<Result<_, _>>()?;
            self.write_index(tenant, dek_id, &writes).await?;
            tracing::info!(
                %tenant,
                entries = writes.len(),
                "index writes that were interrupted are complete"
            );
        }
        Ok(true)
    }

    async fn has_leftovers(&self, mark: &Mark) -> Result<bool, StoreError> {
        let mut exists = redis::cmd("EXISTS");
        let names = self.names.of_tenant(&mark.tenant);
        exists.arg(names.leftovers(mark.dek_id));
        self.link.ask(&exists).await
    }
}
