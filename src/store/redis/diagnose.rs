//! Why a connection could not be opened, in words that say what to do. Asked only when one could not.

use std::io;
use std::time::Duration;

use redis::RedisError;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::connect::{self, ConnectError};
use super::refusal;
use super::settings::{Address, Settings};
use crate::telemetry::chain;

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

/// Why no node of a cluster could be used: what each says by itself.
pub(super) async fn of_cluster(
    settings: &Settings,
    nodes: &[Address],
    error: &ConnectError,
) -> ConnectError {
    let each = nodes.iter().map(|at| async move {
        let why = match ask_node(settings, at).await {
            Ok(()) => "answers".to_owned(),
            Err(error) => chain(&error).to_string(),
        };
        format!("{at}: {why}")
    });
    let each = futures_util::future::join_all(each).await;
    ConnectError::NoNode {
        nodes: each.join("; "),
        problem: chain(error).to_string(),
    }
}

async fn ask_node(settings: &Settings, at: &Address) -> Result<(), ConnectError> {
    let mut connection = connect::open(settings, at, |_| {}).await?;
    let mut ask = redis::cmd("CLUSTER");
    ask.arg("SLOTS");
    ask.exec_async(&mut connection).await?;
    Ok(())
}
