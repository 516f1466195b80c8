//! The RPCs of tenants.

use tonic::{Request, Response, Status};

use crate::admin::caller::{Identity, Permission, require};
use crate::admin::convert::{
    TenantChange, bad, expect_etag, new_tenant, reason, request_id, tenant_name, tenant_to_proto,
};
use crate::admin::filter::Filter;
use crate::admin::page_token::{PAGE_SIZE_MAX, page_size};
use crate::admin::{Admin, batch};
use crate::domain::change::Action;
use crate::domain::name::TenantId;
use crate::domain::tenant::Tenant;
use crate::proto::admin as pb;
use crate::proto::admin::batch_create_tenants_result::Result as Created;
use crate::proto::admin::tenant_service_server::TenantService;
use crate::status::{self, from_registry};

type Answer<T> = Result<Response<T>, Status>;

/// How many tenants one call looks at to find those that are wanted.
const SCAN_MAX: usize = 5_000;

#[derive(Clone)]
pub(super) struct Tenants(pub(super) Admin);

#[tonic::async_trait]
impl TenantService for Tenants {
    async fn create_tenant(&self, request: Request<pb::CreateTenantRequest>) -> Answer<pb::Tenant> {
        let caller = self.0.caller(&request).await?;
        require(&caller, Permission::Global, None)?;
        answer(self.create_one(&caller, request.into_inner()).await)
    }

    async fn get_tenant(&self, request: Request<pb::GetTenantRequest>) -> Answer<pb::Tenant> {
        let caller = self.0.caller(&request).await?;
        let id = reach(
            &caller,
            Permission::OwnTenant,
            "name",
            &request.get_ref().name,
        )?;
        answer(self.read(&id).await)
    }

    async fn list_tenants(
        &self,
        request: Request<pb::ListTenantsRequest>,
    ) -> Answer<pb::ListTenantsResponse> {
        let caller = self.0.caller(&request).await?;
        require(&caller, Permission::Global, None)?;
        let request = request.into_inner();
        let size = page_size(request.page_size).map_err(|bad| status::invalid(vec![bad]))?;
        let filter = Filter::parse::<pb::Tenant>(&request.filter)?;
        let bound_to = format!("tenants?{}", request.filter);
        let after = self.position(&bound_to, &request.page_token)?;
        let page = self.page(&filter, after, size).await?;
        let token = |last: TenantId| self.0.pages.seal(&bound_to, last.as_str());
        Ok(Response::new(pb::ListTenantsResponse {
            tenants: page.tenants,
            next_page_token: page.next.map(token).unwrap_or_default(),
        }))
    }

    async fn update_tenant(&self, request: Request<pb::UpdateTenantRequest>) -> Answer<pb::Tenant> {
        let caller = self.0.caller(&request).await?;
        let request = request.into_inner();
        let wanted = request.tenant.unwrap_or_default();
        let id = reach(&caller, Permission::Global, "tenant.name", &wanted.name)?;
        let mask = request.update_mask.unwrap_or_default().paths;
        let change = TenantChange::parse(&wanted, &mask)?;
        let etag = expect_etag("tenant", &wanted.etag)?;
        let changed = self
            .0
            .registry
            .change_tenant(
                &caller.actor(),
                &id,
                etag,
                Action::TenantUpdated,
                change.note(),
                |tenant| {
                    change.apply(tenant);
                },
            )
            .await;
        answer(changed.map_err(from_registry("tenant")))
    }

    async fn suspend_tenant(
        &self,
        request: Request<pb::SuspendTenantRequest>,
    ) -> Answer<pb::Tenant> {
        let caller = self.0.caller(&request).await?;
        let request = request.into_inner();
        let id = reach(&caller, Permission::Global, "name", &request.name)?;
        let reason = reason(&request.reason)?;
        let etag = expect_etag("tenant", &request.etag)?;
        let done = self
            .0
            .registry
            .suspend_tenant(&caller.actor(), &id, etag, &reason)
            .await;
        answer(done.map_err(from_registry("tenant")))
    }

    async fn resume_tenant(&self, request: Request<pb::ResumeTenantRequest>) -> Answer<pb::Tenant> {
        let caller = self.0.caller(&request).await?;
        let request = request.into_inner();
        let id = reach(&caller, Permission::Global, "name", &request.name)?;
        let etag = expect_etag("tenant", &request.etag)?;
        let done = self
            .0
            .registry
            .resume_tenant(&caller.actor(), &id, etag)
            .await;
        answer(done.map_err(from_registry("tenant")))
    }

