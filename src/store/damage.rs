//! Damage that is met in the store: counted by kind, logged now and then, and remembered by tenant until it is healed.
//!
//! A store is shared with whoever can reach it: an eviction, a typing mistake or an intruder may take or alter any
//! entry. What is damaged refuses its own keys and holds nobody else up; this is how an operator learns of it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::StoreError;
use crate::clock::{Clock as _, SystemClock};
use crate::domain::name::TenantId;
use crate::telemetry::Throttle;

/// Kinds of what is stored. The words are labels of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entry {
    /// A tenant's record.
    Tenant,
    /// A key's record.
    Key,
    /// What a Check needs of a generation.
    Index,
    /// Changes that are decided and not yet in the index, and the marks of those under way.
    Outbox,
    /// Live keys of owners, of tenants and of all.
    Counts,
    /// The audit.
    Audit,
    /// What is remembered of requests.
    Request,
    /// The lists by which the others are found.
    Lists,
}

impl Entry {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Tenant,
        Self::Key,
        Self::Index,
        Self::Outbox,
        Self::Counts,
        Self::Audit,
        Self::Request,
        Self::Lists,
    ];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Key => "key",
            Self::Index => "index",
            Self::Outbox => "outbox",
            Self::Counts => "counts",
            Self::Audit => "audit",
            Self::Request => "request",
            Self::Lists => "lists",
        }
    }
}

/// What has been met of each kind, and whose is not healed.
#[derive(Default)]
pub struct Damage {
    met: [AtomicU64; Entry::ALL.len()],
    throttles: [Throttle; Entry::ALL.len()],
    unhealed: Mutex<BTreeMap<TenantId, String>>,
}

impl fmt::Debug for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Damage({} tenants)", self.unhealed.lock().len())
    }
}

impl Damage {
    /// Counts what was met, and logs it unless one of its kind was logged a moment ago.
    pub fn met(&self, entry: Entry, tenant: Option<&TenantId>, what: &dyn fmt::Display) {
        let at = entry as usize;
        self.met[at].fetch_add(1, Ordering::Relaxed);
        if let Some(held_back) = self.throttles[at].admit(SystemClock.now()) {
            tracing::error!(
                entry = entry.as_str(),
                tenant = tenant.map(TenantId::as_str),
                held_back,
                "damage in the store: {what}; `keystile store check` says what else there is and can repair it"
            );
        }
    }

    /// The same of what a read of the store ended in, if that is damage.
    pub fn read(&self, entry: Entry, tenant: Option<&TenantId>, error: &StoreError) {
        if let StoreError::Damaged(what) = error {
            self.met(entry, tenant, what);
        }
    }

    /// How often each kind was met.
    pub fn counts(&self) -> [(Entry, u64); Entry::ALL.len()] {
        Entry::ALL.map(|entry| (entry, self.met[entry as usize].load(Ordering::Relaxed)))
    }

    /// Remembers that what is left to do of a tenant cannot be done.
    pub fn is_unhealed(&self, tenant: &TenantId, why: &str) {
        let mut unhealed = self.unhealed.lock();
        if unhealed.insert(tenant.clone(), why.to_owned()).is_none() {
            tracing::error!(
                %tenant, error = why,
                "changes that are decided cannot reach the index: records of the tenant are damaged; the other tenants are not held up"
            );
        }
    }

    /// Forgets it again.
    pub fn is_healed(&self, tenant: &TenantId) {
        if self.unhealed.lock().remove(tenant).is_some() {
            tracing::info!(%tenant, "what was left to do of a tenant with damaged records is done");
        }
    }

    /// Keeps of the tenants that are not healed those of which it holds.
    pub fn retain_unhealed(&self, mut holds: impl FnMut(&TenantId) -> bool) {
        self.unhealed.lock().retain(|tenant, _| holds(tenant));
    }

    /// How many tenants have something left to do that damage stands in the way of.
    pub fn unhealed(&self) -> usize {
        self.unhealed.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_counted_and_a_tenant_is_remembered_until_it_is_healed() {
        let damage = Damage::default();
        let acme = TenantId::parse("acme").unwrap();
        damage.met(Entry::Audit, Some(&acme), &"gone");
        damage.read(Entry::Key, None, &StoreError::Unavailable("away".into()));
        let met: Vec<_> = damage
            .counts()
            .into_iter()
            .filter(|(_, n)| *n > 0)
            .collect();
        assert_eq!(met, [(Entry::Audit, 1)]);
        damage.is_unhealed(&acme, "why");
        damage.is_unhealed(&acme, "why");
        assert_eq!(damage.unhealed(), 1);
        damage.is_healed(&acme);
        assert_eq!(damage.unhealed(), 0);
    }
}
