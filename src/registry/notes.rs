//! Audit entries of what changes no record.

use crate::domain::change::{Action, Actor};
use crate::domain::name::TenantId;
use crate::registry::{Entry, Registry, RegistryError, refused};
use crate::store::CommitError;

/// How often an entry is tried whose place another one took.
const ATTEMPTS_MAX: u32 = 8;

impl Registry {
    /// Writes into the audit of an actor's tenant that it has ended blocks; who has no tenant is only in the log.
    pub async fn note_cleared_blocks(
        &self,
        actor: &Actor,
        what: &str,
    ) -> Result<(), RegistryError> {
        let Actor::Key { tenant, .. } = actor else {
            return Ok(());
        };
        for _ in 1..ATTEMPTS_MAX {
            match self.append_note(actor, tenant, what).await {
                Err(CommitError::Conflict) => {}
                noted => return noted.map_err(refused("tenant")),
            }
        }
        let last = self.append_note(actor, tenant, what).await;
        last.map_err(refused("tenant"))
    }

    async fn append_note(
        &self,
        actor: &Actor,
        tenant: &TenantId,
        what: &str,
    ) -> Result<(), CommitError> {
        let newest = self.store.audit(tenant, 1).await?;
        let after = newest.first().map_or(0, |(number, _)| *number);
        let opened = self.open(tenant).await.map_err(|_| CommitError::NotFound)?;
        let entry = Entry {
            actor,
            action: Action::BlocksCleared,
            at: self.now(),
            key: None,
            note: what.to_owned(),
        };
        let sealed = Self::audit(&opened.data_key, tenant, entry);
        let dek_id = opened.data_key.id();
        self.store
            .append_audit(tenant, dek_id, after, vec![sealed])
            .await
    }
}
