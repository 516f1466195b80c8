//! Stands between a client and a server, counts the commands that change something, and cuts all connections for
//! good before or after a chosen one: to the server the client has crashed there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Where the cut is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The command does not reach the server.
    Before,
    /// The server does it; its answer does not come back.
    After,
}

struct Plan {
    remaining: AtomicI64,
    cut: Cut,
    /// The server has what it should get; its next answer is the cut.
    is_sent: AtomicBool,
    dead: CancellationToken,
}

pub(crate) struct Proxy {
    port: u16,
    plan: Arc<Plan>,
}

/// What a store sends by itself, without changing anything.
const QUIET: [&[u8]; 7] = [
    b"PING",
    b"TIME",
    b"CLIENT",
    b"HELLO",
    b"AUTH",
    b"ZRANGEBYSCORE",
    b"SCRIPT",
];

impl Proxy {
    /// A proxy to a server on `port` that lets everything through until [`Self::arm`].
    pub(crate) async fn start(port: u16, cut: Cut) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let proxy = Self {
            port: listener.local_addr().unwrap().port(),
            plan: Arc::new(Plan {
                remaining: AtomicI64::new(i64::MAX),
                cut,
                is_sent: AtomicBool::new(false),
                dead: CancellationToken::new(),
            }),
        };
        tokio::spawn(accept(listener, port, Arc::clone(&proxy.plan)));
        proxy
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Cuts at the `number`th command from now, from 1.
    pub(crate) fn arm(&self, number: i64) {
        self.plan.remaining.store(number, Ordering::SeqCst);
    }

    /// Waits until the cut has happened.
    pub(crate) async fn cut(&self) {
        self.plan.dead.cancelled().await;
    }

    /// Whether the cut has happened; if not, it will not any more.
    pub(crate) fn disarm(&self) -> bool {
        self.plan.remaining.store(i64::MAX, Ordering::SeqCst);
        self.plan.dead.is_cancelled() || self.plan.is_sent.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.plan.dead.cancel();
    }
}

async fn accept(listener: TcpListener, port: u16, plan: Arc<Plan>) {
    loop {
        let client = tokio::select! {
            () = plan.dead.cancelled() => return,
            accepted = listener.accept() => accepted.unwrap().0,
        };
        let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else {
            continue;
        };
        let ((from_client, to_client), (from_server, to_server)) =
            (client.into_split(), server.into_split());
        let (there, back) = (Arc::clone(&plan), Arc::clone(&plan));
        tokio::spawn(async move {
            let dead = there.dead.clone();
            dead.run_until_cancelled(requests(from_client, to_server, &there))
                .await
        });
        tokio::spawn(async move {
            let dead = back.dead.clone();
            dead.run_until_cancelled(answers(from_server, to_client, &back))
                .await
        });
    }
}

async fn answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, plan: &Plan) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(len @ 1..) = from.read(&mut bytes).await {
        if plan.is_sent.load(Ordering::SeqCst) {
            plan.dead.cancel();
            return;
        }
        if to.write_all(&bytes[..len]).await.is_err() {
            return;
        }
    }
}

async fn requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, plan: &Plan) {
    let mut bytes = Vec::new();
    while let Ok(1..) = from.read_buf(&mut bytes).await {
        while let Some((len, is_counted)) = command(&bytes) {
            let is_last = is_counted && plan.remaining.fetch_sub(1, Ordering::SeqCst) == 1;
            if is_last && plan.cut == Cut::Before {
                plan.dead.cancel();
                return;
            }
            plan.is_sent.fetch_or(is_last, Ordering::SeqCst);
            if to.write_all(&bytes[..len]).await.is_err() {
                return;
            }
            bytes.drain(..len);
            if is_last {
                return std::future::pending().await;
            }
        }
    }
}

/// How long the first whole command is, and whether it counts.
pub(crate) fn command(bytes: &[u8]) -> Option<(usize, bool)> {
    let (mut at, parts) = number(bytes, 0, b'*')?;
    let mut is_counted = true;
    for part in 0..parts {
        let (begin, len) = number(bytes, at, b'$')?;
        let word = bytes.get(begin..begin + len)?;
        if part == 0 {
            is_counted = !QUIET.iter().any(|quiet| word.eq_ignore_ascii_case(quiet));
        }
        at = begin + len + 2;
    }
    (at <= bytes.len()).then_some((at, is_counted))
}

/// `*3\r\n` or `$3\r\n` at a place: the place behind it and the number.
fn number(bytes: &[u8], at: usize, kind: u8) -> Option<(usize, usize)> {
    let rest = bytes.get(at..)?;
    let end = rest.windows(2).position(|two| two == b"\r\n")?;
    assert_eq!(rest[0], kind, "not a command: {rest:?}");
    let number = std::str::from_utf8(&rest[1..end]).unwrap();
    Some((at + end + 2, number.parse().unwrap()))
}
