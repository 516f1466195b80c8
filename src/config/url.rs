//! Addresses of other servers: their hosts and ports, and URLs.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::str::FromStr;

use super::listen::ListenAddr;
use super::text::{not_allowed, shown, text};
use crate::store::redis::Address;

const URL_LEN_MAX: usize = 2048;

/// A host (a name, or an address without brackets) and its port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RedisNode {
    pub host: String,
    pub port: u16,
}

impl From<RedisNode> for Address {
    fn from(node: RedisNode) -> Self {
        let RedisNode { host, port } = node;
        Self::Tcp { host, port }
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

text!(
    RedisNode,
    "redis-node",
    "^.+:[0-9]{1,5}$",
    "an address such as \"redis-1.example:6379\"",
    str::parse
);

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
pub enum RedisUrl {
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

text!(
    RedisUrl,
    "redis-url",
    "^(rediss?://.+|unix:/.+)$",
    "a URL such as \"redis://127.0.0.1:6379\"",
    str::parse
);

impl RedisUrl {
    pub(super) fn has_tls(&self) -> bool {
        matches!(self, Self::Tcp { tls: true, .. })
    }

    pub(super) fn username(&self) -> Option<&str> {
        match self {
            Self::Tcp { username, .. } => username.as_deref(),
            Self::Unix(_) => None,
        }
    }

    pub(super) fn database(&self) -> u32 {
        match self {
            Self::Tcp { database, .. } => *database,
            Self::Unix(_) => 0,
        }
    }

    pub(super) fn address(&self, default_port: u16) -> Address {
        match self {
            Self::Unix(path) => Address::Unix(path.clone()),
            Self::Tcp { host, port, .. } => Address::Tcp {
                host: host.clone(),
                port: port.unwrap_or(default_port),
            },
        }
    }
}

/// Where a key set is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwksUrl(String);

impl std::ops::Deref for JwksUrl {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JwksUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

text!(
    JwksUrl,
    "jwks-url",
    "^https?://[A-Za-z0-9._:\\[\\]-]+(/[A-Za-z0-9._~%!$&'()*+,;=:@/?-]*)?$",
    "a URL such as \"https://id.example.com/jwks\"",
    |text| parse_url(text).map(Self)
);

/// A URL that keys may come from. Who can change them on the way can let anybody in.
fn parse_url(text: &str) -> Result<String, String> {
    let form = || not_allowed(text, "a URL such as `https://id.example.com/jwks`");
    let (scheme, rest) = text.split_once("://").ok_or_else(form)?;
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let legal = |c: char| c.is_ascii_alphanumeric() || "._~%!$&'()*+,;=:@/?-".contains(c);
    if text.len() > URL_LEN_MAX || !path.chars().all(legal) || path.starts_with('?') {
        return Err(form());
    }
    let (host, _) = host_and_port(authority).ok_or_else(form)?;
    match scheme {
        "https" => Ok(text.to_owned()),
        "http" if is_loopback(&host) => Ok(text.to_owned()),
        "http" => Err(format!(
            "{} is not loopback and would bring the keys in plain text: whoever is on the way could put in their own; write https://",
            shown(text)
        )),
        _ => Err(form()),
    }
}
