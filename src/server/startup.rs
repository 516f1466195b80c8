//! The steps of a start, in the order in which [`super::run`] takes them.

use std::sync::Arc;

use opentelemetry::KeyValue;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::check::background::{Background, Pace};
use crate::clock::{Clock as _, SystemClock};
use crate::config::{self, Config};
use crate::ext_authz::CheckService;
use crate::server::authz::{Gate, Workers};
use crate::server::bounds::{self, Bounds};
use crate::server::budget::Budget;
use crate::server::connection::{self, HttpService};
use crate::server::descriptors::Descriptors;
use crate::server::file_watch::follow;
use crate::server::health::Health;
use crate::server::hop::Hop;
use crate::server::listener::{self, Listener};
use crate::server::oidc::Oidc;
use crate::server::parts::Parts;
use crate::server::places::Places;
use crate::server::reload::ConfigFollower;
use crate::server::signing::SigningKeys;
use crate::server::tls::{self, Reloader};
use crate::server::{abuse, admin_auth, clock, limits, memory, ops, signal};
use crate::telemetry::metrics::Metrics;

/// Everything that listens, bound and not yet serving.
pub(super) struct Bound {
    pub(super) authz: Vec<Listener>,
    pub(super) admin: Vec<Listener>,
    pub(super) ops: Vec<Listener>,
    pub(super) injector: Vec<Listener>,
}

impl Bound {
    pub(super) async fn bind(config: &Config, tls: &tls::Listeners) -> anyhow::Result<Self> {
        let mut bound = Self {
            authz: Vec::new(),
            admin: Vec::new(),
            ops: Vec::new(),
            injector: Vec::new(),
        };
        if let Some(authz) = &config.authz {
            let (listen, unix) = (&authz.listen, &authz.unix_socket);
            bound.authz = listener::bind_all("authz", listen, unix, tls.authz.as_ref()).await?;
        }
        if let Some(admin) = &config.admin {
            let (listen, unix) = (&admin.listen, &admin.unix_socket);
            bound.admin = listener::bind_all("admin", listen, unix, tls.admin.as_ref()).await?;
        }
        if let Some(ops) = &config.ops {
            let (listen, unix) = (&ops.listen, &ops.unix_socket);
            bound.ops = listener::bind_all("ops", listen, unix, tls.ops.as_ref()).await?;
        }
        if let Some(injector) = &config.injector {
            let (listen, unix) = (&injector.listen, &config::UnixSocket::default());
            let tls = tls.injector.as_ref();
            bound.injector = listener::bind_all("injector", listen, unix, tls).await?;
        }
        Ok(bound)
    }
}

/// The places of every listener that is on.
pub(super) struct AllPlaces {
    authz: Option<Arc<Places>>,
    admin: Option<Arc<Places>>,
    pub(super) ops: Option<Arc<Places>>,
    pub(super) injector: Option<Arc<Places>>,
}

impl AllPlaces {
    /// When everything else is open that the process needs.
    pub(super) fn new(config: &Config, files_max: usize) -> Self {
        let descriptors = Arc::new(Descriptors::left_of(files_max));
        let bytes = bounds::process_bytes(config.authz.as_ref());
        let process = Arc::new(Budget::new(bytes, None));
        let places = |bounds| Places::new(bounds, &process, &descriptors);
        let all = Self {
            authz: config.authz.as_ref().map(Bounds::authz).map(places),
            admin: config.admin.as_ref().map(Bounds::admin).map(places),
            ops: config.ops.as_ref().map(Bounds::ops).map(places),
            injector: config.injector.as_ref().map(Bounds::injector).map(places),
        };
        let wanted: usize = all.all().iter().map(|at| at.bounds.connections).sum();
        if wanted > descriptors.room() {
            tracing::warn!(
                files_max,
                max_connections = wanted,
                fit = descriptors.room(),
                "the limit on open files leaves room for fewer connections than are configured: raise it (LimitNOFILE, ulimit -n)"
            );
        }
        all
    }

    pub(super) fn all(&self) -> Vec<Arc<Places>> {
        let all = [&self.authz, &self.admin, &self.ops, &self.injector];
        all.into_iter().flatten().cloned().collect()
    }
}

