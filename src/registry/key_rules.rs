//! How many keys owners may have and how long keys may live: the registry holds everybody to it.

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::domain::change::{Action, Actor};
use crate::domain::governance::{KeyLimits, KeyRules, PerRole};
use crate::domain::name::{Owner, TenantId};
use crate::domain::role::Role;
use crate::domain::tenant::Tenant;
use crate::registry::audit_writer::Note;
use crate::registry::{Etag, Registry, RegistryError};
use crate::store::CountChange;

impl Registry {
    /// The rules that hold now.
    pub fn key_rules(&self) -> Arc<KeyRules> {
        self.key_rules.load_full()
    }

    /// Other rules from now on, for every copy of this registry. Keys that are there stay as they are.
    pub fn set_key_rules(&self, rules: KeyRules) {
        self.key_rules.store(Arc::new(rules));
    }

    /// Whether a key may be given this expiry at `now`: when it is made as when it is renewed.
    pub fn check_expiry(
        &self,
        expires_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(), RegistryError> {
        let rules = self.key_rules().expiry;
        rules.check(expires_at, now).map_err(RegistryError::Expiry)
    }

    /// How one more key with `role` is counted, if any may be made. Every live key of the owner counts, whatever its
    /// role: so nobody has more of them than the highest limit, and nobody more with a role than the limit of that.
    pub(super) fn room(&self, tenant: &Tenant, role: Role) -> Result<CountChange, RegistryError> {
        let rules = self.key_rules();
        if !rules.enabled {
            return Err(RegistryError::KeysDisabled);
        }
        let limit = rules.limit(&tenant.id, &tenant.key_limits, role);
        Ok(CountChange::Add {
            per_owner: u64::from(limit.max),
            total: rules.max_total().map(u64::from),
        })
    }

    /// How many more live keys an owner may have with each role, as it is now.
    pub async fn room_of(
        &self,
        tenant: &TenantId,
        owner: &Owner,
    ) -> Result<PerRole<u64>, RegistryError> {
        let tenant = self.open(tenant).await?.tenant;
        let tag = self.lookup.owner_tag(tenant.id.as_str(), owner.as_str());
        let (live, _) = self.store.live_keys(&tenant.id, tag).await?;
        let rules = self.key_rules();
        let room = |role| {
            let limit = rules.limit(&tenant.id, &tenant.key_limits, role);
            u64::from(limit.max).saturating_sub(live)
        };
        Ok(PerRole {
            user: room(Role::User),
            tenant_admin: room(Role::TenantAdmin),
            global_admin: room(Role::GlobalAdmin),
        })
    }

    /// Sets some of a tenant's limits, or with none in its place leaves that one to the configuration again. `role`
    /// is what the actor may do. With an etag, against that version of the tenant.
    pub async fn set_key_limits(
        &self,
        actor: &Actor,
        role: Role,
        tenant: &TenantId,
        etag: Option<Etag>,
        changes: &[(Role, Option<u32>)],
    ) -> Result<Tenant, RegistryError> {
        if let Err(disabled) = self.key_rules().may_change(role) {
            // Only of a tenant that is there can be said what holds, and in its audit that it was tried.
            let tenant = self.tenant(tenant).await?;
            let error = RegistryError::OverridesDisabled {
                disabled,
                kept: self.effective(&tenant),
            };
            self.note(actor, &tenant.id, Action::LimitsRefused, error.to_string());
            return Err(error);
        }
        let apply = |tenant: &mut Tenant| set(&mut tenant.key_limits, changes);
        let action = Action::LimitsUpdated;
        self.change_tenant(actor, tenant, etag, action, String::new(), apply)
            .await
    }

    /// The limits that hold for a tenant, in the order of the roles.
    fn effective(&self, tenant: &Tenant) -> [u32; 3] {
        let rules = self.key_rules();
        Role::ALL.map(|role| rules.limit(&tenant.id, &tenant.key_limits, role).max)
    }

    /// Has it written into the tenant's audit that a key was refused, if the rules refused it.
    pub(super) fn note_refused_key(
        &self,
        actor: &Actor,
        tenant: &TenantId,
        (owner, role): (&Owner, Role),
        error: &RegistryError,
    ) {
        let by_the_rules = match error {
            RegistryError::CountLimit { .. } | RegistryError::KeysDisabled => true,
            RegistryError::Expiry(problem) => problem.rules().is_some(),
            _ => false,
        };
        if by_the_rules {
            let note = format!("owner {owner}, role {}: {error}", role.as_str());
            self.note(actor, tenant, Action::KeyRefused, note);
        }
    }

    fn note(&self, actor: &Actor, tenant: &TenantId, action: Action, text: String) {
        self.audit_writer.note(Note {
            tenant: tenant.clone(),
            actor: actor.clone(),
            action,
            text,
        });
    }

    /// Has it written into the audit of an actor's tenant that it has read the configuration; who has no tenant is
    /// only in the log.
    pub fn note_config_read(&self, actor: &Actor) {
        let Actor::Key { tenant, .. } = actor else {
            tracing::info!(%actor, "the configuration of limits on keys was read");
            return;
        };
        let text = "api_keys, as GetSystemConfig answers it".to_owned();
        self.note(actor, tenant, Action::ConfigRead, text);
    }
}

fn set(limits: &mut KeyLimits, changes: &[(Role, Option<u32>)]) {
    for (role, max) in changes {
        *limits.of_mut(*role) = *max;
    }
}
