//! Hears of every change: each primary pushes the names of what was written (RESP3 client tracking, broadcast).
//!
//! One connection a primary, apart from that of the commands. While one of them is missing, a change may go
//! unheard: watchers are told that they are deaf, and when all listen again, that what they know is in doubt.

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
/// Waits between attempts to listen to one primary.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// All who are told.
#[derive(Default)]
pub(super) struct Watchers(RwLock<Vec<Arc<dyn Watcher>>>);

impl Watchers {
    pub(super) fn add(&self, watcher: Arc<dyn Watcher>) {
        self.0.write().push(watcher);
    }

    /// Whether all who are told refuse the key of an index entry, each after a look at it.
    pub(super) async fn refuse(&self, lookup_id: LookupId) -> bool {
        let all = self.0.read().clone();
        let now = SteadyClock.now();
        let looks = all.iter().map(|watcher| watcher.refuses(lookup_id, now));
        join_all(looks).await.into_iter().all(|refuses| refuses)
    }

    pub(super) fn tell(&self, tell: impl Fn(&dyn Watcher)) {
        // A clone, so that a watcher may add another one.
        for watcher in self.0.read().clone() {
            tell(watcher.as_ref());
        }
    }
}

/// Who listens to whom.
pub(super) struct Ears {
    names: Keyspace,
    watchers: Arc<Watchers>,
    questions: Arc<Questions>,
    access: Access,
    /// The primaries that are heard, each with the round trip that was measured last, in microseconds.
    heard: Mutex<BTreeMap<Address, u64>>,
    /// The primaries that there are.
    wanted: Mutex<BTreeSet<Address>>,
    /// Whether all that are wanted were heard when it was last looked; when not, since when.
    deaf_since: Mutex<Option<Instant>>,
    gaps: AtomicU64,
}

impl std::fmt::Debug for Ears {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ears({:?})", self.heard.lock())
    }
}

impl Ears {
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
            heard: Mutex::default(),
            wanted: Mutex::default(),
            deaf_since: Mutex::new(Some(Instant::now())),
            gaps: AtomicU64::new(0),
        }
    }

    /// Tells `watcher` from now on, and at once whether changes go unheard.
    pub(super) fn add(&self, watcher: Arc<dyn Watcher>) {
        // Held while it is added: `look` tells of a change under the same lock.
        let deaf_since = self.deaf_since.lock();
        if deaf_since.is_some() {
            watcher.deaf();
        }
        self.watchers.add(watcher);
    }

    /// How late a change may be heard at most: the longest round trip to a primary, or how long one has not been
    /// heard at all.
    pub(super) fn lag(&self) -> Duration {
        if let Some(since) = *self.deaf_since.lock() {
            return since.elapsed();
        }
        let slowest = self.heard.lock().values().copied().max();
        Duration::from_micros(slowest.unwrap_or(0))
    }

    /// What was told so far may not hold any more.
    pub(super) fn doubt(&self) {
        let deaf_since = self.deaf_since.lock();
        // Else it is told when all are heard.
        if deaf_since.is_none() {
            self.watchers.tell(|watcher| {
                watcher.deaf();
                watcher.hearing();
            });
        }
    }

    /// How often something may have gone unheard.
    pub(super) fn gaps(&self) -> u64 {
        self.gaps.load(Ordering::Relaxed)
    }

    /// Listens, for ever.
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
                self.look(false);
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
        self.heard.lock().remove(&at);
        self.look(false);
        at
    }

    async fn try_listen(&self, settings: &Settings, at: &Address) -> Result<(), ConnectError> {
        let ended = Arc::new(Notify::new());
        let hear = {
            let (names, watchers) = (self.names.clone(), Arc::clone(&self.watchers));
            let questions = Arc::clone(&self.questions);
            let ended = Arc::clone(&ended);
            move |push: PushInfo| match push.kind {
                PushKind::Invalidate => tell(&names, &watchers, &questions, &push.data),
                PushKind::Disconnection => ended.notify_one(),
                _ => {}
            }
        };
        let mut connection = connect::open(settings, at, hear).await?;
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
        self.heard.lock().insert(at.clone(), 0);
        self.look(true);
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
            // Behind everything that was pushed before it: its round trip bounds how late a change is heard.
            let begun = Instant::now();
            let ping = redis::cmd("PING");
            match timeout(PING_TIMEOUT, ping.exec_async(connection)).await {
                Ok(Ok(())) => {
                    let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
                    self.heard.lock().insert(at.clone(), took);
                }
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => return Err(ConnectError::Timeout),
            }
        }
    }

    /// Compares who should be heard with who is, and tells of a change. `anew`: one listens that did not before,
    /// so something may have gone unheard until now.
    fn look(&self, anew: bool) {
        let all = {
            let (wanted, heard) = (self.wanted.lock(), self.heard.lock());
            !wanted.is_empty() && wanted.iter().all(|at| heard.contains_key(at))
        };
        let mut deaf_since = self.deaf_since.lock();
        match (all, *deaf_since) {
            (true, Some(_)) => *deaf_since = None,
            (true, None) if anew => {}
            (false, None) => {
                *deaf_since = Some(Instant::now());
                self.gaps.fetch_add(1, Ordering::Relaxed);
                self.watchers.tell(|watcher| watcher.deaf());
                return;
            }
            (true, None) | (false, Some(_)) => return,
        }
        self.watchers.tell(|watcher| watcher.hearing());
    }

    /// Whether every primary is heard.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        match *self.deaf_since.lock() {
            None => Ok(()),
            Some(_) => Err(StoreError::Unavailable(
                "changes are not heard yet from every primary".into(),
            )),
        }
    }
}

/// Passes on what a server pushed: a list of names, or nothing when everything was flushed.
fn tell(names: &Keyspace, watchers: &Watchers, questions: &Questions, data: &[Value]) {
    for value in data {
        let Value::Array(changed) = value else {
            watchers.tell(|watcher| {
                watcher.deaf();
                watcher.hearing();
            });
            return;
        };
        for name in changed {
            let Value::BulkString(name) = name else {
                continue;
            };
            if let Some(id) = names.parse_index(name) {
                watchers.tell(|watcher| watcher.index_changed(id));
            } else if let Some(tenant) = names.parse_tenant(name) {
                watchers.tell(|watcher| watcher.tenant_changed(&tenant));
            } else if let Some(question) = names.parse_question(name) {
                questions.heard(question);
            } else if let Some(part) = names.parse_blocks(name) {
                watchers.tell(|watcher| watcher.blocks_changed(part));
            }
        }
    }
}
