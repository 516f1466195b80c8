//! A key that does not work for a while, and works again.

use tonic::Status;

use crate::admin::caller::Admitted;
use crate::admin::convert::{expect_etag, key_to_proto, pause_end, reason};
use crate::admin::grant;
use crate::admin::keys::Keys;
use crate::domain::pause::PausedBy;
use crate::proto::admin as pb;
use crate::registry::NewPause;
use crate::status::from_registry;

impl Keys {
    pub(super) async fn pause(
        &self,
        caller: &Admitted,
        request: &pb::PauseKeyRequest,
    ) -> Result<pb::Key, Status> {
        let read = self.reach(caller, "name", &request.name).await?;
        grant::check_role(caller, read.key().role)?;
        let new = NewPause {
            end: pause_end(request)?,
            reason: reason(&request.reason)?,
            by: by(caller),
        };
        let etag = expect_etag("key", &request.etag)?;
        let (registry, actor) = (&self.0.registry, caller.actor());
        let paused = registry.pause_key(&actor, read, &new, etag).await;
        let paused = paused.map_err(from_registry(""))?;
        Ok(key_to_proto(&paused, self.0.clock.now()))
    }

    pub(super) async fn resume(
        &self,
        caller: &Admitted,
        request: &pb::ResumeKeyRequest,
    ) -> Result<pb::Key, Status> {
        let read = self.obtain(caller, &request.name).await?;
        let etag = expect_etag("key", &request.etag)?;
        let (registry, actor) = (&self.0.registry, caller.actor());
        let resumed = registry.resume_key(&actor, read, by(caller), etag).await;
        let resumed = resumed.map_err(from_registry(""))?;
        Ok(key_to_proto(&resumed, self.0.clock.now()))
    }
}

fn by(caller: &Admitted) -> PausedBy {
    match caller.only_owner() {
        Some(_) => PausedBy::Owner,
        None => PausedBy::Admin,
    }
}
