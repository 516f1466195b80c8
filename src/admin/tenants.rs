//! The RPCs of tenants.

use tonic::{Request, Response, Status};

use crate::admin::Admin;
use crate::admin::caller::{Identity, Permission, require};
use crate::admin::convert::{
    TenantChange, bad, expect_etag, new_tenant, reason, tenant_name, tenant_to_proto,
};
use crate::admin::page_token::page_size;
use crate::domain::change::Action;
use crate::domain::name::TenantId;
use crate::domain::tenant::Tenant;
use crate::proto::admin as pb;
use crate::proto::admin::tenant_service_server::TenantService;
use crate::status::{self, from_registry};

type Answer<T> = Result<Response<T>, Status>;

/// The query that page tokens of `ListTenants` continue.
const LIST: &str = "tenants";

pub(super) struct Tenants(pub(super) Admin);

#[tonic::async_trait]
impl TenantService for Tenants {
    async fn create_tenant(&self, request: Request<pb::CreateTenantRequest>) -> Answer<pb::Tenant> {
        let caller = self.0.caller(&request).await?;
        require(&caller, Permission::Global, None)?;
        let new = new_tenant(request.into_inner())?;
        let made = self.0.registry.create_tenant(&caller.actor(), new).await;
        answer(made.map_err(from_registry("tenant")))
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
        let after = self.position(&request.page_token)?;
        // One more than asked tells whether there is a next page.
        let found = self.0.registry.tenants(after.as_ref(), size + 1).await;
        let mut found = found.map_err(from_registry("tenant"))?;
        let more = found.len() > size;
        found.truncate(size);
        let next = found
            .last()
            .filter(|_| more)
            .map(|last| self.0.pages.seal(LIST, last.id.as_str()));
        Ok(Response::new(pb::ListTenantsResponse {
            tenants: found.iter().map(tenant_to_proto).collect(),
            next_page_token: next.unwrap_or_default(),
        }))
    }

    async fn update_tenant(&self, request: Request<pb::UpdateTenantRequest>) -> Answer<pb::Tenant> {
        let caller = self.0.caller(&request).await?;
        let request = request.into_inner();
        let wanted = request.tenant.unwrap_or_default();
        let id = reach(&caller, Permission::Global, "tenant.name", &wanted.name)?;
        let mask = request.update_mask.unwrap_or_default().paths;
        let change = TenantChange::parse(&wanted, &mask)?;
        let etag = self.expected(&id, &wanted.etag).await?;
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
        let etag = self.expected(&id, &request.etag).await?;
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
        let etag = self.expected(&id, &request.etag).await?;
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
        let etag = self.expected(&id, &request.etag).await?.ok_or_else(|| {
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
}

impl Tenants {
    async fn read(&self, id: &TenantId) -> Result<Tenant, Status> {
        self.0
            .registry
            .tenant(id)
            .await
            .map_err(from_registry("tenant"))
    }

    /// The version that the etag names; none when there is no etag.
    async fn expected(&self, id: &TenantId, etag: &str) -> Result<Option<u64>, Status> {
        if etag.is_empty() {
            return Ok(None);
        }
        let tenant = self.read(id).await?;
        expect_etag(
            "tenant",
            etag,
            &tenant_to_proto(&tenant).etag,
            tenant.version,
        )
    }

    fn position(&self, token: &str) -> Result<Option<TenantId>, Status> {
        if token.is_empty() {
            return Ok(None);
        }
        let position = self
            .0
            .pages
            .open(LIST, token)
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
