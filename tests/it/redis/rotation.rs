//! A control plane that dies at any command of a rotation: who asked asks another one again and gets a token that
//! works, the key is rotated once, and a revocation that follows reaches every token.

use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::cmd;
use keystile::clock::{Clock as _, SystemClock};
use keystile::crypto::keyring::{Keyring, Ring};
use keystile::domain::change::Actor;
use keystile::domain::key::{Delivery, Key};
use keystile::domain::name::{Description, DisplayName, KeyId, Owner, PlanName, TenantId};
use keystile::domain::plan::{Plan, Rotation};
use keystile::domain::role::Role;
use keystile::registry::{self, NewKey, NewTenant, Proven, Registry, RegistryError, RequestId};
use keystile::store::redis::{Access, RedisStore, Settings};
use keystile::store::{Leases as _, Records as _};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::harness::redis::proxy::{Cut, Proxy};
use crate::harness::redis::{RedisServer, somebody};
use crate::harness::{PATIENCE, pass, wait_until};
use crate::store_contract::redis_address;

/// More commands than a rotation has, with what is read before it.
const COMMANDS_MAX: i64 = 20;
/// How many cases run side by side.
const AT_ONCE: usize = 40;
const HOUR: Duration = Duration::from_secs(60 * 60);

fn acme() -> TenantId {
    TenantId::parse("acme").unwrap()
}

/// What the control planes of a case share.
struct Rings {
    data: Arc<Keyring>,
    vault: Arc<Keyring>,
}

impl Rings {
    fn new() -> Self {
        let ring = |kind| Arc::new(Keyring::generate(kind, SystemClock.now(), &mut rand::rng()));
        Self {
            data: ring(Ring::Data),
            vault: ring(Ring::Vault),
        }
    }
}

/// A control plane: its store, its registry, its work in the background.
struct Control {
    store: Arc<RedisStore>,
    prefix: String,
    /// Somebody who looks at the same Redis.
    somebody: MultiplexedConnection,
    registry: Registry,
    running: JoinHandle<()>,
}

impl Control {
    async fn start(port: u16, prefix: &str, rings: &Rings) -> Self {
        let settings = Settings {
            prefix: prefix.to_owned(),
            ..Settings::standalone(redis_address(port))
        };
        let store = RedisStore::new(settings, Access::Write);
        let running = tokio::spawn(Arc::clone(&store).run());
        store.connect().await.unwrap();
        let registry = Registry::new(
            Arc::clone(&store) as _,
            Arc::clone(&rings.data),
            Some(Arc::clone(&rings.vault)),
            Arc::new(rings.data.lookup_key().unwrap()),
            Arc::new(SystemClock),
            registry::Settings::default(),
        );
        Self {
            store,
            prefix: prefix.to_owned(),
            somebody: somebody(port).await,
            registry,
            running,
        }
    }

    async fn rotate(&self, id: &KeyId, grace: Duration) -> Result<(Key, String), RegistryError> {
        let request = RequestId::new("f81d4fae-7dec-4d0a-a765-00a0c91e6bf6", b"rotate").unwrap();
        let (tenant, actor) = (acme(), Actor::Operator);
        let made = self
            .registry
            .rotate_key(&actor, &tenant, id, grace, None, Some(&request))
            .await?;
        Ok((made.key, made.token.expose().to_owned()))
    }

    /// How many changes are under way.
    async fn begun(&self) -> u64 {
        let mut count = cmd("ZCARD");
        let prefix = &self.prefix;
        count.arg(format!("{prefix}{{{prefix}tenants}}:begun"));
        let answer = count.query_async(&mut self.somebody.clone()).await;
        answer.unwrap()
    }

