//! Two control planes and three sidecars on a real Redis, and a tenant with one key whose shards fall back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use keystile::cache::{Cache, Settings};
use keystile::clock::{Clock as _, ManualClock, SystemClock, Timestamp};
use keystile::crypto::keyring::{Keyring, Ring};
use keystile::domain::change::Actor;
use keystile::domain::key::LookupId;
use keystile::domain::name::{DisplayName, Owner, TenantId};
use keystile::domain::role::Role;
use keystile::registry::{self, NewKey, NewTenant, Registry, RegistryError};
use keystile::store::redis::{RedisStore, Topology};
use keystile::store::{Store, StoreError};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::super::fleet::{Process, start, until_live};
use super::gate::Gate;
use super::shards::Shards;
use crate::harness::redis::{RedisServer, somebody};
use crate::harness::{PATIENCE, pass};
use crate::model::change::{Outcome, Target, judge_pass};
use crate::model::schedule::{CONTROL_PLANES, Change, Event, Part, SIDECARS, Schedule};
use crate::store_contract::redis_address;

/// More commands than any change sends.
const STEPS_MAX: usize = 200;
const NAMES: [&str; SIDECARS] = ["s0", "s1", "s2"];

/// What must not be.
pub(super) type Violation = String;

struct Control {
    gate: Gate,
    process: Process,
    running: Option<JoinHandle<Outcome>>,
    /// What was revoked in the index was lost since the change began.
    is_void: bool,
    /// How often each sidecar had been started when the change began.
    starts: [usize; SIDECARS],
}

impl Control {
    async fn start(port: u16) -> Self {
        let gate = Gate::start(port).await;
        let topology = Topology::Standalone(redis_address(gate.port()));
        Self {
            process: start(topology, "ks:", None).await,
            gate,
            running: None,
            is_void: false,
            starts: [0; SIDECARS],
        }
    }

    fn store(&self) -> Arc<dyn Store> {
        Arc::<RedisStore>::clone(&self.process.store)
    }
}

/// What all schedules share.
pub(super) struct Place {
    server: RedisServer,
    keyring: Arc<Keyring>,
    controls: Vec<Control>,
    sidecars: Vec<Process>,
    redis: ::redis::aio::MultiplexedConnection,
}

impl Place {
    pub(super) async fn new() -> Self {
        let server = RedisServer::start();
        let now = SystemClock.now();
        let keyring = Arc::new(Keyring::generate(Ring::Data, now, &mut rand::rng()));
        let mut controls = Vec::new();
        for _ in 0..CONTROL_PLANES {
            let control = Control::start(server.port()).await;
            control.store().keyring_id(keyring.id()).await.unwrap();
            controls.push(control);
        }
        let mut sidecars = Vec::new();
        for name in NAMES {
            let topology = Topology::Standalone(redis_address(server.port()));
            sidecars.push(start(topology, "ks:", Some(name)).await);
        }
        until_live(&controls[0].store(), &NAMES).await;
        Self {
            redis: somebody(server.port()).await,
            server,
            keyring,
            controls,
            sidecars,
        }
    }

    fn registry(&self, number: usize, clock: &Arc<ManualClock>) -> Registry {
        let registry = Registry::new(
            self.controls[number].store(),
            Arc::clone(&self.keyring),
            None,
            Arc::new(self.keyring.lookup_key().unwrap()),
            Arc::clone(clock) as _,
            registry::Settings::default(),
        );
        registry.set_key_rules(crate::support::generous_rules());
        registry
    }
}

struct Sidecar {
    cache: Arc<Cache>,
    clock: ManualClock,
    starts: usize,
    /// It has confirmed that it refuses these tokens.
    confirmed: BTreeSet<LookupId>,
}

pub(super) struct World<'a> {
    place: &'a mut Place,
    clocks: Vec<Arc<ManualClock>>,
    sidecars: Vec<Sidecar>,
    shards: Shards,
    target: Target,
    /// A revocation was acknowledged, and the index has kept it.
    is_revoked: bool,
    networks: u32,
}

/// Asks again while the store cannot be reached: a gate that was closed for long looks like that.
async fn until_answered<T>(
    mut ask: impl AsyncFnMut() -> Result<T, RegistryError>,
) -> Result<T, RegistryError> {
    let begun = Instant::now();
    loop {
        match ask().await {
            Err(RegistryError::Store(StoreError::Unavailable(_))) if begun.elapsed() < PATIENCE => {
                pass(Duration::from_millis(5), "until it is asked again").await;
            }
            answer => return answer,
        }
    }
}

