//! The Redis store's section: addresses as they are written, and what its fields say together.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::RedisMode;
use super::listen::ListenAddr;
use super::mistake::Mistake;
use super::raw::RawRedis;
use super::text::{FilePath, text_serde};

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// How the Redis store is reached. Names files; holds no password, so that this can be printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisConfig {
    pub servers: RedisServers,
    pub database: u32,
    pub login: RedisLogin,
    /// `None`: plain text.
    pub tls: Option<RedisTlsConfig>,
    /// What every name in Redis begins with.
    pub prefix: String,
    pub connect_timeout: Duration,
    pub response_timeout: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedisServers {
    Standalone(RedisAddress),
    Sentinel {
        sentinels: Vec<RedisNode>,
        /// What the sentinels call the primary.
        service: String,
        login: RedisLogin,
    },
    Cluster {
        /// Some of its nodes.
        nodes: Vec<RedisNode>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedisAddress {
    Tcp(RedisNode),
    Unix(PathBuf),
}

/// A host (a name, or an address without brackets) and its port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RedisNode {
    pub host: String,
    pub port: u16,
}

/// As whom; no password is no login.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RedisLogin {
    /// `None`: Redis' user `default`.
    pub username: Option<String>,
    pub password_file: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisTlsConfig {
    /// `None`: the CAs of the system.
    pub ca_file: Option<PathBuf>,
    /// Our certificate and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

impl RedisConfig {
    /// Whether passwords and records travel in plain text beyond this machine.
    pub fn is_plain_text_beyond_the_machine(&self) -> bool {
        let leaves = |node: &RedisNode| !node.is_loopback();
        self.tls.is_none()
            && match &self.servers {
                RedisServers::Standalone(RedisAddress::Tcp(node)) => leaves(node),
                RedisServers::Standalone(RedisAddress::Unix(_)) => false,
                RedisServers::Sentinel { sentinels, .. } => sentinels.iter().any(leaves),
                RedisServers::Cluster { nodes } => nodes.iter().any(leaves),
            }
    }
}

impl fmt::Display for RedisServers {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |nodes: &[RedisNode]| {
            let nodes: Vec<String> = nodes.iter().map(ToString::to_string).collect();
            nodes.join(", ")
        };
        match self {
            Self::Standalone(RedisAddress::Tcp(node)) => node.fmt(out),
            Self::Standalone(RedisAddress::Unix(path)) => write!(out, "unix:{}", path.display()),
            Self::Sentinel {
                sentinels, service, ..
            } => write!(out, "{service} by sentinels {}", list(sentinels)),
            Self::Cluster { nodes } => write!(out, "cluster {}", list(nodes)),
        }
    }
}

impl RedisNode {
    fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }
}

/// Whether a host, without brackets, is this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let address = host.parse::<std::net::IpAddr>();
    address.map_or(host == "localhost", |ip| ip.to_canonical().is_loopback())
}

impl fmt::Display for RedisNode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", Host(&self.host), self.port)
    }
}

struct Host<'a>(&'a str);

impl fmt::Display for Host<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.contains(':') {
            true => write!(out, "[{}]", self.0),
            false => out.write_str(self.0),
        }
    }
}

impl FromStr for RedisNode {
    type Err = String;
    /// Never repeats the text: people paste whole URLs here, with passwords.
    fn from_str(text: &str) -> Result<Self, String> {
        match host_and_port(text) {
            Some((host, Some(port))) => Ok(Self { host, port }),
            Some((_, None)) => Err("has no port; write `host:port`".to_owned()),
            None => Err("is not a server's address; write `host:port` or `[::1]:port`".to_owned()),
        }
    }
}

text_serde!(RedisNode, "redis-node", "^.+:[0-9]{1,5}$");

/// `None`: neither a host nor a host with a port from 1.
pub(super) fn host_and_port(text: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            let port = match after {
                "" => None,
                after => Some(after.strip_prefix(':')?),
            };
            (host, port)
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let is_name = (1..=253).contains(&host.len()) && host.chars().all(legal);
    if !is_name && !text.starts_with('[') {
        return None;
    }
    let port = match port {
        Some(port) => Some(number(port).filter(|port| *port != 0)?),
        None => None,
    };
    Some((host.to_owned(), port))
}

/// Digits alone: no sign.
fn number<T: FromStr>(text: &str) -> Option<T> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// `redis://[user@]host[:port][/database]`, the same with `rediss://`, or `unix:/absolute/path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RedisUrl {
    Tcp {
        tls: bool,
        username: Option<String>,
        host: String,
        port: Option<u16>,
        database: u32,
    },
    Unix(PathBuf),
}

