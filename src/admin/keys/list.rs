//! Pages of keys.

use tonic::Status;

use crate::admin::caller::{Identity, Permission, require};
use crate::admin::convert::{bad, key_to_proto, tenant_name};
use crate::admin::filter::Filter;
use crate::admin::keys::Keys;
use crate::admin::page_token::{PAGE_SIZE_MAX, page_size};
use crate::domain::name::{KeyId, TenantId};
use crate::proto::admin as pb;
use crate::status::{self, from_registry};

/// How many keys one call looks at to find those that are wanted.
pub(super) const SCAN_MAX: usize = 5_000;

/// Which keys are wanted.
struct Query<'a> {
    caller: &'a Identity,
    tenant: TenantId,
    filter: Filter,
}

impl Query<'_> {
    fn wants(&self, key: &pb::Key) -> bool {
        let owner = self.caller.only_owner();
        owner.is_none_or(|owner| owner.as_str() == key.owner) && self.filter.passes(key)
    }

    fn wants_all(&self) -> bool {
        self.caller.only_owner().is_none() && self.filter.is_empty()
    }
}

/// Some keys, and the last one that was looked at when there are more.
struct Page {
    keys: Vec<pb::Key>,
    next: Option<KeyId>,
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
        let after = self.position(&bound_to, &request.page_token)?;
        let query = Query {
            caller,
            tenant,
            filter,
        };
        let page = self.page(&query, after, size).await?;
        let token = |last: KeyId| self.0.pages.seal(&bound_to, last.as_str());
        Ok(pb::ListKeysResponse {
            keys: page.keys,
            next_page_token: page.next.map(token).unwrap_or_default(),
        })
    }

    async fn page(
        &self,
        query: &Query<'_>,
        mut after: Option<KeyId>,
        size: usize,
    ) -> Result<Page, Status> {
        // One more than wanted tells whether there is a next page; a filter looks at more at once.
        let batch_len = if query.wants_all() {
            size
        } else {
            PAGE_SIZE_MAX
        } + 1;
        let now = self.0.clock.now();
        let mut keys: Vec<pb::Key> = Vec::with_capacity(size);
        let mut last_wanted = None;
        let mut looked_at = 0;
        loop {
            let batch = self
                .0
                .registry
                .keys(&query.tenant, after.as_ref(), batch_len)
                .await;
            let batch = batch.map_err(from_registry("key"))?;
            let is_last = batch.len() < batch_len;
            looked_at += batch.len();
            after = batch.last().map(|key| key.id.clone());
            for key in batch {
                let shown = key_to_proto(&key, now);
                if !query.wants(&shown) {
                    continue;
                }
                if keys.len() == size {
                    let next = last_wanted;
                    return Ok(Page { keys, next });
                }
                keys.push(shown);
                last_wanted = Some(key.id);
            }
            if is_last || looked_at >= SCAN_MAX {
                let next = after.filter(|_| !is_last);
                return Ok(Page { keys, next });
            }
        }
    }

    pub(super) fn position(&self, bound_to: &str, token: &str) -> Result<Option<KeyId>, Status> {
        if token.is_empty() {
            return Ok(None);
        }
        let position = self
            .0
            .pages
            .open(bound_to, token)
            .map_err(|bad| status::invalid(vec![bad]))?;
        KeyId::parse(&position)
            .map(Some)
            .map_err(|error| bad("page_token", error.to_string()))
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
