//! Whether the store that answers is the one that this process works with.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::keyspace::Keyspace;
use super::problem::Problem;
use crate::domain::name::TenantId;
use crate::store::StoreError;

/// What this process knows of the store that is its own.
pub(super) struct Guard {
    pub(super) names: Keyspace,
    pub(super) is_cluster: bool,
    /// Whose store it must be; without it nothing is looked at.
    pub(super) keyring: OnceLock<String>,
    pub(super) seen: Mutex<Seen>,
    problem: watch::Sender<Option<Problem>>,
}

#[derive(Default)]
pub(super) struct Seen {
    /// The store that we work with.
    pub(super) store_id: Option<String>,
    /// A tenant that was there, and its data key: a store with another id and the same tenant is the same store.
    pub(super) witness: Option<(TenantId, u64)>,
    /// Whether the root record was ever there.
    pub(super) root: bool,
    /// Markers that were missing when they were last looked at.
    pub(super) missing: BTreeSet<String>,
}

impl Guard {
    pub(super) fn new(names: Keyspace, is_cluster: bool) -> Self {
        Self {
            names,
            is_cluster,
            keyring: OnceLock::new(),
            seen: Mutex::default(),
            problem: watch::Sender::new(None),
        }
    }

    /// From now on, only the store of this keyring is used.
    pub(super) fn expect(&self, keyring: &str) {
        if self.keyring.set(keyring.to_owned()).is_ok() {
            self.problem.send_replace(Some(Problem::NotSeen));
        }
    }

    pub(super) fn check(&self) -> Result<(), StoreError> {
        match self.problem.borrow().as_ref() {
            None => Ok(()),
            Some(problem @ Problem::New) => {
                Err(StoreError::Unavailable(problem.to_string().into()))
            }
            Some(problem) => Err(StoreError::Lost(problem.to_string())),
        }
    }

    pub(super) fn problem(&self) -> watch::Receiver<Option<Problem>> {
        self.problem.subscribe()
    }

    pub(super) fn has_seen(&self, tenant: &TenantId, dek_id: u64) {
        self.seen.lock().witness = Some((tenant.clone(), dek_id));
    }

    pub(super) fn seen_store_id(&self) -> Option<String> {
        self.seen.lock().store_id.clone()
    }

    /// Logs a change, once.
    pub(super) fn set(&self, location: &str, now: Option<Problem>) {
        let mut before = None;
        let changed = self.problem.send_if_modified(|problem| {
            let changed = *problem != now;
            before.clone_from(problem);
            problem.clone_from(&now);
            changed
        });
        if !changed {
            return;
        }
        let was_out = before.is_some_and(|before| !before.is_beginning());
        match now {
            Some(now) if !now.is_beginning() => tracing::error!(
                store = location,
                problem = %now,
                "the store is out: cached keys keep working until `cache.max_stale`, everything else is refused until its data is back"
            ),
            None if was_out => tracing::info!(store = location, "the store has its data again"),
            Some(_) | None => {}
        }
    }
}