impl FromStr for RedisUrl {
    type Err = String;
    /// Never repeats the text: it may hold a password.
    fn from_str(text: &str) -> Result<Self, String> {
        let form = || {
            "must be `redis://host:port`, `rediss://host:port` for TLS, with `/NUMBER` for another database, or `unix:/absolute/path`".to_owned()
        };
        if text.starts_with("unix:") {
            return match text.parse()? {
                ListenAddr::Unix(path) => Ok(Self::Unix(path)),
                ListenAddr::Tcp(_) => Err(form()),
            };
        }
        let (tls, rest) = match text.strip_prefix("redis://") {
            Some(rest) => (false, rest),
            None => (true, text.strip_prefix("rediss://").ok_or_else(form)?),
        };
        let (username, rest) = match rest.rsplit_once('@') {
            Some((user, rest)) => (Some(username(user)?), rest),
            None => (None, rest),
        };
        if rest.contains(['?', '#']) {
            return Err("has options after `?` or `#`; write them as fields beside it".to_owned());
        }
        let (place, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = host_and_port(place).ok_or_else(form)?;
        let database = match database {
            "" => 0,
            database => number(database).ok_or_else(form)?,
        };
        Ok(Self::Tcp {
            tls,
            username,
            host,
            port,
            database,
        })
    }
}

fn username(text: &str) -> Result<String, String> {
    if text.contains(':') {
        return Err("holds a password, which whoever sees this configuration could read; put it into a file, name that as `password_file`, and take `:` and what follows up to `@` out".to_owned());
    }
    let legal = |c: char| c.is_ascii_graphic() && !"/?#%@".contains(c);
    match !text.is_empty() && text.chars().all(legal) {
        true => Ok(text.to_owned()),
        false => Err("has a user name that a URL cannot hold; write it as `username`".to_owned()),
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tls, username, host, port, database) = match self {
            Self::Unix(path) => return write!(out, "unix:{}", path.display()),
            Self::Tcp {
                tls,
                username,
                host,
                port,
                database,
            } => (tls, username, host, port, database),
        };
        out.write_str(if *tls { "rediss://" } else { "redis://" })?;
        if let Some(username) = username {
            write!(out, "{username}@")?;
        }
        Host(host).fmt(out)?;
        if let Some(port) = port {
            write!(out, ":{port}")?;
        }
        match database {
            0 => Ok(()),
            database => write!(out, "/{database}"),
        }
    }
}

text_serde!(RedisUrl, "redis-url", "^(rediss?://.+|unix:/.+)$");

impl RedisUrl {
    fn has_tls(&self) -> bool {
        matches!(self, Self::Tcp { tls: true, .. })
    }

    fn username(&self) -> Option<&str> {
        match self {
            Self::Tcp { username, .. } => username.as_deref(),
            Self::Unix(_) => None,
        }
    }

    fn database(&self) -> u32 {
        match self {
            Self::Tcp { database, .. } => *database,
            Self::Unix(_) => 0,
        }
    }

    fn address(&self, default_port: u16) -> RedisAddress {
        match self {
            Self::Unix(path) => RedisAddress::Unix(path.clone()),
            Self::Tcp { host, port, .. } => RedisAddress::Tcp(RedisNode {
                host: host.clone(),
                port: port.unwrap_or(default_port),
            }),
        }
    }
}

fn at(field: &str) -> String {
    format!("store.redis.{field}")
}

fn wrong(field: &str, message: impl Into<String>) -> Mistake {
    Mistake::new(at(field), message)
}

/// What the fields of a store that is used say together.
pub(super) fn check(raw: &RawRedis, mistakes: &mut Vec<Mistake>) {
    let mut of_mode = Vec::new();
    check_servers(raw, &mut of_mode);
    check_sentinel_fields(raw, &mut of_mode);
    // Of a mode that is wrong by itself nothing more is said.
    mistakes.extend(of_mode.into_iter().map(|found| found.with(at("mode"))));
    check_logins(raw, mistakes);
    check_tls(raw, mistakes);
}

fn check_servers(raw: &RawRedis, mistakes: &mut Vec<Mistake>) {
    let any = raw.url.is_some() || !raw.nodes.is_empty();
    let mode = match raw.mode {
        RedisMode::Standalone => {
            if raw.url.is_none() {
                let message = "is missing: it says where the store is; write `url: \"redis://127.0.0.1:6379\"`";
                mistakes.push(wrong("url", message));
            }
            if !raw.nodes.is_empty() {
                let message = "is for `mode: sentinel` and `mode: cluster`; a single server is named by `url`";
                mistakes.push(wrong("nodes", message));
            }
            return;
        }
        RedisMode::Sentinel => "sentinel",
        RedisMode::Cluster => "cluster",
    };
    if !any {
        let (who, port) = match raw.mode {
            RedisMode::Sentinel => ("the sentinels", SENTINEL_PORT),
            RedisMode::Standalone | RedisMode::Cluster => ("some nodes of the cluster", PORT),
        };
        let message =
            format!("is missing: it names {who}; write `nodes: [\"redis-1.example:{port}\"]`");
        mistakes.push(wrong("nodes", message).with(at("url")));
    }
    if let Some(RedisUrl::Unix(_)) = raw.url {
        let message = format!("is a Unix socket; `mode: {mode}` needs `host:port`");
        mistakes.push(wrong("url", message));
    }
    let database = raw.url.as_ref().map_or(0, RedisUrl::database);
    if raw.mode == RedisMode::Cluster && database != 0 {
        let message = format!("names database {database}; a cluster has database 0 alone");
        mistakes.push(wrong("url", message));
    }
}

