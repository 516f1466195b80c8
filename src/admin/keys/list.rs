//! Pages of keys.

use tonic::Status;

use crate::admin::caller::{Identity, Permission, require};
use crate::admin::convert::{key_to_proto, tenant_name};
use crate::admin::filter::Filter;
use crate::admin::keys::Keys;
use crate::admin::page::{Listed, page};
use crate::admin::page_token::page_size;
use crate::clock::Timestamp;
use crate::domain::key::Key;
use crate::domain::name::{KeyId, Owner, TenantId};
use crate::proto::admin as pb;
use crate::registry::Registry;
use crate::status::{self, from_registry};

/// Which keys are wanted.
struct Query<'a> {
    registry: &'a Registry,
    caller: &'a Identity,
    tenant: TenantId,
    filter: Filter,
    /// Whose keys alone can pass.
    owner: Option<Owner>,
    now: Timestamp,
}

impl Listed for Query<'_> {
    type Item = Result<Key, KeyId>;
    type Shown = pb::Key;
    type Id = KeyId;

    fn wants_all(&self) -> bool {
        self.caller.only_owner().is_none() && self.filter.is_empty()
    }

    async fn fetch(&self, after: Option<&KeyId>, limit: usize) -> Result<Vec<Self::Item>, Status> {
        let keys = match &self.owner {
            Some(owner) => {
                let keys = (self.registry).keys_of_owner(&self.tenant, owner, after, limit);
                keys.await
            }
            None => self.registry.keys(&self.tenant, after, limit).await,
        };
        keys.map_err(from_registry("key"))
    }

    fn id(key: &Self::Item) -> KeyId {
        match key {
            Ok(key) => key.id.clone(),
            Err(id) => id.clone(),
        }
    }

    /// One whose record is lost is not shown: it is told as damage, in the log and by a metric.
    fn show(&self, key: &Self::Item) -> Option<pb::Key> {
        let key = key.as_ref().ok()?;
        let owner = self.caller.only_owner();
        let shown = key_to_proto(key, self.now);
        let wanted = owner.is_none_or(|owner| *owner == key.owner) && self.filter.passes(&shown);
        wanted.then_some(shown)
    }
}

impl Keys {
    pub(super) async fn list(
        &self,
        caller: &Identity,
        request: &pb::ListKeysRequest,
    ) -> Result<pb::ListKeysResponse, Status> {
        let tenant = tenant_name("parent", &request.parent)?;
        require(caller, Permission::OwnKeys, Some(&tenant))?;
        let size = page_size(request.page_size).map_err(|bad| status::invalid(vec![bad]))?;
        let filter = Filter::parse::<pb::Key>(&request.filter)?;
        let bound_to = bound_to(caller, &tenant, &request.filter);
        let pages = &self.0.pages;
        let after = pages.position(&bound_to, &request.page_token, KeyId::parse)?;
        let query = Query {
            registry: &self.0.registry,
            caller,
            tenant,
            owner: caller.only_owner().cloned().or_else(|| filter.owner()),
            filter,
            now: self.0.clock.now(),
        };
        let page = page(&query, after, size).await?;
        let token = |last: KeyId| pages.seal(&bound_to, last.as_str());
        Ok(pb::ListKeysResponse {
            keys: page.items,
            next_page_token: page.next.map(token).unwrap_or_default(),
        })
    }
}

/// What a page token of `ListKeys` is bound to.
fn bound_to(caller: &Identity, tenant: &TenantId, filter: &str) -> String {
    // An owner has no `?`: the parts cannot run into each other.
    match caller.only_owner() {
        Some(owner) => format!("tenants/{tenant}/keys?owner={owner}?{filter}"),
        None => format!("tenants/{tenant}/keys?{filter}"),
    }
}
