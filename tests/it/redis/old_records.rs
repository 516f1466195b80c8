//! Records that were written before changes had ids are read, allow, can be changed and revoked, and have the new form
//! after that: of Redis with the rows as an older build left them, of the embedded file with the rows that it wrote.

use std::collections::BTreeMap;
use std::sync::Arc;

use ::redis::aio::MultiplexedConnection;
use ::redis::{Cmd, FromRedisValue, cmd};
use keystile::cache::{Cache, Settings};
use keystile::check::{Check, Mode};
use keystile::clock::{Clock as _, ManualClock, SystemClock};
use keystile::crypto::envelope::DataKey;
use keystile::crypto::keyring::{Keyring, Ring};
use keystile::domain::change::Actor;
use keystile::domain::key::{Key, KeyStatus, LookupId};
use keystile::domain::name::{Description, DisplayName, KeyId, Owner};
use keystile::domain::role::Role;
use keystile::registry::{self, NewKey, NewTenant, Registry, RegistryError};
use keystile::store::redb::EmbeddedStore;
use keystile::store::redis::{RedisStore, Topology};
use keystile::store::{CountChange, Expected, KeyCommit, TenantCommit, records};

use super::fleet::{Process, start};
use crate::harness::redis::{RedisServer, somebody};
use crate::harness::{PATIENCE, wait_until};
use crate::store_contract::redis_address;
use crate::store_contract::world::{ALICE, Shared, tenant};

/// What counted changes before there were ids.
const TENANT_WAS: u64 = 1;
const KEY_WAS: u64 = 2;

/// A tenant `acme` on some store, and what opens its records.
struct World {
    store: Shared,
    registry: Registry,
    clock: Arc<ManualClock>,
    keyring: Arc<Keyring>,
}

impl World {
    fn over(store: Shared, keyring: &Arc<Keyring>) -> Self {
        let clock = Arc::new(ManualClock::at(SystemClock.now()));
        let registry = Registry::new(
            Arc::clone(&store),
            Arc::clone(keyring),
            None,
            Arc::new(keyring.lookup_key().unwrap()),
            Arc::clone(&clock) as _,
            registry::Settings::default(),
        );
        registry.set_key_rules(crate::support::generous_rules());
        Self {
            store,
            registry,
            clock,
            keyring: Arc::clone(keyring),
        }
    }

    async fn create_tenant(&self) {
        let new = NewTenant::named(tenant("acme"), DisplayName::parse("Acme").unwrap());
        let made = self.registry.create_tenant(&Actor::Operator, new).await;
        made.unwrap();
    }

    async fn create_key(&self) -> KeyId {
        let owner = Owner::parse("alice").unwrap();
        let new = NewKey::named(DisplayName::parse("ci").unwrap(), owner, Role::User);
        let acme = tenant("acme");
        let made = self.registry.create_key(&Actor::Operator, &acme, new);
        made.await.unwrap().key.id
    }

    async fn key(&self, id: &KeyId) -> Key {
        self.registry.key(&tenant("acme"), id).await.unwrap()
    }

    async fn revoke(&self, id: &KeyId) {
        let reason = Description::parse("").unwrap();
        let revoked = self
            .registry
            .revoke_key(&Actor::Operator, &tenant("acme"), id, None, &reason)
            .await;
        revoked.unwrap();
    }

    async fn narrow(&self, id: &KeyId) -> Result<Key, RegistryError> {
        let set = |key: &mut Key| key.networks = vec!["192.0.2.0/24".parse().unwrap()];
        let (actor, acme, note) = (Actor::Operator, tenant("acme"), String::new());
        let narrowed = self.registry.update_key(&actor, &acme, id, None, note, set);
        narrowed.await
    }

    async fn suspend_and_resume(&self) {
        let (actor, acme) = (Actor::Operator, tenant("acme"));
        let reason = Description::parse("").unwrap();
        let suspended = self.registry.suspend_tenant(&actor, &acme, None, &reason);
        suspended.await.unwrap();
        self.registry
            .resume_tenant(&actor, &acme, None)
            .await
            .unwrap();
    }

