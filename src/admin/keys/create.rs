//! Making keys: one, many, and of tokens that another system made.

mod import;

use std::sync::Arc;

use tonic::Status;

use crate::admin::batch;
use crate::admin::caller::{Identity, Permission, require};
use crate::admin::convert::{bad, key_to_proto, new_key, request_id, tenant_name};
use crate::admin::grant::{self, Means};
use crate::admin::keys::Keys;
use crate::domain::name::TenantId;
use crate::proto::admin as pb;
use crate::proto::admin::batch_create_keys_result::Result as Created;
use crate::status::from_registry;

/// Who makes keys.
struct Maker {
    caller: Identity,
    /// What a user has, who cannot give more.
    means: Option<Means>,
}

/// The tenants of a batch.
enum Parent {
    One(TenantId),
    /// `tenants/-`: each request names its own.
    Any,
}

impl Parent {
    fn parse(parent: &str) -> Result<Self, Status> {
        match parent {
            "tenants/-" => Ok(Self::Any),
            parent => tenant_name("parent", parent).map(Self::One),
        }
    }

    /// Refuses a caller who may not make keys there at all.
    fn require(&self, caller: &Identity, need: Permission) -> Result<(), Status> {
        match self {
            Self::One(tenant) => require(caller, need, Some(tenant)),
            Self::Any => require(caller, Permission::Global, None),
        }
    }

    /// The tenant of one request.
    fn of(&self, parent: &str) -> Result<TenantId, Status> {
        match self {
            Self::Any => tenant_name("parent", parent),
            Self::One(tenant) if parent.is_empty() => Ok(tenant.clone()),
            Self::One(tenant) => match tenant_name("parent", parent)? {
                same if same == *tenant => Ok(same),
                _ => Err(bad("parent", "must be empty or the parent of the batch")),
            },
        }
    }
}

impl Keys {
    pub(super) async fn create(
        &self,
        caller: Identity,
        request: pb::CreateKeyRequest,
    ) -> Result<pb::CreateKeyResponse, Status> {
        let tenant = tenant_name("parent", &request.parent)?;
        require(&caller, Permission::OwnKeys, Some(&tenant))?;
        let maker = self.maker(caller).await?;
        self.create_one(&maker, &tenant, request).await
    }

    pub(super) async fn create_batch(
        &self,
        caller: Identity,
        batch: pb::BatchCreateKeysRequest,
    ) -> Result<pb::BatchCreateKeysResponse, Status> {
        let parent = Parent::parse(&batch.parent)?;
        parent.require(&caller, Permission::OwnKeys)?;
        batch::check_len(batch.requests.len())?;
        let shared = Arc::new((self.clone(), self.maker(caller).await?, parent));
        let results = batch::each(batch.requests, |request| {
            let shared = Arc::clone(&shared);
            async move {
                let (keys, maker, parent) = shared.as_ref();
                let tenant = parent.of(&request.parent)?;
                keys.create_one(maker, &tenant, request).await
            }
        });
        let result = |result: Result<_, Status>| pb::BatchCreateKeysResult {
            result: Some(match result {
                Ok(created) => Created::Created(created),
                Err(status) => Created::Error(batch::rpc_status(&status)),
            }),
        };
        Ok(pb::BatchCreateKeysResponse {
            results: results.await?.into_iter().map(result).collect(),
        })
    }

    pub(super) async fn import_batch(
        &self,
        caller: Identity,
        batch: pb::ImportKeysRequest,
    ) -> Result<pb::ImportKeysResponse, Status> {
        let parent = Parent::parse(&batch.parent)?;
        // A token that others have seen and may be weak is more than a user can take responsibility for.
        parent.require(&caller, Permission::OwnTenant)?;
        batch::check_len(batch.requests.len())?;
        let shared = Arc::new((self.clone(), caller, parent));
        let results = batch::each(batch.requests, |request| {
            let shared = Arc::clone(&shared);
            async move {
                let (keys, caller, parent) = shared.as_ref();
                let tenant = parent.of(&request.parent);
                keys.import_row(caller, tenant, request).await
            }
        });
        Ok(pb::ImportKeysResponse {
            results: results.await?,
        })
    }

    async fn maker(&self, caller: Identity) -> Result<Maker, Status> {
        let means = match caller.only_owner() {
            Some(_) => Some(self.means(&caller).await?),
            None => None,
        };
        Ok(Maker { caller, means })
    }

    async fn create_one(
        &self,
        maker: &Maker,
        tenant: &TenantId,
        mut request: pb::CreateKeyRequest,
    ) -> Result<pb::CreateKeyResponse, Status> {
        let id = std::mem::take(&mut request.request_id);
        // In a batch the parent may be left out: the same request all the same.
        request.parent = format!("tenants/{tenant}");
        let id = request_id(&id, &request)?;
        let new = new_key(&request.key.unwrap_or_default())?;
        grant::check_role(&maker.caller, new.role)?;
        if let Some(means) = &maker.means {
            grant::check_user(means, &new)?;
        }
        let (registry, actor) = (&self.0.registry, maker.caller.actor());
        let made = match &id {
            Some(id) => registry.create_key_once(&actor, tenant, new, id).await,
            None => registry.create_key(&actor, tenant, new).await,
        };
        let made = made.map_err(from_registry("key"))?;
        Ok(pb::CreateKeyResponse {
            key: Some(key_to_proto(&made.key, self.0.clock.now())),
            plaintext: made.token.expose().to_owned(),
        })
    }
}