/// Tasks that are stopped together.
#[derive(Default)]
pub(super) struct TaskGroup {
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

impl TaskGroup {
    /// Asks the tasks to stop and waits until the last one has.
    pub(super) async fn finish(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Follows the files of the certificates.
    pub(super) fn follow_certificates(
        &self,
        listeners: &tls::Listeners,
        metrics: &Arc<Metrics>,
    ) -> anyhow::Result<()> {
        let reloader = Reloader::new(listeners, Arc::new(SystemClock));
        tls::observe(metrics, listeners, &reloader);
        let following = follow(reloader, signal::hangups()?, self.stop.clone());
        self.tasks.spawn(following);
        Ok(())
    }

    /// What every process does beside its work: watches the clock, and gives memory back.
    pub(super) fn start_upkeep(&self, metrics: &Arc<Metrics>) {
        clock::watch(metrics, &self.tasks, &self.stop);
        let giving_back = memory::keep_giving_back(self.stop.clone());
        self.tasks.spawn(giving_back);
    }

    pub(super) fn serve_all(
        &self,
        listeners: Vec<Listener>,
        service: &HttpService,
        places: Option<&Arc<Places>>,
    ) {
        for (listener, places) in listeners.into_iter().zip(places.into_iter().cycle()) {
            self.tasks.spawn(connection::accept(
                listener,
                service.clone(),
                Arc::clone(places),
                self.tasks.clone(),
                self.stop.clone(),
            ));
        }
    }
}

/// What the steps of a start share.
pub(super) struct Startup<'a> {
    config: &'a Config,
    parts: &'a Parts,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    pub(super) tls: tls::Listeners,
    signing: Option<SigningKeys>,
    hop: Option<Hop>,
    oidc: Option<Arc<Oidc>>,
    /// Everything that ends when the process is asked to stop.
    pub(super) tasks: TaskGroup,
}

impl<'a> Startup<'a> {
    /// Reads the certificates and keys that the configuration names, before anything is bound.
    pub(super) fn load(
        config: &'a Config,
        parts: &'a Parts,
        metrics: &Arc<Metrics>,
        health: &Arc<Health>,
    ) -> anyhow::Result<Self> {
        let signing = SigningKeys::load(config)?;
        Ok(Self {
            config,
            parts,
            metrics: Arc::clone(metrics),
            health: Arc::clone(health),
            tls: tls::Listeners::load(config, SystemClock.now())?,
            hop: Hop::load(config, signing.as_ref())?,
            signing,
            oidc: Oidc::load(config)?,
            tasks: TaskGroup::default(),
        })
    }

    /// What answers checks, if this process does.
    pub(super) fn check_service(&self) -> Option<CheckService> {
        self.config.authz.as_ref()?;
        let (signing, hop) = (self.signing.as_ref(), self.hop.as_ref());
        let service = self
            .parts
            .check_service(self.config, &self.metrics, signing, hop);
        Some(service)
    }

    /// Follows the certificates, the signing keyring and the keys of the hop before.
    pub(super) fn follow_files(&self) -> anyhow::Result<()> {
        let TaskGroup { tasks, stop } = &self.tasks;
        self.tasks.follow_certificates(&self.tls, &self.metrics)?;
        if let Some(signing) = &self.signing {
            signing.observe(&self.metrics);
            tasks.spawn(follow(signing.clone(), signal::hangups()?, stop.clone()));
        }
        if let Some(hop) = &self.hop {
            hop.start(&self.metrics, tasks, stop)?;
        }
        Ok(())
    }

    /// Takes the configuration again while the process runs, if there is a file to follow.
    pub(super) fn follow_config(
        &self,
        follower: Option<ConfigFollower>,
        check: Option<CheckService>,
    ) -> anyhow::Result<()> {
        let Some(follower) = follower else {
            return Ok(());
        };
        follower.observe(&self.metrics);
        let follower = follower.applying_to(self.parts.live(check));
        let stop = self.tasks.stop.clone();
        self.tasks
            .tasks
            .spawn(follow(follower, signal::hangups()?, stop));
        Ok(())
    }

    /// Watches the clock, shares blocks and budgets, and gives memory back.
    pub(super) fn start_upkeep(&self) {
        let TaskGroup { tasks, stop } = &self.tasks;
        let (config, parts, metrics) = (self.config, self.parts, &self.metrics);
        self.tasks.start_upkeep(metrics);
        abuse::start(config, parts.blocks(), metrics, tasks, stop);
        limits::start(config, parts.limiter(), metrics, tasks, stop);
    }

