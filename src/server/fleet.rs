//! Makes a process that checks requests one of the fleet.

use std::sync::Arc;

use crate::cache::Cache;
use crate::clock::{Clock as _, SystemClock};
use crate::config::Config;
use crate::store::SidecarReport;
use crate::store::redis::RedisStore;

/// Lets control planes see this process and wait for it, if it checks requests. Once.
pub fn join(config: &Config, store: &Arc<RedisStore>, cache: &Arc<Cache>) {
    if config.authz.is_none() {
        return;
    }
    let started_at = SystemClock.now();
    // The store keeps the report, and the cache the store: neither may keep itself.
    let (reporting, cache) = (Arc::downgrade(store), Arc::downgrade(cache));
    store.join_fleet(id(), move || SidecarReport {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at,
        lag: reporting
            .upgrade()
            .map_or_else(Default::default, |store| store.revocation_lag()),
        cached_keys: cache.upgrade().map_or(0, |cache| cache.len() as u64),
    });
}

/// The host, which is the pod's name on Kubernetes, and what tells this process from others there and from those
/// before it.
fn id() -> String {
    let host = nix::unistd::gethostname().unwrap_or_default();
    format!("{}-{:08x}", host.to_string_lossy(), rand::random::<u32>())
}
