//! One tenant `acme`, its keys, and everything from the registry to the `Check` service over a `FaultStore`.
//!
//! The registry reads the store below the faults: an operator's change is never held up by what a test does to
//! the reads of checks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use keystile::abuse::Blocks;
use keystile::authorizer::Authorizer;
use keystile::cache::{Cache, LoadError, Settings};
use keystile::clock::{Clock, ManualClock, SystemClock, Timestamp};
use keystile::crypto::digest::LookupKey;
use keystile::crypto::keyring::{Keyring, Ring};
use keystile::crypto::token::TokenPrefixes;
use keystile::domain::change::Actor;
use keystile::domain::key::LookupId;
use keystile::domain::name::{Description, DisplayName, KeyId, Owner, TenantId};
use keystile::domain::role::Role;
use keystile::domain::tenant::TenantStatus;
use keystile::ext_authz::{self, CheckService};
use keystile::registry::{self, Etag, NewKey, NewTenant, Registry};
use keystile::store::{IndexRow, Store, records};
use keystile::telemetry::metrics::Metrics;

use super::fault_store::FaultStore;

/// For gets that are expected to be answered.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a caller of the cache sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Works,
    Revoked,
    Suspended,
    Unknown,
    /// The store could not be asked, or not in time.
    Outage,
    /// What the store answered is not believed.
    Refused,
}

#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) id: KeyId,
    pub(crate) lookup: LookupId,
    pub(crate) token: String,
}

#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) store: Arc<FaultStore>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) cache: Arc<Cache>,
    pub(crate) settings: Settings,
    registry: Registry,
    lookup: Arc<LookupKey>,
    data: Arc<Keyring>,
}

pub(crate) fn acme() -> TenantId {
    TenantId::parse("acme").unwrap()
}

