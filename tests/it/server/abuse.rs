//! Callers who mean no good, or nothing at all: the program stays up, bounded, and at work.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::client;
use crate::support::program::{Place, Running};

const MIB: u64 = 1 << 20;

/// What a port is told. Nothing of it is a request that is to be answered.
fn junk() -> Vec<(&'static str, Vec<u8>)> {
    let many: String = (0..10_000).map(|n| format!("h{n}: v\r\n")).collect();
    let frame = |kind: u8, stream: u8, len: u32| {
        let [_, a, b, c] = len.to_be_bytes();
        vec![a, b, c, kind, 0, 0, 0, 0, stream]
    };
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let h2 = |rest: Vec<u8>| [preface.clone(), frame(4, 0, 0), rest].concat();
    vec![
        (
            "10,000 headers",
            format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{many}\r\n").into(),
        ),
        (
            "a header without end",
            [b"GET / HTTP/1.1\r\nx: ", &[b'a'; 4 << 20][..]].concat(),
        ),
        (
            "a path without end",
            [b"GET /", &[b'a'; 4 << 20][..]].concat(),
        ),
        ("no HTTP at all", (0..=255).cycle().take(100_000).collect()),
        (
            "a TLS hello",
            [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 400]].concat(),
        ),
        (
            "a chunk of 2^64 bytes",
            b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n"
                .to_vec(),
        ),
        (
            "a negative length",
            b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n".to_vec(),
        ),
        (
            "a frame of 16 MiB",
            h2([frame(0, 1, 0x00ff_ffff), vec![0; 1 << 20]].concat()),
        ),
        (
            "headers that are not HPACK",
            h2([frame(1, 1, 8), vec![0xff; 8]].concat()),
        ),
        ("a continuation of nothing", h2(frame(9, 1, 0))),
        (
            "100,000 settings",
            h2((0..100_000).flat_map(|_| frame(4, 0, 0)).collect()),
        ),
        (
            "100,000 pings",
            h2((0..100_000)
                .flat_map(|_| [frame(6, 0, 8), vec![0; 8]].concat())
                .collect()),
        ),
    ]
}

/// Sends as much as is taken, and reads what comes back, up to a bound.
fn throw(port: u16, bytes: &[u8]) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let patience = Some(Duration::from_millis(200));
    stream.set_write_timeout(patience).unwrap();
    stream.set_read_timeout(patience).unwrap();
    // Being cut off is one of the right answers.
    stream.write_all(bytes).unwrap_or_default();
    stream
        .take(MIB)
        .read_to_end(&mut Vec::new())
        .unwrap_or_default();
}

fn resident_bytes(running: &Running) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", running.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let words: Vec<_> = line.unwrap().split_whitespace().collect();
    words[1].parse::<u64>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn junk_on_any_port_does_not_stop_the_program() {
    let place = Place::bootstrapped();
    let mut running = place.serve();
    let ports = [place.authz, place.admin, place.ops];
    let thrown: Vec<_> = ports
        .into_iter()
        .map(|port| {
            std::thread::spawn(move || {
                for (_, bytes) in junk() {
                    throw(port, &bytes);
                }
            })
        })
        .collect();
    tokio::task::block_in_place(|| thrown.into_iter().for_each(|one| one.join().unwrap()));
    check_at_work(&place, &mut running).await;
    let log = running.log();
    assert!(!log.contains("panicked"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_callers_who_never_finish_a_request_do_not_stop_the_others() {
    let place = Place::bootstrapped();
    let mut running = place.serve();
    let mut slow = Vec::new();
    for port in [place.authz, place.admin, place.ops] {
        for said in [
            "",
            "G",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "GET /healthz HTTP/1.1\r\nhost: x\r\nx: ",
        ] {
            for _ in 0..30 {
                let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
                stream.write_all(said.as_bytes()).unwrap();
                slow.push(stream);
            }
        }
    }
    check_at_work(&place, &mut running).await;
    drop(slow);
}

async fn check_at_work(place: &Place, running: &mut Running) {
    assert!(running.ended().is_none(), "{}", running.log());
    assert!(place.is_ready());
    let channel = client::tcp(place.authz).await;
    let key = ("x-api-key", place.admin_token.as_str());
    assert_eq!(client::ask(&channel, &[key]).await, 200);
    let tenants = place.do_it(&["tenant", "list", "-o", "name"]);
    assert!(tenants.contains("platform"), "{tenants}");
    let resident = resident_bytes(running);
    assert!(resident < 256 * MIB, "{} MiB", resident / MIB);
}