impl<'a> World<'a> {
    pub(super) async fn new(place: &'a mut Place, number: u32, behind: u64) -> Self {
        let began = SystemClock.now();
        let clocks: Vec<_> = (0..CONTROL_PLANES as u64)
            .map(|number| began.minus(Duration::from_millis(behind * number)))
            .map(|now| Arc::new(ManualClock::at(now)))
            .collect();
        let registry = place.registry(0, &clocks[0]);
        let tenant = TenantId::parse(&format!("acme{number}")).unwrap();
        let name = DisplayName::parse("Acme").unwrap();
        until_answered(async || {
            let new = NewTenant::named(tenant.clone(), name.clone());
            registry.create_tenant(&Actor::Operator, new).await
        })
        .await
        .unwrap();
        let owner = Owner::parse("alice").unwrap();
        let mut new = NewKey::named(name, owner, Role::User);
        new.expires_at = Some(began.plus(Duration::from_secs(24 * 60 * 60)));
        let made = registry.create_key(&Actor::Operator, &tenant, new).await;
        let key = made.unwrap().key.id;
        let shards = Shards::new(place.redis.clone(), tenant.clone());
        let mut world = Self {
            place,
            clocks,
            sidecars: Vec::new(),
            shards,
            target: Target { tenant, key },
            is_revoked: false,
            networks: 0,
        };
        for number in 0..SIDECARS {
            let sidecar = world.sidecar(number, 0, began);
            world.sidecars.push(sidecar);
        }
        world.shards.keep().await;
        world
    }

    fn sidecar(&self, number: usize, starts: usize, now: Timestamp) -> Sidecar {
        let store: Arc<dyn Store> = Arc::<RedisStore>::clone(&self.place.sidecars[number].store);
        let keyring = Arc::clone(&self.place.keyring);
        Sidecar {
            cache: Cache::new(
                Arc::<dyn Store>::clone(&store),
                keyring,
                BTreeMap::new(),
                Settings::default(),
            ),
            clock: ManualClock::at(now),
            starts,
            confirmed: BTreeSet::new(),
        }
    }

    /// Whether a sidecar lets a token pass, and the network that it is bound to.
    async fn passes(&self, number: usize, token: LookupId) -> Option<String> {
        let sidecar = &self.sidecars[number];
        let now = sidecar.clock.now();
        let found = sidecar.cache.get(token, now, PATIENCE).await;
        let found = found.ok().flatten()?;
        let is_over = found.key.expires_at().is_some_and(|end| end <= now);
        let network = found.key.networks().first().map(ToString::to_string);
        (!found.key.is_revoked() && !is_over).then(|| network.unwrap_or_default())
    }

    /// Lets all that a sidecar has in memory grow too old.
    fn let_ttl_pass(&self, number: usize) {
        let ttl = Settings::default().ttl;
        self.sidecars[number].clock.advance(2 * ttl);
    }

    async fn check(&self, number: usize, is_anew: bool) -> Result<(), Violation> {
        let sidecar = &self.sidecars[number];
        if is_anew {
            self.let_ttl_pass(number);
        }
        let mut tokens: BTreeSet<_> = self.shards.lookup_ids().await.into_iter().collect();
        tokens.extend(&sidecar.confirmed);
        for token in tokens {
            if self.passes(number, token).await.is_none() {
                continue;
            }
            let is_confirmed = sidecar.confirmed.contains(&token);
            judge_pass(number, token, is_confirmed, self.is_revoked && is_anew)?;
        }
        Ok(())
    }

    fn begin(&mut self, number: usize, change: Change) {
        let registry = self.place.registry(number, &self.clocks[number]);
        let control = &mut self.place.controls[number];
        if control.running.is_some() {
            return;
        }
        let network = format!("10.0.0.{}/32", self.networks % 250 + 1);
        self.networks += 1;
        control.is_void = false;
        for (at, sidecar) in self.sidecars.iter().enumerate() {
            control.starts[at] = sidecar.starts;
        }
        control.gate.close();
        let target = self.target.clone();
        let running = async move { change.make(registry, &target, network).await };
        control.running = Some(tokio::spawn(running));
    }

    /// Lets a change send so many commands.
    async fn step(&mut self, number: usize, steps: usize) {
        for _ in 0..steps {
            let control = &mut self.place.controls[number];
            let Some(running) = &mut control.running else {
                return;
            };
            let begun = Instant::now();
            while !running.is_finished() && !control.gate.holds() {
                assert!(begun.elapsed() < PATIENCE, "a change does not go on");
                pass(
                    Duration::from_micros(200),
                    "between two of many short looks",
                )
                .await;
            }
            if running.is_finished() {
                let outcome = running.await.unwrap();
                control.running = None;
                control.gate.open();
                if let Outcome::Revoked(late) = outcome {
                    self.acknowledged(number, late).await;
                }
                return;
            }
            self.shards.keep().await;
            self.place.controls[number].gate.admit();
        }
    }

