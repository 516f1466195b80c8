//! The Redis store in a running process: who it is, the task that keeps it going, and waiting until it can be used.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::crypto::keyring::Keyring;
use crate::domain::name::TenantId;
use crate::keyfile::{self, KeyfileError};
use crate::server::health::Health;
use crate::store::redis::{Access, RedisStore, RootError, Settings};
use crate::store::{Records as _, Store as _, StoreError};
use crate::telemetry::chain;
use crate::telemetry::metrics::Metrics;

/// How often a store that cannot be used yet is tried.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// After this many looks at a Redis that answers, we say what is still missing.
const LOOKS_UNTOLD: u32 = 40;
/// How many tenants are looked at to see whose vault it is: enough that one of them keeps tokens.
const TENANTS_LOOKED_AT: usize = 100;

/// A Redis store at work. It stops when this is dropped.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) store: Arc<RedisStore>,
    ended: CancellationToken,
    _task: AbortOnDropHandle<()>,
}

impl Running {
    /// Tries to connect, and starts the work, whether or not it could.
    pub(super) async fn start(
        settings: &Settings,
        access: Access,
        data: &Keyring,
    ) -> (Self, Result<(), StoreError>) {
        // Fails only when there is one already, and that is the same: we have no other.
        rustls::crypto::ring::default_provider()
            .install_default()
            .ok();
        let store = RedisStore::new(settings.clone(), access);
        store.belongs_to(data.id());
        let connected = store.connect().await;
        let ended = CancellationToken::new();
        // Cancels when the task ends, in whatever way.
        let guard = ended.clone().drop_guard();
        let run = Arc::clone(&store).run();
        let task = TaskTracker::new().spawn(async move {
            let _guard = guard;
            run.await;
        });
        let running = Self {
            store,
            ended,
            _task: AbortOnDropHandle::new(task),
        };
        (running, connected)
    }

    /// Whether the keyrings are those of the store. A new store remembers them.
    pub(super) async fn check(
        &self,
        data: &Keyring,
        vault: Option<&Keyring>,
    ) -> anyhow::Result<()> {
        let location = self.store.info().location;
        let of_store = || format!("cannot use the Redis store {location}");
        let opens =
            |tenant: &TenantId, wrapped: &[u8]| data.unwrap(tenant.as_str(), wrapped).is_ok();
        let remembered = match self.store.remember(data.id(), &opens).await {
            Err(RootError::Foreign) => {
                let given = data.id().to_owned();
                return Err(KeyfileError::ForeignTenants { location, given }.into());
            }
            remembered => remembered
                .map_err(StoreError::from)
                .with_context(of_store)?,
        };
        keyfile::check_belongs(&location, &remembered, data)?;
        let Some(vault) = vault else {
            return Ok(());
        };
        let tenants = self.store.tenants(None, TENANTS_LOOKED_AT).await;
        let tenants = tenants.with_context(of_store)?;
        if let Some(row) = tenants.iter().find(|row| !row.vault_dek.is_empty()) {
            vault
                .unwrap(row.id.as_str(), &row.vault_dek)
                .map_err(|source| KeyfileError::ForeignVault { location, source })?;
        }
        Ok(())
    }

    /// Waits until the store answers, has our keyrings and tells of changes. An error is one that waiting does not
    /// mend.
    pub(super) async fn usable(
        &self,
        data: &Keyring,
        vault: Option<&Keyring>,
    ) -> anyhow::Result<()> {
        let mut looks: u32 = 0;
        loop {
            let error = match self.look(data, vault).await {
                Ok(()) => return Ok(()),
                Err(error) if is_away(&error) => error,
                Err(error) => return Err(error),
            };
            // Of one that cannot be reached the link itself has told.
            looks = if self.store.is_connected() {
                looks + 1
            } else {
                0
            };
            if looks == LOOKS_UNTOLD {
                tracing::warn!(error = %chain(error.as_ref()), "not ready: waiting for the store");
            }
            sleep(LOOK_EVERY).await;
        }
    }

    async fn look(&self, data: &Keyring, vault: Option<&Keyring>) -> anyhow::Result<()> {
        self.check(data, vault).await?;
        self.store.tracks()?;
        Ok(())
    }

    /// Ends only with the work.
    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Keeps the process not ready while what answers is not our store.
    pub(super) async fn follow_problem(&self, health: Arc<Health>) {
        let mut problem = self.store.problem();
        // The store, and with it the sender, lives as long as we do.
        while problem.wait_for(Option::is_some).await.is_ok() {
            let waiting = health.not_ready_until("store data");
            if problem.wait_for(Option::is_none).await.is_err() {
                return;
            }
            drop(waiting);
        }
    }

    pub(super) fn observe(&self, metrics: &Metrics) {
        let store = Arc::clone(&self.store);
        metrics.gauge(
            "keystile_store_up",
            "Whether Redis answers and has our data.",
            move || store.is_up().into(),
        );
        let store = Arc::clone(&self.store);
        metrics.gauge(
            "keystile_store_lost",
            "1 while Redis answers without our root record: it has lost its data, or is another's.",
            move || (store.is_connected() && store.problem().borrow().is_some()).into(),
        );
        let store = Arc::clone(&self.store);
        metrics.difference(
            "keystile_clock_skew_seconds",
            "By how much the clock of this machine is ahead of that of Redis; negative when it is behind.",
            move || seconds(store.clock_skew_ms()),
        );
        let store = Arc::clone(&self.store);
        metrics.counter(
            "keystile_store_gaps",
            "How often tracking was lost, so that an invalidation may have been missed.",
            move || store.gaps(),
        );
        let store = Arc::clone(&self.store);
        metrics.seconds(
            "keystile_revocation_lag_seconds",
            "How late a change made elsewhere may arrive.",
            move || store.revocation_lag(),
        );
    }
}

fn seconds(millis: i64) -> f64 {
    let size = Duration::from_millis(millis.unsigned_abs()).as_secs_f64();
    if millis < 0 { -size } else { size }
}

/// Whether waiting may help.
pub(super) fn is_away(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref(),
        Some(StoreError::Unavailable(_) | StoreError::Unusable(_) | StoreError::Lost(_))
    )
}

/// What is wrong with the files that the section names, each with its path.
pub(super) fn file_mistakes(settings: &Settings) -> Vec<String> {
    let mistakes = settings.unusable_files().into_iter();
    mistakes
        .map(|(field, problem)| format!("store.redis.{field}: {problem}"))
        .collect()
}
