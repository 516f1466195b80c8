//! A primary and its replica, watched by three Sentinels of which two must agree.

use super::{Options, RedisServer};
use crate::harness::wait_for;

/// What the Sentinels call the primary.
pub(crate) const NAME: &str = "keystile";

/// Milliseconds between looks at the replicas, at each other and at who else finds the primary down. By default these
/// are seconds. The period of pings stays: from it follows how fresh a replica's news must be for it to be promoted.
const HASTE: &str = "SENTINEL DEBUG info-period 100 publish-period 50 ask-period 100";

#[derive(Debug)]
pub(crate) struct RedisSentinel {
    servers: [RedisServer; 2],
    sentinels: [RedisServer; 3],
}

impl RedisSentinel {
    pub(crate) fn start() -> Self {
        let primary = RedisServer::start();
        let replica = start_replica(primary.port);
        wait_for("the replica to be in sync", || {
            replica.is_replica_in_sync().then_some(())
        });
        let watched = primary.port;
        let sentinel = Self {
            servers: [primary, replica],
            sentinels: [(); 3].map(|()| start_sentinel(watched)),
        };
        wait_for("the Sentinels to know each other", || {
            sentinel.all_say("status=ok").then_some(())?;
            sentinel.all_say("slaves=1,sentinels=3").then_some(())
        });
        sentinel
    }

    /// As `host:port`.
    pub(crate) fn sentinel_addresses(&self) -> Vec<String> {
        self.sentinels.iter().map(RedisServer::address).collect()
    }

    /// The server that the Sentinels send clients to; a dead one, until they have noticed.
    pub(crate) fn primary(&self) -> &RedisServer {
        let port = primary_port(&self.sentinels[0]);
        let server = self.servers.iter().find(|server| server.port == port);
        server.expect("it is one of ours")
    }

    /// Whether the replica has all that the primary was told.
    pub(crate) fn is_in_sync(&self) -> bool {
        let replication = self.primary().info("replication");
        let told = replication.get("master_repl_offset");
        let has = replication.get("slave0").and_then(|replica| {
            let fields = replica.split(',');
            fields
                .filter_map(|field| field.strip_prefix("offset="))
                .next()
        });
        told.is_some() && told.map(String::as_str) == has
    }

    /// SIGKILL to the primary.
    pub(crate) fn kill_primary(&mut self) {
        let port = self.primary().port;
        let mut servers = self.servers.iter_mut();
        let primary = servers.find(|server| server.port == port);
        primary.expect("it is one of ours").kill();
    }

    /// Waits until all Sentinels send clients to a living server and it takes writes.
    pub(crate) fn wait_for_failover(&self) {
        wait_for("a failover", || {
            let primary = self.primary();
            let address = format!("address={},", primary.address());
            let agreed = primary.is_running() && self.all_say(&address);
            (agreed && primary.info("replication")["role"] == "master").then_some(())
        });
    }

    /// Whether these words are in what each Sentinel says of the primary.
    fn all_say(&self, words: &str) -> bool {
        let said = |sentinel: &RedisServer| {
            let info = sentinel.info("sentinel");
            info.get("master0")
                .is_some_and(|status| status.contains(words))
        };
        self.sentinels.iter().all(said)
    }
}

fn primary_port(sentinel: &RedisServer) -> u16 {
    let address = sentinel.cli(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME]);
    let port = address.lines().nth(1).and_then(|port| port.parse().ok());
    port.expect("the address is a line each of host and port")
}

fn start_replica(of: u16) -> RedisServer {
    RedisServer::start_with(Options {
        more: &format!("replicaof 127.0.0.1 {of}"),
        ..Options::default()
    })
}

fn start_sentinel(watched: u16) -> RedisServer {
    let more = format!(
        "sentinel monitor {NAME} 127.0.0.1 {watched} 2
sentinel down-after-milliseconds {NAME} 500
sentinel failover-timeout {NAME} 1000"
    );
    let options = Options {
        more: &more,
        ..Options::default()
    };
    let sentinel = RedisServer::start_as(&["redis.conf", "--sentinel"], options);
    sentinel.cli(&HASTE.split(' ').collect::<Vec<_>>());
    sentinel
}
