//! Stands between a control plane and Redis, and lets commands that change something through one by one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::harness::pass;
use crate::harness::redis::proxy::command;

const LOOK_EVERY: Duration = Duration::from_micros(100);

struct State {
    /// How many more commands may pass.
    permits: AtomicI64,
    /// A command waits.
    is_held: AtomicBool,
    dead: CancellationToken,
}

pub(super) struct Gate {
    port: u16,
    state: Arc<State>,
    _end: DropGuard,
}

impl Gate {
    /// An open gate before the server on `port`. When it is dropped, all connections are cut.
    pub(super) async fn start(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let state = Arc::new(State {
            permits: AtomicI64::new(i64::MAX),
            is_held: AtomicBool::new(false),
            dead: CancellationToken::new(),
        });
        let gate = Self {
            port: listener.local_addr().unwrap().port(),
            _end: state.dead.clone().drop_guard(),
            state: Arc::clone(&state),
        };
        tokio::spawn(async move {
            let dead = state.dead.clone();
            dead.run_until_cancelled(accept(listener, port, &state))
                .await
        });
        gate
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn close(&self) {
        self.state.permits.store(0, Ordering::SeqCst);
    }

    pub(super) fn open(&self) {
        self.state.permits.store(i64::MAX, Ordering::SeqCst);
    }

    /// Lets one command through.
    pub(super) fn admit(&self) {
        self.state.is_held.store(false, Ordering::SeqCst);
        self.state.permits.store(1, Ordering::SeqCst);
    }

    /// Whether a command waits.
    pub(super) fn holds(&self) -> bool {
        self.state.is_held.load(Ordering::SeqCst)
    }
}

async fn accept(listener: TcpListener, port: u16, state: &Arc<State>) {
    while let Ok((client, _)) = listener.accept().await {
        let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else {
            continue;
        };
        let ((from_client, to_client), (from_server, to_server)) =
            (client.into_split(), server.into_split());
        let there = Arc::clone(state);
        let dead = state.dead.clone();
        tokio::spawn(async move {
            let both = async {
                tokio::join!(
                    requests(from_client, to_server, &there),
                    answers(from_server, to_client)
                )
            };
            dead.run_until_cancelled(both).await
        });
    }
}

async fn answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    drop(tokio::io::copy(&mut from, &mut to).await);
}

async fn requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, state: &State) {
    let mut bytes = Vec::new();
    while let Ok(1..) = from.read_buf(&mut bytes).await {
        while let Some((len, is_counted)) = command(&bytes) {
            while is_counted && state.permits.load(Ordering::SeqCst) <= 0 {
                state.is_held.store(true, Ordering::SeqCst);
                pass(LOOK_EVERY, "between two of many short looks").await;
            }
            if is_counted {
                state.permits.fetch_sub(1, Ordering::SeqCst);
            }
            if to.write_all(&bytes[..len]).await.is_err() {
                return;
            }
            bytes.drain(..len);
        }
    }
}
