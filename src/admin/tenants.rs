//! The RPCs of tenants.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use crate::admin::caller::{Identity, Permission, require};
use crate::admin::convert::{
    TenantChange, bad, expect_etag, new_tenant, reason, request_id, tenant_name, tenant_to_proto,
};
use crate::admin::filter::Filter;
use crate::admin::page::{Listed, page};
use crate::admin::page_token::page_size;
use crate::admin::{Admin, batch};
use crate::domain::change::Action;
use crate::domain::name::TenantId;
use crate::domain::plan::Plans;
use crate::domain::tenant::Tenant;
use crate::proto::admin as pb;
use crate::proto::admin::batch_create_tenants_result::Result as Created;
use crate::proto::admin::tenant_service_server::TenantService;
use crate::registry::Registry;
use crate::status::{self, from_registry};

type Answer<T> = Result<Response<T>, Status>;

#[derive(Clone)]
pub(super) struct Tenants(pub(super) Admin);

#[tonic::async_trait]
impl TenantService for Tenants {
    async fn create_tenant(&self, request: Request<pb::CreateTenantRequest>) -> Answer<pb::Tenant> {
        let caller = self.0.caller(&request).await?;
        require(&caller, Permission::Global, None)?;
        self.answer(self.create_one(&caller, request.into_inner()).await)
    }

    async fn get_tenant(&self, request: Request<pb::GetTenantRequest>) -> Answer<pb::Tenant> {
        let caller = self.0.caller(&request).await?;
        let id = reach(
            &caller,
            Permission::OwnTenant,
            "name",
            &request.get_ref().name,
        )?;
        self.answer(self.read(&id).await)
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
        let pages = &self.0.pages;
        let after = pages.position(&bound_to, &request.page_token, TenantId::parse)?;
        let query = Query {
            registry: &self.0.registry,
            plans: self.0.registry.plans(),
            filter,
        };
        let page = page(&query, after, size).await?;
        let token = |last: TenantId| pages.seal(&bound_to, last.as_str());
        Ok(Response::new(pb::ListTenantsResponse {
            tenants: page.items,
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
        self.answer(changed.map_err(from_registry("tenant")))
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
        self.answer(done.map_err(from_registry("tenant")))
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
        self.answer(done.map_err(from_registry("tenant")))
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
            let (tenants, caller) = (self.clone(), caller.identity.clone());
            async move { tenants.create_one(&caller, request).await }
        });
        let plans = self.0.registry.plans();
        let result = |result: Result<Tenant, Status>| pb::BatchCreateTenantsResult {
            result: Some(match result {
                Ok(tenant) => Created::Tenant(tenant_to_proto(&tenant, &plans)),
                Err(status) => Created::Error(batch::rpc_status(&status)),
            }),
        };
        Ok(Response::new(pb::BatchCreateTenantsResponse {
            results: results.await?.into_iter().map(result).collect(),
        }))
    }
}

/// Which tenants are wanted.
struct Query<'a> {
    registry: &'a Registry,
    plans: Arc<Plans>,
    filter: Filter,
}

impl Listed for Query<'_> {
    type Item = Tenant;
    type Shown = pb::Tenant;
    type Id = TenantId;

    fn wants_all(&self) -> bool {
        self.filter.is_empty()
    }

    async fn fetch(&self, after: Option<&TenantId>, limit: usize) -> Result<Vec<Tenant>, Status> {
        let tenants = self.registry.tenants(after, limit).await;
        tenants.map_err(from_registry("tenant"))
    }

    fn id(tenant: &Tenant) -> TenantId {
        tenant.id.clone()
    }

    fn show(&self, tenant: &Tenant) -> Option<pb::Tenant> {
        let shown = tenant_to_proto(tenant, &self.plans);
        self.filter.passes(&shown).then_some(shown)
    }
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

    async fn read(&self, id: &TenantId) -> Result<Tenant, Status> {
        self.0
            .registry
            .tenant(id)
            .await
            .map_err(from_registry("tenant"))
    }
}

impl Tenants {
    fn answer(&self, tenant: Result<Tenant, Status>) -> Answer<pb::Tenant> {
        let plans = self.0.registry.plans();
        Ok(Response::new(tenant_to_proto(&tenant?, &plans)))
    }
}

/// The tenant of that name, if the caller may reach it.
fn reach(caller: &Identity, need: Permission, field: &str, name: &str) -> Result<TenantId, Status> {
    let id = tenant_name(field, name)?;
    require(caller, need, Some(&id))?;
    Ok(id)
}
