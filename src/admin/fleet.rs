//! The RPCs of the fleet.

use tonic::{Request, Response, Status};

use crate::admin::Admin;
use crate::admin::caller::{Permission, require};
use crate::admin::convert::sidecar_to_proto;
use crate::admin::page_token::page_size;
use crate::proto::admin as pb;
use crate::proto::admin::fleet_service_server::FleetService;
use crate::status::{self, from_registry};

/// What page tokens of the list are bound to.
const SIDECARS: &str = "sidecars";

#[derive(Clone)]
pub(super) struct Fleet(pub(super) Admin);

#[tonic::async_trait]
impl FleetService for Fleet {
    async fn list_sidecars(
        &self,
        request: Request<pb::ListSidecarsRequest>,
    ) -> Result<Response<pb::ListSidecarsResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        require(&caller, Permission::Global, None)?;
        let request = request.into_inner();
        let size = page_size(request.page_size).map_err(|bad| status::invalid(vec![bad]))?;
        let pages = &self.0.pages;
        let after = pages.position(SIDECARS, &request.page_token, |id| Ok(id.to_owned()))?;
        let live = self.0.registry.sidecars().await;
        let mut live = live.map_err(from_registry("sidecar"))?;
        live.retain(|sidecar| after.as_ref().is_none_or(|after| sidecar.id > *after));
        let is_last = live.len() <= size;
        live.truncate(size);
        let last = live.last().filter(|_| !is_last);
        let token = last.map(|sidecar| pages.seal(SIDECARS, &sidecar.id));
        let now = self.0.clock.now();
        let shown = live.iter().map(|sidecar| sidecar_to_proto(sidecar, now));
        Ok(Response::new(pb::ListSidecarsResponse {
            sidecars: shown.collect(),
            next_page_token: token.unwrap_or_default(),
        }))
    }
}
