//! The injector's listener, and a process that has nothing else: it needs no store.

use std::sync::Arc;

use anyhow::Context;

use crate::clock::{Clock as _, SystemClock};
use crate::config::Config;
use crate::injector::http::Webhook;
use crate::server::connection::HttpService;
use crate::server::file_watch::follow;
use crate::server::health::Health;
use crate::server::listener::Listener;
use crate::server::startup::{AllPlaces, Bound, TaskGroup};
use crate::server::tls::{self, Reloader};
use crate::server::{clock, descriptors, drain, memory, ops, places, signal, warn_of_plain_text};
use crate::telemetry::log_queue;
use crate::telemetry::metrics::Metrics;

/// Answers reviews until `tasks` are stopped, if the configuration has the section `injector`.
pub(super) fn serve(
    config: &Config,
    listeners: Vec<Listener>,
    places: &AllPlaces,
    metrics: &Arc<Metrics>,
    tasks: &TaskGroup,
) {
    let Some(settings) = &config.injector else {
        return;
    };
    let webhook = Webhook::new(settings);
    webhook.observe(metrics);
    let service = HttpService::new(webhook.router());
    tasks.serve_all(listeners, &service, places.injector.as_ref());
}

/// Runs a process without `authz` and `admin` until a signal, then drains.
pub async fn run(config: &Config) -> anyhow::Result<()> {
    if config.injector.is_none() {
        anyhow::bail!("the configuration has no section `injector`");
    }
    let files_max = descriptors::raise_limit();
    let signals = signal::Signals::listen().context("cannot listen for signals")?;
    let metrics = Metrics::new()?;
    log_queue::observe(&metrics);
    let health = Health::new();
    let starting = health.not_ready_until("started");
    let listeners = tls::Listeners::load(config, SystemClock.now())?;
    warn_of_plain_text(config);
    let bound = Bound::bind(config, &listeners).await?;

    let (tasks, ops) = (TaskGroup::default(), TaskGroup::default());
    let reloader = Reloader::new(&listeners, Arc::new(SystemClock));
    tls::observe(&metrics, &listeners, &reloader);
    let certificates = follow(reloader, signal::hangups()?, tasks.stop.clone());
    tasks.tasks.spawn(certificates);
    clock::watch(&metrics, &tasks.tasks, &tasks.stop);
    tasks
        .tasks
        .spawn(memory::keep_giving_back(tasks.stop.clone()));
    let places = AllPlaces::new(config, files_max);
    places::observe(&metrics, &places.all());
    serve(config, bound.injector, &places, &metrics, &tasks);
    let service = HttpService::new(ops::router(&health, &metrics, None, None));
    ops.serve_all(bound.ops, &service, places.ops.as_ref());

    drop(starting);
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(version, "serving: {}", config.summary());
    signals.stop_requested().await;
    let deadline = config.shutdown.drain_timeout.0;
    tracing::info!(?deadline, "stopping: finishing what is under way");
    health.drain();
    drain(deadline, async {
        tasks.finish().await;
        ops.finish().await;
    })
    .await;
    Ok(())
}
