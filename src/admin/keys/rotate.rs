//! Another token for a key, a longer life, and its token again.

use tonic::Status;

use crate::admin::access::{is_current, replaced};
use crate::admin::caller::{Admitted, Permission, require};
use crate::admin::convert::{expect_etag, grace, key_name, key_to_proto, new_end, request_id};
use crate::admin::grant;
use crate::admin::keys::{Keys, means};
use crate::domain::key::Key;
use crate::proto::admin as pb;
use crate::registry::{CreatedKey, Etag, NewEnd, ReadKey, RequestId};
use crate::status::from_registry;

impl Keys {
    pub(super) async fn rotate(
        &self,
        caller: &Admitted,
        mut request: pb::RotateKeyRequest,
    ) -> Result<pb::RotateKeyResponse, Status> {
        let read = self.obtain(caller, &request.name).await?;
        let key = read.key();
        let id = std::mem::take(&mut request.request_id);
        let id = request_id(&id, &request)?;
        let generation = caller.generation_of(key);
        if generation.is_some_and(|generation| !is_current(key, generation)) {
            return self.rotated_before(caller, &read, id.as_ref()).await;
        }
        let grace = grace(request.grace.as_ref())?;
        let mut etag = expect_etag("key", &request.etag)?;
        if generation.is_some() {
            // A token that is replaced at this very moment does not replace the one that takes its place.
            etag = etag.or_else(|| Some(Etag::of_key(key)));
        }
        let (registry, actor) = (&self.0.registry, caller.actor());
        let rotated = registry
            .rotate_read_key(&actor, read, grace, etag, id.as_ref())
            .await;
        Ok(self.rotated(&rotated.map_err(from_registry(""))?))
    }

    /// The first answer again, for a token that its own request has replaced; no other of its requests is done.
    async fn rotated_before(
        &self,
        caller: &Admitted,
        read: &ReadKey,
        id: Option<&RequestId>,
    ) -> Result<pb::RotateKeyResponse, Status> {
        let id = id.ok_or_else(replaced)?;
        let registry = &self.0.registry;
        let before = registry.rotated_once(&caller.actor(), read, id).await;
        let before = before.map_err(from_registry(""))?;
        before
            .map(|before| self.rotated(&before))
            .ok_or_else(replaced)
    }

    fn rotated(&self, rotated: &CreatedKey) -> pb::RotateKeyResponse {
        pb::RotateKeyResponse {
            key: Some(key_to_proto(&rotated.key, self.0.clock.now())),
            plaintext: rotated.token.expose().to_owned(),
        }
    }

    pub(super) async fn renew(
        &self,
        caller: &Admitted,
        request: &pb::RenewKeyRequest,
    ) -> Result<pb::Key, Status> {
        let read = self.obtain(caller, &request.name).await?;
        let mut end = new_end(request)?;
        if caller.only_owner().is_some() {
            end = self.bounded_end(caller, read.key(), end).await?;
        }
        let etag = expect_etag("key", &request.etag)?;
        let (registry, actor) = (&self.0.registry, caller.actor());
        let renewed = registry.renew_read_key(&actor, read, end, etag).await;
        let renewed = renewed.map_err(from_registry(""))?;
        Ok(key_to_proto(&renewed, self.0.clock.now()))
    }

    /// The end of a life that a user puts off: not beyond that of the key that it calls with, nor of the user's key that
    /// made the one that is renewed.
    async fn bounded_end(
        &self,
        caller: &Admitted,
        key: &Key,
        end: NewEnd,
    ) -> Result<NewEnd, Status> {
        let at = match end {
            NewEnd::At(at) => at,
            NewEnd::After(life) => self.0.clock.now().plus(life),
        };
        if let Some(own) = &caller.own
            && !caller.holds(key)
        {
            grant::check_end("expire_time", own.key().expires_at, Some(at))?;
        }
        let maker = self.0.registry.user_that_made(key).await;
        if let Some(maker) = maker.map_err(from_registry("key"))? {
            grant::check_end("expire_time", maker.expires_at, Some(at))?;
        }
        Ok(NewEnd::At(at))
    }

    /// By the holder of `token`, whom the caller was recognised as.
    pub(super) async fn claim(
        &self,
        token: &[u8],
        request: &pb::ClaimKeyRequest,
    ) -> Result<pb::ClaimKeyResponse, Status> {
        let id = request_id(&request.request_id, &pb::ClaimKeyRequest::default())?;
        let token = std::str::from_utf8(token).unwrap_or_default();
        let claimed = self.0.registry.claim_key(token, id.as_ref()).await;
        let claimed = claimed.map_err(from_registry(""))?;
        Ok(pb::ClaimKeyResponse {
            key: Some(key_to_proto(&claimed.key, self.0.clock.now())),
            plaintext: claimed.token.expose().to_owned(),
        })
    }

    pub(super) async fn reveal(
        &self,
        caller: &Admitted,
        request: &pb::RevealKeyRequest,
    ) -> Result<pb::RevealKeyResponse, Status> {
        let (tenant, _) = key_name("name", &request.name)?;
        require(caller, Permission::OwnTenant, Some(&tenant))?;
        let read = self.reach(caller, "name", &request.name).await?;
        grant::check_role(caller, read.key().role)?;
        let (registry, actor) = (&self.0.registry, caller.actor());
        let revealed = registry.reveal_key(&actor, &read).await;
        let revealed = revealed.map_err(from_registry(""))?;
        Ok(pb::RevealKeyResponse {
            key: Some(key_to_proto(&revealed.key, self.0.clock.now())),
            plaintext: revealed.token.expose().to_owned(),
        })
    }

    /// The key of that name, if the caller may have what it may do.
    pub(super) async fn obtain(&self, caller: &Admitted, name: &str) -> Result<ReadKey, Status> {
        let read = self.reach(caller, "name", name).await?;
        grant::check_role(caller, read.key().role)?;
        if caller.only_owner().is_some() {
            grant::check_user_gets(caller, &means(caller)?, read.key())?;
        }
        Ok(read)
    }
}
