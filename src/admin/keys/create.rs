//! Making keys: one, many, and of tokens that another system made.

mod import;
mod order;

use std::sync::Arc;

use tonic::Status;

use crate::admin::batch;
use crate::admin::caller::{Admitted, Credential, Identity, Permission, require};
use crate::admin::convert::{bad, key_name, key_to_proto, new_key, request_id, tenant_name};
use crate::admin::grant::{self, Means};
use crate::admin::keys::Keys;
use crate::admin::keys::create::order::Whose;
use crate::clock::Timestamp;
use crate::domain::name::{Description, TenantId};
use crate::proto::admin as pb;
use crate::proto::admin::batch_create_keys_result::Result as Created;
use crate::proto::admin::import_key_result::Result as Outcome;
use crate::registry::{NewKey, RegistryError};
use crate::status::{Reason, from_registry};

/// Who makes keys.
struct Maker {
    caller: Admitted,
    /// What a user has, who cannot give more.
    means: Option<Means>,
    /// When the key ends that somebody else calls with.
    end: Option<Timestamp>,
}

impl Maker {
    /// Whether it gives no more than it has; what the new key inherits is set in it.
    fn check(&self, new: &mut NewKey, now: Timestamp) -> Result<(), Status> {
        grant::check_role(&self.caller, new.role)?;
        match &self.means {
            Some(means) => grant::check_user(means, new, now),
            None => grant::check_admin(self.end, new, now),
        }
    }
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
        caller: Admitted,
        request: pb::CreateKeyRequest,
    ) -> Result<pb::CreateKeyResponse, Status> {
        let tenant = tenant_name("parent", &request.parent)?;
        require(&caller, Permission::OwnKeys, Some(&tenant))?;
        let maker = self.maker(caller).await?;
        let made = self.create_one(&maker, &tenant, request).await?;
        let name = made.key.as_ref().map(|key| key.name.as_str());
        self.check_still_there(&maker.caller, name.as_slice())
            .await?;
        Ok(made)
    }

    pub(super) async fn create_batch(
        &self,
        caller: Admitted,
        batch: pb::BatchCreateKeysRequest,
    ) -> Result<pb::BatchCreateKeysResponse, Status> {
        let parent = Parent::parse(&batch.parent)?;
        parent.require(&caller, Permission::OwnKeys)?;
        batch::check_len(batch.requests.len())?;
        let shared = Arc::new((self.clone(), self.maker(caller).await?, parent));
        let rows = batch.requests.iter();
        let rows = rows.map(|row| (row.parent.as_str(), row.key.as_ref()));
        let waiting = self.waiting(&shared.2, rows).await?;
        let rows = batch.requests.into_iter().zip(waiting).collect();
        let work = Arc::clone(&shared);
        let create = move |(request, _): (pb::CreateKeyRequest, Option<Whose>)| {
            let shared = Arc::clone(&work);
            async move {
                let (keys, maker, parent) = shared.as_ref();
                let tenant = parent.of(&request.parent)?;
                keys.create_one(maker, &tenant, request).await
            }
        };
        let results = batch::each_in_turn(rows, |(_, whose)| whose.clone(), create);
        let results: Vec<Result<pb::CreateKeyResponse, Status>> = results.await?;
        let made = results.iter().flatten();
        let names: Vec<&str> = made
            .flat_map(|made| &made.key)
            .map(|key| key.name.as_str())
            .collect();
        self.check_still_there(&shared.1.caller, &names).await?;
        let result = |result: Result<_, Status>| pb::BatchCreateKeysResult {
            result: Some(match result {
                Ok(created) => Created::Created(created),
                Err(status) => Created::Error(batch::rpc_status(&status)),
            }),
        };
        Ok(pb::BatchCreateKeysResponse {
            results: results.into_iter().map(result).collect(),
        })
    }

    pub(super) async fn import_batch(
        &self,
        caller: Admitted,
        batch: pb::ImportKeysRequest,
    ) -> Result<pb::ImportKeysResponse, Status> {
        let parent = Parent::parse(&batch.parent)?;
        // A token that others have seen and may be weak is more than a user can take responsibility for.
        parent.require(&caller, Permission::OwnTenant)?;
        batch::check_len(batch.requests.len())?;
        let shared = Arc::new((self.clone(), self.maker(caller).await?, parent));
        let rows = batch.requests.iter();
        let rows = rows.map(|row| (row.parent.as_str(), row.key.as_ref()));
        let waiting = self.waiting(&shared.2, rows).await?;
        let rows = batch.requests.into_iter().zip(waiting).collect();
        let work = Arc::clone(&shared);
        let import = move |(request, _): (pb::ImportKeyRequest, Option<Whose>)| {
            let shared = Arc::clone(&work);
            async move {
                let (keys, maker, parent) = shared.as_ref();
                let tenant = parent.of(&request.parent);
                keys.import_row(maker, tenant, request).await
            }
        };
        let results = batch::each_in_turn(rows, |(_, whose)| whose.clone(), import);
        let results = results.await?;
        let made = results.iter().filter_map(|result| match &result.result {
            Some(Outcome::Key(key)) => Some(key.name.as_str()),
            Some(Outcome::Error(_)) | None => None,
        });
        let names: Vec<&str> = made.collect();
        self.check_still_there(&shared.1.caller, &names).await?;
        Ok(pb::ImportKeysResponse { results })
    }

    /// Takes back what was made with a key that was revoked meanwhile: who revokes it with all that it has made may have
    /// looked for that before it was there.
    async fn check_still_there(&self, caller: &Identity, made: &[&str]) -> Result<(), Status> {
        let Credential::Key { tenant, key, .. } = &caller.credential else {
            return Ok(());
        };
        let found = self.0.registry.key(tenant, key).await;
        let is_there = match found {
            Ok(key) => key.is_live(),
            Err(RegistryError::NotFound { .. }) => false,
            Err(error) => return Err(from_registry("key")(error)),
        };
        if is_there {
            return Ok(());
        }
        let reason = Description::parse("the key that made it was revoked meanwhile");
        let reason = reason.expect("a short text is a description");
        let actor = caller.actor();
        for name in made {
            let (tenant, key) = key_name("name", name)?;
            let revoked = self
                .0
                .registry
                .revoke_key(&actor, &tenant, &key, None, &reason);
            revoked.await.map_err(from_registry("key"))?;
        }
        Err(Reason::InvalidApiKey.status("the API key is not valid"))
    }

    async fn maker(&self, caller: Admitted) -> Result<Maker, Status> {
        let means = match caller.only_owner() {
            Some(_) => Some(self.spending_means(&caller).await?),
            None => None,
        };
        let own = caller.own.as_ref().filter(|_| means.is_none());
        let end = own.and_then(|own| own.key().expires_at);
        Ok(Maker { caller, means, end })
    }

    /// Whether the maker may make this key; what it inherits is set in it.
    fn check_new(&self, maker: &Maker, new: &mut NewKey) -> Result<(), Status> {
        let now = self.0.clock.now();
        let names_end = new.expires_at.is_some() || new.ttl.is_some();
        maker.check(new, now)?;
        if names_end {
            return Ok(());
        }
        // Where every key must name its end, none inherits it.
        let checked = self.0.registry.check_expiry(None, now);
        checked.map_err(from_registry("key"))
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
        let mut new = new_key(&request.key.unwrap_or_default())?;
        self.check_new(maker, &mut new)?;
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
