//! The configuration file while the process runs: what may change without a restart is taken, and what is wrong with
//! a new file changes nothing.
//!
//! When it is read: see [`file_watch`](crate::server::file_watch).

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::config::{self, Config, ConfigError, Effective};
use crate::file_access::Exposure;
use crate::server::file_watch::{Followed, Reloads, WatchedFiles};
use crate::server::parts::Live;
use crate::telemetry::metrics::Metrics;

/// What is taken without a restart: sections, and fields of others.
const LIVE: [&str; 15] = [
    // Not the section as a whole, nor `trusted_hops`: whether and whom to count is settled at the start.
    "abuse.block",
    "abuse.block_max",
    "abuse.known_keys",
    "abuse.max_failures",
    "abuse.max_sources",
    "abuse.window",
    "api_keys",
    "authz.method_override",
    "authz.path_override",
    "authz.path_variants",
    "authz.routes",
    "failure_policy.limiter_outage",
    "plans",
    // Defaults of `api_keys` and `authz.path_variants`, and of nothing else.
    "profile",
    "rate_limits",
];

/// A configuration file that is followed.
#[derive(Debug)]
pub struct ConfigFollower {
    path: PathBuf,
    files: WatchedFiles,
    /// What the process started with; what is not in [`LIVE`] stays so.
    started: Value,
    /// What is in use.
    current: Value,
    /// Who else may write the file.
    exposure: Option<Exposure>,
    reloads: Arc<Reloads>,
    /// Whether the file that is there cannot be used.
    stale: Arc<AtomicBool>,
}

impl ConfigFollower {
    /// Reads the file for a start.
    pub fn load(path: PathBuf) -> Result<(Config, Self), ConfigError> {
        let files = WatchedFiles::new(vec![path.clone()]);
        let loaded = Config::load(Some(&path), config::environment())?;
        let Effective { value, .. } = loaded.effective;
        let follower = Self {
            path,
            files,
            started: value.clone(),
            current: value,
            exposure: loaded.exposure,
            reloads: Reloads::new("configuration"),
            stale: Arc::default(),
        };
        Ok((loaded.config, follower))
    }

    /// Warns of those who may write the file beside us and root: they decide who is let in.
    pub fn warn_of_writers(&self) {
        if let Some(exposure) = &self.exposure {
            tracing::warn!("the configuration file is not safe: {exposure}");
        }
    }

    /// With what takes the changes.
    pub(super) fn applying_to(self, live: Live) -> impl Followed {
        Applying {
            follower: self,
            live,
        }
    }

    fn poll(&mut self, forced: bool, live: &Live) {
        if !self.files.is_due(forced) {
            return;
        }
        let applied = Config::load(Some(&self.path), config::environment()).map(|loaded| {
            self.exposure = loaded.exposure;
            self.warn_of_writers();
            live.apply(&loaded.config);
            loaded.effective.value
        });
        self.stale.store(applied.is_err(), Ordering::Relaxed);
        match applied {
            Ok(value) => self.report(value),
            Err(mistakes) => self.reloads.rejected(mistakes),
        }
    }

    /// Says what was taken, and what was not.
    fn report(&mut self, value: Value) {
        let (taken, _) = split(&self.current, &value);
        let (_, waiting) = split(&self.started, &value);
        self.current = value;
        self.reloads
            .reloaded(format_args!("changed: {}", taken.join(", ")));
        if !waiting.is_empty() {
            tracing::warn!(
                fields = %waiting.join(", "),
                "these changes of the configuration need a restart; until then the old values hold"
            );
        }
    }

    /// Shows how reading it went.
    pub(super) fn observe(&self, metrics: &Metrics) {
        self.reloads.observe(
            metrics,
            "keystile_config_reloads",
            "Reads of a changed configuration file, by how they ended.",
        );
        let stale = Arc::clone(&self.stale);
        metrics.gauge(
            "keystile_config_stale",
            "Whether the configuration file that is there cannot be used, and an older one is in use.",
            move || stale.load(Ordering::Relaxed).into(),
        );
    }
}

struct Applying {
    follower: ConfigFollower,
    live: Live,
}

impl Followed for Applying {
    const WHAT: &'static str = "configuration";

    fn poll(&mut self, forced: bool) {
        self.follower.poll(forced, &self.live);
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