    /// What a process that has seen nothing yet makes of a key: the networks that it may come from, if it may.
    async fn allowed(&self, store: &Shared, key: &Key) -> Option<Vec<String>> {
        let keyring = Arc::clone(&self.keyring);
        let cache = Cache::new(
            Arc::<dyn keystile::store::Store>::clone(store),
            keyring,
            BTreeMap::new(),
            Settings::default(),
        );
        let lookup_id = key.generations[0].lookup_id;
        let found = cache.get(lookup_id, self.clock.now(), PATIENCE).await;
        let found = found.unwrap().filter(|found| !found.key.is_revoked())?;
        let networks = found.key.networks().iter();
        Some(networks.map(ToString::to_string).collect())
    }

    async fn data_key(&self) -> (keystile::store::TenantRow, DataKey) {
        let row = self.store.tenant(&tenant("acme")).await.unwrap().unwrap();
        let (_, data_key) = records::open_tenant(&self.keyring, &row).unwrap();
        (row, data_key)
    }

    /// The tenant's row as it was before there were ids.
    async fn old_tenant(&self) -> keystile::store::TenantRow {
        let (row, data_key) = self.data_key().await;
        let (mut acme, _) = records::open_tenant(&self.keyring, &row).unwrap();
        acme.version = TENANT_WAS.into();
        let wrapped = records::WrappedKeys {
            data: row.data_dek,
            vault: row.vault_dek,
        };
        records::seal_tenant(&data_key, &acme, &wrapped, &mut rand::rng())
    }

    /// The commit of a key at `version` as it was then.
    async fn old_key(&self, mut key: Key, version: u64) -> KeyCommit {
        let (_, data_key) = self.data_key().await;
        key.version = version.into();
        KeyCommit {
            tenant: tenant("acme"),
            dek_id: data_key.id(),
            expected: Expected::New,
            row: records::seal_key(&data_key, &key, &mut rand::rng()),
            index: records::seal_index(&data_key, &key, &mut rand::rng()),
            drop: Vec::new(),
            count: CountChange::None,
            owner_tag: ALICE,
            audit: b"old".to_vec(),
            request: None,
        }
    }

    /// All that holds of old records wherever they are: `sidecar` reads what `self` changes.
    async fn check_old(&self, sidecar: &Shared, [live, other, revoked]: [&KeyId; 3]) {
        for id in [live, other, revoked] {
            assert_eq!(self.key(id).await.version, KEY_WAS.into());
        }
        let [live_key, other_key, revoked_key] = [
            self.key(live).await,
            self.key(other).await,
            self.key(revoked).await,
        ];
        assert_eq!(self.allowed(sidecar, &live_key).await, Some(Vec::new()));
        assert_eq!(self.allowed(sidecar, &other_key).await, Some(Vec::new()));
        assert_eq!(self.allowed(sidecar, &revoked_key).await, None);

        let narrowed = self.narrow(live).await.unwrap();
        let network = vec!["192.0.2.0/24".to_owned()];
        assert_eq!(self.allowed(sidecar, &live_key).await, Some(network));
        self.revoke(other).await;
        assert_eq!(self.allowed(sidecar, &other_key).await, None);
        // Again: it is revoked, and stays so.
        self.revoke(revoked).await;
        assert_eq!(self.allowed(sidecar, &revoked_key).await, None);
        assert!(matches!(
            self.narrow(revoked).await,
            Err(RegistryError::KeyRevoked)
        ));
        self.suspend_and_resume().await;

        for id in [live, other] {
            let row = self.store.key(&tenant("acme"), id).await.unwrap().unwrap();
            assert!(row.version.change != 0 && row.version.order > KEY_WAS);
            let entry = self.store.index(narrowed_place(&self.key(id).await)).await;
            assert_eq!(entry.unwrap().unwrap().version, row.version);
        }
        let (row, _) = self.data_key().await;
        assert!(row.version.change != 0 && row.version.order > TENANT_WAS);
        assert_eq!(self.key(live).await, narrowed);
    }
}

fn narrowed_place(key: &Key) -> LookupId {
    key.generations[0].lookup_id
}

fn keyring() -> Arc<Keyring> {
    let now = SystemClock.now();
    Arc::new(Keyring::generate(Ring::Data, now, &mut rand::rng()))
}

