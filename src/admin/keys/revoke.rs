//! Revoking a key, and all keys of an owner or a tenant.

use std::sync::Arc;

use tonic::Status;

use crate::admin::batch;
use crate::admin::caller::{Admitted, Identity, Permission, require};
use crate::admin::convert::{bad, expect_etag, key_name, key_to_proto, reason, tenant_name, wait};
use crate::admin::grant;
use crate::admin::keys::Keys;
use crate::admin::page::SCAN_MAX;
use crate::admin::page_token::PAGE_SIZE_MAX;
use crate::domain::key::Key;
use crate::domain::name::{Description, KeyId, Owner, TenantId};
use crate::domain::role::Role;
use crate::proto::admin as pb;
use crate::proto::admin::revoke_all_keys_request::Scope;
use crate::registry::{ReadKey, Search};
use crate::status::from_registry;

/// The key to be revoked.
enum Found {
    Read(ReadKey),
    /// Its own record is lost: as its entries tell of it.
    Lost(Key),
}

impl Found {
    fn key(&self) -> &Key {
        match self {
            Self::Read(read) => read.key(),
            Self::Lost(key) => key,
        }
    }
}

/// What is to be revoked.
struct Task {
    caller: Identity,
    tenant: TenantId,
    /// None: all owners'.
    owner: Option<Owner>,
    reason: Description,
    /// Only counts.
    dry_run: bool,
}

impl Task {
    fn parse(caller: Identity, request: &pb::RevokeAllKeysRequest) -> Result<Self, Status> {
        let tenant = tenant_name("parent", &request.parent)?;
        require(&caller, Permission::OwnKeys, Some(&tenant))?;
        let owner = match &request.scope {
            Some(Scope::Owner(owner)) => {
                let owner = Owner::parse(owner).map_err(|error| bad("owner", error.to_string()))?;
                Some(owner)
            }
            Some(Scope::AllOwners(true)) => None,
            Some(Scope::AllOwners(false)) => return Err(bad("all_owners", "must be true if sent")),
            None => return Err(bad("scope", "must be `owner` or `all_owners`")),
        };
        if owner.is_none() || owner.as_ref() != caller.owner() || caller.tenant() != Some(&tenant) {
            require(&caller, Permission::OwnTenant, Some(&tenant))?;
        }
        Ok(Self {
            caller,
            tenant,
            owner,
            reason: reason(&request.reason)?,
            dry_run: request.dry_run,
        })
    }

    fn concerns(&self, key: &Key) -> bool {
        key.is_live() && self.owner.as_ref().is_none_or(|owner| *owner == key.owner)
    }

    /// Whether the key stays as it is: the one that the work is done with, or one beyond the caller's role.
    fn spares(&self, key: &Key) -> bool {
        self.caller.holds(key) || grant::check_role(&self.caller, key.role).is_err()
    }

    /// What its page tokens are bound to. An owner has no `?`.
    fn bound_to(&self) -> String {
        let owner = self.owner.as_ref().map_or("?", Owner::as_str);
        let verb = if self.dry_run { "count" } else { "revoke" };
        format!("tenants/{}/keys:{verb}?{owner}", self.tenant)
    }
}

impl Keys {
    pub(super) async fn revoke(
        &self,
        caller: &Admitted,
        request: pb::RevokeKeyRequest,
    ) -> Result<pb::Key, Status> {
        let found = self.reach_to_revoke(caller, &request.name).await?;
        grant::check_role(caller, found.key().role)?;
        let reason = reason(&request.reason)?;
        let wait = wait(request.wait.as_ref())?;
        let etag = expect_etag("key", &request.etag)?;
        let actor = caller.actor();
        let registry = &self.0.registry;
        let done = match found {
            Found::Read(read) => registry.revoke_read_key(&actor, read, etag, &reason).await,
            Found::Lost(key) => {
                let (tenant, id) = (&key.tenant, &key.id);
                registry.revoke_key(&actor, tenant, id, etag, &reason).await
            }
        };
        let revoked = done.map_err(from_registry("key"))?.key;
        let mut answer = key_to_proto(&revoked, self.0.clock.now());
        let mut all = vec![revoked];
        if request.cascade {
            let made = registry.revoke_made(&actor, &all[0], &reason).await;
            let made = made.map_err(from_registry("key"))?;
            answer.also_revoked_count = u32::try_from(made.revoked).unwrap_or(u32::MAX);
            all.extend(made.all);
        }
        if !wait.is_zero() {
            let confirmed = registry.confirmed(&all, wait).await;
            let confirmed = confirmed.map_err(from_registry("key"))?;
            answer.confirmed_sidecars = u32::try_from(confirmed.by).unwrap_or(u32::MAX);
            answer.unconfirmed_sidecars = confirmed.late;
        }
        Ok(answer)
    }

