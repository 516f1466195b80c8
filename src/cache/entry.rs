//! What is kept of a key and of a tenant: opened once when loaded, laid out to be small and read often.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use ipnet::IpNet;

use crate::cache::UNTRACKED;
use crate::clock::Timestamp;
use crate::crypto::envelope::DataKey;
use crate::domain::access::{KeyAccess, TenantAccess};
use crate::domain::limit::Limits;
use crate::domain::name::{Feature, TenantId};
use crate::domain::pause::PauseEnd;
use crate::domain::plan::{Overrides, Plans};
use crate::domain::role::Role;
use crate::domain::tenant::Tenant;

/// Stands for "never expires" where an option would cost eight bytes a key.
const NEVER: i64 = i64::MAX;

/// A generation of a key in memory: some 100 bytes and one string. Holds no token, only its digest.
pub struct CachedKey {
    digest: [u8; 32],
    tenant: Arc<TenantSlot>,
    /// Key id, owner and comma-joined scopes, one after the other.
    text: Box<str>,
    /// What few keys have.
    narrowing: Option<Box<Narrowing>>,
    expires_at: i64,
    /// The id of the data key that its record was sealed under: which incarnation of the tenant it is of.
    incarnation: u64,
    loaded_at: AtomicI64,
    /// The epoch in which it was loaded.
    epoch: AtomicU32,
    generation: u32,
    key_len: u8,
    owner_len: u8,
    role: Role,
    revoked: bool,
    /// Something may have changed since it was loaded: revalidate before use.
    suspect: AtomicBool,
}

/// What an entry takes beside [`CachedKey`]: its id and place in the map and the counts of its `Arc`.
const OVERHEAD: usize = 64;

/// Restrictions that few keys have.
struct Narrowing {
    features: Option<BTreeSet<Feature>>,
    networks: Vec<IpNet>,
    limits: Limits,
    /// The key whose budgets it spends from, if not from its own.
    budget: Option<Box<str>>,
    paused: Option<PauseEnd>,
}

/// What most keys have of their own.
const UNLIMITED: Limits = Limits {
    rate: None,
    quota: None,
};

impl Narrowing {
    fn bytes(&self) -> usize {
        let features = self.features.iter().flatten();
        let features: usize = features
            .map(|feature| size_of::<Feature>() + feature.as_str().len())
            .sum();
        size_of::<Self>() + features + self.networks.len() * size_of::<IpNet>()
    }
}

impl fmt::Debug for CachedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CachedKey({}/{})", self.tenant.id, self.key())
    }
}

impl CachedKey {
    /// `incarnation` is the id of the data key that has opened `access`.
    pub(super) fn new(
        access: KeyAccess,
        incarnation: u64,
        tenant: Arc<TenantSlot>,
        now: Timestamp,
    ) -> Self {
        let mut text = format!("{}{}", access.key, access.owner);
        for (at, scope) in access.scopes.iter().enumerate() {
            if at > 0 {
                text.push(',');
            }
            text.push_str(scope.as_str());
        }
        let narrow = access.budget.is_some()
            || access.paused.is_some()
            || access.features.is_some()
            || !access.networks.is_empty()
            || !access.limits.is_empty();
        let len = |text: &str| {
            u8::try_from(text.len()).expect("key ids and owners are at most 128 bytes")
        };
        Self {
            key_len: len(access.key.as_str()),
            owner_len: len(access.owner.as_str()),
            digest: access.digest,
            tenant,
            text: text.into(),
            narrowing: narrow.then(|| {
                Box::new(Narrowing {
                    features: access.features,
                    networks: access.networks,
                    limits: access.limits,
                    budget: access.budget.map(|key| key.as_str().into()),
                    paused: access.paused,
                })
            }),
            expires_at: access.expires_at.map_or(NEVER, Timestamp::as_millis),
            incarnation,
            loaded_at: AtomicI64::new(now.as_millis()),
            epoch: AtomicU32::new(UNTRACKED),
            generation: access.generation,
            role: access.role,
            revoked: access.revoked,
            suspect: AtomicBool::new(false),
        }
    }

    /// How much memory it takes, in bytes, about; its tenant is shared and not counted.
    pub(super) fn bytes(&self) -> usize {
        let narrowing = self
            .narrowing
            .as_ref()
            .map_or(0, |narrowing| narrowing.bytes());
        size_of::<Self>() + OVERHEAD + self.text.len() + narrowing
    }

