//! The connection that commands go over: opened again when it is lost, and no one waits for it while it is.
//!
//! Without a live connection a command fails at once; a server that does not answer costs the first few commands
//! their time and is then taken as lost. One warning says so, one line that it is back.

mod live;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use redis::cluster_async::ClusterConnection;
use redis::{Cmd, ErrorKind, FromRedisValue, PushKind, RedisError, Script, ServerErrorKind, Value};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::connect::{self, ConnectError};
use super::guard::Guard;
use super::keyspace::Keyspace;
use super::refusal::store_error;
use super::settings::{Address, Settings, Topology};
use crate::store::StoreError;
use crate::telemetry::chain;
pub(super) use live::{Connection, Live};

/// This many commands without an answer, one after the other, and the server is taken as lost.
const SILENT_MAX: u32 = 3;
/// How often a connection is tried out and sentinels are asked.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Waits between attempts to connect, doubled each time.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(1);

enum State {
    /// The connection, its number and whom it reaches.
    Up(Connection, u64, Vec<Address>),
    Down(String),
}

/// The connection.
pub(super) struct Link {
    settings: Settings,
    guard: Guard,
    state: ArcSwap<State>,
    /// Counts connections, so that a late failure of an old one does not end the new one.
    number: AtomicU64,
    silent: AtomicU32,
    /// This process may run scripts and not load them.
    pub(super) cannot_load: AtomicBool,
    /// The live connection is of no use any more.
    lost: Arc<Notify>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Link({})", self.settings.location())
    }
}

