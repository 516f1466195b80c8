//! What a running store says of itself, and who of several processes leads.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;

use super::{Problem, RedisStore, scripts};
use crate::store::StoreError;

impl RedisStore {
    pub(super) async fn take_lease(
        &self,
        name: &str,
        holder: &str,
        length: Duration,
    ) -> Result<bool, StoreError> {
        let keys = [self.names.lease(name)];
        let millis = length.as_millis().to_string();
        let args = [holder.as_bytes(), millis.as_bytes()];
        let given: u8 = self.link.run(&scripts::LEASE, &keys, &args).await?;
        Ok(given == 1)
    }

    /// Whether our store answers.
    pub fn is_up(&self) -> bool {
        self.link.live().is_ok()
    }

    /// Whether somebody answers, our store or another.
    pub fn is_connected(&self) -> bool {
        self.link.is_connected()
    }

    /// Why what answers is not our store; changes as it is found out.
    pub fn problem(&self) -> watch::Receiver<Option<Problem>> {
        self.link.guard().problem()
    }

    /// By how many ms our clock was ahead of the servers' when it was last compared.
    pub fn clock_skew_ms(&self) -> i64 {
        self.skew_ms.load(Ordering::Relaxed)
    }

    /// How late a change may arrive at most.
    pub fn revocation_lag(&self) -> Duration {
        self.invalidations.lag()
    }

    /// How often tracking was lost since the start.
    pub fn gaps(&self) -> u64 {
        self.invalidations.gaps()
    }

    /// Whether every primary is tracked, so that no invalidation is missed.
    pub fn tracks(&self) -> Result<(), StoreError> {
        self.invalidations.check()
    }
}
