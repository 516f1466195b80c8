//! A control plane that dies at any command of a rotation: who asked asks another one again and gets a token that
//! works, the key is rotated once, and a revocation that follows reaches every token.

use std::sync::Arc;
use std::time::Duration;

use keystile::clock::{Clock as _, SystemClock};
use keystile::crypto::keyring::{Keyring, Ring};
use keystile::domain::change::Actor;
use keystile::domain::key::Key;
use keystile::domain::name::{Description, DisplayName, KeyId, Owner, TenantId};
use keystile::domain::role::Role;
use keystile::registry::{self, NewKey, NewTenant, Proven, Registry, RegistryError, RequestId};
use keystile::store::Store as _;
use keystile::store::redis::{Access, RedisStore, Settings};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use crate::harness::redis::RedisServer;
use crate::harness::redis::proxy::{Cut, Proxy};
use crate::store_contract::redis_address;

/// More commands than a rotation has, with what is read before it.
const COMMANDS_MAX: i64 = 20;
const HOUR: Duration = Duration::from_secs(60 * 60);
const HEALED_WITHIN: Duration = Duration::from_secs(20);

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
        let answered = timeout(Duration::from_secs(3), crashing.rotate(&id, self.grace)).await;
        let is_cut = proxy.disarm();
        drop(crashing);
        let answered = answered.ok().and_then(Result::ok);
        assert!(is_cut || answered.is_some(), "{self:?}");
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
        let begun = Instant::now();
        loop {
            for one in &key.generations {
                let row = healthy.store.index(one.lookup_id).await.unwrap();
                let version = row.map(|row| row.version);
                assert_eq!(version, Some(key.version), "{self:?}: {}", one.number);
            }
            // And stays so when what was begun is over.
            if begun.elapsed() > Duration::from_secs(3) {
                break;
            }
            sleep(Duration::from_millis(200)).await;
        }
        let found = healthy.proven(old).await.unwrap();
        assert!(!found.key.is_live(), "{self:?}");
        let live = healthy.store.live_keys(&acme(), [0; 16]).await.unwrap();
        let begun = Instant::now();
        while healthy.store.live_keys(&acme(), [0; 16]).await.unwrap().1 != 0 {
            assert!(begun.elapsed() < HEALED_WITHIN, "{self:?}: {live:?}");
            sleep(Duration::from_millis(50)).await;
        }
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
    let owner = Owner::parse("alice").unwrap();
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
                    cases.spawn(case.run(port));
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
