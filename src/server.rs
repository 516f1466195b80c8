//! Builds everything, runs everything, stops everything. The only module that spawns.
//!
//! Start: keyrings, store, cache, then every socket is bound, and only then is anything served. Stop: not ready,
//! no new connections, GOAWAY, finish what is under way, to a deadline.

mod abuse;
mod admin_auth;
mod authz;
mod bounds;
mod budget;
mod cache;
mod clock;
mod connection;
mod damage;
mod descriptors;
mod file_watch;
pub mod files;
pub mod fleet;
mod health;
mod hop;
mod limits;
mod listener;
mod memory;
mod oidc;
mod ops;
pub mod parts;
mod places;
mod preface;
mod redis;
pub mod reload;
mod signal;
mod signing;
pub mod stores;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use opentelemetry::KeyValue;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::check::background::{Background, Pace};
use crate::clock::{Clock as _, SystemClock};
use crate::config::{self, Config, StorePlace};
use crate::telemetry::log_queue;
use crate::telemetry::metrics::Metrics;
use authz::{Gate, Workers};
use bounds::Bounds;
use budget::Budget;
use connection::HttpService;
use descriptors::Descriptors;
use file_watch::follow;
use health::Health;
use hop::Hop;
use listener::Listener;
use oidc::Oidc;
use parts::Parts;
use places::Places;
use reload::ConfigFollower;
use signing::SigningKeys;
use tls::Reloader;
pub use tls::files::any as any_file;
pub use tls::{TlsFileError, TlsMistakes, client_config};

/// Everything that listens, bound and not yet serving.
struct Bound {
    authz: Vec<Listener>,
    admin: Vec<Listener>,
    ops: Vec<Listener>,
}

