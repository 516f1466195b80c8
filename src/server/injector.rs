//! The injector's listener, and a process that has nothing else: it needs no store.

use std::sync::Arc;

use crate::clock::{Clock as _, SystemClock};
use crate::config::Config;
use crate::injector::http::Webhook;
use crate::server::connection::HttpService;
use crate::server::listener::Listener;
use crate::server::startup::{AllPlaces, Bound, TaskGroup};
use crate::server::{Process, drain, log_serving, ops, places, tls, warn_of_plain_text};
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
    let Process {
        files_max,
        signals,
        metrics,
        health,
    } = Process::begin()?;
    let starting = health.not_ready_until("started");
    let listeners = tls::Listeners::load(config, SystemClock.now())?;
    warn_of_plain_text(config);
    let bound = Bound::bind(config, &listeners).await?;

    let (tasks, ops) = (TaskGroup::default(), TaskGroup::default());
    tasks.follow_certificates(&listeners, &metrics)?;
    tasks.start_upkeep(&metrics);
    let places = AllPlaces::new(config, files_max);
    places::observe(&metrics, &places.all());
    serve(config, bound.injector, &places, &metrics, &tasks);
    let service = HttpService::new(ops::router(&health, &metrics, None, None));
    ops.serve_all(bound.ops, &service, places.ops.as_ref());

    drop(starting);
    log_serving(config);
    signals.stop_requested().await;
    drain(config, &health, async {
        tasks.finish().await;
        ops.finish().await;
    })
    .await;
    Ok(())
}