#[tokio::test]
async fn an_embedded_store_of_before_changes_had_ids_is_used_on() {
    let keyring = keyring();
    let made: Shared = Arc::new(EmbeddedStore::in_memory().unwrap());
    let made = World::over(made, &keyring);
    made.create_tenant().await;
    let [live, other, revoked] = [
        made.create_key().await,
        made.create_key().await,
        made.create_key().await,
    ];
    made.revoke(&revoked).await;
    let store: Shared = Arc::new(EmbeddedStore::in_memory().unwrap());
    let old = World::over(Arc::clone(&store), &keyring);
    let acme = TenantCommit {
        expected: Expected::New,
        row: made.old_tenant().await,
        audit: b"old".to_vec(),
        request: None,
    };
    store.commit_tenant(acme).await.unwrap();
    for id in [&live, &other, &revoked] {
        let mut commit = made.old_key(made.key(id).await, KEY_WAS).await;
        // Then it was in the seal alone.
        commit.index.iter_mut().for_each(|row| row.revoked = false);
        store.commit_key(commit).await.unwrap();
    }
    old.check_old(&store, [&live, &other, &revoked]).await;
}

/// A control plane and a sidecar on a Redis with records of before.
struct OldRedis {
    world: World,
    sidecar: Shared,
    somebody: MultiplexedConnection,
    _processes: [Process; 2],
    _server: RedisServer,
}

impl OldRedis {
    async fn new() -> Self {
        let server = RedisServer::start();
        let topology = Topology::Standalone(redis_address(server.port()));
        let control = start(topology.clone(), "ks:", None).await;
        let keyring = keyring();
        let store: Shared = Arc::<RedisStore>::clone(&control.store);
        store.keyring_id(keyring.id()).await.unwrap();
        let sidecar = start(topology, "ks:", Some("one")).await;
        let world = World::over(store, &keyring);
        world.create_tenant().await;
        Self {
            world,
            sidecar: Arc::<RedisStore>::clone(&sidecar.store),
            somebody: somebody(server.port()).await,
            _processes: [control, sidecar],
            _server: server,
        }
    }