fn reason() -> Description {
    Description::parse("").unwrap()
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(Settings::default()).await
    }

    pub(crate) async fn with(settings: Settings) -> Self {
        let store = FaultStore::new();
        Self::build(store.beneath(), store, settings).await
    }

    /// The registry on one store, the checks on another that shows the same.
    pub(crate) async fn over(control: Arc<dyn Store>, checked: Arc<dyn Store>) -> Self {
        Self::build(control, FaultStore::over(checked), Settings::default()).await
    }

    async fn build(control: Arc<dyn Store>, store: Arc<FaultStore>, settings: Settings) -> Self {
        let shared: Arc<dyn Store> = Arc::clone(&store) as _;
        let clock = Arc::new(ManualClock::at(SystemClock.now()));
        let data = Arc::new(Keyring::generate(Ring::Data, clock.now(), &mut rand::rng()));
        let lookup = Arc::new(data.lookup_key().unwrap());
        let registry = Registry::new(
            control,
            Arc::clone(&data),
            None,
            Arc::clone(&lookup),
            Arc::clone(&clock) as _,
            registry::Settings::default(),
        );
        registry.set_key_rules(super::generous_rules());
        let cache = Cache::new(
            Arc::<dyn Store>::clone(&shared),
            Arc::clone(&data),
            BTreeMap::new(),
            settings,
        );
        let world = Self {
            store,
            clock,
            cache,
            settings,
            registry,
            lookup,
            data,
        };
        world.create_tenant().await;
        world
    }

    pub(crate) async fn create_tenant(&self) {
        self.create_tenant_named(acme()).await;
    }

    pub(crate) async fn create_tenant_named(&self, id: TenantId) {
        let new = NewTenant::named(id, DisplayName::parse("Acme").unwrap());
        let made = self.registry.create_tenant(&Actor::Operator, new).await;
        made.unwrap();
    }

    pub(crate) async fn create_key(&self) -> Made {
        self.create_key_until(None).await
    }

    pub(crate) async fn create_key_until(&self, expires_at: Option<Timestamp>) -> Made {
        let owner = Owner::parse("alice").unwrap();
        let mut new = NewKey::named(DisplayName::parse("ci").unwrap(), owner, Role::User);
        new.expires_at = expires_at;
        let made = self
            .registry
            .create_key(&Actor::Operator, &acme(), new)
            .await
            .unwrap();
        Made {
            id: made.key.id.clone(),
            lookup: self.lookup.digest(made.token.expose()).lookup_id(),
            token: made.token.expose().to_owned(),
        }
    }

    pub(crate) async fn revoke(&self, key: &Made) {
        self.registry
            .revoke_key(&Actor::Operator, &acme(), &key.id, None, &reason())
            .await
            .unwrap();
    }

    pub(crate) async fn suspend(&self) {
        self.registry
            .suspend_tenant(&Actor::Operator, &acme(), None, &reason())
            .await
            .unwrap();
    }

    pub(crate) async fn resume(&self) {
        self.registry
            .resume_tenant(&Actor::Operator, &acme(), None)
            .await
            .unwrap();
    }

    pub(crate) async fn delete_tenant(&self) {
        let current = Etag::of_tenant(&self.registry.tenant(&acme()).await.unwrap());
        self.registry
            .delete_tenant(&Actor::Operator, &acme(), current)
            .await
            .unwrap();
    }

    /// The index row that `key` would have, had its token been made a new key of the tenant `to`.
    pub(crate) async fn row_under(&self, key: &Made, to: &TenantId) -> IndexRow {
        let beneath = self.store.beneath();
        let open = async |tenant: &TenantId| {
            let row = beneath.tenant(tenant).await.unwrap().unwrap();
            records::open_tenant(&self.data, &row).unwrap().1
        };
        let row = beneath.key(&acme(), &key.id).await.unwrap().unwrap();
        let mut moved = records::open_key(&open(&acme()).await, &acme(), &row).unwrap();
        moved.tenant = to.clone();
        moved.id = KeyId::parse("another0key0of0same0").unwrap();
        let rows = records::seal_index(&open(to).await, &moved, &mut rand::rng());
        rows.into_iter().next().unwrap()
    }

    /// As long as entries are used without asking again.
    pub(crate) fn let_ttl_pass(&self) {
        self.clock.advance(self.settings.ttl);
    }

    pub(crate) async fn get(&self, key: &Made) -> Seen {
        self.get_id(key.lookup, PATIENCE).await
    }

    pub(crate) async fn get_within(&self, key: &Made, patience: Duration) -> Seen {
        self.get_id(key.lookup, patience).await
    }

    pub(crate) async fn get_id(&self, id: LookupId, patience: Duration) -> Seen {
        match self.cache.get(id, self.clock.now(), patience).await {
            Ok(None) => Seen::Unknown,
            Ok(Some(found)) if found.key.is_revoked() => Seen::Revoked,
            Ok(Some(found)) => match found.tenant.access().status {
                TenantStatus::Active => Seen::Works,
                TenantStatus::Suspended => Seen::Suspended,
            },
            Err(LoadError::Store(_) | LoadError::Timeout(_)) => Seen::Outage,
            Err(LoadError::Damaged(_) | LoadError::Record(_) | LoadError::Rollback { .. }) => {
                Seen::Refused
            }
        }
    }

    /// The same get on a task of its own.
    pub(crate) fn start_get(&self, key: &Made) -> tokio::task::JoinHandle<Seen> {
        let (world, key) = (self.clone(), key.clone());
        tokio::spawn(async move { world.get(&key).await })
    }

    pub(crate) fn authorizer(&self, store_timeout: Duration) -> Arc<Authorizer> {
        Arc::new(self.plain_authorizer(store_timeout))
    }

    /// One that counts who fails.
    pub(crate) fn strict_authorizer(&self, blocks: &Arc<Blocks>) -> Authorizer {
        self.plain_authorizer(PATIENCE)
            .with_blocks(Arc::clone(blocks))
    }

    fn plain_authorizer(&self, store_timeout: Duration) -> Authorizer {
        Authorizer::new(
            Arc::clone(&self.cache),
            Arc::clone(&self.lookup),
            TokenPrefixes::default(),
            Arc::clone(&self.clock) as _,
            store_timeout,
        )
    }

    pub(crate) fn service(
        &self,
        store_timeout: Duration,
        settings: ext_authz::Settings,
    ) -> CheckService {
        let metrics = Metrics::new().unwrap();
        CheckService::new(self.authorizer(store_timeout), settings, metrics)
    }
}

/// A lookup id that no token has.
pub(crate) fn nobody(number: u64) -> LookupId {
    let mut id = [0xEE; 16];
    id[8..].copy_from_slice(&number.to_be_bytes());
    LookupId(id)
}
