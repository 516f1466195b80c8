//! Where a listener binds: a TCP address or a Unix socket.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::net::SocketAddr as UnixAddr;
use std::path::PathBuf;
use std::str::FromStr;

use super::text::{not_allowed, shown, text};

/// `host:port` or `unix:/absolute/path`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ListenAddr {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl FromStr for ListenAddr {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some(path) => parse_unix(path),
            None => parse_tcp(text),
        }
    }
}

fn parse_unix(path: &str) -> Result<ListenAddr, String> {
    if !path.starts_with('/') || path.ends_with('/') || path.contains('\0') {
        return Err(not_allowed(
            &format!("unix:{path}"),
            "a socket address (write `unix:/absolute/path/to.sock`)",
        ));
    }
    // The system is asked: how much a path may hold differs, 107 bytes on Linux and 103 elsewhere.
    if UnixAddr::from_pathname(path).is_err() {
        let fits = (1..path.len()).rev().find(|len| fits(*len));
        return Err(format!(
            "the path of a Unix socket has at most {} bytes here, this one has {}",
            fits.unwrap_or_default(),
            path.len()
        ));
    }
    Ok(ListenAddr::Unix(PathBuf::from(path)))
}

/// Whether a path of that many bytes can be bound.
fn fits(len: usize) -> bool {
    UnixAddr::from_pathname("s".repeat(len)).is_ok()
}

fn parse_tcp(text: &str) -> Result<ListenAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(ListenAddr::Tcp(address));
    }
    let allowed = "an address (write `127.0.0.1:9001`, `[::1]:9001` or `unix:/absolute/path`)";
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(not_allowed(text, allowed));
    };
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = match port.parse::<u16>() {
        Ok(port) if digits => port,
        _ if digits => {
            return Err(format!(
                "{} is not a port; ports are 0 to 65535",
                shown(port)
            ));
        }
        _ => return Err(not_allowed(text, allowed)),
    };
    // The only name that needs no resolver: a name that moves must not decide where keys are checked.
    if host == "localhost" {
        return Ok(ListenAddr::Tcp((Ipv4Addr::LOCALHOST, port).into()));
    }
    Err(not_allowed(text, allowed))
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(out),
            Self::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}

impl ListenAddr {
    /// Whether others than this machine's own programs can reach it.
    pub fn leaves_the_machine(&self) -> bool {
        match self {
            Self::Tcp(address) => !address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => false,
        }
    }

    /// Whether the second bind of the two would fail.
    pub(super) fn collides(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Unix(one), Self::Unix(two)) => one == two,
            (Self::Tcp(one), Self::Tcp(two)) => {
                let (host, other) = (one.ip().to_canonical(), two.ip().to_canonical());
                one.port() == two.port() && one.port() != 0 && hosts_collide(host, other)
            }
            (Self::Unix(_), Self::Tcp(_)) | (Self::Tcp(_), Self::Unix(_)) => false,
        }
    }
}

fn hosts_collide(one: IpAddr, two: IpAddr) -> bool {
    let covers = |wide: IpAddr, narrow: IpAddr| match wide {
        IpAddr::V4(wide) => wide.is_unspecified() && narrow.is_ipv4(),
        // `[::]` takes IPv4 too unless the system says otherwise.
        IpAddr::V6(wide) => wide.is_unspecified(),
    };
    let (one, two) = (one.to_canonical(), two.to_canonical());
    one == two || covers(one, two) || covers(two, one)
}

text!(
    ListenAddr,
    "listen-address",
    "^(unix:/.+|.+:[0-9]{1,5})$",
    "an address such as \"127.0.0.1:9001\"",
    str::parse
);