    async fn acknowledged(&mut self, number: usize, late: Option<Vec<String>>) {
        let control = &self.place.controls[number];
        self.is_revoked |= !control.is_void;
        let starts = control.starts;
        let Some(late) = late.filter(|_| self.is_revoked) else {
            return;
        };
        let tokens = self.shards.revoked().await;
        for (at, sidecar) in self.sidecars.iter_mut().enumerate() {
            if sidecar.starts == starts[at] && !late.iter().any(|name| name == NAMES[at]) {
                sidecar.confirmed.extend(&tokens);
            }
        }
    }

    async fn crash(&mut self, number: usize) {
        let control = &mut self.place.controls[number];
        if let Some(running) = control.running.take() {
            running.abort();
        }
        *control = Control::start(self.place.server.port()).await;
    }

    pub(super) async fn happen(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Begin(number, change) => self.begin(number, change),
            Event::Step(number, steps) => self.step(number, steps).await,
            Event::Finish(number) => self.finish(number).await,
            Event::Crash(number) => self.crash(number).await,
            // The worker of each control plane comes by when it is due.
            Event::Heal => {}
            Event::Check(number) => return self.check(number, false).await,
            Event::Reload(number) => return self.check(number, true).await,
            Event::Restart(number) => {
                let before = &self.sidecars[number];
                let (starts, now) = (before.starts + 1, before.clock.now());
                self.sidecars[number] = self.sidecar(number, starts, now);
            }
            Event::FallBack(part, changes) => self.fall_back(part, changes).await,
            Event::FallBackAll(changes) => {
                for part in Part::ALL {
                    self.fall_back(part, changes).await;
                }
            }
            Event::Wait(millis) => {
                let by = Duration::from_millis(millis);
                self.clocks.iter().for_each(|clock| clock.advance(by));
            }
        }
        Ok(())
    }

    async fn fall_back(&mut self, part: Part, changes: usize) {
        let lost = self.shards.fall_back(part, changes).await;
        if !lost.is_empty() {
            // What was acknowledged is lost, and may have been while it was looked for.
            self.is_revoked = false;
            for control in &mut self.place.controls {
                control.is_void = true;
            }
        }
    }

    async fn finish(&mut self, number: usize) {
        self.step(number, STEPS_MAX).await;
        assert!(
            self.place.controls[number].running.is_none(),
            "a change does not end"
        );
    }

    async fn come_to_rest(&mut self) {
        for number in 0..CONTROL_PLANES {
            self.finish(number).await;
        }
    }

    /// A change of networks is in force on every sidecar once it is acknowledged.
    async fn narrow_for_good(&self) -> Result<(), Violation> {
        let number = CONTROL_PLANES - 1;
        let registry = self.place.registry(number, &self.clocks[number]);
        let network = "192.0.2.0/24";
        let narrow = async || self.target.narrow(&registry, network.to_owned()).await;
        let key = match until_answered(narrow).await {
            Ok(key) => key,
            Err(RegistryError::KeyRevoked) => return Ok(()),
            Err(error) => return Err(format!("the key cannot be changed: {error:?}")),
        };
        for number in 0..SIDECARS {
            self.let_ttl_pass(number);
            for token in key.generations.iter().map(|one| one.lookup_id) {
                let passes = self.passes(number, token).await;
                if let Some(bound_to) = passes.filter(|is| is != network) {
                    return Err(format!(
                        "sidecar {number} lets {token} pass from {bound_to:?}"
                    ));
                }
            }
        }
        Ok(())
    }

    async fn revoke_for_good(&mut self) -> Result<(), Violation> {
        let registry = self.place.registry(0, &self.clocks[0]);
        let revoked = until_answered(async || self.target.revoke(&registry).await).await;
        revoked.map_err(|error| format!("the key cannot be revoked: {error:?}"))?;
        self.is_revoked = true;
        self.check_all().await
    }

    async fn check_all(&mut self) -> Result<(), Violation> {
        for number in 0..SIDECARS {
            self.check(number, true).await?;
        }
        // And one that has seen nothing of it.
        self.happen(Event::Restart(0)).await?;
        self.check(0, true).await
    }

    pub(super) async fn run(mut self, schedule: &Schedule) -> Result<(), Violation> {
        let whole = async {
            for event in &schedule.events {
                self.happen(*event).await?;
            }
            self.come_to_rest().await;
            self.narrow_for_good().await?;
            self.revoke_for_good().await?;
            for event in &schedule.after {
                self.happen(*event).await?;
            }
            self.come_to_rest().await;
            self.check_all().await
        };
        let run = timeout(2 * PATIENCE, whole).await;
        // One that went wrong may have left a change under way.
        for control in &mut self.place.controls {
            control.gate.open();
            if let Some(running) = control.running.take() {
                running.abort();
            }
        }
        run.unwrap_or_else(|_| Err("the schedule does not end".to_owned()))
    }
}
