//! The RPCs of keys.

use tonic::{Request, Response, Status};

use crate::admin::Admin;
use crate::admin::caller::{Credential, Identity, Permission, require};
use crate::admin::convert::{
    bad, expect_etag, key_name, key_to_proto, new_key, reason, tenant_name,
};
use crate::admin::grant;
use crate::admin::page_token::{PAGE_SIZE_MAX, page_size};
use crate::domain::key::Key;
use crate::domain::name::{KeyId, TenantId};
use crate::proto::admin as pb;
use crate::proto::admin::key_service_server::KeyService;
use crate::status::{self, Reason, from_registry};

type Answer<T> = Result<Response<T>, Status>;

/// How many keys one call looks at to find those of one owner.
const SCAN_MAX: usize = 5_000;

pub(super) struct Keys(pub(super) Admin);

#[tonic::async_trait]
impl KeyService for Keys {
    async fn create_key(
        &self,
        request: Request<pb::CreateKeyRequest>,
    ) -> Answer<pb::CreateKeyResponse> {
        let caller = self.0.caller(&request).await?;
        let request = request.into_inner();
        let tenant = tenant_name("parent", &request.parent)?;
        require(&caller, Permission::OwnKeys, Some(&tenant))?;
        let new = new_key(&request.key.unwrap_or_default())?;
        grant::check_role(&caller, new.role)?;
        if caller.only_owner().is_some() {
            grant::check_user(&self.own(&caller).await?, &new)?;
        }
        let made = self
            .0
            .registry
            .create_key(&caller.actor(), &tenant, new)
            .await;
        let made = made.map_err(from_registry("key"))?;
        Ok(Response::new(pb::CreateKeyResponse {
            key: Some(key_to_proto(&made.key, self.0.clock.now())),
            plaintext: made.token.expose().to_owned(),
        }))
    }

    async fn get_key(&self, request: Request<pb::GetKeyRequest>) -> Answer<pb::Key> {
        let caller = self.0.caller(&request).await?;
        let key = self.reach(&caller, &request.get_ref().name).await?;
        Ok(Response::new(key_to_proto(&key, self.0.clock.now())))
    }

    async fn list_keys(
        &self,
        request: Request<pb::ListKeysRequest>,
    ) -> Answer<pb::ListKeysResponse> {
        let caller = self.0.caller(&request).await?;
        let request = request.into_inner();
        let tenant = tenant_name("parent", &request.parent)?;
        require(&caller, Permission::OwnKeys, Some(&tenant))?;
        let size = page_size(request.page_size).map_err(|bad| status::invalid(vec![bad]))?;
        let query = query(&caller, &tenant);
        let after = self.position(&query, &request.page_token)?;
        let page = self.page(&caller, &tenant, after, size).await?;
        let now = self.0.clock.now();
        Ok(Response::new(pb::ListKeysResponse {
            keys: page.keys.iter().map(|key| key_to_proto(key, now)).collect(),
            next_page_token: page
                .next
                .map(|last| self.0.pages.seal(&query, last.as_str()))
                .unwrap_or_default(),
        }))
    }

    async fn revoke_key(&self, request: Request<pb::RevokeKeyRequest>) -> Answer<pb::Key> {
        let caller = self.0.caller(&request).await?;
        let request = request.into_inner();
        let key = self.reach(&caller, &request.name).await?;
        grant::check_role(&caller, key.role)?;
        let reason = reason(&request.reason)?;
        let now = self.0.clock.now();
        let current = key_to_proto(&key, now);
        if !key.is_live() {
            return Ok(Response::new(current));
        }
        let etag = expect_etag("key", &request.etag, &current.etag, key.version)?;
        let actor = caller.actor();
        let done = self
            .0
            .registry
            .revoke_key(&actor, &key.tenant, &key.id, etag, &reason)
            .await;
        let revoked = done.map_err(from_registry("key"))?;
        Ok(Response::new(key_to_proto(&revoked, now)))
    }
}

/// Some keys, and the last one that was looked at when there are more.
struct Page {
    keys: Vec<Key>,
    next: Option<KeyId>,
}

impl Keys {
    /// The key of that name, if the caller may reach it.
    async fn reach(&self, caller: &Identity, name: &str) -> Result<Key, Status> {
        let (tenant, id) = key_name("name", name)?;
        require(caller, Permission::OwnKeys, Some(&tenant))?;
        let key = self
            .0
            .registry
            .key(&tenant, &id)
            .await
            .map_err(from_registry("key"))?;
        if caller.only_owner().is_some_and(|owner| *owner != key.owner) {
            return Err(status::not_found("key"));
        }
        Ok(key)
    }

    /// The key that the caller holds.
    async fn own(&self, caller: &Identity) -> Result<Key, Status> {
        let Credential::Key { tenant, key, .. } = &caller.credential else {
            return Err(
                Reason::PermissionDenied.status("a client certificate has no key of its own")
            );
        };
        let own = self.0.registry.key(tenant, key).await;
        // It was there a moment ago, when the caller was recognised: now it is as good as revoked.
        own.map_err(|error| match from_registry("key")(error) {
            status if status.code() == tonic::Code::NotFound => {
                Reason::InvalidApiKey.status("the API key is not valid")
            }
            status => status,
        })
    }

    async fn page(
        &self,
        caller: &Identity,
        tenant: &TenantId,
        mut after: Option<KeyId>,
        size: usize,
    ) -> Result<Page, Status> {
        // One more than wanted tells whether there is a next page; a filter looks at more at once.
        let batch_len = caller.only_owner().map_or(size, |_| PAGE_SIZE_MAX) + 1;
        let mut keys: Vec<Key> = Vec::with_capacity(size);
        let mut looked_at = 0;
        loop {
            let batch = self
                .0
                .registry
                .keys(tenant, after.as_ref(), batch_len)
                .await;
            let batch = batch.map_err(from_registry("key"))?;
            let is_last = batch.len() < batch_len;
            looked_at += batch.len();
            after = batch.last().map(|key| key.id.clone());
            for key in batch {
                if caller.only_owner().is_some_and(|owner| *owner != key.owner) {
                    continue;
                }
                if keys.len() == size {
                    let next = keys.last().map(|last| last.id.clone());
                    return Ok(Page { keys, next });
                }
                keys.push(key);
            }
            if is_last || looked_at >= SCAN_MAX {
                let next = after.filter(|_| !is_last);
                return Ok(Page { keys, next });
            }
        }
    }

    fn position(&self, query: &str, token: &str) -> Result<Option<KeyId>, Status> {
        if token.is_empty() {
            return Ok(None);
        }
        let position = self
            .0
            .pages
            .open(query, token)
            .map_err(|bad| status::invalid(vec![bad]))?;
        KeyId::parse(&position)
            .map(Some)
            .map_err(|error| bad("page_token", error.to_string()))
    }
}

/// What a page token of `ListKeys` is bound to.
fn query(caller: &Identity, tenant: &TenantId) -> String {
    match caller.only_owner() {
        Some(owner) => format!("tenants/{tenant}/keys?owner={owner}"),
        None => format!("tenants/{tenant}/keys"),
    }
}
