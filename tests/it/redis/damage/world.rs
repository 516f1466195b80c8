//! A control plane, a sidecar and somebody else on one Redis; tenants to be damaged, and one that must not notice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ::redis::aio::MultiplexedConnection;
use ::redis::{Cmd, FromRedisValue, cmd};
use keystile::cache::{Cache, Settings};
use keystile::check::background::{Background, Pace};
use keystile::clock::{Clock, ManualClock, SystemClock};
use keystile::crypto::keyring::{Keyring, Ring};
use keystile::domain::change::Actor;
use keystile::domain::key::LookupId;
use keystile::domain::limit::LimitName;
use keystile::domain::name::{Description, DisplayName, KeyId, Owner, TenantId};
use keystile::domain::role::Role;
use keystile::registry::{self, NewKey, NewTenant, Registry};
use keystile::store::Store;
use keystile::store::budgets::{BucketAsk, LeaseAsk, Settle, Settled, Terms};
use keystile::store::redis::{RedisStore, Topology};

use super::super::fleet::{Process, start};
use crate::harness::redis::{RedisServer, somebody};
use crate::harness::{PATIENCE, wait_within};
use crate::store_contract::redis_address;

pub(super) struct World {
    pub(super) control: Arc<dyn Store>,
    pub(super) registry: Registry,
    pub(super) clock: Arc<ManualClock>,
    keyring: Arc<Keyring>,
    lookup: Arc<keystile::crypto::digest::LookupKey>,
    sidecar: Arc<dyn Store>,
    somebody: MultiplexedConnection,
    messages: AtomicU64,
    _processes: [Process; 2],
    pub(super) server: RedisServer,
}

#[derive(Clone, Debug)]
pub(super) struct Made {
    pub(super) id: KeyId,
    pub(super) lookup: LookupId,
}

/// A tenant with a key that works and one that is revoked.
pub(super) struct Tenant {
    pub(super) id: TenantId,
    /// The id of its data key.
    pub(super) making: u64,
    pub(super) live: Made,
    pub(super) revoked: Made,
}

/// A window of quotas that does not end while a test runs, in ms since the epoch.
pub(super) const WINDOW: (i64, i64) = (1_000, 9_000_000_000_000);

impl World {
    pub(super) async fn new() -> Self {
        let server = RedisServer::start();
        let topology = Topology::Standalone(redis_address(server.port()));
        let control = start(topology.clone(), "ks:", None).await;
        let clock = Arc::new(ManualClock::at(SystemClock.now()));
        let keyring = Arc::new(Keyring::generate(Ring::Data, clock.now(), &mut rand::rng()));
        let lookup = Arc::new(keyring.lookup_key().unwrap());
        let store: Arc<dyn Store> = Arc::<RedisStore>::clone(&control.store);
        store.keyring_id(keyring.id()).await.unwrap();
        // Not before it is somebody's store: a sidecar's heartbeat without one is what is left of a lost one.
        let sidecar = start(topology, "ks:", Some("one")).await;
        let registry = Registry::new(
            Arc::clone(&store),
            Arc::clone(&keyring),
            None,
            Arc::clone(&lookup),
            Arc::clone(&clock) as _,
            registry::Settings::default(),
        );
        registry.set_key_rules(crate::support::generous_rules());
        Self {
            control: store,
            registry,
            clock,
            keyring,
            lookup,
            sidecar: Arc::<RedisStore>::clone(&sidecar.store),
            somebody: somebody(server.port()).await,
            messages: AtomicU64::new(1),
            _processes: [control, sidecar],
            server,
        }
    }

