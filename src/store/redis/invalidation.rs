//! The invalidation listener: each primary pushes the names of the keys that were written (RESP3 client-side caching,
//! broadcasting mode).
//!
//! One connection per primary, apart from the command connection. While one of them is missing, an invalidation may be
//! lost: watchers get `tracking_lost`, and `tracking_restored` when every primary is tracked again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use parking_lot::{Mutex, RwLock};
use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind, Value};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::connect::{self, ConnectError};
use super::fleet::Questions;
use super::keyspace::Keyspace;
use super::link::Link;
use super::settings::{Address, Settings};
use super::{Access, eviction, scripts};
use crate::clock::{Clock as _, SteadyClock};
use crate::domain::key::LookupId;
use crate::store::{StoreError, Watcher};

/// How often the primaries are asked for, and each connection is tried out.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Longest wait for the answer of a connection that is tried out.
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a control plane loads what sidecars run: one who flushed the scripts is found out by then.
const LOAD_EVERY: Duration = Duration::from_secs(3);
/// Pause between attempts to connect to one primary.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Everybody who receives invalidations.
#[derive(Default)]
pub(super) struct Watchers(RwLock<Vec<Arc<dyn Watcher>>>);

impl Watchers {
    pub(super) fn add(&self, watcher: Arc<dyn Watcher>) {
        self.0.write().push(watcher);
    }

    /// Whether every watcher refuses the key of an index entry, after it has read the entry again.
    pub(super) async fn refuse(&self, lookup_id: LookupId) -> bool {
        let all = self.0.read().clone();
        let now = SteadyClock.now();
        let looks = all.iter().map(|watcher| watcher.refuses(lookup_id, now));
        join_all(looks).await.into_iter().all(|refuses| refuses)
    }

    pub(super) fn notify(&self, notify: impl Fn(&dyn Watcher)) {
        // A clone, so that a watcher may add another one.
        for watcher in self.0.read().clone() {
            notify(watcher.as_ref());
        }
    }
}

/// Tracks every primary and passes its invalidations on.
pub(super) struct InvalidationListener {
    names: Keyspace,
    watchers: Arc<Watchers>,
    questions: Arc<Questions>,
    access: Access,
    /// The primaries that are tracked, each with its last round trip in microseconds.
    tracked: Mutex<BTreeMap<Address, u64>>,
    /// All primaries of the topology.
    wanted: Mutex<BTreeSet<Address>>,
    /// Since when a primary is not tracked; none: all are.
    lost_since: Mutex<Option<Instant>>,
    gaps: AtomicU64,
}

impl std::fmt::Debug for InvalidationListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "InvalidationListener({:?})", self.tracked.lock())
    }
}

impl InvalidationListener {
    pub(super) fn new(
        names: Keyspace,
        watchers: Arc<Watchers>,
        questions: Arc<Questions>,
        access: Access,
    ) -> Self {
        Self {
            names,
            watchers,
            questions,
            access,
            tracked: Mutex::default(),
            wanted: Mutex::default(),
            lost_since: Mutex::new(Some(Instant::now())),
            gaps: AtomicU64::new(0),
        }
    }

    /// Adds a watcher, and tells it at once if tracking is lost.
    pub(super) fn add(&self, watcher: Arc<dyn Watcher>) {
        // Held while it is added: `update` notifies under the same lock.
        let lost_since = self.lost_since.lock();
        if lost_since.is_some() {
            watcher.tracking_lost();
        }
        self.watchers.add(watcher);
    }

    /// How late an invalidation may be at most: the longest round trip to a primary, or for how long one has not been
    /// tracked at all.
    pub(super) fn lag(&self) -> Duration {
        if let Some(since) = *self.lost_since.lock() {
            return since.elapsed();
        }
        let slowest = self.tracked.lock().values().copied().max();
        Duration::from_micros(slowest.unwrap_or(0))
    }

    /// Makes every watcher read again what it has.
    pub(super) fn invalidate_all(&self) {
        let lost_since = self.lost_since.lock();
        // Else they do so when tracking is restored.
        if lost_since.is_none() {
            self.watchers.notify(|watcher| {
                watcher.tracking_lost();
                watcher.tracking_restored();
            });
        }
    }

    /// How often tracking was lost.
    pub(super) fn gaps(&self) -> u64 {
        self.gaps.load(Ordering::Relaxed)
    }

