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
pub mod injector;
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
mod startup;
pub mod stores;
mod tls;

use std::sync::Arc;

use anyhow::Context;

use crate::config::{self, Config, StorePlace};
use crate::telemetry::log_queue;
use crate::telemetry::metrics::Metrics;
use health::Health;
use parts::Parts;
use reload::ConfigFollower;
use startup::{AllPlaces, Bound, Startup, TaskGroup};
pub use tls::files::any as any_file;
pub use tls::{TlsFileError, TlsMistakes, client_config};

/// What a process has, whatever it serves.
struct Process {
    files_max: usize,
    signals: signal::Signals,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
}

impl Process {
    fn begin() -> anyhow::Result<Self> {
        let files_max = descriptors::raise_limit();
        let signals = signal::Signals::listen().context("cannot listen for signals")?;
        let metrics = Metrics::new()?;
        log_queue::observe(&metrics);
        Ok(Self {
            files_max,
            signals,
            metrics,
            health: Health::new(),
        })
    }
}

fn log_serving(config: &Config) {
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(version, "serving: {}", config.summary());
}

/// Says that the process is not ready any more and waits for what is under way, until the deadline.
async fn drain(config: &Config, health: &Health, finished: impl Future<Output = ()>) {
    let deadline = config.shutdown.drain_timeout.0;
    tracing::info!(?deadline, "stopping: finishing what is under way");
    health.drain();
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
    log_serving(config);
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
    let Process {
        files_max,
        signals,
        metrics,
        health,
    } = Process::begin()?;
    let starting = health.not_ready_until("started");
    let waiting = health.not_ready_until("store");
    let startup = Startup::load(config, &parts, &metrics, &health)?;
    warn_of_plain_text(config);
    parts.observe_store(&metrics);
    let bound = Bound::bind(config, &startup.tls).await?;

    let check = startup.check_service();
    startup.follow_files()?;
    startup.follow_config(follower, check.clone())?;
    startup.start_upkeep();
    let workers = startup.start_workers(check)?;
    let places = AllPlaces::new(config, files_max);
    places::observe(&metrics, &places.all());
    startup.accept_checks(workers.as_ref(), bound.authz, &places);
    startup.serve_admin(bound.admin, &places)?;
    // It needs no store, so it does not wait for one.
    injector::serve(config, bound.injector, &places, &metrics, &startup.tasks);
    // Probes and metrics are answered to the end: the drain itself is something to see, and requests under way may be
    // refused.
    let ops = TaskGroup::default();
    startup.start_control_plane(&ops);
    startup.serve_ops(bound.ops, &places, &ops);

    drop(starting);
    let end = tokio::select! {
        () = signals.stop_requested() => Ok(()),
        end = serve(config, &parts, &health, waiting, started) => end,
    };
    drain(config, &health, async {
        startup.tasks.finish().await;
        if let Some(workers) = workers {
            workers.finished().await;
        }
        ops.finish().await;
    })
    .await;
    parts.give_back_limits().await;
    // Not sooner: a revocation is waited for here as long as a request may be checked here.
    parts.leave_fleet().await;
    end
}

/// Plain text beyond the machine is the operator's decision, and is warned of at each start.
fn warn_of_plain_text(config: &Config) {
    for section in config.listeners().filter(|at| at.tls.is_none()) {
        for address in section.listen.iter().filter(|at| at.leaves_the_machine()) {
            tracing::warn!(
                listener = section.name,
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