impl Link {
    pub(super) fn new(settings: Settings, names: Keyspace) -> Self {
        let is_cluster = matches!(settings.topology, Topology::Cluster { .. });
        Self {
            settings,
            guard: Guard::new(names, is_cluster),
            state: ArcSwap::from_pointee(State::Down("not connected yet".to_owned())),
            number: AtomicU64::new(0),
            silent: AtomicU32::new(0),
            cannot_load: AtomicBool::new(false),
            lost: Arc::new(Notify::new()),
        }
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What this process knows of the store that is its own.
    pub(super) fn guard(&self) -> &Guard {
        &self.guard
    }

    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.settings.topology, Topology::Cluster { .. })
    }

    /// The connection, whatever is stored there.
    pub(super) fn live_unguarded(&self) -> Result<Live<'_>, StoreError> {
        match self.state.load().as_ref() {
            State::Up(connection, number, _) => Ok(Live::new(self, connection.clone(), *number)),
            State::Down(why) => Err(StoreError::Unavailable(why.clone().into())),
        }
    }

    /// The connection, if our store is behind it.
    pub(super) fn live(&self) -> Result<Live<'_>, StoreError> {
        let live = self.live_unguarded()?;
        self.guard.check()?;
        Ok(live)
    }

    /// Whether there is a connection, whatever is stored there.
    pub(super) fn is_connected(&self) -> bool {
        matches!(self.state.load().as_ref(), State::Up(..))
    }

    /// The connection of a Cluster.
    pub(super) fn cluster(&self) -> Result<Option<ClusterConnection>, StoreError> {
        match self.live_unguarded()?.into_connection() {
            Connection::Cluster(cluster) => Ok(Some(cluster)),
            Connection::Server(_) => Ok(None),
        }
    }

    /// The primaries, as of now.
    pub(super) async fn primaries(&self) -> Result<Vec<Address>, StoreError> {
        if self.is_cluster() {
            let ranges = self.ranges().await?.into_iter();
            let primaries: BTreeSet<_> = ranges.map(|(_, _, at)| at).collect();
            return Ok(primaries.into_iter().collect());
        }
        match self.state.load().as_ref() {
            State::Up(_, _, servers) => Ok(servers.clone()),
            State::Down(why) => Err(StoreError::Unavailable(why.clone().into())),
        }
    }

    /// Sends a command and reads its answer.
    pub(super) async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        self.live()?.ask(command).await
    }

    /// Runs a script.
    pub(super) async fn run<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &[String],
        args: &[&[u8]],
    ) -> Result<T, StoreError> {
        self.live()?.run(script, keys, args).await
    }

    /// Waits for an answer, and draws from it what it says of the connection.
    pub(super) async fn await_reply<T>(
        &self,
        number: u64,
        answer: impl Future<Output = Result<T, RedisError>>,
    ) -> Result<T, StoreError> {
        let in_flight = InFlight {
            link: self,
            number,
            since: Instant::now(),
        };
        let answer = timeout(self.settings.response_timeout, answer).await;
        let error = match answer {
            Ok(Ok(value)) => {
                self.silent.store(0, Ordering::Relaxed);
                in_flight.completed();
                return Ok(value);
            }
            Ok(Err(error)) if !error.is_timeout() => error,
            // Dropping `in_flight` counts it.
            Ok(Err(_)) | Err(_) => {
                let late = "no answer within the time allowed";
                return Err(StoreError::Unavailable(late.into()));
            }
        };
        in_flight.completed();
        if error.is_unrecoverable_error() || is_of_another_primary(&error) {
            self.give_up(number, &error.to_string());
        }
        Err(store_error(error))
    }

    /// A command was given up without an answer, here or by who waited for it.
    fn was_silent(&self, number: u64) {
        if self.silent.fetch_add(1, Ordering::Relaxed) + 1 >= SILENT_MAX {
            self.give_up(number, "the server does not answer");
        }
    }

    /// Takes a connection as lost. A cluster's looks after itself: one dead node is not the end of the others.
    fn give_up(&self, number: u64, why: &str) {
        let state = self.state.load_full();
        if let State::Up(Connection::Server(_), current, _) = state.as_ref()
            && *current == number
        {
            self.state.store(Arc::new(State::Down(why.to_owned())));
            self.lost.notify_one();
        }
    }

    /// Connects, once; for a start that should say at once when it cannot.
    pub(super) async fn connect(&self) -> Result<(), StoreError> {
        let unavailable = |error: ConnectError| StoreError::Unavailable(error.into());
        let number = self.number.fetch_add(1, Ordering::Relaxed) + 1;
        let lost = Arc::clone(&self.lost);
        let on_push = move |push: redis::PushInfo| {
            if push.kind == PushKind::Disconnection {
                lost.notify_one();
            }
        };
        let (connection, servers) = match &self.settings.topology {
            Topology::Cluster { nodes } => {
                let cluster = connect::open_cluster(&self.settings, nodes).await;
                (
                    Connection::Cluster(cluster.map_err(unavailable)?),
                    Vec::new(),
                )
            }
            Topology::Standalone(_) | Topology::Sentinel { .. } => {
                let at = self.primary().await.map_err(unavailable)?;
                let opened = connect::open(&self.settings, &at, on_push).await;
                (Connection::Server(opened.map_err(unavailable)?), vec![at])
            }
        };
        self.silent.store(0, Ordering::Relaxed);
        let live = Live::new(self, connection.clone(), number);
        // Whose store it is, before anybody is answered from it.
        match self.look_on(&live).await {
            // A cluster of which one primary is away serves the others, as soon as it is known to be ours.
            Err(error) if !self.is_cluster() => return Err(error),
            looked => drop(looked),
        }
        self.state
            .store(Arc::new(State::Up(connection, number, servers)));
        Ok(())
    }

    async fn primary(&self) -> Result<Address, ConnectError> {
        match &self.settings.topology {
            Topology::Standalone(at) => Ok(at.clone()),
            Topology::Sentinel { .. } | Topology::Cluster { .. } => {
                connect::ask_sentinels(&self.settings).await
            }
        }
    }

    /// Keeps a connection, for ever.
    pub(super) async fn keep(&self) {
        let mut logged = false;
        let mut wait = RETRY_MIN;
        loop {
            if self.is_connected() {
                self.until_lost().await;
            }
            match self.connect().await {
                Ok(()) => {
                    if logged {
                        tracing::info!(store = %self.settings.location(), "the store is back");
                    }
                    (logged, wait) = (false, RETRY_MIN);
                }
                Err(error) => {
                    let why = chain(&error).to_string();
                    if !logged {
                        tracing::warn!(
                            store = %self.settings.location(),
                            error = %why,
                            "the store cannot be reached: cached keys keep working; trying again until it can"
                        );
                    }
                    logged = true;
                    self.state.store(Arc::new(State::Down(why)));
                    sleep(wait).await;
                    wait = (wait * 2).min(RETRY_MAX);
                }
            }
        }
    }

    /// Waits until the live connection is of no use.
    async fn until_lost(&self) {
        loop {
            tokio::select! {
                () = self.lost.notified() => {}
                () = sleep(LOOK_EVERY) => {
                    if self.is_well().await {
                        continue;
                    }
                }
            }
            // A loss that was told of an earlier connection.
            if self.is_connected() && self.is_well().await {
                continue;
            }
            let down = State::Down("the connection was lost".to_owned());
            self.state.store(Arc::new(down));
            return;
        }
    }

    async fn is_well(&self) -> bool {
        let servers = match self.state.load().as_ref() {
            // It opens its connections again by itself.
            State::Up(Connection::Cluster(_), ..) => return true,
            State::Up(Connection::Server(_), _, servers) => servers.clone(),
            State::Down(_) => return false,
        };
        let ping = redis::cmd("PING");
        let answered = match self.live_unguarded() {
            Ok(live) => live.ask::<Value>(&ping).await.is_ok(),
            Err(_) => false,
        };
        if !answered {
            return false;
        }
        if matches!(self.settings.topology, Topology::Standalone(_)) {
            return true;
        }
        // While no sentinel answers, who answers is the primary.
        self.primary()
            .await
            .map_or(true, |primary| servers.contains(&primary))
    }
}

/// A command that waits for its reply. Dropped before [`Self::completed`], after some time: the server was silent.
struct InFlight<'a> {
    link: &'a Link,
    number: u64,
    since: Instant,
}

/// Who gives up sooner than this says nothing of the server.
const GIVEN_UP_AFTER: Duration = Duration::from_millis(20);

impl InFlight<'_> {
    /// A reply arrived: nothing is counted when this is dropped.
    fn completed(self) {
        std::mem::forget(self);
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        if self.since.elapsed() >= GIVEN_UP_AFTER {
            self.link.was_silent(self.number);
        }
    }
}

/// The server we write to is not the primary any more.
fn is_of_another_primary(error: &RedisError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)
    )
}
