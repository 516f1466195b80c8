//! The sidecars that share the store: which are live, and which have confirmed a change.

use std::time::Duration;

use crate::domain::key::{Key, LookupId};
use crate::registry::{Registry, RegistryError};
use crate::store::{Confirmed, Sidecar};

impl Registry {
    /// The live sidecars, in the order of their ids.
    pub async fn sidecars(&self) -> Result<Vec<Sidecar>, RegistryError> {
        Ok(self.store.sidecars().await?)
    }

    /// The same of whatever is found at these lookup ids.
    pub async fn confirmed_at(
        &self,
        lookup_ids: &[LookupId],
        within: Duration,
    ) -> Result<Confirmed, RegistryError> {
        Ok(self.store.late(lookup_ids, within).await?)
    }

    /// Waits until every live sidecar refuses keys that were revoked, whichever of their tokens it is asked about, for
    /// `within` at most. Answers who has confirmed it by then, and who has not.
    pub async fn confirmed(
        &self,
        keys: &[Key],
        within: Duration,
    ) -> Result<Confirmed, RegistryError> {
        let mut lookup_ids: Vec<LookupId> = Vec::new();
        for key in keys {
            let opened = self.open(&key.tenant).await?;
            let strays = self.indexed(&opened, key).await?.strays;
            let generations = key.generations.iter().chain(&strays);
            lookup_ids.extend(generations.map(|one| one.lookup_id));
        }
        Ok(self.store.late(&lookup_ids, within).await?)
    }
}
