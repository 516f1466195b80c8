//! Peers of HTTP/2 that do not take what they have asked for.

use axum::routing::get;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::config::{HumanDuration, Ops, SocketMode, UnixSocket};
use crate::server::budget::Budget;
use crate::server::descriptors::Descriptors;
use crate::server::places::Peer;

fn place() -> Place {
    let config = Ops {
        listen: Vec::new(),
        unix_socket: UnixSocket {
            mode: SocketMode(0o600),
            group: None,
        },
        tls: None,
        insecure: false,
        max_connections: 8,
        idle_timeout: HumanDuration(Duration::from_secs(3600)),
    };
    let process = Arc::new(Budget::new(1 << 20, None));
    let descriptors = Arc::new(Descriptors::with_room(100));
    let places = Places::new(Bounds::ops(&config), &process, &descriptors);
    places.take(Peer::Local).expect("a place")
}

/// A hello with a window of so many bytes for each stream, and `GET /` on the first.
fn request(window: u32) -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend([0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4]);
    bytes.extend(window.to_be_bytes());
    let head = [0x82, 0x84, 0x86, 0x41, 1, b'a'];
    bytes.extend([0, 0, 6, 1, 5, 0, 0, 0, 1]);
    bytes.extend(head);
    bytes
}

/// Why the connection of a peer with such a window ends, when it has asked for so many bytes and answers each PING.
async fn ending(window: u32, bytes: usize, within: Duration) -> Option<&'static str> {
    let page = get(move || async move { "x".repeat(bytes) });
    let service = HttpService::new(Router::new().route("/", page));
    let (mut peer, ours) = tokio::io::duplex(1 << 20);
    let place = place();
    let serving = serve(ours, service, &place, CancellationToken::new());
    let asking = async {
        peer.write_all(&request(window)).await.unwrap();
        let mut head = [0; 9];
        while peer.read_exact(&mut head).await.is_ok() {
            let len = u64::from(u32::from_be_bytes([0, head[0], head[1], head[2]]));
            let mut content = Vec::new();
            (&mut peer)
                .take(len)
                .read_to_end(&mut content)
                .await
                .unwrap();
            if head[3] == PING && head[4] == 0 {
                let acknowledged = [&[0, 0, 8, PING, 1, 0, 0, 0, 0][..], &content].concat();
                peer.write_all(&acknowledged).await.unwrap_or_default();
            }
        }
    };
    let both = async { tokio::join!(serving, asking) };
    tokio::time::timeout(within, both).await.ok()?;
    place.closed_for()
}

const PING: u8 = 6;

#[tokio::test]
async fn an_answer_that_nobody_takes_ends_its_connection_and_one_that_is_taken_does_not() {
    let minute = Duration::from_secs(60);
    for (window, bytes, what) in [
        (0, 10_000, "nothing of it is taken"),
        (1_000, 10_000, "its beginning is taken"),
        (60_000, 100_000, "most of it is taken"),
    ] {
        let ending = ending(window, bytes, minute).await;
        assert_eq!(ending, Some("unread_answer"), "{what}");
    }
    let taken = ending(60_000, 10_000, Duration::from_secs(1)).await;
    assert_eq!(taken, None);
}
