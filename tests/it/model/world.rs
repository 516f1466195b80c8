//! Control planes and sidecars over one cluster, as a schedule has them act, and what must hold.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Waker};
use std::time::Duration;

use keystile::cache::{Cache, Settings};
use keystile::clock::{Clock as _, ManualClock, Timestamp};
use keystile::crypto::keyring::{Keyring, Ring};
use keystile::domain::change::Actor;
use keystile::domain::key::LookupId;
use keystile::domain::name::{DisplayName, Owner, TenantId};
use keystile::domain::role::Role;
use keystile::registry::{self, NewKey, NewTenant, Registry, RegistryError};
use keystile::store::Store;

use super::change::{Outcome, Target, judge_pass};
use super::cluster::{Cluster, Contents, View};
use super::schedule::{CONTROL_PLANES, Change, Event, Part, SIDECARS, Schedule};

const BEGAN: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const DAY: u64 = 86_400_000;
/// More steps than any change takes.
const STEPS_MAX: usize = 2_000;
const PATIENCE: Duration = Duration::from_secs(60);

type Running = Pin<Box<dyn Future<Output = Outcome>>>;

fn acme() -> TenantId {
    TenantId::parse("acme").unwrap()
}

/// Polls once.
fn poll<T>(future: &mut Pin<Box<dyn Future<Output = T> + '_>>) -> Option<T> {
    let mut context = Context::from_waker(Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(value) => Some(value),
        std::task::Poll::Pending => None,
    }
}

/// Lets one act alone until it is done. None: it waits for somebody else.
fn alone<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future: Pin<Box<dyn Future<Output = T> + '_>> = Box::pin(future);
    (0..STEPS_MAX).find_map(|_| poll(&mut future))
}

/// A cluster with a tenant and a key, to begin every schedule with.
struct Beginning {
    keyring: Arc<Keyring>,
    contents: Contents,
    target: Target,
}

fn registry_over(
    cluster: &Arc<Cluster>,
    keyring: &Arc<Keyring>,
    clock: &Arc<ManualClock>,
) -> Registry {
    let view = View {
        cluster: Arc::clone(cluster),
        sidecar: None,
    };
    let registry = Registry::new(
        Arc::new(view),
        Arc::clone(keyring),
        None,
        Arc::new(keyring.lookup_key().unwrap()),
        Arc::clone(clock) as _,
        registry::Settings::default(),
    );
    registry.set_key_rules(crate::support::generous_rules());
    registry
}

static BEGINNING: LazyLock<Beginning> = LazyLock::new(|| {
    let keyring = Arc::new(Keyring::generate(Ring::Data, BEGAN, &mut rand::rng()));
    let cluster = Cluster::new();
    let clock = Arc::new(ManualClock::at(BEGAN));
    let registry = registry_over(&cluster, &keyring, &clock);
    let name = DisplayName::parse("Acme").unwrap();
    let tenant = NewTenant::named(acme(), name.clone());
    let made = alone(registry.create_tenant(&Actor::Operator, tenant));
    made.unwrap().unwrap();
    let mut new = NewKey::named(name, Owner::parse("alice").unwrap(), Role::User);
    new.expires_at = Some(BEGAN.plus(Duration::from_millis(DAY)));
    let made = alone(registry.create_key(&Actor::Operator, &acme(), new));
    Beginning {
        keyring,
        contents: cluster.contents(),
        target: Target {
            tenant: acme(),
            key: made.unwrap().unwrap().key.id,
        },
    }
});

struct Control {
    registry: Registry,
    clock: Arc<ManualClock>,
    running: Option<Running>,
    /// What was revoked in the index was lost since the change began.
    is_void: bool,
    /// What runs binds the key to a network.
    narrows: bool,
    /// Since it began something has fallen back, or another one has bound the key: which network holds is not known.
    is_in_doubt: bool,
    /// How often each sidecar had been started when the change began.
    starts: [usize; SIDECARS],
}

struct Sidecar {
    cache: Arc<Cache>,
    starts: usize,
    /// It has confirmed that it refuses these tokens.
    confirmed: BTreeSet<LookupId>,
}

pub(super) struct World {
    cluster: Arc<Cluster>,
    clock: ManualClock,
    controls: Vec<Control>,
    sidecars: Vec<Sidecar>,
    /// A revocation was acknowledged, and the index shard has kept it.
    is_revoked: bool,
    /// To which network the key is bound by an acknowledged change, and which tokens.
    bound: Option<(String, Vec<LookupId>)>,
    networks: u32,
}

/// What must not be.
pub(super) type Violation = String;

