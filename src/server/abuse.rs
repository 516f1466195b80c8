//! Who has failed too often, in a running process: the settings, the task that shares blocks, and what is shown.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::abuse::{Blocks, Settings};
use crate::clock::{Clock as _, SteadyClock};
use crate::config::{Config, KnownKeys};
use crate::domain::block::nat64::Nat64Prefix;
use crate::telemetry::metrics::Metrics;

pub(super) fn settings(config: &Config) -> Settings {
    let Some(abuse) = &config.abuse else {
        return Settings::default();
    };
    Settings {
        max_failures: abuse.max_failures,
        window: abuse.window.0,
        block: abuse.block.0,
        block_max: abuse.block_max.0,
        known_keys_pass: abuse.known_keys == KnownKeys::Pass,
        max_sources: abuse.max_sources,
    }
}

/// Behind which IPv6 addresses IPv4 addresses stand.
pub(super) fn nat64_prefixes(config: &Config) -> Vec<Nat64Prefix> {
    let abuse = config.abuse.as_ref();
    abuse.map_or_else(Vec::new, |abuse| abuse.nat64_prefixes.clone())
}

/// Shares blocks with other processes until `stop`, if this one counts failures.
pub(super) fn start(
    config: &Config,
    blocks: &Arc<Blocks>,
    metrics: &Metrics,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) {
    if config.abuse.is_none() {
        return;
    }
    observe(metrics, blocks);
    let (blocks, stop) = (Arc::clone(blocks), stop.clone());
    tasks.spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = blocks.run(Arc::new(SteadyClock)) => {}
        }
    });
}

fn observe(metrics: &Metrics, blocks: &Arc<Blocks>) {
    let live = Arc::clone(blocks);
    metrics.gauge(
        "keystile_blocked_sources",
        "Sources that are refused because they failed too often.",
        move || live.live(SteadyClock.now()),
    );
    let made = Arc::clone(blocks);
    metrics.counter(
        "keystile_blocks",
        "Blocks of sources that this process has made.",
        move || made.made(),
    );
}