    /// The key of that name, if the caller may reach it; where its own record is lost, as its entries tell of it. Users
    /// do not look for those: each look reads all that the tenant has.
    async fn reach_to_revoke(&self, caller: &Admitted, name: &str) -> Result<Found, Status> {
        let (tenant, id) = key_name("name", name)?;
        require(caller, Permission::OwnKeys, Some(&tenant))?;
        let registry = &self.0.registry;
        let search = match caller.role {
            Role::User => return Ok(Found::Read(self.reach(caller, "name", name).await?)),
            Role::TenantAdmin => Search::Tenant,
            Role::GlobalAdmin => Search::Everywhere,
        };
        match self.read(caller, &tenant, &id).await {
            Ok(read) => Ok(Found::Read(read)),
            Err(error) if error.is_of_a_lost_key() => {
                let lost = registry.lost_key(&tenant, &id, search).await;
                let lost = lost.map_err(from_registry("key"))?;
                lost.map(Found::Lost)
                    .ok_or_else(|| from_registry("key")(error))
            }
            Err(error) => Err(from_registry("key")(error)),
        }
    }

    pub(super) async fn revoke_all(
        &self,
        caller: Identity,
        request: pb::RevokeAllKeysRequest,
    ) -> Result<pb::RevokeAllKeysResponse, Status> {
        let task = Arc::new(Task::parse(caller, &request)?);
        let bound_to = task.bound_to();
        let pages = &self.0.pages;
        let mut after = pages.position(&bound_to, &request.page_token, KeyId::parse)?;
        let mut answer = pb::RevokeAllKeysResponse::default();
        let (mut looked_at, mut revoked) = (0, 0);
        // First: what is revoked is listed again, and then nobody sees that a list was lost.
        let lost = match after {
            None => self.revoke_lost(&task).await?,
            Some(_) => 0,
        };
        while looked_at < SCAN_MAX && revoked == 0 {
            let found = self
                .0
                .registry
                .keys(&task.tenant, after.as_ref(), PAGE_SIZE_MAX)
                .await;
            let found = found.map_err(from_registry("key"))?;
            let is_last = found.len() < PAGE_SIZE_MAX;
            looked_at += found.len();
            let last = found.last().map(|key| match key {
                Ok(key) => key.id.clone(),
                Err(id) => id.clone(),
            });
            after = last.filter(|_| !is_last);
            let found = self.with_lost(&task, found).await?;
            let concerned = found.into_iter().filter(|key| task.concerns(key));
            let (spared, doomed): (Vec<_>, Vec<_>) = concerned.partition(|key| task.spares(key));
            answer.skipped_count += count(spared.len());
            revoked += self.revoke_each(&task, doomed).await?;
            if is_last {
                break;
            }
        }
        answer.revoked_count = count(lost + revoked);
        let token = |last: KeyId| pages.seal(&bound_to, last.as_str());
        answer.next_page_token = after.map(token).unwrap_or_default();
        Ok(answer)
    }

    /// Revokes keys whose own record is lost, and answers how many there were. A user does not look further than where its
    /// tenant's are: that reads the whole index.
    async fn revoke_lost(&self, task: &Arc<Task>) -> Result<usize, Status> {
        let search = match task.caller.role {
            Role::User => Search::Tenant,
            Role::TenantAdmin | Role::GlobalAdmin => Search::Everywhere,
        };
        let lost = self.0.registry.lost_keys(&task.tenant, search).await;
        let lost = lost.map_err(from_registry("key"))?.into_iter();
        let doomed = lost.filter(|key| task.concerns(key) && !task.spares(key));
        self.revoke_each(task, doomed.collect()).await
    }

    /// With what is known of keys whose own record is lost.
    async fn with_lost(
        &self,
        task: &Task,
        found: Vec<Result<Key, KeyId>>,
    ) -> Result<Vec<Key>, Status> {
        let mut keys = Vec::with_capacity(found.len());
        for key in found {
            match key {
                Ok(key) => keys.push(key),
                // Counted among the lost before, and not revoked since.
                Err(_) if task.dry_run => {}
                Err(id) => {
                    let lost = self.0.registry.lost_key(&task.tenant, &id, Search::Tenant);
                    keys.extend(lost.await.map_err(from_registry("key"))?);
                }
            }
        }
        Ok(keys)
    }

    /// Revokes them, and answers how many worked until now.
    async fn revoke_each(&self, task: &Arc<Task>, keys: Vec<Key>) -> Result<usize, Status> {
        if task.dry_run {
            return Ok(keys.len());
        }
        let done = batch::each(keys, |key| {
            let (registry, task) = (self.0.registry.clone(), Arc::clone(task));
            async move {
                let actor = task.caller.actor();
                registry
                    .revoke_key(&actor, &key.tenant, &key.id, None, &task.reason)
                    .await
            }
        });
        let mut revoked = 0;
        for result in done.await? {
            if result.map_err(from_registry("key"))?.was_live {
                revoked += 1;
            }
        }
        Ok(revoked)
    }
}

fn count(len: usize) -> i32 {
    i32::try_from(len).unwrap_or(i32::MAX)
}