    async fn ask<T: FromRedisValue>(&self, command: &mut Cmd) -> T {
        let answer = command.query_async(&mut self.somebody.clone()).await;
        answer.unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    async fn age_tenant(&self) {
        let row = self.world.old_tenant().await;
        let name = "ks:t:{acme}";
        let _: u64 = self
            .ask(
                cmd("HSET")
                    .arg(name)
                    .arg("v")
                    .arg(TENANT_WAS)
                    .arg("b")
                    .arg(row.body),
            )
            .await;
        let _: u64 = self.ask(cmd("HDEL").arg(name).arg("n")).await;
    }

    async fn age_key(&self, id: &KeyId) {
        let commit = self.world.old_key(self.world.key(id).await, KEY_WAS).await;
        let stored = [format!("{KEY_WAS}\n").as_bytes(), &commit.row.body].concat();
        let _: u64 = self
            .ask(
                cmd("HSET")
                    .arg("ks:k:{acme}:keys")
                    .arg(id.as_str())
                    .arg(stored),
            )
            .await;
        for row in &commit.index {
            let name = format!("ks:i:{{{}}}", row.lookup_id);
            let _: u64 = self
                .ask(
                    cmd("HSET")
                        .arg(&name)
                        .arg("v")
                        .arg(KEY_WAS)
                        .arg("b")
                        .arg(&row.body),
                )
                .await;
            let _: u64 = self.ask(cmd("HDEL").arg(&name).arg("n").arg("r")).await;
        }
    }

    /// A list as scripts keep it.
    async fn keep(&self, hash: &str, field: &[u8], list: &[&[u8]]) {
        let pack = "local list = {} for at = 2, #ARGV do list[at - 1] = ARGV[at] end \
            return redis.call('HSET', KEYS[1], ARGV[1], cmsgpack.pack(list))";
        let _: u64 = self
            .ask(cmd("EVAL").arg(pack).arg(1).arg(hash).arg(field).arg(list))
            .await;
    }

    /// Makes it look as if changes of the tenant had been interrupted long ago.
    async fn interrupt(&self) {
        let (row, _) = self.world.data_key().await;
        let mark = format!("acme/{}/interrupted", row.dek_id);
        let begun = "ks:{ks:tenants}:begun";
        let _: u64 = self.ask(cmd("ZADD").arg(begun).arg(1).arg(mark)).await;
    }

    async fn has(&self, hash: &str) -> bool {
        self.ask::<u64>(cmd("HLEN").arg(hash)).await > 0
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_redis_of_before_changes_had_ids_is_used_on() {
    let old = OldRedis::new().await;
    let world = &old.world;
    let [live, other, revoked] = [
        world.create_key().await,
        world.create_key().await,
        world.create_key().await,
    ];
    world.revoke(&revoked).await;
    old.age_tenant().await;
    for id in [&live, &other, &revoked] {
        old.age_key(id).await;
    }
    let (registry, keyring) = (world.registry.clone(), Arc::clone(&world.keyring));
    let checked = Check::new(registry, keyring, Mode::Check, world.clock.now());
    let report = checked.run(&|_, _| {}).await.unwrap();
    assert_eq!(report.findings, []);
    world
        .check_old(&old.sidecar, [&live, &other, &revoked])
        .await;
    let fields = |key: &Key| format!("ks:i:{{{}}}", key.generations[0].lookup_id);
    for (id, is_revoked) in [(&live, false), (&other, true)] {
        let name = fields(&world.key(id).await);
        let there: Vec<Option<String>> = old.ask(cmd("HMGET").arg(&name).arg("n").arg("r")).await;
        assert!(there[0].is_some(), "{name} has the id of the change");
        assert_eq!(there[1].is_some(), is_revoked, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn changes_that_a_build_of_before_ids_had_begun_are_ended() {
    let old = OldRedis::new().await;
    let world = &old.world;
    let [narrowed, revoked] = [world.create_key().await, world.create_key().await];
    old.age_tenant().await;
    for id in [&narrowed, &revoked] {
        old.age_key(id).await;
    }
    let next = KEY_WAS + 1;
    let text = next.to_string();

    // An update that is decided, and whose index entry waits.
    let mut key = world.key(&narrowed).await;
    key.networks = vec!["192.0.2.0/24".parse().unwrap()];
    let commit = world.old_key(key.clone(), next).await;
    let stored = [format!("{next}\n").as_bytes(), &commit.row.body].concat();
    let _: u64 = old
        .ask(
            cmd("HSET")
                .arg("ks:k:{acme}:keys")
                .arg(narrowed.as_str())
                .arg(stored),
        )
        .await;
    let entry = &commit.index[0];
    let write: [&[u8]; 4] = [
        text.as_bytes(),
        narrowed.as_str().as_bytes(),
        &entry.body,
        b"an old change",
    ];
    old.keep("ks:k:{acme}:outbox", &entry.lookup_id.0, &write)
        .await;

    // A revocation that is kept, and is nowhere else yet.
    let mut gone = world.key(&revoked).await;
    gone.status = KeyStatus::Revoked {
        at: world.clock.now(),
        reason: Description::parse("").unwrap(),
    };
    let commit = world.old_key(gone.clone(), next).await;
    let (dek_id, was) = (commit.dek_id.to_string(), KEY_WAS.to_string());
    let entry = &commit.index[0];
    let kept: [&[u8]; 18] = [
        dek_id.as_bytes(),
        was.as_bytes(),
        revoked.as_str().as_bytes(),
        text.as_bytes(),
        &commit.row.body,
        b"remove",
        b"0",
        &ALICE,
        b"old",
        b"",
        b"0",
        b"0",
        b"",
        b"1",
        b"another old change",
        &entry.lookup_id.0,
        text.as_bytes(),
        &entry.body,
    ];
    old.keep("ks:k:{acme}:revoking", revoked.as_str().as_bytes(), &kept)
        .await;

    old.interrupt().await;
    wait_until("they are ended", async || {
        !old.has("ks:k:{acme}:outbox").await && !old.has("ks:k:{acme}:revoking").await
    })
    .await;
    let network = vec!["192.0.2.0/24".to_owned()];
    assert_eq!(world.allowed(&old.sidecar, &key).await, Some(network));
    assert_eq!(world.allowed(&old.sidecar, &gone).await, None);
    assert!(world.key(&revoked).await.is_revoked());
    assert!(matches!(
        world.narrow(&revoked).await,
        Err(RegistryError::KeyRevoked)
    ));
    world.revoke(&narrowed).await;
    assert_eq!(world.allowed(&old.sidecar, &key).await, None);
}