    /// Never returns; drop the future to stop.
    pub(super) async fn listen(&self, link: &Link) {
        let mut listening = FuturesUnordered::new();
        let mut addresses = BTreeSet::new();
        loop {
            if let Ok(primaries) = link.primaries().await {
                let primaries: BTreeSet<_> = primaries.into_iter().collect();
                for at in primaries.difference(&addresses) {
                    listening.push(self.listen_to(link.settings(), at.clone()));
                }
                addresses.extend(primaries.iter().cloned());
                *self.wanted.lock() = primaries;
                self.update(false);
            }
            tokio::select! {
                Some(gone) = listening.next(), if !listening.is_empty() => {
                    addresses.remove(&gone);
                }
                () = sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Listens to one primary until the connection ends or it is no primary any more.
    async fn listen_to(&self, settings: &Settings, at: Address) -> Address {
        if self.try_listen(settings, &at).await.is_err() {
            sleep(RETRY_AFTER).await;
        }
        self.tracked.lock().remove(&at);
        self.update(false);
        at
    }

    async fn try_listen(&self, settings: &Settings, at: &Address) -> Result<(), ConnectError> {
        let ended = Arc::new(Notify::new());
        let on_push = {
            let (names, watchers) = (self.names.clone(), Arc::clone(&self.watchers));
            let questions = Arc::clone(&self.questions);
            let ended = Arc::clone(&ended);
            move |push: PushInfo| match push.kind {
                PushKind::Invalidate => pass_on(&names, &watchers, &questions, &push.data),
                PushKind::Disconnection => ended.notify_one(),
                _ => {}
            }
        };
        let mut connection = connect::open(settings, at, on_push).await?;
        let mut track = redis::cmd("CLIENT");
        track.arg("TRACKING").arg("ON").arg("BCAST");
        for prefix in [
            self.names.index_prefix(),
            self.names.tenant_prefix(),
            self.names.question_prefix(),
            self.names.blocks_prefix(),
        ] {
            track.arg("PREFIX").arg(prefix);
        }
        track.exec_async(&mut connection).await?;
        self.tracked.lock().insert(at.clone(), 0);
        self.update(true);
        if self.access == Access::Write {
            eviction::warn_of(at, &mut connection).await;
        }
        self.keep_listening(at, &mut connection, &ended).await
    }

    /// Until the connection ends, or to a server that is no primary any more.
    async fn keep_listening(
        &self,
        at: &Address,
        connection: &mut MultiplexedConnection,
        ended: &Notify,
    ) -> Result<(), ConnectError> {
        let mut load_at = Instant::now();
        loop {
            if self.access == Access::Write && Instant::now() >= load_at {
                load_at = Instant::now() + LOAD_EVERY;
                for script in scripts::of_sidecars() {
                    script.load_async(connection).await?;
                }
            }
            tokio::select! {
                () = ended.notified() => return Ok(()),
                () = sleep(LOOK_EVERY) => {}
            }
            if !self.wanted.lock().contains(at) {
                return Ok(());
            }
            // Answered after everything that was pushed before: its round trip bounds how late an invalidation is.
            let begun = Instant::now();
            let ping = redis::cmd("PING");
            match timeout(PING_TIMEOUT, ping.exec_async(connection)).await {
                Ok(Ok(())) => {
                    let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
                    self.tracked.lock().insert(at.clone(), took);
                }
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => return Err(ConnectError::Timeout),
            }
        }
    }

    /// Compares the primaries that should be tracked with those that are, and notifies the watchers of a change.
    /// `anew`: one was just connected, so an invalidation may have been lost before.
    fn update(&self, anew: bool) {
        let all = {
            let (wanted, tracked) = (self.wanted.lock(), self.tracked.lock());
            !wanted.is_empty() && wanted.iter().all(|at| tracked.contains_key(at))
        };
        let mut lost_since = self.lost_since.lock();
        match (all, *lost_since) {
            (true, Some(_)) => *lost_since = None,
            (true, None) if anew => {}
            (false, None) => {
                *lost_since = Some(Instant::now());
                self.gaps.fetch_add(1, Ordering::Relaxed);
                self.watchers.notify(|watcher| watcher.tracking_lost());
                return;
            }
            (true, None) | (false, Some(_)) => return,
        }
        self.watchers.notify(|watcher| watcher.tracking_restored());
    }

    /// Whether every primary is tracked.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        match *self.lost_since.lock() {
            None => Ok(()),
            Some(_) => Err(StoreError::Unavailable(
                "the invalidation listener is not connected to every primary yet".into(),
            )),
        }
    }
}

/// Passes on what a server pushed: a list of names, or null when everything was flushed.
fn pass_on(names: &Keyspace, watchers: &Watchers, questions: &Questions, data: &[Value]) {
    for value in data {
        let Value::Array(changed) = value else {
            watchers.notify(|watcher| {
                watcher.tracking_lost();
                watcher.tracking_restored();
            });
            return;
        };
        for name in changed {
            let Value::BulkString(name) = name else {
                continue;
            };
            if let Some(id) = names.parse_index(name) {
                watchers.notify(|watcher| watcher.index_changed(id));
            } else if let Some(tenant) = names.parse_tenant(name) {
                watchers.notify(|watcher| watcher.tenant_changed(&tenant));
            } else if let Some(question) = names.parse_question(name) {
                questions.queue(question);
            } else if let Some(part) = names.parse_blocks(name) {
                watchers.notify(|watcher| watcher.blocks_changed(part));
            }
        }
    }
}
