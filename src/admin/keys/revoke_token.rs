//! Revoking what a token or a lookup id leads to: for who has nothing else of a key, and where records are damaged.

use tonic::{Code, Status};

use crate::admin::caller::{Admitted, Identity, Permission, require};
use crate::admin::convert::{bad, reason, wait};
use crate::admin::keys::Keys;
use crate::domain::key::LookupId;
use crate::domain::name::Description;
use crate::domain::role::Role;
use crate::proto::admin as pb;
use crate::proto::admin::revoke_token_request::Target;
use crate::registry::Standing;
use crate::status::{self, from_registry};

impl Keys {
    pub(super) async fn revoke_token(
        &self,
        caller: &Admitted,
        request: pb::RevokeTokenRequest,
    ) -> Result<pb::Key, Status> {
        let registry = &self.0.registry;
        let lookup_id = match &request.target {
            Some(Target::Token(token)) => registry
                .lookup_id(token)
                .ok_or_else(|| bad("token", "is no token"))?,
            Some(Target::LookupId(text)) => {
                require(caller, Permission::Global, None)?;
                parse(text)?
            }
            None => return Err(bad("target", "must be `token` or `lookup_id`")),
        };
        let reason_given = reason(&request.reason)?;
        let time_limit = wait(request.wait.as_ref())?;
        let standing = registry.standing(lookup_id).await;
        match standing.map_err(from_registry("key"))? {
            Some(Standing::Key(tenant, key)) => {
                let request = pb::RevokeKeyRequest {
                    name: format!("tenants/{tenant}/keys/{key}"),
                    reason: request.reason,
                    wait: request.wait,
                    ..pb::RevokeKeyRequest::default()
                };
                let revoked = self.revoke(caller, request).await;
                // Whose key it is that one may not reach is not told.
                revoked.map_err(|error| match error.code() {
                    Code::NotFound => status::not_found("key"),
                    _ => error,
                })
            }
            Some(Standing::Unreadable) if caller.role == Role::GlobalAdmin => {
                self.forbid(caller, lookup_id, &reason_given, time_limit)
                    .await
            }
            Some(Standing::Unreadable) | None => Err(status::not_found("key")),
        }
    }

    /// Nobody can say whose key it is.
    async fn forbid(
        &self,
        caller: &Identity,
        lookup_id: LookupId,
        reason: &Description,
        time_limit: std::time::Duration,
    ) -> Result<pb::Key, Status> {
        let registry = &self.0.registry;
        let forbidden = registry.forbid(&caller.actor(), lookup_id, reason).await;
        if !forbidden.map_err(from_registry("key"))? {
            return Err(status::not_found("key"));
        }
        let mut answer = pb::Key {
            state: pb::KeyState::Revoked.into(),
            revoke_reason: reason.to_string(),
            ..pb::Key::default()
        };
        if !time_limit.is_zero() {
            let confirmed = registry.confirmed_at(&[lookup_id], time_limit).await;
            let confirmed = confirmed.map_err(from_registry("key"))?;
            answer.confirmed_sidecars = u32::try_from(confirmed.by).unwrap_or(u32::MAX);
            answer.unconfirmed_sidecars = confirmed.late;
        }
        Ok(answer)
    }
}

fn parse(text: &str) -> Result<LookupId, Status> {
    LookupId::parse(text).ok_or_else(|| bad("lookup_id", "must be 32 hexadecimal digits"))
}
