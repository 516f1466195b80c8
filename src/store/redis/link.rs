//! The connection that commands go over: opened again when it is lost, and no one waits for it while it is.
//!
//! Without a live connection a command fails at once; a server that does not answer costs the first few commands
//! their time and is then taken as lost. One warning says so, one line that it is back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::{
    Cmd, ErrorKind, FromRedisValue, Pipeline, PushKind, RedisError, RedisFuture, Script,
    ServerErrorKind, Value,
};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::connect::{self, ConnectError};
use super::settings::{Address, Settings, Topology};
use crate::store::StoreError;
use crate::telemetry::chain;

/// This many commands without an answer, one after the other, and the server is taken as lost.
const SILENT_MAX: u32 = 3;
/// How often a connection is tried out and sentinels are asked.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Waits between attempts to connect, doubled each time.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// One server, or all of a cluster.
#[derive(Clone)]
pub(super) enum Connection {
    Server(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Server(connection) => connection.req_packed_command(cmd),
            Self::Cluster(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Server(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Server(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

enum State {
    /// The connection, its number and whom it reaches.
    Up(Connection, u64, Vec<Address>),
    Down(String),
}

/// The connection.
pub(super) struct Link {
    settings: Settings,
    state: ArcSwap<State>,
    /// Counts connections, so that a late failure of an old one does not end the new one.
    number: AtomicU64,
    silent: AtomicU32,
    /// The live connection is of no use any more.
    lost: Arc<Notify>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Link({})", self.settings.location())
    }
}

impl Link {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            state: ArcSwap::from_pointee(State::Down("not connected yet".to_owned())),
            number: AtomicU64::new(0),
            silent: AtomicU32::new(0),
            lost: Arc::new(Notify::new()),
        }
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    fn up(&self) -> Result<(Connection, u64), StoreError> {
        match self.state.load().as_ref() {
            State::Up(connection, number, _) => Ok((connection.clone(), *number)),
            State::Down(why) => Err(StoreError::Unavailable(why.clone().into())),
        }
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self.state.load().as_ref(), State::Up(..))
    }

    /// The primaries, as of now.
    pub(super) async fn primaries(&self) -> Result<Vec<Address>, StoreError> {
        let (cluster, servers) = match self.state.load().as_ref() {
            State::Up(Connection::Cluster(cluster), ..) => (Some(cluster.clone()), Vec::new()),
            State::Up(Connection::Server(_), _, servers) => (None, servers.clone()),
            State::Down(why) => return Err(StoreError::Unavailable(why.clone().into())),
        };
        match cluster {
            None => Ok(servers),
            Some(cluster) => connect::cluster_primaries(&self.settings, cluster)
                .await
                .map_err(|error| StoreError::Unavailable(error.into())),
        }
    }

    /// Sends a command and reads its answer.
    pub(super) async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        let (mut connection, number) = self.up()?;
        self.judge(number, command.query_async(&mut connection))
            .await
    }

    /// Runs a script.
    pub(super) async fn run<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &[String],
        args: &[&[u8]],
    ) -> Result<T, StoreError> {
        let (mut connection, number) = self.up()?;
        let mut call = script.prepare_invoke();
        for key in keys {
            call.key(key);
        }
        for arg in args {
            call.arg(*arg);
        }
        self.judge(number, call.invoke_async(&mut connection)).await
    }

    /// Waits for an answer, and draws from it what it says of the connection.
    async fn judge<T>(
        &self,
        number: u64,
        answer: impl Future<Output = Result<T, RedisError>>,
    ) -> Result<T, StoreError> {
        let patience = Patience {
            link: self,
            number,
            since: Instant::now(),
        };
        let answer = timeout(self.settings.response_timeout, answer).await;
        let error = match answer {
            Ok(Ok(value)) => {
                self.silent.store(0, Ordering::Relaxed);
                patience.rewarded();
                return Ok(value);
            }
            Ok(Err(error)) if !error.is_timeout() => error,
            // Dropping `patience` counts it.
            Ok(Err(_)) | Err(_) => {
                let late = "no answer within the time allowed";
                return Err(StoreError::Unavailable(late.into()));
            }
        };
        patience.rewarded();
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
        let heard = move |push: redis::PushInfo| {
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
                let opened = connect::open(&self.settings, &at, heard).await;
                (Connection::Server(opened.map_err(unavailable)?), vec![at])
            }
        };
        self.silent.store(0, Ordering::Relaxed);
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
        let mut told = false;
        let mut wait = RETRY_MIN;
        loop {
            if self.up().is_ok() {
                self.until_lost().await;
            }
            match self.connect().await {
                Ok(()) => {
                    if told {
                        tracing::info!(store = %self.settings.location(), "the store is back");
                    }
                    (told, wait) = (false, RETRY_MIN);
                }
                Err(error) => {
                    let why = chain(&error).to_string();
                    if !told {
                        tracing::warn!(
                            store = %self.settings.location(),
                            error = %why,
                            "the store cannot be reached: cached keys keep working; trying again until it can"
                        );
                    }
                    told = true;
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
            if self.up().is_ok() && self.is_well().await {
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
        if self.ask::<Value>(&redis::cmd("PING")).await.is_err() {
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

/// Watches over one command. Dropped without its reward, after some time: the server was silent.
struct Patience<'a> {
    link: &'a Link,
    number: u64,
    since: Instant,
}

/// Who gives up sooner than this says nothing of the server.
const GIVEN_UP_AFTER: Duration = Duration::from_millis(20);

impl Patience<'_> {
    /// There was an answer.
    fn rewarded(self) {
        std::mem::forget(self);
    }
}

impl Drop for Patience<'_> {
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

fn store_error(error: RedisError) -> StoreError {
    // A script that fails, or a value of another type where ours should be.
    let is_damage = error.code() == Some("WRONGTYPE")
        || matches!(
            error.kind(),
            ErrorKind::Server(ServerErrorKind::ResponseError)
                | ErrorKind::UnexpectedReturnType
                | ErrorKind::Parse
        );
    if is_damage {
        return StoreError::Damaged(error.to_string());
    }
    StoreError::Unavailable(error.into())
}