impl World {
    pub(super) fn new(behind: u64) -> Self {
        let cluster = Cluster::of(BEGINNING.contents.clone());
        let control = |number: usize| {
            let skew = Duration::from_millis(behind * number as u64);
            let clock = Arc::new(ManualClock::at(
                BEGAN.plus(Duration::from_millis(10)).minus(skew),
            ));
            Control {
                registry: registry_over(&cluster, &BEGINNING.keyring, &clock),
                clock,
                running: None,
                is_void: false,
                narrows: false,
                is_in_doubt: false,
                starts: [0; SIDECARS],
            }
        };
        let mut world = Self {
            controls: (0..CONTROL_PLANES).map(control).collect(),
            sidecars: Vec::new(),
            clock: ManualClock::at(BEGAN.plus(Duration::from_millis(10))),
            cluster,
            is_revoked: false,
            bound: None,
            networks: 0,
        };
        world.sidecars = (0..SIDECARS)
            .map(|number| world.sidecar(number, 0))
            .collect();
        world
    }

    fn sidecar(&self, number: usize, starts: usize) -> Sidecar {
        let view: Arc<dyn Store> = Arc::new(View {
            cluster: Arc::clone(&self.cluster),
            sidecar: Some(number),
        });
        let settings = Settings {
            max_entries: 64,
            max_negative_entries: 64,
            ..Settings::default()
        };
        let keyring = Arc::clone(&BEGINNING.keyring);
        Sidecar {
            cache: Cache::new(
                Arc::<dyn Store>::clone(&view),
                keyring,
                BTreeMap::new(),
                settings,
            ),
            starts,
            confirmed: BTreeSet::new(),
        }
    }

    /// Whether a sidecar lets a token pass, if it answers, and the network that it is bound to.
    fn passes(&self, number: usize, token: LookupId) -> Option<String> {
        let now = self.clock.now();
        let found = alone(self.sidecars[number].cache.get(token, now, PATIENCE))?;
        let found = found.ok().flatten()?;
        let is_over = found.key.expires_at().is_some_and(|end| end <= now);
        let network = found.key.networks().first().map(ToString::to_string);
        (!found.key.is_revoked() && !is_over).then(|| network.unwrap_or_default())
    }

    fn check(&self, number: usize, is_anew: bool) -> Result<(), Violation> {
        let sidecar = &self.sidecars[number];
        if is_anew {
            self.cluster.put_in_doubt(number);
        }
        let tokens: BTreeSet<_> = self
            .cluster
            .lookup_ids()
            .into_iter()
            .chain(sidecar.confirmed.iter().copied())
            .collect();
        for token in tokens {
            if self.passes(number, token).is_none() {
                continue;
            }
            let is_confirmed = sidecar.confirmed.contains(&token);
            judge_pass(number, token, is_confirmed, self.is_revoked && is_anew)?;
        }
        if is_anew {
            self.check_bound(number)?;
        }
        Ok(())
    }

    /// No later change of something else takes a binding away.
    fn check_bound(&self, number: usize) -> Result<(), Violation> {
        let Some((network, tokens)) = &self.bound else {
            return Ok(());
        };
        for token in tokens {
            if let Some(from) = self.passes(number, *token).filter(|is| is != network) {
                return Err(format!(
                    "sidecar {number} lets {token} pass from {from:?} after it was bound to {network}"
                ));
            }
        }
        Ok(())
    }

    /// Of two that bind the key at the same time, nobody knows which is last. And one that was under way when the store
    /// fell back may write what was lost into the index after it.
    fn begin_to_narrow(&mut self, number: usize) {
        self.bound = None;
        let is_cut_off = |one: &Control| one.running.is_some() && one.is_in_doubt;
        let is_alone = !{ self.controls.iter() }.any(|one| one.narrows || is_cut_off(one));
        self.controls[number].narrows = true;
        for control in self.controls.iter_mut().filter(|one| one.narrows) {
            control.is_in_doubt |= !is_alone;
        }
    }

    fn begin(&mut self, number: usize, change: Change) {
        let network = format!("10.0.0.{}/32", self.networks % 250 + 1);
        let control = &mut self.controls[number];
        if control.running.is_some() {
            return;
        }
        self.networks += 1;
        (control.is_void, control.is_in_doubt) = (false, false);
        for (at, sidecar) in self.sidecars.iter().enumerate() {
            control.starts[at] = sidecar.starts;
        }
        control.running = Some(Box::pin(change.make(
            control.registry.clone(),
            &BEGINNING.target,
            network,
        )));
        if matches!(change, Change::Narrow) {
            self.begin_to_narrow(number);
        }
    }

