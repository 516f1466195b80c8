//! The configuration file while the process runs: what may change without a restart is taken, and what is wrong with
//! a new file changes nothing.
//!
//! The file is looked at by its stamp, links followed, so that a ConfigMap that is swapped is seen; SIGHUP asks to
//! read it whether it seems changed or not.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use serde_json::Value;
use tokio::signal::unix::Signal;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::config::{self, Config, ConfigError, Effective};
use crate::server::parts::Live;
use crate::server::stamp::FileStamp;
use crate::telemetry::metrics::Metrics;

/// How often the file is looked at. Polled, because mounted volumes are swapped in ways that events miss.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What is taken without a restart: sections, and fields of others.
const LIVE: [&str; 12] = [
    // Not the section as a whole, nor `trusted_hops`: whether and whom to count is settled at the start.
    "abuse.block",
    "abuse.block_max",
    "abuse.known_keys",
    "abuse.max_failures",
    "abuse.max_sources",
    "abuse.window",
    "api_keys",
    "authz.routes",
    "failure_policy.limiter_outage",
    "plans",
    // Defaults of `api_keys` and of nothing else.
    "profile",
    "rate_limits",
];

/// How many times the file was read again, and whether what is there now is in use.
#[derive(Debug, Default)]
struct Reloads {
    ok: AtomicU64,
    failed: AtomicU64,
    stale: AtomicU64,
}

/// A configuration file that is followed.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    /// What was there when it was last read, or tried.
    tried: Option<FileStamp>,
    /// What was there at the last look.
    last: Option<FileStamp>,
    /// What the process started with; what is not in [`LIVE`] stays so.
    started: Value,
    /// What is in use.
    current: Value,
    reloads: Arc<Reloads>,
}

impl Follower {
    /// Reads the file for a start.
    pub fn load(path: PathBuf) -> Result<(Config, Self), ConfigError> {
        // Before it is read: what changes meanwhile is seen at the first look.
        let stamp = FileStamp::of(&path);
        let loaded = Config::load(Some(&path), config::environment())?;
        let Effective { value, .. } = loaded.effective;
        let follower = Self {
            path,
            tried: stamp.clone(),
            last: stamp,
            started: value.clone(),
            current: value,
            reloads: Arc::default(),
        };
        Ok((loaded.config, follower))
    }

    /// Until `stop`. `hangups` ask to read the file whether it seems changed or not.
    pub(super) async fn run(mut self, live: Live, mut hangups: Signal, stop: CancellationToken) {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let asked = tokio::select! {
                () = stop.cancelled() => return,
                _ = looks.tick() => false,
                Some(()) = hangups.recv() => true,
            };
            // The file may be on a disk that does not answer: nothing else may wait for it.
            let looked = tokio::task::spawn_blocking(move || {
                let found = self.look(asked);
                (self, found)
            });
            let Ok((this, found)) = looked.await else {
                tracing::error!("the configuration is no longer followed: a reload panicked");
                return;
            };
            self = this;
            if let Some(loaded) = found {
                self.take(loaded, &live);
            }
        }
    }

    /// The new configuration, if there is one to be read.
    fn look(&mut self, asked: bool) -> Option<Result<config::Loaded, ConfigError>> {
        let found = FileStamp::of(&self.path);
        // Whoever writes it in place gets until the next look to finish.
        let settled = found == self.last;
        self.last = found;
        if !asked && (!settled || self.last == self.tried) {
            return None;
        }
        self.tried = self.last.clone();
        Some(Config::load(Some(&self.path), config::environment()))
    }

    fn take(&mut self, loaded: Result<config::Loaded, ConfigError>, live: &Live) {
        let applied = match loaded {
            Ok(loaded) => live
                .apply(&loaded.config)
                .map(|()| loaded.effective.value)
                .map_err(|error| format!("{error:#}")),
            Err(error) => Err(error.to_string()),
        };
        match applied {
            Ok(value) => {
                self.reloads.ok.fetch_add(1, Ordering::Relaxed);
                self.reloads.stale.store(0, Ordering::Relaxed);
                self.tell(value);
            }
            Err(mistakes) => {
                self.reloads.failed.fetch_add(1, Ordering::Relaxed);
                self.reloads.stale.store(1, Ordering::Relaxed);
                tracing::error!(
                    %mistakes,
                    "the new configuration cannot be used; the old one stays"
                );
            }
        }
    }

    /// Says what was taken, and what was not.
    fn tell(&mut self, value: Value) {
        let (taken, _) = split(&self.current, &value);
        let (_, waiting) = split(&self.started, &value);
        self.current = value;
        tracing::info!(changed = %taken.join(", "), "the configuration was read again");
        if !waiting.is_empty() {
            tracing::warn!(
                fields = %waiting.join(", "),
                "these changes of the configuration need a restart; until then the old values hold"
            );
        }
    }

    /// Shows how reading it went.
    pub(super) fn observe(&self, metrics: &Metrics) {
        let reloads = Arc::clone(&self.reloads);
        metrics.counters(
            "keystile_config_reloads",
            "Reads of a changed configuration file, by how they ended.",
            move || {
                let row = |outcome, count: &AtomicU64| {
                    let label = KeyValue::new("outcome", outcome);
                    (vec![label], count.load(Ordering::Relaxed))
                };
                vec![row("ok", &reloads.ok), row("failed", &reloads.failed)]
            },
        );
        let reloads = Arc::clone(&self.reloads);
        metrics.gauge(
            "keystile_config_stale",
            "Whether the configuration file that is there cannot be used, and an older one is in use.",
            move || reloads.stale.load(Ordering::Relaxed),
        );
    }
}

/// The paths that differ: those that are taken at once, and those that need a restart.
fn split(old: &Value, new: &Value) -> (Vec<String>, Vec<String>) {
    let mut paths = Vec::new();
    differences(old, new, "", &mut paths);
    paths.into_iter().partition(|path| {
        LIVE.iter().any(|live| {
            path.strip_prefix(live)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    })
}

fn differences(old: &Value, new: &Value, path: &str, found: &mut Vec<String>) {
    if old == new {
        return;
    }
    let (Value::Object(before), Value::Object(after)) = (old, new) else {
        found.push(path.to_owned());
        return;
    };
    let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let path = match path {
            "" => name.clone(),
            path => format!("{path}.{name}"),
        };
        let of = |map: &serde_json::Map<String, Value>| map.get(name).cloned().unwrap_or_default();
        differences(&of(before), &of(after), &path, found);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_differs_is_told_apart_by_whether_it_needs_a_restart() {
        let old =
            json!({"authz": {"workers": 1, "routes": []}, "plans": {"a": {"rate": "1/s"}}, "x": 1});
        let new = json!({"authz": {"workers": 2, "routes": [{}]}, "plans": {"b": {"rate": "1/s"}}, "x": 1});
        let (live, fixed) = split(&old, &new);
        assert_eq!(live, ["authz.routes", "plans.a", "plans.b"]);
        assert_eq!(fixed, ["authz.workers"]);
        assert_eq!(split(&old, &old), (vec![], vec![]));
    }

    #[test]
    fn a_listener_that_comes_or_goes_needs_a_restart() {
        let old = json!({"authz": {"routes": []}});
        let (live, fixed) = split(&old, &json!({}));
        assert!(live.is_empty() && fixed == ["authz"]);
    }
}