fn check_sentinel_fields(raw: &RawRedis, mistakes: &mut Vec<Mistake>) {
    if raw.mode == RedisMode::Sentinel {
        if raw.service.is_none() {
            let message =
                "is missing: what the sentinels call the primary; write `service: mymaster`";
            mistakes.push(wrong("service", message));
        }
        return;
    }
    for (field, is_there) in [
        ("service", raw.service.is_some()),
        ("sentinel_username", raw.sentinel_username.is_some()),
        (
            "sentinel_password_file",
            raw.sentinel_password_file.is_some(),
        ),
    ] {
        if is_there {
            let message = "is for `mode: sentinel`; write that, or take this line out";
            mistakes.push(wrong(field, message));
        }
    }
}

fn check_logins(raw: &RawRedis, mistakes: &mut Vec<Mistake>) {
    let in_url = raw.url.as_ref().and_then(RedisUrl::username).is_some();
    if in_url && raw.username.is_some() {
        let message = "is in `url` as well; keep one";
        mistakes.push(wrong("username", message).with(at("url")));
    }
    let (user, sentinel_user) = (raw.username.is_some(), raw.sentinel_username.is_some());
    for (named, field, password, file) in [
        (user, "username", "password_file", &raw.password_file),
        (in_url && !user, "url", "password_file", &raw.password_file),
        (
            sentinel_user,
            "sentinel_username",
            "sentinel_password_file",
            &raw.sentinel_password_file,
        ),
    ] {
        if named && file.is_none() {
            let message = format!(
                "names a user, who needs `{password}` beside it: Redis knows nobody without"
            );
            mistakes.push(wrong(field, message).with(at(password)));
        }
    }
}

fn check_tls(raw: &RawRedis, mistakes: &mut Vec<Mistake>) {
    let in_url = raw.url.as_ref().map(RedisUrl::has_tls);
    if raw.tls && in_url == Some(false) {
        let message =
            "contradicts `url`: TLS is `rediss://`, `redis://` and `unix:` are plain text";
        mistakes.push(wrong("tls", message).with(at("url")));
    }
    let files = [
        ("ca_file", &raw.ca_file),
        ("cert_file", &raw.cert_file),
        ("key_file", &raw.key_file),
    ];
    if !raw.tls && in_url != Some(true) {
        let how = match in_url {
            Some(_) => "begin `url` with `rediss://`",
            None => "write `tls: true`",
        };
        for (field, _) in files.into_iter().filter(|(_, file)| file.is_some()) {
            let message = format!("is for TLS, which is off; {how}, or take this line out");
            mistakes.push(wrong(field, message).with(at("tls")).with(at("url")));
        }
    }
    for (field, other, alone) in [
        ("cert_file", "key_file", raw.key_file.is_none()),
        ("key_file", "cert_file", raw.cert_file.is_none()),
    ] {
        let is_there = files
            .iter()
            .any(|(name, file)| *name == field && file.is_some());
        if is_there && alone {
            let message = format!("needs `{other}` beside it");
            mistakes.push(wrong(field, message).with(at(other)));
        }
    }
}

/// `None` only for what `check` refuses.
pub(super) fn config(raw: &RawRedis) -> Option<RedisConfig> {
    let url = raw.url.as_ref();
    let path = |file: &Option<FilePath>| file.as_ref().map(FilePath::to_path);
    let in_url = url.and_then(RedisUrl::username).map(str::to_owned);
    let client = path(&raw.cert_file).zip(path(&raw.key_file));
    let is_tls = raw.tls || url.is_some_and(RedisUrl::has_tls);
    Some(RedisConfig {
        servers: servers(raw)?,
        database: url.map_or(0, RedisUrl::database),
        login: RedisLogin {
            username: raw.username.as_ref().map(ToString::to_string).or(in_url),
            password_file: path(&raw.password_file),
        },
        tls: is_tls.then(|| RedisTlsConfig {
            ca_file: path(&raw.ca_file),
            client,
        }),
        prefix: raw.prefix.to_string(),
        connect_timeout: raw.connect_timeout.0,
        response_timeout: raw.response_timeout.0,
    })
}

fn servers(raw: &RawRedis) -> Option<RedisServers> {
    let nodes = |default_port| {
        let first = match raw.url.as_ref().map(|url| url.address(default_port)) {
            Some(RedisAddress::Tcp(node)) => Some(node),
            Some(RedisAddress::Unix(_)) | None => None,
        };
        first.into_iter().chain(raw.nodes.iter().cloned()).collect()
    };
    Some(match raw.mode {
        RedisMode::Standalone => RedisServers::Standalone(raw.url.as_ref()?.address(PORT)),
        RedisMode::Cluster => RedisServers::Cluster { nodes: nodes(PORT) },
        RedisMode::Sentinel => RedisServers::Sentinel {
            sentinels: nodes(SENTINEL_PORT),
            service: raw.service.as_ref()?.to_string(),
            login: RedisLogin {
                username: raw.sentinel_username.as_ref().map(ToString::to_string),
                password_file: raw.sentinel_password_file.as_ref().map(FilePath::to_path),
            },
        },
    })
}
