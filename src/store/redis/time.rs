//! The servers' clock beside ours: keys expire by ours, so one that is wrong is an operator's matter.

use std::time::Duration;

use tokio::time::sleep;

use super::RedisStore;
use super::link::Live;
use crate::clock::{Clock as _, SystemClock, Timestamp};
use crate::store::StoreError;

/// How often the clocks are compared.
const COMPARE_EVERY: Duration = Duration::from_secs(5);
/// What we warn of, in ms: above what answers take, below what matters to anybody's expiry.
const SKEW_WARNED_MS: i64 = 5_000;

/// The server's time in ms.
pub(super) async fn server_time(live: &Live<'_>) -> Result<i64, StoreError> {
    let (seconds, micros): (i64, i64) = live.ask(&redis::cmd("TIME")).await?;
    Ok(seconds.saturating_mul(1000).saturating_add(micros / 1000))
}

impl RedisStore {
    /// Compares the clocks, for ever.
    pub(super) async fn watch_clock(&self) {
        let mut warned = false;
        loop {
            if let Ok(skew) = self.measure_skew().await {
                self.skew_ms
                    .store(skew, std::sync::atomic::Ordering::Relaxed);
                warned = warn_of(skew, warned);
            }
            sleep(COMPARE_EVERY).await;
        }
    }

    /// By how much our clock is ahead, in ms. The answer is as of some time between question and answer: the skew is
    /// taken to be none if it can be.
    async fn measure_skew(&self) -> Result<i64, StoreError> {
        let live = self.link.live_unguarded()?;
        let before = SystemClock.now();
        let server = server_time(&live).await?;
        let after = SystemClock.now();
        Ok(skew(before, server, after))
    }
}

fn skew(before: Timestamp, server: i64, after: Timestamp) -> i64 {
    if server < before.as_millis() {
        before.as_millis() - server
    } else if server > after.as_millis() {
        after.as_millis() - server
    } else {
        0
    }
}

/// Answers whether it is warned of now.
fn warn_of(skew: i64, warned: bool) -> bool {
    let is_wrong = skew.abs() >= SKEW_WARNED_MS;
    if is_wrong && !warned {
        let (by, side) = (
            Duration::from_millis(skew.unsigned_abs()),
            if skew > 0 { "ahead of" } else { "behind" },
        );
        tracing::warn!(
            skew_seconds = by.as_secs(),
            "the clock of this machine is {side} that of Redis: keys expire by this machine's, {}; set the clocks right",
            if skew > 0 {
                "too early if it is wrong"
            } else {
                "too late if it is wrong"
            }
        );
    } else if warned && !is_wrong {
        tracing::info!("the clock of this machine agrees with that of Redis again");
    }
    is_wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_on_the_way_is_no_skew() {
        for (before, server, after, expected) in [
            (1_000, 1_000, 1_000, 0),
            (1_000, 1_500, 2_000, 0),
            (1_000, 400, 2_000, 600),
            (1_000, 2_400, 2_000, -400),
        ] {
            let at = Timestamp::from_millis;
            assert_eq!(skew(at(before), server, at(after)), expected);
        }
    }
}
