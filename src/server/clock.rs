//! Says when somebody has set the machine's clock back while we run.

use std::time::Duration;

use tokio::time::interval;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::SteadyClock;
use crate::telemetry::metrics::Metrics;

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// What is told of: more than a clock that is kept right ever steps.
const STEP_WARNED: Duration = Duration::from_secs(1);

/// Watches until `stop`.
pub(super) fn watch(metrics: &Metrics, tasks: &TaskTracker, stop: &CancellationToken) {
    metrics.seconds(
        "keystile_clock_set_back_seconds",
        "By how much the clock of this machine was set back while this process runs.",
        SteadyClock::set_back_by,
    );
    let stop = stop.clone();
    tasks.spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = warn_of_steps() => {}
        }
    });
}

async fn warn_of_steps() {
    let mut ticks = interval(LOOK_EVERY);
    let mut warned = Duration::ZERO;
    loop {
        ticks.tick().await;
        let by = SteadyClock::set_back_by();
        if by >= warned + STEP_WARNED {
            tracing::warn!(
                seconds = by.as_secs(),
                "the clock of this machine was set back: keys go on to expire as if it had not been, so that none comes to life again; restart this process if the clock is right now"
            );
        }
        warned = by;
    }
}