    /// As somebody who can reach Redis and is none of us.
    pub(super) async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> T {
        let answer = command.query_async(&mut self.somebody.clone()).await;
        answer.unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    pub(super) async fn tenant(&self, id: &str) -> Tenant {
        let id = TenantId::parse(id).unwrap();
        let new = NewTenant::named(id.clone(), DisplayName::parse("A tenant").unwrap());
        let made = self.registry.create_tenant(&Actor::Operator, new).await;
        made.unwrap();
        let [live, revoked] = [self.key(&id).await, self.key(&id).await];
        self.revoke(&id, &revoked.id).await.unwrap();
        let tenant = Tenant {
            making: self.dek_id(&id).await.parse().unwrap(),
            id,
            live,
            revoked,
        };
        assert!(self.spend(&tenant).await, "there is room for a request");
        tenant
    }

    /// Charges a request of the live key to every limit that there can be. Whether it was charged.
    pub(super) async fn spend(&self, tenant: &Tenant) -> bool {
        let ask = |limit: LimitName| BucketAsk {
            limit,
            terms: Terms {
                amount: u64::from(limit.window().is_none()),
                period: 1_000,
                burst: 1_000,
                window: limit.window().map(|_| WINDOW),
            },
            shadow: false,
            debt: 0,
            lease: Some(LeaseAsk {
                holder: "one".to_owned(),
                sequence: self.messages.fetch_add(1, Ordering::Relaxed),
                spent: 0,
                target: 10,
            }),
        };
        let call = Settle {
            incarnation: tenant.making,
            key: Some(tenant.live.id.to_string()),
            cost: 1,
            lease_ms: 60_000,
            buckets: LimitName::ALL.map(ask).to_vec(),
        };
        let settled = self.sidecar.settle(&tenant.id, &call).await;
        matches!(settled, Ok(Settled::Done { charged: true, .. }))
    }

    pub(super) async fn key(&self, tenant: &TenantId) -> Made {
        self.try_key(tenant).await.unwrap()
    }

    pub(super) async fn try_key(&self, tenant: &TenantId) -> Result<Made, String> {
        let owner = Owner::parse("alice").unwrap();
        let new = NewKey::named(DisplayName::parse("ci").unwrap(), owner, Role::User);
        let made = self.registry.create_key(&Actor::Operator, tenant, new);
        let made = made.await.map_err(|error| format!("{error:?}"))?;
        Ok(Made {
            id: made.key.id.clone(),
            lookup: self.lookup.digest(made.token.expose()).lookup_id(),
        })
    }

    pub(super) async fn revoke(&self, tenant: &TenantId, key: &KeyId) -> Result<(), String> {
        let reason = Description::parse("").unwrap();
        let revoked = self
            .registry
            .revoke_key(&Actor::Operator, tenant, key, None, &reason);
        revoked
            .await
            .map(drop)
            .map_err(|error| format!("{error:?}"))
    }

    pub(super) async fn forbid(&self, lookup: LookupId) -> bool {
        let reason = Description::parse("").unwrap();
        let forbidden = self.registry.forbid(&Actor::Operator, lookup, &reason);
        forbidden.await.unwrap()
    }

    /// What a control plane does to find damage.
    pub(super) fn background(&self, pace: Pace) -> Background {
        let (registry, keyring) = (self.registry.clone(), Arc::clone(&self.keyring));
        Background::new(registry, keyring, Arc::clone(&self.clock) as _, pace)
    }

    pub(super) async fn dump(&self, name: &str) -> Option<Vec<u8>> {
        self.ask(cmd("DUMP").arg(name)).await
    }

    pub(super) async fn restore(&self, name: &str, dump: Option<Vec<u8>>) {
        let mut restore = cmd("RESTORE");
        restore.arg(name).arg(0).arg(dump.unwrap()).arg("REPLACE");
        self.ask::<()>(&restore).await;
    }

    /// A sidecar that has seen nothing yet.
    pub(super) fn fresh(&self) -> Arc<Cache> {
        let settings = Settings::default();
        let keyring = Arc::clone(&self.keyring);
        Cache::new(
            Arc::<dyn Store>::clone(&self.sidecar),
            keyring,
            BTreeMap::new(),
            settings,
        )
    }

    /// Whether a Check with the key's token would be let pass.
    pub(super) async fn passes(&self, cache: &Cache, key: &Made) -> bool {
        let found = cache.get(key.lookup, self.clock.now(), PATIENCE).await;
        matches!(found, Ok(Some(found)) if !found.key.is_revoked())
    }

    /// Makes it look as if a change of the tenant had been interrupted long ago. The name to ask for afterwards.
    pub(super) async fn interrupt(&self, tenant: &TenantId, dek_id: &str) -> String {
        let mark = format!("{tenant}/{dek_id}/interrupted");
        let mut add = cmd("ZADD");
        let _: u64 = self
            .ask(add.arg("ks:{ks:tenants}:begun").arg(1).arg(&mark))
            .await;
        mark
    }

    pub(super) async fn dek_id(&self, tenant: &TenantId) -> String {
        let mut get = cmd("HGET");
        self.ask(get.arg(format!("ks:t:{{{tenant}}}")).arg("d"))
            .await
    }

    /// Waits until a control plane has done what was left to do.
    pub(super) async fn until_healed(&self, what: &str, mark: &str) {
        let mut score = cmd("ZSCORE");
        score.arg("ks:{ks:tenants}:begun").arg(mark);
        wait_within(3 * PATIENCE, what, async || {
            let score: Option<f64> = self.ask(&score).await;
            score.is_none().then_some(()).ok_or(mark)
        })
        .await;
    }
}
