//! Why a connection could not be opened, in words that say what to do. Asked only when one could not.

use std::io;
use std::time::Duration;

use redis::RedisError;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::refusal;
use super::settings::{Address, Settings};
use crate::file_access::Exposure;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("cannot read {path}")]
    File {
        path: String,
        #[source]
        error: io::Error,
    },
    #[error("{path} {problem}")]
    Password { path: String, problem: String },
    #[error("{0}")]
    Exposed(Exposure),
    #[error("no sentinel knows the primary of {service:?}: {problem}")]
    NoPrimary { service: String, problem: String },
    #[error("{0} does not know `HELLO 3`: Redis 6.2 or newer is needed, or Valkey")]
    TooOld(Address),
    #[error(
        "{0} takes no more clients: its `maxclients` is reached; raise it, or close other connections"
    )]
    Full(Address),
    #[error("{0} refuses the connection: {1}")]
    Refused(Address, String),
    #[error("no node of the cluster can be used ({problem}): {nodes}")]
    NoNode { nodes: String, problem: String },
    #[error("no connection within the time allowed")]
    Timeout,
    #[error(transparent)]
    Redis(#[from] RedisError),
}

/// Longest wait for what a server says by itself. One that has nothing to say waits for us.
const GREETING_TIMEOUT: Duration = Duration::from_millis(300);
/// The most that is read of it.
const GREETING_LEN_MAX: u64 = 256;

/// Why `at` could not be used.
pub(super) async fn of_server(
    settings: &Settings,
    at: &Address,
    error: RedisError,
) -> ConnectError {
    let detail = error.detail().unwrap_or_default();
    if detail.contains("unknown command") && detail.to_ascii_uppercase().contains("HELLO")
        || error.code() == Some("NOPROTO")
    {
        return ConnectError::TooOld(at.clone());
    }
    if let Some(text) = refusal::explain(&error) {
        return ConnectError::Refused(at.clone(), text);
    }
    // A server that takes no more clients says so before it is asked, and closes: what was asked then fails to be
    // written, and what it said is not read.
    let closed = error.is_io_error() || error.is_connection_dropped();
    let greeting = match settings.tls {
        None if closed => greeting(at).await,
        None | Some(_) => None,
    };
    match greeting {
        Some(detail) if detail.contains("max number of clients") => ConnectError::Full(at.clone()),
        Some(detail) => ConnectError::Refused(at.clone(), format!("it says {detail:?} and closes")),
        None => error.into(),
    }
}

/// What a server says to a new connection before it closes it.
async fn greeting(at: &Address) -> Option<String> {
    let read = async {
        match at {
            Address::Tcp { host, port } => {
                first_line(TcpStream::connect((host.as_str(), *port)).await?).await
            }
            Address::Unix(path) => first_line(UnixStream::connect(path).await?).await,
        }
    };
    let line = timeout(GREETING_TIMEOUT, read).await.ok()?.ok()?;
    line.strip_prefix('-').map(str::to_owned)
}

async fn first_line(stream: impl AsyncRead + Unpin) -> io::Result<String> {
    let mut bytes = Vec::new();
    // Ends with the connection.
    stream
        .take(GREETING_LEN_MAX)
        .read_to_end(&mut bytes)
        .await?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