    async fn proven(&self, token: &str) -> Option<Proven> {
        self.registry.prove(token).await.unwrap()
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// What follows the crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    AskAgain,
    Revoke,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    grace: Duration,
    then: Then,
    cut: Cut,
    number: i64,
}

impl Case {
    /// Answers whether the control plane was cut off.
    async fn run(self, port: u16) -> bool {
        let prefix = format!("{self:?}:");
        let rings = Rings::new();
        let healthy = Control::start(port, &prefix, &rings).await;
        let (id, old) = make_key(&healthy.registry).await;

        let proxy = Proxy::start(port, self.cut).await;
        let crashing = Control::start(proxy.port(), &prefix, &rings).await;
        proxy.arm(self.number);
        let answered = timeout(PATIENCE, crashing.rotate(&id, self.grace)).await;
        let is_cut = proxy.disarm();
        drop(crashing);
        assert!(
            is_cut || matches!(answered, Ok(Ok(_))),
            "{self:?}: {answered:?}"
        );
        let answered = answered.ok().and_then(Result::ok);
        match self.then {
            Then::AskAgain => self.ask_again(&healthy, &id, &old, answered).await,
            Then::Revoke => self.revoke(&healthy, &id, &old).await,
        }
        is_cut
    }

    async fn ask_again(
        self,
        healthy: &Control,
        id: &KeyId,
        old: &str,
        answered: Option<(Key, String)>,
    ) {
        let (key, new) = healthy.rotate(id, self.grace).await.unwrap();
        if let Some((_, first)) = answered {
            assert_eq!(new, first, "{self:?}: the answer that was given");
        }
        // Both at once, nothing waited for: a sidecar would find what is found here.
        let now = SystemClock.now();
        let found = healthy.proven(&new).await;
        let found = found.unwrap_or_else(|| panic!("{self:?}: the new token works"));
        assert_eq!(found.expires_at, None, "{self:?}");
        let before = healthy.proven(old).await;
        let before = before.unwrap_or_else(|| panic!("{self:?}: the old token is remembered"));
        let end = before.expires_at.unwrap();
        assert_eq!(end > now, !self.grace.is_zero(), "{self:?}: {end}");
        let numbers: Vec<_> = key.generations.iter().map(|one| one.number).collect();
        assert_eq!(numbers, [1, 2], "{self:?}: once");
        let audit = healthy.store.audit(&acme(), 100).await.unwrap();
        assert_eq!(audit.len(), 3, "{self:?}: tenant, key, rotation");
    }

