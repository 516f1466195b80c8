//! The registry's tenants.

use std::collections::{BTreeMap, BTreeSet};

use crate::crypto::envelope::DataKey;
use crate::domain::change::{Action, Actor};
use crate::domain::governance::KeyLimits;
use crate::domain::limit::{Own, Quota, Rate};
use crate::domain::name::{Description, DisplayName, Feature, MetadataName, PlanName, TenantId};
use crate::domain::tenant::{FEATURES_MAX, METADATA_MAX, Tenant, TenantStatus};
use crate::domain::version::Version;
use crate::registry::idempotency::{Tagged, Verb};
use crate::registry::{
    ATTEMPTS_MAX, Entry, Etag, Opened, Registry, RegistryError, RequestId, audit_notes, etag,
    refused,
};
use crate::store::records::{self, WrappedKeys};
use crate::store::{CommitError, Expected, IdempotencyRecord, TenantCommit};

/// What a new tenant is made of.
#[derive(Clone, Debug)]
pub struct NewTenant {
    /// Its identifier.
    pub id: TenantId,
    /// For people.
    pub display_name: DisplayName,
    /// The plan it is on.
    pub plan: Option<PlanName>,
    /// Features beyond the plan's.
    pub features: BTreeSet<Feature>,
    /// Features that it does not have, though its plan does.
    pub denied_features: BTreeSet<Feature>,
    /// A rate in place of its plan's.
    pub rate: Own<Rate>,
    /// A quota in place of its plan's.
    pub quota: Own<Quota>,
    /// Facts for upstreams.
    pub metadata: BTreeMap<MetadataName, Description>,
}

impl NewTenant {
    /// A tenant of that name and nothing else.
    pub fn named(id: TenantId, display_name: DisplayName) -> Self {
        Self {
            id,
            display_name,
            plan: None,
            features: BTreeSet::new(),
            denied_features: BTreeSet::new(),
            rate: Own::Plan,
            quota: Own::Plan,
            metadata: BTreeMap::new(),
        }
    }
}

impl Registry {
    /// Makes a tenant with its own data keys.
    pub async fn create_tenant(
        &self,
        actor: &Actor,
        new: NewTenant,
    ) -> Result<Tenant, RegistryError> {
        self.make_tenant(actor, new, None).await
    }

    /// Makes a tenant, once: the same request again is answered with the tenant that it made.
    pub async fn create_tenant_once(
        &self,
        actor: &Actor,
        new: NewTenant,
        request: &RequestId,
    ) -> Result<Tenant, RegistryError> {
        let request = self.tag(Verb::CreateTenant, actor, &new.id, request);
        let id = new.id.clone();
        if let Some(made) = self.made_before(&id, &request).await? {
            return Ok(made);
        }
        match self.make_tenant(actor, new, Some(&request)).await {
            // It was made meanwhile, perhaps by this very request.
            Err(error @ RegistryError::AlreadyExists { .. }) => {
                self.made_before(&id, &request).await?.ok_or(error)
            }
            made => made,
        }
    }

    async fn made_before(
        &self,
        id: &TenantId,
        request: &Tagged,
    ) -> Result<Option<Tenant>, RegistryError> {
        let opened = match self.open(id).await {
            Err(RegistryError::NotFound { .. }) => return Ok(None),
            opened => opened?,
        };
        let done = self.done(&opened, request).await?;
        Ok(done.map(|_| opened.tenant))
    }

    async fn make_tenant(
        &self,
        actor: &Actor,
        new: NewTenant,
        request: Option<&Tagged>,
    ) -> Result<Tenant, RegistryError> {
        let now = self.now();
        let (data_key, wrapped) = self.new_data_keys(&new.id);
        let tenant = Tenant {
            id: new.id,
            incarnation: data_key.id(),
            display_name: new.display_name,
            status: TenantStatus::Active,
            plan: new.plan,
            features: new.features,
            denied_features: new.denied_features,
            rate: new.rate,
            quota: new.quota,
            key_limits: KeyLimits::default(),
            metadata: new.metadata,
            created_at: now,
            updated_at: now,
            version: Version::after(0, now, rand::random()),
        };
        check_sizes(&tenant)?;
        self.check_plan(&tenant, None)?;
        let opened = Opened {
            tenant,
            data_key,
            wrapped,
        };
        let audit = Entry {
            actor,
            action: Action::TenantCreated,
            at: now,
            key: None,
            note: String::new(),
        };
        let request = request.map(|request| request.row(&opened, None, now));
        let commit = commit(&opened, &opened.tenant, Expected::New, audit, request);
        match self.store.commit_tenant(commit).await {
            Ok(()) => Ok(opened.tenant),
            // Only while the tenant is there is the request remembered.
            Err(CommitError::Repeated) => Err(RegistryError::AlreadyExists { what: "tenant" }),
            Err(error) => Err(refused("tenant")(error)),
        }
    }

    /// Whether there is such a plan, if it is another than `before`. Who has no plans at all cannot know.
    fn check_plan(&self, tenant: &Tenant, before: Option<&PlanName>) -> Result<(), RegistryError> {
        let plans = self.plans();
        match &tenant.plan {
            Some(plan)
                if before != Some(plan) && !plans.is_empty() && !plans.contains_key(plan) =>
            {
                let known: Vec<&str> = plans.keys().map(PlanName::as_str).collect();
                Err(RegistryError::Invalid {
                    field: "plan",
                    problem: format!("is none of the configured plans: {}", known.join(", ")),
                })
            }
            Some(_) | None => Ok(()),
        }
    }

