//! Who made which key: what a key has made is revoked with it, and has no more than it.

use std::collections::{HashMap, HashSet};

use crate::domain::change::Actor;
use crate::domain::key::Key;
use crate::domain::name::{Description, KeyId, Owner, TenantId};
use crate::domain::role::Role;
use crate::registry::{Registry, RegistryError};

/// How many keys or tenants are read at once.
const PAGE: usize = 500;

/// What was revoked with a key.
#[derive(Clone, Debug, Default)]
pub struct RevokedWith {
    /// Every key that it has made, and what those have made, as they are now.
    pub all: Vec<Key>,
    /// How many of them worked until now.
    pub revoked: usize,
}

/// Keys by the key that made them.
#[derive(Default)]
struct Lineage(HashMap<(TenantId, KeyId), Vec<Key>>);

impl Lineage {
    fn keep(&mut self, made: Key) {
        if let Some(Actor::Key { tenant, key }) = &made.created_by {
            let maker = (tenant.clone(), key.clone());
            self.0.entry(maker).or_default().push(made);
        }
    }

    /// What the key has made, and what that has made.
    fn of(mut self, key: &Key) -> Vec<Key> {
        let mut found = Vec::new();
        let mut makers = vec![(key.tenant.clone(), key.id.clone())];
        while let Some(maker) = makers.pop() {
            for made in self.0.remove(&maker).unwrap_or_default() {
                makers.push((made.tenant.clone(), made.id.clone()));
                found.push(made);
            }
        }
        found
    }
}

impl Registry {
    /// Revokes what a revoked key has made, and what that has made. It is looked again until nothing is found that works:
    /// what was interrupted is finished by doing it again.
    pub async fn revoke_made(
        &self,
        actor: &Actor,
        key: &Key,
        reason: &Description,
    ) -> Result<RevokedWith, RegistryError> {
        let mut done = RevokedWith::default();
        loop {
            done.all = self.made_by(key).await?;
            let mut revoked = 0;
            for made in &mut done.all {
                // A revoked one too: its revocation may have been lost with a part of the store.
                let (tenant, id) = (&made.tenant, &made.id);
                let edited = self.revoke_key(actor, tenant, id, None, reason).await?;
                revoked += usize::from(edited.was_live);
                *made = edited.key;
            }
            done.revoked += revoked;
            if revoked == 0 {
                return Ok(done);
            }
        }
    }

    /// Every key that this one has made, and what those have made. Only a global admin's key makes keys in other tenants.
    async fn made_by(&self, key: &Key) -> Result<Vec<Key>, RegistryError> {
        let mut lineage = Lineage::default();
        if key.role != Role::GlobalAdmin {
            self.each_key(&key.tenant, |key| lineage.keep(key)).await?;
            return Ok(lineage.of(key));
        }
        let mut after = None;
        loop {
            let page = self.store.tenants(after.as_ref(), PAGE).await?;
            let Some(last) = page.last() else {
                return Ok(lineage.of(key));
            };
            after = Some(last.id.clone());
            for row in &page {
                match self.each_key(&row.id, |key| lineage.keep(key)).await {
                    // Deleted while we looked.
                    Err(RegistryError::NotFound { .. }) => {}
                    looked => looked?,
                }
            }
        }
    }

    /// What cannot be read does not say who made it, and is left out; the damage is told of by who reads.
    async fn each_key(
        &self,
        tenant: &TenantId,
        mut act: impl FnMut(Key),
    ) -> Result<(), RegistryError> {
        let mut after = None;
        loop {
            let page = self.keys(tenant, after.as_ref(), PAGE).await?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = Some(id_of(last));
            page.into_iter().flatten().for_each(&mut act);
        }
    }