    async fn revoke(self, healthy: &Control, id: &KeyId, old: &str) {
        let reason = Description::parse("").unwrap();
        let revoked = healthy
            .registry
            .revoke_key(&Actor::Operator, &acme(), id, None, &reason)
            .await;
        let key = revoked
            .unwrap_or_else(|error| panic!("{self:?}: {error}"))
            .key;
        let is_in_index = async || {
            for one in &key.generations {
                let row = healthy.store.index(one.lookup_id).await.unwrap();
                let version = row.map(|row| row.version);
                assert_eq!(version, Some(key.version), "{self:?}: {}", one.number);
            }
        };
        // And stays so until what was begun is over.
        wait_until("what was begun is over", async || {
            is_in_index().await;
            let left = healthy.begun().await;
            (left == 0).then_some(()).ok_or((self, left))
        })
        .await;
        is_in_index().await;
        let found = healthy.proven(old).await.unwrap();
        assert!(!found.key.is_live(), "{self:?}");
        wait_until("the key counts no more", async || {
            let live = healthy.store.live_keys(&acme(), [0; 16]).await.unwrap();
            (live.1 == 0).then_some(()).ok_or((self, live))
        })
        .await;
        let refused = healthy.rotate(id, self.grace).await;
        let rotated_before = key.generations.len() == 2;
        match refused {
            // The first answer again, of a key that is revoked now.
            Ok((key, _)) => assert!(rotated_before && !key.is_live(), "{self:?}"),
            Err(RegistryError::KeyRevoked) => assert!(!rotated_before, "{self:?}"),
            Err(other) => panic!("{self:?}: {other}"),
        }
    }
}

async fn make_key(registry: &Registry) -> (KeyId, String) {
    let name = DisplayName::parse("Acme").unwrap();
    let made = registry.create_tenant(&Actor::Operator, NewTenant::named(acme(), name));
    made.await.unwrap();
    add_key(registry).await
}

async fn add_key(registry: &Registry) -> (KeyId, String) {
    // Each of an owner of its own: how many one may have does not matter here.
    let owner = Owner::parse(&format!("owner-{}", rand::random::<u32>())).unwrap();
    let new = NewKey::named(DisplayName::parse("ci").unwrap(), owner, Role::User);
    let tenant = acme();
    let made = registry.create_key(&Actor::Operator, &tenant, new);
    let made = made.await.unwrap();
    (made.key.id, made.token.expose().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_rotation_that_is_cut_off_anywhere_is_done_once_and_can_be_revoked() {
    let server = RedisServer::start();
    let port = server.port();
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut cases = JoinSet::new();
    for grace in [Duration::ZERO, HOUR] {
        for then in [Then::AskAgain, Then::Revoke] {
            for cut in [Cut::Before, Cut::After] {
                for number in 1..=COMMANDS_MAX {
                    let case = Case {
                        grace,
                        then,
                        cut,
                        number,
                    };
                    let turns = Arc::clone(&turns);
                    cases.spawn(async move {
                        let _turn = turns.acquire().await.unwrap();
                        case.run(port).await
                    });
                }
            }
        }
    }
    let mut cuts = 0;
    let mut whole = 0;
    while let Some(case) = cases.join_next().await {
        match case.unwrap() {
            true => cuts += 1,
            false => whole += 1,
        }
    }
    assert!(cuts >= 8 * 10, "too few commands were cut: {cuts}");
    assert!(whole >= 8 * 2, "more commands than were tried: {whole}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_several_control_planes_one_leads_and_each_key_is_rotated_once() {
    let server = RedisServer::start();
    let rings = Rings::new();
    let mut planes = Vec::new();
    for _ in 0..3 {
        planes.push(Control::start(server.port(), "several:", &rings).await);
    }
    let first = &planes[0].registry;
    let plan = PlanName::parse("pro").unwrap();
    let name = DisplayName::parse("Acme").unwrap();
    let mut new = NewTenant::named(acme(), name);
    new.plan = Some(plan.clone());
    first.create_tenant(&Actor::Operator, new).await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..40 {
        ids.push(add_key(first).await.0);
    }
    let rotation = Some(Rotation {
        every: Duration::from_secs(1),
        grace: HOUR,
    });
    let stop = CancellationToken::new();
    let mut running = JoinSet::new();
    for plane in &planes {
        let plan = Plan {
            rotation,
            ..Plan::default()
        };
        let plans = [(PlanName::parse("pro").unwrap(), plan)];
        plane.registry.set_plans(plans.into());
        let looking = plane.registry.clone().keep_rotating(stop.clone());
        running.spawn(looking);
    }
    let rotated = || {
        let of = |plane: &Control| plane.registry.rotations().counts()[0].1;
        planes.iter().map(of).collect::<Vec<_>>()
    };
    wait_until("every key is rotated", async || {
        let all = rotated();
        (all.iter().sum::<u64>() >= 40).then_some(()).ok_or(all)
    })
    .await;
    let twice = Duration::from_millis(2_500);
    pass(twice, "time for others to do it again, if they would").await;
    stop.cancel();
    running.join_all().await;
    let leaders = rotated().into_iter().filter(|count| *count > 0).count();
    assert_eq!((leaders, rotated().iter().sum::<u64>()), (1, 40));
    for id in ids {
        let key = first.key(&acme(), &id).await.unwrap();
        let current = key.current().unwrap();
        assert_eq!((current.number, current.delivery), (2, Delivery::Waiting));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_is_one_holders_until_it_runs_out() {
    let server = RedisServer::start();
    let control = Control::start(server.port(), "lease:", &Rings::new()).await;
    let store = &control.store;
    let (short, long) = (Duration::from_millis(300), HOUR);
    let ask = async |holder, length| store.lease("test", holder, length).await.unwrap();
    assert!(ask("one", long).await);
    assert!(!ask("two", long).await);
    let begun = Instant::now();
    assert!(ask("one", short).await, "its holder has it again");
    let another = ask("two", short).await;
    assert!(!another || begun.elapsed() >= short, "it ran for less");
    assert!(store.lease("another", "two", short).await.unwrap());
    wait_until("the lease ends", async || ask("two", long).await).await;
    assert!(!ask("one", long).await);
}
