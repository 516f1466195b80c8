//! What a running store says of itself, and who of several processes leads.

use std::time::Duration;

use super::{RedisStore, scripts};
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

    /// Whether there is a connection.
    pub fn is_up(&self) -> bool {
        self.link.is_up()
    }

    /// How late a change may be heard at most.
    pub fn revocation_lag(&self) -> Duration {
        self.ears.lag()
    }

    /// How often changes may have gone unheard since the start.
    pub fn gaps(&self) -> u64 {
        self.ears.gaps()
    }

    /// Whether every primary pushes its changes.
    pub fn hears(&self) -> Result<(), StoreError> {
        self.ears.check()
    }
}