impl Bound {
    async fn bind(config: &Config, tls: &tls::Listeners) -> anyhow::Result<Self> {
        let mut bound = Self {
            authz: Vec::new(),
            admin: Vec::new(),
            ops: Vec::new(),
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
        Ok(bound)
    }
}

/// The places of every listener that is on.
struct AllPlaces {
    authz: Option<Arc<Places>>,
    admin: Option<Arc<Places>>,
    ops: Option<Arc<Places>>,
}

impl AllPlaces {
    /// When everything else is open that the process needs.
    fn new(config: &Config, files_max: usize) -> Self {
        let descriptors = Arc::new(Descriptors::left_of(files_max));
        let bytes = bounds::process_bytes(config.authz.as_ref());
        let process = Arc::new(Budget::new(bytes, None));
        let places = |bounds| Places::new(bounds, &process, &descriptors);
        let all = Self {
            authz: config.authz.as_ref().map(Bounds::authz).map(places),
            admin: config.admin.as_ref().map(Bounds::admin).map(places),
            ops: config.ops.as_ref().map(Bounds::ops).map(places),
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

    fn all(&self) -> Vec<Arc<Places>> {
        let all = [&self.authz, &self.admin, &self.ops];
        all.into_iter().flatten().cloned().collect()
    }
}

/// Follows the certificates and the signing keyring.
fn follow_files(
    tls: &tls::Listeners,
    signing: Option<&SigningKeys>,
    metrics: &Metrics,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let reloader = Reloader::new(tls, Arc::new(SystemClock));
    tls::observe(metrics, tls, &reloader);
    tasks.spawn(follow(reloader, signal::hangups()?, stop.clone()));
    if let Some(signing) = signing {
        signing.observe(metrics);
        tasks.spawn(follow(signing.clone(), signal::hangups()?, stop.clone()));
    }
    Ok(())
}

/// Waits for what is under way, until a deadline.
async fn drain(deadline: Duration, finished: impl Future<Output = ()>) {
    match tokio::time::timeout(deadline, finished).await {
        Ok(()) => tracing::info!("stopped"),
        Err(_) => tracing::warn!("stopped at the deadline with requests under way"),
    }
}

/// Serves for as long as the store can be used. Never ends well.
async fn serve(
    config: &Config,
    parts: &Parts,
    health: &Arc<Health>,
    waiting: health::NotReady,
    started: impl AsyncFnOnce(&Parts) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    parts.usable().await?;
    parts.join_fleet(config);
    drop(waiting);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        "serving: {}",
        config.summary()
    );
    started(parts).await?;
    tokio::select! {
        () = parts.store_ended() => {}
        () = parts.follow_problem(Arc::clone(health)) => {}
    }
    anyhow::bail!("the store has stopped, which it never should: the log says why")
}

/// Serves until a signal, then drains. `started` is called when everything listens. The configuration is taken again
/// while it runs, if there is a file to follow.
pub async fn run(
    config: &Config,
    follower: Option<ConfigFollower>,
    parts: Parts,
    started: impl AsyncFnOnce(&Parts) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let files_max = descriptors::raise_limit();
    let signals = signal::Signals::listen().context("cannot listen for signals")?;
    let metrics = Metrics::new()?;
    log_queue::observe(&metrics);
    let health = Health::new();
    let starting = health.not_ready_until("started");
    let waiting = health.not_ready_until("store");
    let tls = tls::Listeners::load(config, SystemClock.now())?;
    let signing = SigningKeys::load(config)?;
    let hop = Hop::load(config, signing.as_ref())?;
    let oidc = Oidc::load(config)?;
    say_plain_text(config);
    parts.observe_store(&metrics);
    let bound = Bound::bind(config, &tls).await?;
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    follow_files(&tls, signing.as_ref(), &metrics, &tasks, &stop)?;
    if let Some(hop) = &hop {
        hop.start(&metrics, &tasks, &stop)?;
    }
    let check = |_: &_| parts.check_service(config, &metrics, signing.as_ref(), hop.as_ref());
    let check = config.authz.as_ref().map(check);
    if let Some(follower) = follower {
        follower.observe(&metrics);
        let follower = follower.applying_to(parts.live(check.clone()));
        tasks.spawn(follow(follower, signal::hangups()?, stop.clone()));
    }

    clock::watch(&metrics, &tasks, &stop);
    abuse::start(config, parts.blocks(), &metrics, &tasks, &stop);
    limits::start(config, parts.limiter(), &metrics, &tasks, &stop);
    let mut workers = None;
    if let Some((authz, check)) = config.authz.as_ref().zip(check) {
        let gate = Gate::default();
        gate.observe(&metrics);
        let (count, most) = (authz.workers, authz.max_connections);
        workers = Some(Workers::start(count, most, &check, &gate, &health, &stop)?);
    }
    let places = AllPlaces::new(config, files_max);
    places::observe(&metrics, &places.all());
    tasks.spawn(memory::keep_giving_back(stop.clone()));
    if let Some((workers, places)) = workers.as_ref().zip(places.authz.as_ref()) {
        workers.accept(bound.authz, places, &tasks, &stop);
    }
    if let Some(admin) = &config.admin {
        if let Some(oidc) = &oidc {
            oidc.observe(&metrics);
            oidc.start(&metrics, &tasks, &stop)?;
        }
        let (grpc_health, report) = health.grpc();
        tasks.spawn(report);
        let router = admin_auth::router(&parts, &admin.client_roles, oidc, grpc_health);
        let service = HttpService::new(health.bounded(router));
        serve_all(bound.admin, &service, places.admin.as_ref(), &tasks, &stop);
    }
    // Probes and metrics are answered to the end: the drain itself is something to see, and requests under way may be
    // refused.
    let (ops_tasks, ops_stop) = (TaskTracker::new(), CancellationToken::new());
    if config.admin.is_some() {
        start_notes(&parts, &metrics, &ops_tasks, &ops_stop);
        start_rotations(&parts, &metrics, &tasks, &stop);
        start_checks(&parts, &tasks, &stop);
    }
    let ops = ops::router(&health, &metrics, &parts.store, signing.as_ref());
    let ops = HttpService::new(ops);
    serve_all(bound.ops, &ops, places.ops.as_ref(), &ops_tasks, &ops_stop);

    drop(starting);
    let end = tokio::select! {
        () = signals.stop_requested() => Ok(()),
        end = serve(config, &parts, &health, waiting, started) => end,
    };
    let deadline = config.shutdown.drain_timeout.0;
    tracing::info!(?deadline, "stopping: finishing what is under way");
    health.drain();
    drain(deadline, async {
        finish(&tasks, &stop).await;
        if let Some(workers) = workers {
            workers.finished().await;
        }
        finish(&ops_tasks, &ops_stop).await;
    })
    .await;
    parts.give_back_limits().await;
    // Not sooner: a revocation is waited for here as long as a request may be checked here.
    parts.leave_fleet().await;
    end
}

/// Writes what the registry notes of refusals and readings, until nobody asks any more.
fn start_notes(parts: &Parts, metrics: &Metrics, tasks: &TaskTracker, stop: &CancellationToken) {
    let registry = parts.registry.clone();
    metrics.counter(
        "keystile_audit_dropped",
        "Audit entries of refusals and readings that were not written one by one.",
        move || registry.notes_dropped(),
    );
    let (registry, stop) = (parts.registry.clone(), stop.clone());
    tasks.spawn(async move { registry.write_notes(stop).await });
}

/// Rotates what plans ask for, where there is a control plane.
fn start_rotations(
    parts: &Parts,
    metrics: &Metrics,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) {
    let registry = parts.registry.clone();
    metrics.counters(
        "keystile_rotations",
        "Rotations by schedule and claims, by what came of them.",
        move || {
            let counts = registry.rotations().counts().into_iter();
            counts
                .map(|(outcome, count)| (vec![KeyValue::new("outcome", outcome)], count))
                .collect()
        },
    );
    tasks.spawn(parts.registry.clone().keep_rotating(stop.clone()));
}

/// Looks for damage that nobody reads.
fn start_checks(parts: &Parts, tasks: &TaskTracker, stop: &CancellationToken) {
    let (registry, keyring) = (parts.registry.clone(), Arc::clone(&parts.data));
    let checks = Background::new(registry, keyring, Arc::new(SystemClock), Pace::default());
    tasks.spawn(checks.run(stop.clone()));
}

/// Plain text beyond the machine is the operator's decision, and is said at each start.
fn say_plain_text(config: &Config) {
    let authz = config.authz.as_ref().map(|at| (&at.listen, &at.tls));
    let admin = config.admin.as_ref().map(|at| (&at.listen, &at.tls));
    let ops = config.ops.as_ref().map(|at| (&at.listen, &at.tls));
    for (listener, section) in [("authz", authz), ("admin", admin), ("ops", ops)] {
        let Some((listen, None)) = section else {
            continue;
        };
        for address in listen.iter().filter(|at| at.leaves_the_machine()) {
            tracing::warn!(
                listener,
                %address,
                "INSECURE: plain text leaves this machine; whoever is on the way can read and change it"
            );
        }
    }
    if let StorePlace::Redis(redis) = config.store.place()
        && config::is_plain_text_beyond_the_machine(&redis)
    {
        tracing::warn!(
            store = redis.location(),
            "INSECURE: the store is asked in plain text; whoever is on the way can read its password and change answers"
        );
    }
}

fn serve_all(
    listeners: Vec<Listener>,
    service: &HttpService,
    places: Option<&Arc<Places>>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) {
    for (listener, places) in listeners.into_iter().zip(places.into_iter().cycle()) {
        tasks.spawn(connection::accept(
            listener,
            service.clone(),
            Arc::clone(places),
            tasks.clone(),
            stop.clone(),
        ));
    }
}

/// Asks tasks to stop and waits until the last one has.
async fn finish(tasks: &TaskTracker, stop: &CancellationToken) {
    stop.cancel();
    tasks.close();
    tasks.wait().await;
}
