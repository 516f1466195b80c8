//! The RPCs of limits on keys.

use tonic::{Request, Response, Status};

use crate::admin::Admin;
use crate::admin::caller::{Permission, require};
use crate::admin::convert::{
    expect_etag, key_limit_changes, key_limits_name, key_limits_to_proto, system_config_to_proto,
};
use crate::domain::role::Role;
use crate::proto::admin as pb;
use crate::proto::admin::limit_service_server::LimitService;
use crate::status::from_registry;

type Answer<T> = Result<Response<T>, Status>;

#[derive(Clone)]
pub(super) struct Limits(pub(super) Admin);

#[tonic::async_trait]
impl LimitService for Limits {
    async fn get_key_limits(
        &self,
        request: Request<pb::GetKeyLimitsRequest>,
    ) -> Answer<pb::KeyLimits> {
        let caller = self.0.caller(&request).await?;
        let tenant = key_limits_name("name", &request.get_ref().name)?;
        require(&caller, Permission::OwnKeys, Some(&tenant))?;
        let registry = &self.0.registry;
        let found = registry.tenant(&tenant).await;
        let found = found.map_err(from_registry("key_limits"))?;
        let mut shown = key_limits_to_proto(&found, &registry.key_rules());
        if caller.role == Role::User {
            // What holds is a user's business; what it is made of is for who can change it.
            shown = pb::KeyLimits {
                name: shown.name,
                tenant_id: shown.tenant_id,
                effective_limits: shown.effective_limits,
                configuration: shown.configuration,
                ..pb::KeyLimits::default()
            };
        }
        Ok(Response::new(shown))
    }

    async fn update_key_limits(
        &self,
        request: Request<pb::UpdateKeyLimitsRequest>,
    ) -> Answer<pb::KeyLimits> {
        let caller = self.0.caller(&request).await?;
        let request = request.into_inner();
        let wanted = request.key_limits.unwrap_or_default();
        let tenant = key_limits_name("key_limits.name", &wanted.name)?;
        require(&caller, Permission::OwnTenant, Some(&tenant))?;
        let mask = request.update_mask.unwrap_or_default().paths;
        let changes = key_limit_changes(&wanted, &mask)?;
        let etag = expect_etag("tenant", &wanted.etag)?;
        let registry = &self.0.registry;
        let changed = registry
            .set_key_limits(&caller.actor(), caller.role, &tenant, etag, &changes)
            .await;
        let changed = changed.map_err(from_registry("key_limits"))?;
        Ok(Response::new(key_limits_to_proto(
            &changed,
            &registry.key_rules(),
        )))
    }

    async fn get_system_config(
        &self,
        request: Request<pb::GetSystemConfigRequest>,
    ) -> Answer<pb::SystemConfig> {
        let caller = self.0.caller(&request).await?;
        require(&caller, Permission::Global, None)?;
        let registry = &self.0.registry;
        registry.note_config_read(&caller.actor());
        Ok(Response::new(system_config_to_proto(&registry.key_rules())))
    }
}