    /// The whole HMAC of the token.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The tenant that owns it.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant.id
    }

    /// The key's id.
    pub fn key(&self) -> &str {
        &self.text[..usize::from(self.key_len)]
    }

    /// The user it belongs to.
    pub fn owner(&self) -> &str {
        &self.text
            [usize::from(self.key_len)..usize::from(self.key_len) + usize::from(self.owner_len)]
    }

    /// Its scopes in order, joined by commas; empty for none.
    pub fn scopes(&self) -> &str {
        &self.text[usize::from(self.key_len) + usize::from(self.owner_len)..]
    }

    /// What its holder may do on the admin API.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Which of the key's secrets.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Whether it never works again.
    pub fn is_revoked(&self) -> bool {
        self.revoked
    }

    /// When it stops working, if ever.
    pub fn expires_at(&self) -> Option<Timestamp> {
        (self.expires_at != NEVER).then(|| Timestamp::from_millis(self.expires_at))
    }

    /// That it does not work for a while, and how long.
    pub fn paused(&self) -> Option<PauseEnd> {
        self.narrowing.as_ref()?.paused
    }

    /// If set, only these of the tenant's features.
    pub fn features(&self) -> Option<&BTreeSet<Feature>> {
        self.narrowing.as_ref()?.features.as_ref()
    }

    /// If not empty, the only networks it may be used from.
    pub fn networks(&self) -> &[IpNet] {
        self.narrowing
            .as_ref()
            .map_or(&[], |narrowing| &narrowing.networks)
    }

    /// Limits of its own, beside its tenant's.
    pub fn limits(&self) -> &Limits {
        self.narrowing
            .as_ref()
            .map_or(&UNLIMITED, |narrowing| &narrowing.limits)
    }

    /// The id of the key that its limits are counted at.
    pub fn charged(&self) -> &str {
        let budget = self
            .narrowing
            .as_ref()
            .and_then(|few| few.budget.as_deref());
        budget.unwrap_or_else(|| self.key())
    }

    /// Whether this is a state of the same generation of the same key of the same incarnation of the tenant.
    pub(super) fn is_of(&self, access: &KeyAccess, incarnation: u64) -> bool {
        self.incarnation == incarnation
            && *self.tenant() == access.tenant
            && self.key() == access.key.as_str()
            && self.generation == access.generation
    }

    /// Whether both are states of the same generation of the same key of the same incarnation of the tenant.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.incarnation == other.incarnation
            && self.tenant() == other.tenant()
            && self.key() == other.key()
            && self.generation == other.generation
    }

    pub(super) fn slot(&self) -> &Arc<TenantSlot> {
        &self.tenant
    }

    /// Whether the tenant that is in memory is the one whose key it is.
    pub(super) fn is_of_the_tenant_in_memory(&self) -> bool {
        let tenant = self.tenant.state.load();
        tenant
            .as_ref()
            .is_some_and(|tenant| self.belongs_to(tenant))
    }

    /// Whether the tenant is the one whose key it is, not one that was made again under its name.
    pub(super) fn belongs_to(&self, tenant: &CachedTenant) -> bool {
        self.incarnation == tenant.incarnation()
    }

    pub(super) fn loaded_at(&self) -> Timestamp {
        Timestamp::from_millis(self.loaded_at.load(Ordering::Relaxed))
    }

    pub(super) fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Relaxed)
    }

    pub(super) fn confirm(&self, now: Timestamp, epoch: u32) {
        self.loaded_at.store(now.as_millis(), Ordering::Relaxed);
        self.epoch.store(epoch, Ordering::Relaxed);
        self.suspect.store(false, Ordering::Release);
    }

    pub(super) fn suspect(&self) {
        self.suspect.store(true, Ordering::Release);
    }

    pub(super) fn is_suspect(&self) -> bool {
        self.suspect.load(Ordering::Acquire)
    }
}

/// Where a tenant's state is, shared by all its cached keys: one change reaches them all.
pub(super) struct TenantSlot {
    pub(super) id: TenantId,
    pub(super) state: ArcSwapOption<CachedTenant>,
}

impl fmt::Debug for TenantSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TenantSlot({})", self.id)
    }
}

/// A tenant in memory.
pub struct CachedTenant {
    access: TenantAccess,
    /// From which its access is derived again when the plans change.
    overrides: Overrides,
    pub(super) data_key: Arc<DataKey>,
    /// The id of `data_key`: compared at each use of a key, so it is at hand.
    incarnation: u64,
    pub(super) loaded_at: AtomicI64,
    /// The epoch in which it was loaded.
    pub(super) epoch: AtomicU32,
    pub(super) suspect: AtomicBool,
    /// What a protocol has rendered of it, kept so that it is rendered once.
    rendered: OnceLock<[Bytes; 2]>,
}

impl fmt::Debug for CachedTenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CachedTenant({})", self.access.id)
    }
}

impl CachedTenant {
    pub(super) fn new(tenant: Tenant, plans: &Plans, data_key: DataKey, now: Timestamp) -> Self {
        let overrides = tenant.overrides();
        let plan = tenant.plan.as_ref().and_then(|plan| plans.get(plan));
        let holds = overrides.over(plan);
        let access = TenantAccess {
            id: tenant.id,
            display_name: tenant.display_name,
            status: tenant.status,
            plan: tenant.plan,
            features: holds.features,
            limits: holds.limits,
            plan_in_shadow: holds.plan_in_shadow,
            metadata: tenant.metadata,
            version: tenant.version,
        };
        Self {
            access,
            overrides,
            incarnation: data_key.id(),
            data_key: Arc::new(data_key),
            loaded_at: AtomicI64::new(now.as_millis()),
            epoch: AtomicU32::new(UNTRACKED),
            suspect: AtomicBool::new(false),
            rendered: OnceLock::new(),
        }
    }

    /// The same state under other plans.
    pub(super) fn under(&self, plans: &Plans) -> Self {
        let plan = self.access.plan.as_ref().and_then(|plan| plans.get(plan));
        let holds = self.overrides.over(plan);
        Self {
            access: TenantAccess {
                features: holds.features,
                limits: holds.limits,
                plan_in_shadow: holds.plan_in_shadow,
                ..self.access.clone()
            },
            overrides: self.overrides.clone(),
            incarnation: self.incarnation,
            data_key: Arc::clone(&self.data_key),
            loaded_at: AtomicI64::new(self.loaded_at.load(Ordering::Relaxed)),
            epoch: AtomicU32::new(self.epoch.load(Ordering::Relaxed)),
            suspect: AtomicBool::new(self.suspect.load(Ordering::Acquire)),
            rendered: OnceLock::new(),
        }
    }

    /// The id of its data key: one that was made again under the same name has another.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// What a decision rests on.
    pub fn access(&self) -> &TenantAccess {
        &self.access
    }

    /// What `render` made of this tenant the first time it was asked.
    pub fn rendered(&self, render: impl FnOnce(&TenantAccess) -> [Bytes; 2]) -> &[Bytes; 2] {
        self.rendered.get_or_init(|| render(&self.access))
    }
}