    fn new_data_keys(&self, tenant: &TenantId) -> (DataKey, WrappedKeys) {
        let mut rng = rand::rng();
        let data_key = DataKey::generate(&mut rng);
        let data = self.data.wrap(tenant.as_str(), &data_key, &mut rng);
        let vault = self.vault.as_ref().map(|vault| {
            let key = DataKey::generate(&mut rng);
            vault.wrap(tenant.as_str(), &key, &mut rng)
        });
        (
            data_key,
            WrappedKeys {
                data,
                vault: vault.unwrap_or_default(),
            },
        )
    }

    /// A tenant.
    pub async fn tenant(&self, id: &TenantId) -> Result<Tenant, RegistryError> {
        Ok(self.open(id).await?.tenant)
    }

    /// Tenants in the order of their ids, after `after`, at most `limit`.
    pub async fn tenants(
        &self,
        after: Option<&TenantId>,
        limit: usize,
    ) -> Result<Vec<Tenant>, RegistryError> {
        let rows = self.store.tenants(after, limit).await?;
        rows.iter()
            .map(|row| Ok(records::open_tenant(&self.data, row)?.0))
            .collect()
    }

    /// Makes every key of the tenant refuse as `tenant_suspended`. Suspending a suspended tenant changes nothing.
    pub async fn suspend_tenant(
        &self,
        actor: &Actor,
        id: &TenantId,
        etag: Option<Etag>,
        reason: &Description,
    ) -> Result<Tenant, RegistryError> {
        let note = reason.to_string();
        self.change_tenant(actor, id, etag, Action::TenantSuspended, note, |tenant| {
            tenant.status = TenantStatus::Suspended;
        })
        .await
    }

    /// Makes the tenant's keys work again. Resuming an active tenant changes nothing.
    pub async fn resume_tenant(
        &self,
        actor: &Actor,
        id: &TenantId,
        etag: Option<Etag>,
    ) -> Result<Tenant, RegistryError> {
        self.change_tenant(
            actor,
            id,
            etag,
            Action::TenantResumed,
            String::new(),
            |tenant| {
                tenant.status = TenantStatus::Active;
            },
        )
        .await
    }

    /// Changes a tenant: with an etag, once, against that version; without, against whatever is there.
    /// A change that changes nothing writes nothing.
    pub async fn change_tenant(
        &self,
        actor: &Actor,
        id: &TenantId,
        etag: Option<Etag>,
        action: Action,
        note: String,
        change: impl Fn(&mut Tenant) + Send + Sync,
    ) -> Result<Tenant, RegistryError> {
        for attempt in 1.. {
            let opened = self.open(id).await?;
            etag::check("tenant", etag, Etag::of_tenant(&opened.tenant))?;
            let mut tenant = opened.tenant.clone();
            change(&mut tenant);
            if tenant == opened.tenant {
                return Ok(tenant);
            }
            check_sizes(&tenant)?;
            self.check_plan(&tenant, opened.tenant.plan.as_ref())?;
            let at = self.now();
            tenant.updated_at = at;
            tenant.version = Version::after(opened.tenant.version.order, at, rand::random());
            let entry = Entry {
                actor,
                action,
                at,
                key: None,
                note: audit_notes::with_limits(&note, &opened.tenant, &tenant),
            };
            let expected = Expected::Version(opened.tenant.version);
            let commit = commit(&opened, &tenant, expected, entry, None);
            let done = self.store.commit_tenant(commit).await;
            match done.map_err(refused("tenant")) {
                Err(RegistryError::Conflict { .. }) if etag.is_none() && attempt < ATTEMPTS_MAX => {
                }
                result => return result.map(|()| tenant),
            }
        }
        Err(RegistryError::Conflict { what: "tenant" })
    }

    /// Deletes a tenant for good: its data keys go first, so that nothing it had can be opened again.
    pub async fn delete_tenant(
        &self,
        actor: &Actor,
        id: &TenantId,
        etag: Etag,
    ) -> Result<(), RegistryError> {
        let tenant = self.open(id).await?.tenant;
        etag::check("tenant", Some(etag), Etag::of_tenant(&tenant))?;
        self.store
            .delete_tenant(id, tenant.incarnation, tenant.version)
            .await
            .map_err(refused("tenant"))?;
        // The tenant's own audit is shredded with it: this line is what remains.
        tracing::info!(tenant = %id, %actor, "tenant deleted");
        Ok(())
    }
}

fn commit(
    opened: &Opened,
    tenant: &Tenant,
    expected: Expected,
    entry: Entry<'_>,
    request: Option<IdempotencyRecord>,
) -> TenantCommit {
    let mut rng = rand::rng();
    TenantCommit {
        expected,
        row: records::seal_tenant(&opened.data_key, tenant, &opened.wrapped, &mut rng),
        audit: Registry::audit(&opened.data_key, &tenant.id, entry),
        request,
    }
}

fn check_sizes(tenant: &Tenant) -> Result<(), RegistryError> {
    let too_many = |field, max| RegistryError::Invalid {
        field,
        problem: format!("at most {max} are allowed"),
    };
    if tenant.features.len() > FEATURES_MAX {
        return Err(too_many("features", FEATURES_MAX));
    }
    if tenant.denied_features.len() > FEATURES_MAX {
        return Err(too_many("denied_features", FEATURES_MAX));
    }
    if tenant.metadata.len() > METADATA_MAX {
        return Err(too_many("metadata", METADATA_MAX));
    }
    Ok(())
}