    async fn delete_tenant(&self, request: Request<pb::DeleteTenantRequest>) -> Answer<()> {
        let caller = self.0.caller(&request).await?;
        let request = request.into_inner();
        let id = reach(&caller, Permission::Global, "name", &request.name)?;
        let etag = expect_etag("tenant", &request.etag)?.ok_or_else(|| {
            bad(
                "etag",
                "is required: read the tenant and send its etag back",
            )
        })?;
        let done = self
            .0
            .registry
            .delete_tenant(&caller.actor(), &id, etag)
            .await;
        done.map(Response::new).map_err(from_registry("tenant"))
    }

    async fn batch_create_tenants(
        &self,
        request: Request<pb::BatchCreateTenantsRequest>,
    ) -> Answer<pb::BatchCreateTenantsResponse> {
        let caller = self.0.caller(&request).await?;
        require(&caller, Permission::Global, None)?;
        let requests = request.into_inner().requests;
        batch::check_len(requests.len())?;
        let results = batch::each(requests, |request| {
            let (tenants, caller) = (self.clone(), caller.clone());
            async move { tenants.create_one(&caller, request).await }
        });
        let result = |result: Result<Tenant, Status>| pb::BatchCreateTenantsResult {
            result: Some(match result {
                Ok(tenant) => Created::Tenant(tenant_to_proto(&tenant)),
                Err(status) => Created::Error(batch::rpc_status(&status)),
            }),
        };
        Ok(Response::new(pb::BatchCreateTenantsResponse {
            results: results.await?.into_iter().map(result).collect(),
        }))
    }
}

/// Some tenants, and the last one that was looked at when there are more.
struct Page {
    tenants: Vec<pb::Tenant>,
    next: Option<TenantId>,
}

impl Tenants {
    async fn create_one(
        &self,
        caller: &Identity,
        mut request: pb::CreateTenantRequest,
    ) -> Result<Tenant, Status> {
        let id = std::mem::take(&mut request.request_id);
        let id = request_id(&id, &request)?;
        let new = new_tenant(&request)?;
        let (registry, actor) = (&self.0.registry, caller.actor());
        let made = match &id {
            Some(id) => registry.create_tenant_once(&actor, new, id).await,
            None => registry.create_tenant(&actor, new).await,
        };
        made.map_err(from_registry("tenant"))
    }

    async fn page(
        &self,
        filter: &Filter,
        mut after: Option<TenantId>,
        size: usize,
    ) -> Result<Page, Status> {
        // One more than wanted tells whether there is a next page; a filter looks at more at once.
        let batch_len = if filter.is_empty() {
            size
        } else {
            PAGE_SIZE_MAX
        } + 1;
        let mut tenants: Vec<pb::Tenant> = Vec::with_capacity(size);
        let mut last_wanted = None;
        let mut looked_at = 0;
        loop {
            let batch = self.0.registry.tenants(after.as_ref(), batch_len).await;
            let batch = batch.map_err(from_registry("tenant"))?;
            let is_last = batch.len() < batch_len;
            looked_at += batch.len();
            after = batch.last().map(|tenant| tenant.id.clone());
            for tenant in batch {
                let shown = tenant_to_proto(&tenant);
                if !filter.passes(&shown) {
                    continue;
                }
                if tenants.len() == size {
                    let next = last_wanted;
                    return Ok(Page { tenants, next });
                }
                tenants.push(shown);
                last_wanted = Some(tenant.id);
            }
            if is_last || looked_at >= SCAN_MAX {
                let next = after.filter(|_| !is_last);
                return Ok(Page { tenants, next });
            }
        }
    }

    async fn read(&self, id: &TenantId) -> Result<Tenant, Status> {
        self.0
            .registry
            .tenant(id)
            .await
            .map_err(from_registry("tenant"))
    }

    fn position(&self, bound_to: &str, token: &str) -> Result<Option<TenantId>, Status> {
        if token.is_empty() {
            return Ok(None);
        }
        let position = self
            .0
            .pages
            .open(bound_to, token)
            .map_err(|bad| status::invalid(vec![bad]))?;
        TenantId::parse(&position)
            .map(Some)
            .map_err(|error| bad("page_token", error.to_string()))
    }
}

/// The tenant of that name, if the caller may reach it.
fn reach(caller: &Identity, need: Permission, field: &str, name: &str) -> Result<TenantId, Status> {
    let id = tenant_name(field, name)?;
    require(caller, need, Some(&id))?;
    Ok(id)
}

fn answer(tenant: Result<Tenant, Status>) -> Answer<pb::Tenant> {
    Ok(Response::new(tenant_to_proto(&tenant?)))
}
