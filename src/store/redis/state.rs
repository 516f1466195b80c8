//! What a running store says of itself.

use std::time::Duration;

use super::RedisStore;
use crate::store::StoreError;

impl RedisStore {
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
