//! One token of another system: it becomes a key, or it is said why not.

use tonic::Status;

use crate::admin::batch;
use crate::admin::convert::{imported_key, key_to_proto, request_id};
use crate::admin::keys::Keys;
use crate::admin::keys::create::Maker;
use crate::domain::name::{Owner, TenantId};
use crate::domain::role::Role;
use crate::proto::admin as pb;
use crate::proto::admin::ImportVerdict as Verdict;
use crate::proto::admin::import_key_result::Result as Outcome;
use crate::registry::{RegistryError, TokenHolder, TokenState};
use crate::status::{from_registry, token_taken};

impl Keys {
    /// What becomes of one row.
    pub(super) async fn import_row(
        &self,
        maker: &Maker,
        tenant: Result<TenantId, Status>,
        request: pb::ImportKeyRequest,
    ) -> pb::ImportKeyResult {
        let done = match tenant {
            Ok(tenant) => self.import_one(maker, &tenant, request).await,
            Err(refused) => Err((Verdict::Refused, refused)),
        };
        let (verdict, result) = match done {
            Ok(key) => (Verdict::Imported, Outcome::Key(key)),
            Err((verdict, status)) => (verdict, Outcome::Error(batch::rpc_status(&status))),
        };
        pb::ImportKeyResult {
            verdict: verdict.into(),
            result: Some(result),
        }
    }

    async fn import_one(
        &self,
        maker: &Maker,
        tenant: &TenantId,
        mut request: pb::ImportKeyRequest,
    ) -> Result<pb::Key, (Verdict, Status)> {
        let refused = |status| (Verdict::Refused, status);
        let id = std::mem::take(&mut request.request_id);
        request.parent = format!("tenants/{tenant}");
        let id = request_id(&id, &request).map_err(refused)?;
        let caller = &maker.caller;
        let mut new = imported_key(&request.key.unwrap_or_default()).map_err(refused)?;
        self.check_new(maker, &mut new).map_err(refused)?;
        let owner = new.owner.clone();
        let (registry, actor) = (&self.0.registry, caller.actor());
        let made = registry.import_key(&actor, tenant, new, &request.token, id.as_ref());
        match made.await {
            // Of a request that was repeated after its key was revoked.
            Ok(key) if !key.is_live() => {
                let holder = TokenHolder {
                    tenant: key.tenant,
                    key: key.id,
                    owner: key.owner,
                    state: TokenState::Revoked,
                };
                Err(verdict(&holder, &owner))
            }
            Ok(key) => Ok(key_to_proto(&key, self.0.clock.now())),
            Err(RegistryError::TokenTaken(Some(holder)))
                if holder.tenant == *tenant || caller.role == Role::GlobalAdmin =>
            {
                Err(verdict_in(tenant, &holder, &owner))
            }
            Err(error) => Err(refused(from_registry("key")(error))),
        }
    }
}

fn verdict_in(tenant: &TenantId, holder: &TokenHolder, owner: &Owner) -> (Verdict, Status) {
    if holder.tenant == *tenant {
        return verdict(holder, owner);
    }
    (Verdict::InUse, token_taken(holder, None))
}

/// Of a key of the same tenant.
fn verdict(holder: &TokenHolder, owner: &Owner) -> (Verdict, Status) {
    let (verdict, state) = match holder.state {
        TokenState::Works | TokenState::Paused if holder.owner != *owner => (Verdict::InUse, None),
        TokenState::Works => (Verdict::SameKeyActive, Some(TokenState::Works)),
        TokenState::Paused => (Verdict::Paused, Some(TokenState::Paused)),
        TokenState::Revoked => (Verdict::Revoked, Some(TokenState::Revoked)),
        TokenState::Expired => (Verdict::Expired, Some(TokenState::Expired)),
    };
    (verdict, token_taken(holder, state))
}