    fn step(&mut self, number: usize, steps: usize) {
        for _ in 0..steps {
            let control = &mut self.controls[number];
            let Some(running) = &mut control.running else {
                return;
            };
            let Some(outcome) = poll(running) else {
                continue;
            };
            control.running = None;
            control.narrows = false;
            match outcome {
                Outcome::Revoked(late) => self.acknowledged(number, late),
                Outcome::Narrowed(network, tokens) if !control.is_in_doubt => {
                    self.bound = Some((network, tokens));
                }
                Outcome::Narrowed(..) | Outcome::Other => {}
            }
        }
    }

    fn acknowledged(&mut self, number: usize, late: Option<Vec<String>>) {
        self.is_revoked |= !self.controls[number].is_void;
        let starts = self.controls[number].starts;
        // Of the others, their entries are refused for what is in an older one's.
        let tokens: Vec<_> = self.cluster.revoked();
        let Some(late) = late.filter(|_| self.is_revoked) else {
            return;
        };
        for (at, sidecar) in self.sidecars.iter_mut().enumerate() {
            if sidecar.starts == starts[at] && !late.contains(&at.to_string()) {
                sidecar.confirmed.extend(&tokens);
            }
        }
    }

    pub(super) fn happen(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Begin(number, change) => self.begin(number, change),
            Event::Step(number, steps) => self.step(number, steps),
            Event::Finish(number) => self.step(number, STEPS_MAX),
            Event::Crash(number) => {
                self.controls[number].running = None;
                self.controls[number].narrows = false;
            }
            Event::Heal => {
                alone(self.cluster.heal());
            }
            Event::Check(number) => return self.check(number, false),
            Event::Reload(number) => return self.check(number, true),
            Event::Restart(number) => {
                self.sidecars[number] = self.sidecar(number, self.sidecars[number].starts + 1);
            }
            Event::FallBack(part, changes) => {
                self.bound = None;
                for control in &mut self.controls {
                    control.is_in_doubt = true;
                }
                let before = self.cluster.revoked();
                self.cluster.fall_back(part, changes);
                let after = self.cluster.revoked();
                if before.iter().any(|id| !after.contains(id)) {
                    // What was acknowledged is lost, and may have been while it was looked for.
                    self.is_revoked = false;
                    for control in &mut self.controls {
                        control.is_void = true;
                    }
                }
            }
            Event::FallBackAll(changes) => {
                for part in Part::ALL {
                    self.happen(Event::FallBack(part, changes))?;
                }
            }
            Event::Wait(millis) => {
                let by = Duration::from_millis(millis);
                self.clock.advance(by);
                self.controls
                    .iter()
                    .for_each(|control| control.clock.advance(by));
            }
        }
        self.cluster.set_now(self.clock.now());
        Ok(())
    }

    /// All that was begun ends.
    fn come_to_rest(&mut self) {
        for number in 0..CONTROL_PLANES {
            self.step(number, STEPS_MAX);
        }
        alone(self.cluster.heal());
    }

    /// A change of networks is in force on every sidecar once it is acknowledged.
    fn narrow_for_good(&self) -> Result<(), Violation> {
        let registry = self.controls[CONTROL_PLANES - 1].registry.clone();
        let network = "192.0.2.0/24";
        let changed =
            alone(BEGINNING.target.narrow(&registry, network.to_owned())).expect("it is alone");
        let key = match changed {
            Ok(key) => key,
            Err(RegistryError::KeyRevoked) => return Ok(()),
            Err(error) => return Err(format!("the key cannot be changed: {error:?}")),
        };
        for number in 0..SIDECARS {
            self.cluster.put_in_doubt(number);
            for token in key.generations.iter().map(|one| one.lookup_id) {
                if let Some(bound_to) = self.passes(number, token).filter(|is| is != network) {
                    return Err(format!(
                        "sidecar {number} lets {token} pass from {bound_to:?}"
                    ));
                }
            }
        }
        Ok(())
    }

    fn revoke_for_good(&mut self) -> Result<(), Violation> {
        let registry = self.controls[0].registry.clone();
        let revoked = alone(BEGINNING.target.revoke(&registry)).expect("it is alone");
        revoked.map_err(|error| format!("the key cannot be revoked: {error:?}"))?;
        self.is_revoked = true;
        self.check_all()
    }

    fn check_all(&mut self) -> Result<(), Violation> {
        for number in 0..SIDECARS {
            self.check(number, true)?;
        }
        // And one that has seen nothing of it.
        self.happen(Event::Restart(0))?;
        self.check(0, true)
    }
}

pub(super) fn run(schedule: &Schedule) -> Result<(), Violation> {
    let mut world = World::new(schedule.behind);
    for event in &schedule.events {
        world.happen(*event)?;
    }
    world.come_to_rest();
    world.check_all()?;
    world.narrow_for_good()?;
    world.revoke_for_good()?;
    for event in &schedule.after {
        world.happen(*event)?;
    }
    world.come_to_rest();
    world.check_all()
}