    async fn keys_of(&self, tenant: &TenantId, owner: &Owner) -> Result<Vec<Key>, RegistryError> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = self.keys_of_owner(tenant, owner, after.as_ref(), PAGE);
            let page = page.await?;
            let Some(last) = page.last() else {
                return Ok(all);
            };
            after = Some(id_of(last));
            let keys = page.into_iter().flatten();
            all.extend(keys.filter(|key| key.owner == *owner));
        }
    }

    /// The keys of an owner that it was given: those that it did not make with one of its own, nor under its limits.
    pub async fn given_keys(
        &self,
        tenant: &TenantId,
        owner: &Owner,
    ) -> Result<Vec<Key>, RegistryError> {
        let mut all = self.keys_of(tenant, owner).await?;
        let users = all.iter().filter(|key| key.role == Role::User);
        let users: HashSet<KeyId> = users.map(|key| key.id.clone()).collect();
        let by_itself = |key: &Key| key.maker().is_some_and(|maker| users.contains(maker));
        all.retain(|key| key.budget.is_none() && !by_itself(key));
        Ok(all)
    }

    /// The key of a user that made this one, revoked or not; none if somebody else did.
    pub async fn user_that_made(&self, key: &Key) -> Result<Option<Key>, RegistryError> {
        let Some(maker) = key.maker() else {
            return Ok(None);
        };
        match self.key(&key.tenant, maker).await {
            Ok(maker) => Ok(Some(maker).filter(|maker| maker.role == Role::User)),
            Err(RegistryError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes from what a user's key has made, and from what spends from its limits, whatever the key has no more. Doing it
    /// again finishes what was interrupted.
    pub async fn narrow_made(&self, actor: &Actor, key: &Key) -> Result<(), RegistryError> {
        if key.role != Role::User {
            return Ok(());
        }
        let all = self.keys_of(&key.tenant, &key.owner).await?;
        let spend = |other: &&Key| other.budget.as_ref() == Some(&key.id);
        let spending: Vec<Key> = all.iter().filter(spend).cloned().collect();
        let mut lineage = Lineage::default();
        all.into_iter().for_each(|key| lineage.keep(key));
        let made = lineage.of(key);
        let known: HashSet<&KeyId> = made.iter().map(|made| &made.id).collect();
        for other in made.iter().filter(|made| made.is_live()) {
            self.narrow(actor, other, |other| narrow_to(other, key))
                .await?;
        }
        let others = spending.iter().filter(|other| !known.contains(&other.id));
        for other in others.filter(|other| other.is_live()) {
            self.narrow(actor, other, |other| narrow_limits(other, key))
                .await?;
        }
        Ok(())
    }

    async fn narrow(
        &self,
        actor: &Actor,
        other: &Key,
        change: impl Fn(&mut Key) + Send + Sync,
    ) -> Result<(), RegistryError> {
        let note = "as the key that it comes from".to_owned();
        let narrowed = self.update_key(actor, &other.tenant, &other.id, None, note, change);
        match narrowed.await {
            // Revoked or deleted while we looked.
            Ok(_) | Err(RegistryError::KeyRevoked | RegistryError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn id_of(key: &Result<Key, KeyId>) -> KeyId {
    key.as_ref().map_or_else(KeyId::clone, |key| key.id.clone())
}

fn narrow_to(made: &mut Key, from: &Key) {
    made.scopes.retain(|scope| from.scopes.contains(scope));
    if let Some(own) = &from.features {
        match &mut made.features {
            Some(features) => features.retain(|feature| own.contains(feature)),
            none => *none = Some(own.clone()),
        }
    }
    if !from.networks.is_empty() {
        made.networks
            .retain(|network| from.networks.iter().any(|own| own.contains(network)));
        if made.networks.is_empty() {
            made.networks.clone_from(&from.networks);
        }
    }
    made.admin_access = made.admin_access.min(from.admin_access);
    narrow_limits(made, from);
}

/// A key that was made when there were no limits spends from those that there are now.
fn narrow_limits(made: &mut Key, from: &Key) {
    if !from.limits.is_empty() {
        made.budget = Some(from.charged().clone());
        if !made.limits.is_within(&from.limits) {
            made.limits = from.limits;
        }
    }
}
