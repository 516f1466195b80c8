//! The RPCs of keys.

mod create;
mod list;
mod pause;
mod revoke;
mod revoke_token;
mod rotate;
mod verify;

use tonic::{Request, Response, Status};

use crate::admin::Admin;
use crate::admin::access::Deed;
use crate::admin::caller::{Admitted, Credential, Peer, Permission, credential, require};
use crate::admin::convert::{KeyChange, expect_etag, explain_key, key_name, key_to_proto};
use crate::admin::grant::{self, Budget, Means};
use crate::domain::key::Key;
use crate::domain::name::{KeyId, TenantId};
use crate::proto::admin as pb;
use crate::proto::admin::key_service_server::KeyService;
use crate::registry::{Etag, ReadKey, RegistryError};
use crate::status::{self, Reason, from_registry};

type Answer<T> = Result<Response<T>, Status>;

#[derive(Clone)]
pub(super) struct Keys(pub(super) Admin);

#[tonic::async_trait]
impl KeyService for Keys {
    async fn create_key(
        &self,
        request: Request<pb::CreateKeyRequest>,
    ) -> Answer<pb::CreateKeyResponse> {
        let caller = self.0.caller(&request).await?;
        self.create(caller, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn batch_create_keys(
        &self,
        request: Request<pb::BatchCreateKeysRequest>,
    ) -> Answer<pb::BatchCreateKeysResponse> {
        let caller = self.0.caller(&request).await?;
        self.create_batch(caller, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn import_keys(
        &self,
        request: Request<pb::ImportKeysRequest>,
    ) -> Answer<pb::ImportKeysResponse> {
        let caller = self.0.caller(&request).await?;
        self.import_batch(caller, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn get_key(&self, request: Request<pb::GetKeyRequest>) -> Answer<pb::Key> {
        let name = &request.get_ref().name;
        let caller = self.0.caller_who(&request, Deed::Read(name)).await?;
        let key = self.reach(&caller, "name", name).await?;
        let mut shown = key_to_proto(key.key(), self.0.clock.now());
        let plans = self.0.registry.plans();
        explain_key(&mut shown, key.key(), key.tenant(), &plans);
        Ok(Response::new(shown))
    }

    async fn list_keys(
        &self,
        request: Request<pb::ListKeysRequest>,
    ) -> Answer<pb::ListKeysResponse> {
        let caller = self.0.caller(&request).await?;
        self.list(&caller, request.get_ref())
            .await
            .map(Response::new)
    }

    async fn update_key(&self, request: Request<pb::UpdateKeyRequest>) -> Answer<pb::Key> {
        let caller = self.0.caller(&request).await?;
        let request = request.into_inner();
        let wanted = request.key.unwrap_or_default();
        let read = self.reach(&caller, "key.name", &wanted.name).await?;
        let key = read.key();
        grant::check_role(&caller, key.role)?;
        let mask = request.update_mask.unwrap_or_default().paths;
        let change = KeyChange::parse(&wanted, &mask)?;
        let mut etag = expect_etag("key", &wanted.etag)?;
        if caller.only_owner().is_some() {
            grant::check_user_change(key, &change)?;
            // What was checked is what is changed: an admin who narrows it at this moment is not undone.
            etag = etag.or_else(|| Some(Etag::of_key(key)));
        }
        let (actor, note) = (caller.actor(), change.note());
        let rules = self.0.registry.key_rules();
        let apply = |key: &mut Key| change.apply(key, &rules);
        let changed = self
            .0
            .registry
            .update_read_key(&actor, read, etag, note, apply)
            .await;
        let changed = changed.map_err(from_registry("key"))?;
        if change.touches_rights() {
            let narrowed = self.0.registry.narrow_made(&actor, &changed).await;
            narrowed.map_err(from_registry("key"))?;
        }
        Ok(Response::new(key_to_proto(&changed, self.0.clock.now())))
    }

    async fn rotate_key(
        &self,
        request: Request<pb::RotateKeyRequest>,
    ) -> Answer<pb::RotateKeyResponse> {
        let name = request.get_ref().name.as_str();
        let deed = match request.get_ref().request_id.as_str() {
            "" => Deed::Rotate(name),
            _ => Deed::RotateOnce(name),
        };
        let caller = self.0.caller_who(&request, deed).await?;
        self.rotate(&caller, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn renew_key(&self, request: Request<pb::RenewKeyRequest>) -> Answer<pb::Key> {
        let caller = self.0.caller(&request).await?;
        self.renew(&caller, request.get_ref())
            .await
            .map(Response::new)
    }

    async fn pause_key(&self, request: Request<pb::PauseKeyRequest>) -> Answer<pb::Key> {
        let caller = self.0.caller(&request).await?;
        self.pause(&caller, request.get_ref())
            .await
            .map(Response::new)
    }

    async fn resume_key(&self, request: Request<pb::ResumeKeyRequest>) -> Answer<pb::Key> {
        let caller = self.0.caller(&request).await?;
        self.resume(&caller, request.get_ref())
            .await
            .map(Response::new)
    }

    async fn claim_key(
        &self,
        request: Request<pb::ClaimKeyRequest>,
    ) -> Answer<pb::ClaimKeyResponse> {
        self.0.caller_who(&request, Deed::Claim).await?;
        let Some(token) = credential(request.metadata())? else {
            return Err(no_key_of_its_own());
        };
        self.claim(token, request.get_ref())
            .await
            .map(Response::new)
    }

    async fn reveal_key(
        &self,
        request: Request<pb::RevealKeyRequest>,
    ) -> Answer<pb::RevealKeyResponse> {
        let caller = self.0.caller(&request).await?;
        self.reveal(&caller, request.get_ref())
            .await
            .map(Response::new)
    }

    async fn revoke_key(&self, request: Request<pb::RevokeKeyRequest>) -> Answer<pb::Key> {
        let deed = Deed::Revoke(&request.get_ref().name);
        let caller = self.0.caller_who(&request, deed).await?;
        self.revoke(&caller, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn revoke_self(&self, request: Request<pb::RevokeSelfRequest>) -> Answer<pb::Key> {
        let caller = self.0.caller_who(&request, Deed::RevokeItself).await?;
        let Credential::Key { tenant, key, .. } = &caller.credential else {
            return Err(no_key_of_its_own());
        };
        let name = format!("tenants/{tenant}/keys/{key}");
        let pb::RevokeSelfRequest { reason, wait } = request.into_inner();
        let request = pb::RevokeKeyRequest {
            name,
            reason,
            wait,
            ..pb::RevokeKeyRequest::default()
        };
        self.revoke(&caller, request).await.map(Response::new)
    }

    async fn revoke_token(&self, request: Request<pb::RevokeTokenRequest>) -> Answer<pb::Key> {
        let caller = self.0.caller(&request).await?;
        self.revoke_token(&caller, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn revoke_all_keys(
        &self,
        request: Request<pb::RevokeAllKeysRequest>,
    ) -> Answer<pb::RevokeAllKeysResponse> {
        let caller = self.0.caller(&request).await?;
        self.revoke_all(caller.identity, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn verify_key(
        &self,
        request: Request<pb::VerifyKeyRequest>,
    ) -> Answer<pb::VerifyKeyResponse> {
        let caller = self.0.caller(&request).await?;
        self.verify(&caller, Peer::of(&request), request.get_ref())
            .await
            .map(Response::new)
    }
}

fn no_key_of_its_own() -> Status {
    Reason::PermissionDenied.status("the caller has no key of its own")
}

impl Keys {
    /// A key; the caller's own is not read again.
    async fn read(
        &self,
        caller: &Admitted,
        tenant: &TenantId,
        id: &KeyId,
    ) -> Result<ReadKey, RegistryError> {
        match &caller.own {
            Some(own) if (&own.key().tenant, &own.key().id) == (tenant, id) => Ok(own.clone()),
            Some(_) | None => self.0.registry.read_key(tenant, id).await,
        }
    }

    /// The key of that name, if the caller may reach it.
    async fn reach(&self, caller: &Admitted, field: &str, name: &str) -> Result<ReadKey, Status> {
        let (tenant, id) = key_name(field, name)?;
        require(caller, Permission::OwnKeys, Some(&tenant))?;
        let read = self.read(caller, &tenant, &id).await;
        let read = read.map_err(from_registry("key"))?;
        let owner = &read.key().owner;
        if caller.only_owner().is_some_and(|only| only != owner) {
            return Err(status::not_found("key"));
        }
        Ok(read)
    }

    /// What the caller, a user, has to give, with the limits that it spends from. Who calls with a JWT has a key of none of
    /// them: what it makes spends from those of the keys that the user was given, or its limits would end with a JWT.
    async fn spending_means(&self, caller: &Admitted) -> Result<Means, Status> {
        let means = means(caller)?;
        let Credential::Jwt {
            tenant: Some(tenant),
            owner: Some(owner),
            ..
        } = &caller.credential
        else {
            return Ok(means);
        };
        let given = self.0.registry.given_keys(tenant, owner).await;
        let given = given.map_err(from_registry("key"))?;
        let live: Vec<&Key> = given.iter().filter(|key| key.is_live()).collect();
        let counted = match live.is_empty() {
            true => given.iter().collect(),
            false => live,
        };
        let budgets: Option<Vec<Budget>> = counted.into_iter().map(Budget::of).collect();
        // One of them that nothing limits is enough.
        Ok(means.spending(budgets.unwrap_or_default()))
    }
}

/// What the caller, a user, has to give.
fn means(caller: &Admitted) -> Result<Means, Status> {
    match (&caller.own, &caller.credential) {
        (Some(own), _) => Ok(Means::from(own.key().clone())),
        (None, Credential::Jwt { owner, scopes, .. }) => {
            let owner = owner.clone().ok_or_else(no_key_of_its_own)?;
            Ok(Means::of_jwt(owner, scopes.clone()))
        }
        (None, Credential::Key { .. } | Credential::Certificate { .. }) => Err(no_key_of_its_own()),
    }
}
