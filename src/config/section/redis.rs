//! The section `store.redis`, as written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::RedisMode;
use crate::config::quantity::HumanDuration;
use crate::config::text::{FilePath, RedisPrefix, RedisUser, ServiceName};
use crate::config::url::{RedisNode, RedisUrl};

section! {
    #[serde(default)]
    Redis {
        /// One server; servers that sentinels watch; or a Redis Cluster.
        pub mode: RedisMode,
        /// The server: `redis://host:port`, `rediss://host:port` for TLS, or `unix:/absolute/path`. A user may be in
        /// it, as `redis://user@host`, and a database, as `redis://host/2`; a password may not. In the other modes a
        /// node or a sentinel, and optional when there are `nodes`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub url: Option<RedisUrl>,
        /// Nodes of the cluster, from which the others are found, or the sentinels: `host:port`.
        #[schemars(length(max = 64), extend("uniqueItems" = true))]
        pub nodes: Vec<RedisNode>,
        /// What the sentinels call the primary. Needed by `mode: sentinel`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub service: Option<ServiceName>,
        /// The ACL user. Absent: the user `default`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub username: Option<RedisUser>,
        /// A file that holds the user's password and nothing else. Read at each connect, so that it can be changed.
        /// Absent: no login.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub password_file: Option<FilePath>,
        /// The sentinels' own ACL user. Absent: the user `default`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub sentinel_username: Option<RedisUser>,
        /// A file that holds the password for the sentinels. Absent: no login.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub sentinel_password_file: Option<FilePath>,
        /// TLS to every server where there is no `url`; with one, `rediss://` says it.
        pub tls: bool,
        /// Certificates in PEM that sign the servers'. Absent: the CAs of the system.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub ca_file: Option<FilePath>,
        /// Our certificate and its chain in PEM, where the servers ask for one. Needs `key_file`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub cert_file: Option<FilePath>,
        /// The private key of `cert_file` in PEM.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub key_file: Option<FilePath>,
        /// What every name in Redis begins with: 1 to 32 visible ASCII characters, none of `{ } ( ) * ? [ ] ^ \ " '`.
        /// Stores with different prefixes do not meet.
        pub prefix: RedisPrefix,
        /// Longest wait for a connection, TLS and login included.
        #[schemars(extend("x-minimum" = "10ms", "x-maximum" = "1m"))]
        pub connect_timeout: HumanDuration,
        /// Longest wait for an answer. A check waits at most `authz.store_timeout`.
        #[schemars(extend("x-minimum" = "10ms", "x-maximum" = "1m"))]
        pub response_timeout: HumanDuration,
    }
}