    /// The threads that answer checks, if this process does.
    pub(super) fn start_workers(
        &self,
        check: Option<CheckService>,
    ) -> anyhow::Result<Option<Workers>> {
        let Some((authz, check)) = self.config.authz.as_ref().zip(check) else {
            return Ok(None);
        };
        let gate = Gate::default();
        gate.observe(&self.metrics);
        let (count, most) = (authz.workers, authz.max_connections);
        let (health, stop) = (&self.health, &self.tasks.stop);
        Workers::start(count, most, &check, &gate, health, stop).map(Some)
    }

    /// Deals the connections of `authz` out to the workers.
    pub(super) fn accept_checks(
        &self,
        workers: Option<&Workers>,
        listeners: Vec<Listener>,
        places: &AllPlaces,
    ) {
        if let Some((workers, places)) = workers.zip(places.authz.as_ref()) {
            workers.accept(listeners, places, &self.tasks.tasks, &self.tasks.stop);
        }
    }

    /// Serves `admin`, if this process has it.
    pub(super) fn serve_admin(
        &self,
        listeners: Vec<Listener>,
        places: &AllPlaces,
    ) -> anyhow::Result<()> {
        let Some(admin) = &self.config.admin else {
            return Ok(());
        };
        let TaskGroup { tasks, stop } = &self.tasks;
        if let Some(oidc) = &self.oidc {
            oidc.observe(&self.metrics);
            oidc.start(&self.metrics, tasks, stop)?;
        }
        let (grpc_health, report) = self.health.grpc();
        tasks.spawn(report);
        let oidc = self.oidc.clone();
        let router = admin_auth::router(self.parts, &admin.client_roles, oidc, grpc_health);
        let service = HttpService::new(self.health.bounded(router));
        self.tasks
            .serve_all(listeners, &service, places.admin.as_ref());
        Ok(())
    }

    /// Starts what a process with `admin` does beside its calls. Audit notes are written until nobody makes any more,
    /// which is as long as `ops` serves.
    pub(super) fn start_control_plane(&self, ops: &TaskGroup) {
        if self.config.admin.is_some() {
            self.write_notes(ops);
            self.keep_rotating();
            self.check_for_damage();
        }
    }

    /// Writes what the registry notes of refusals and readings.
    fn write_notes(&self, group: &TaskGroup) {
        let registry = self.parts.registry.clone();
        self.metrics.counter(
            "keystile_audit_dropped",
            "Audit entries of refusals and readings that were not written one by one.",
            move || registry.notes_dropped(),
        );
        let (registry, stop) = (self.parts.registry.clone(), group.stop.clone());
        group
            .tasks
            .spawn(async move { registry.write_notes(stop).await });
    }

    /// Rotates what plans ask for.
    fn keep_rotating(&self) {
        let registry = self.parts.registry.clone();
        self.metrics.counters(
            "keystile_rotations",
            "Rotations by schedule and claims, by what came of them.",
            move || {
                let counts = registry.rotations().counts().into_iter();
                counts
                    .map(|(outcome, count)| (vec![KeyValue::new("outcome", outcome)], count))
                    .collect()
            },
        );
        let TaskGroup { tasks, stop } = &self.tasks;
        tasks.spawn(self.parts.registry.clone().keep_rotating(stop.clone()));
    }

    /// Looks for damage in records that nobody reads.
    fn check_for_damage(&self) {
        let TaskGroup { tasks, stop } = &self.tasks;
        let (registry, keyring) = (self.parts.registry.clone(), Arc::clone(&self.parts.data));
        let checks = Background::new(registry, keyring, Arc::new(SystemClock), Pace::default());
        tasks.spawn(checks.run(stop.clone()));
    }

    /// Serves `ops`, if this process has it.
    pub(super) fn serve_ops(
        &self,
        listeners: Vec<Listener>,
        places: &AllPlaces,
        group: &TaskGroup,
    ) {
        let (store, signing) = (&self.parts.store, self.signing.as_ref());
        let router = ops::router(&self.health, &self.metrics, Some(store), signing);
        let service = HttpService::new(router);
        group.serve_all(listeners, &service, places.ops.as_ref());
    }
}
