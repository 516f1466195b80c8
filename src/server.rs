//! Builds everything, runs everything, stops everything. The only module that spawns.
//!
//! Start: keyrings, store, cache, then every socket is bound, and only then is anything served. Stop: not ready,
//! no new connections, GOAWAY, finish what is under way, to a deadline.

mod admin_auth;
mod authz;
mod connection;
mod health;
mod listener;
mod ops;
pub mod parts;
mod signal;
mod signing;

use std::time::Duration;

use anyhow::Context;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::telemetry::metrics::Metrics;
use authz::Workers;
use connection::HttpService;
use health::Health;
use listener::Listener;
use parts::Parts;

/// Everything that listens, bound and not yet serving.
struct Bound {
    authz: Vec<Listener>,
    admin: Vec<Listener>,
    ops: Vec<Listener>,
}

impl Bound {
    async fn bind(config: &Config) -> anyhow::Result<Self> {
        let mut bound = Self {
            authz: Vec::new(),
            admin: Vec::new(),
            ops: Vec::new(),
        };
        if let Some(authz) = &config.authz {
            bound.authz = listener::bind_all("authz", &authz.listen, &authz.unix_socket).await?;
        }
        if let Some(admin) = &config.admin {
            bound.admin = listener::bind_all("admin", &admin.listen, &admin.unix_socket).await?;
        }
        if let Some(ops) = &config.ops {
            bound.ops = listener::bind_all("ops", &ops.listen, &ops.unix_socket).await?;
        }
        Ok(bound)
    }
}

/// Serves until a signal, then drains. `started` is called when everything listens.
pub async fn run(
    config: &Config,
    parts: Parts,
    started: impl FnOnce(&Parts) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let signals = signal::Signals::listen().context("cannot listen for signals")?;
    let metrics = Metrics::new()?;
    let health = Health::new();
    let starting = health.not_ready_until("started");
    let bound = Bound::bind(config).await?;
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();

    let mut workers = None;
    if let Some(authz) = &config.authz {
        let running = Workers::start(
            authz.workers,
            &parts.check_service(config, &metrics),
            &health,
            &stop,
        )?;
        running.accept(bound.authz, &tasks, &stop);
        workers = Some(running);
    }
    if config.admin.is_some() {
        let (grpc_health, follow) = health.grpc();
        tasks.spawn(stop.clone().run_until_cancelled_owned(follow));
        let router = admin_auth::router(&parts, grpc_health);
        serve_all(bound.admin, &HttpService::new(router), &tasks, &stop);
    }
    if let Some(signing) = &parts.signing {
        signing.observe(&metrics);
        tasks.spawn(
            stop.clone()
                .run_until_cancelled_owned(signing.clone().follow()?),
        );
    }
    let router = ops::router(&health, &metrics, parts.signing.as_ref());
    serve_all(bound.ops, &HttpService::new(router), &tasks, &stop);

    parts
        .store
        .ping()
        .await
        .context("the store is not usable")?;
    drop(starting);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        "serving: {}",
        config.summary()
    );
    started(&parts)?;

    signals.stop_requested().await;
    drain(
        config.shutdown.drain_timeout,
        &health,
        &stop,
        &tasks,
        workers,
    )
    .await;
    Ok(())
}

fn serve_all(
    listeners: Vec<Listener>,
    service: &HttpService,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) {
    for listener in listeners {
        tasks.spawn(connection::accept(
            listener,
            service.clone(),
            tasks.clone(),
            stop.clone(),
        ));
    }
}

async fn drain(
    deadline: Duration,
    health: &Health,
    stop: &CancellationToken,
    tasks: &TaskTracker,
    workers: Option<Workers>,
) {
    tracing::info!(?deadline, "stopping: finishing what is under way");
    health.drain();
    stop.cancel();
    tasks.close();
    let all = async {
        tasks.wait().await;
        if let Some(workers) = workers {
            workers.finished().await;
        }
    };
    match tokio::time::timeout(deadline, all).await {
        Ok(()) => tracing::info!("stopped"),
        Err(_) => tracing::warn!("stopped at the deadline with requests under way"),
    }
}
