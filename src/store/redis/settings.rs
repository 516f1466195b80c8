//! How to reach Redis.

use std::path::PathBuf;
use std::time::Duration;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// A host (name or IP address, without brackets) and a port.
    Tcp {
        /// The host.
        host: String,
        /// The port.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Which servers there are and who of them is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topology {
    /// One server.
    Standalone(Address),
    /// Sentinels know which server is the primary of `service`.
    Sentinel {
        /// The sentinels.
        sentinels: Vec<Address>,
        /// The name under which they watch the primary.
        service: String,
        /// How to log in to the sentinels.
        login: Login,
    },
    /// A Redis Cluster.
    Cluster {
        /// Some of its nodes; the others are found from them.
        nodes: Vec<Address>,
    },
}

/// As whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Login {
    /// The ACL user; none is Redis' `default` user.
    pub username: Option<String>,
    /// A file with the password, read at each connect so that it can be changed.
    pub password_file: Option<PathBuf>,
}

/// TLS to every server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Who may sign the servers' certificates; none is the system's roots.
    pub ca_file: Option<PathBuf>,
    /// The client's certificate chain and its key, when the servers want one.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// Everything about the Redis store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Which servers.
    pub topology: Topology,
    /// The database number; 0 in a cluster.
    pub database: i64,
    /// As whom.
    pub login: Login,
    /// TLS; none is plain text.
    pub tls: Option<Tls>,
    /// What all names begin with.
    pub prefix: String,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest wait for an answer. A Check waits less: `authz.store_timeout`.
    pub response_timeout: Duration,
}

impl Settings {
    /// One server, with defaults for all else.
    pub fn standalone(address: Address) -> Self {
        Self {
            topology: Topology::Standalone(address),
            database: 0,
            login: Login::default(),
            tls: None,
            prefix: "ks:".to_owned(),
            connect_timeout: Duration::from_secs(2),
            response_timeout: Duration::from_secs(2),
        }
    }

    /// For people: where, without credentials.
    pub fn location(&self) -> String {
        let list = |all: &[Address]| {
            let all: Vec<_> = all.iter().map(ToString::to_string).collect();
            all.join(", ")
        };
        match &self.topology {
            Topology::Standalone(address) => address.to_string(),
            Topology::Sentinel {
                sentinels, service, ..
            } => format!("{service} by sentinels {}", list(sentinels)),
            Topology::Cluster { nodes } => format!("cluster {}", list(nodes)),
        }
    }
}
