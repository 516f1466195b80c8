//! One connection, and what is asked on it.

use std::sync::atomic::Ordering;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::{
    Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, RedisFuture, Script, ServerErrorKind,
    Value,
};

use super::Link;
use crate::store::StoreError;

/// One server, or all of a cluster.
#[derive(Clone)]
pub(in crate::store::redis) enum Connection {
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

/// A connection as it is now. What is asked on it one after the other is answered in that order.
pub(in crate::store::redis) struct Live<'a> {
    link: &'a Link,
    connection: Connection,
    number: u64,
}

impl<'a> Live<'a> {
    pub(in crate::store::redis) fn new(
        link: &'a Link,
        connection: Connection,
        number: u64,
    ) -> Self {
        Self {
            link,
            connection,
            number,
        }
    }

    pub(in crate::store::redis) fn into_connection(self) -> Connection {
        self.connection
    }

    /// Sends a command and reads its answer.
    pub(in crate::store::redis) async fn ask<T: FromRedisValue>(
        &self,
        command: &Cmd,
    ) -> Result<T, StoreError> {
        let mut connection = self.connection.clone();
        let answer = command.query_async(&mut connection);
        self.link.await_reply(self.number, answer).await
    }

    /// Runs a script.
    pub(in crate::store::redis) async fn run<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &[String],
        args: &[&[u8]],
    ) -> Result<T, StoreError> {
        let mut call = redis::cmd("EVALSHA");
        call.arg(script.get_hash()).arg(keys.len()).arg(keys);
        for arg in args {
            call.arg(*arg);
        }
        let answer = self.run_loaded(script, &call);
        self.link.await_reply(self.number, answer).await
    }

    /// Loads a script that the server does not know, if it may: a sidecar's user may not, and must wait for a control
    /// plane to do so.
    async fn run_loaded<T: FromRedisValue>(
        &self,
        script: &Script,
        call: &Cmd,
    ) -> Result<T, RedisError> {
        let mut connection = self.connection.clone();
        let unknown = match call.query_async(&mut connection).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => error,
            answer => return answer,
        };
        if self.link.cannot_load.load(Ordering::Relaxed) {
            return Err(unknown);
        }
        if let Err(error) = script.load_async(&mut connection).await {
            if error.code() != Some("NOPERM") {
                return Err(error);
            }
            self.link.cannot_load.store(true, Ordering::Relaxed);
            return Err(unknown);
        }
        call.query_async(&mut connection).await
    }
}
