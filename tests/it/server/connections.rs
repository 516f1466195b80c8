//! What strangers do to the sockets, and what others see of it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::harness::{PATIENCE, wait_for};
use crate::support::client::{self, Connection, Slow, check_request, connect, read_answer};
use crate::support::program::{Place, Running};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

/// A connection of HTTP/2 on which nothing has been asked.
fn hello(port: u16, more: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // It may be refused at once.
    stream
        .write_all(&[PREFACE, &SETTINGS[..], more].concat())
        .unwrap_or_default();
    stream
}

#[test]
fn peers_that_break_the_protocol_do_not_fill_the_log() {
    let place = Place::bootstrapped();
    let running = place.serve();
    let unasked_ack = [&[0, 0, 8, 6, 1, 0, 0, 0, 0][..], b"evilevil"].concat();
    for port in [place.authz, place.admin, place.ops] {
        let mut all: Vec<_> = (0..100).map(|_| hello(port, &unasked_ack)).collect();
        for stream in &mut all {
            let mut head = [0; 9];
            stream.read_exact(&mut head).unwrap();
        }
    }
    let complaint = "recv PING ack that we never sent";
    wait_for("the complaint", || {
        running.log().contains(complaint).then_some(())
    });
    let lines = running.log().matches(complaint).count();
    assert!(lines < 20, "{lines}");
}

/// Whether the peer closes it, without a word more.
fn is_closed(stream: &mut TcpStream, within: Duration) -> bool {
    let end = Instant::now() + within;
    let mut said = [0; 4096];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        stream.set_read_timeout(Some(left)).unwrap();
        match stream.read(&mut said) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => {
                return !matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                );
            }
        }
    }
}

fn metric(place: &Place, line: &str) -> Option<f64> {
    let (_, text) = place.ops("/metrics")?;
    let found = text.lines().find_map(|found| found.strip_prefix(line))?;
    found.trim().parse().ok()
}

pub(super) const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_proxy_too_many_is_refused_at_once_counted_and_logged() {
    let place = Place::bootstrapped();
    place.edit_config("authz:\n", "authz:\n  max_connections: 4\n");
    let running = place.serve();
    let mut proxies = Vec::new();
    for _ in 0..4 {
        let channel = client::tcp(place.authz).await;
        assert_eq!(client::ask(&channel, &[]).await, 401);
        proxies.push(channel);
    }
    tokio::task::block_in_place(|| {
        let mut fifth = hello(place.authz, &[]);
        // What counts is that it is told, not when: a queue would hold it for ever.
        assert!(is_closed(&mut fifth, MINUTE));
        let refused = "keystile_connections_refused_total{listener=\"authz\",reason=\"full\"}";
        assert_eq!(metric(&place, refused), Some(1.0));
        let open = "keystile_connections{listener=\"authz\"}";
        assert_eq!(metric(&place, open), Some(4.0));
    });
    assert!(
        running.log().contains("raise `max_connections`"),
        "{}",
        running.log()
    );
    for proxy in &proxies {
        assert_eq!(client::ask(proxy, &[]).await, 401, "the others go on");
    }
    proxies.pop();
    tokio::task::block_in_place(|| {
        let gone =
            || (metric(&place, "keystile_connections{listener=\"authz\"}")? < 4.0).then_some(());
        wait_for("a free place", gone);
    });
    let next = client::tcp(place.authz).await;
    assert_eq!(client::ask(&next, &[]).await, 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_that_connect_and_say_nothing_keep_out_neither_probes_nor_checks() {
    let place = Place::bootstrapped();
    place.edit_config("authz:\n", "authz:\n  max_connections: 100\n");
    let _running = place.serve();
    let ports = [place.authz, place.admin, place.ops];
    let crowd: Vec<_> = (0..1500).map(|at| hello(ports[at % 3], &[])).collect();
    // Those that came in have a second to ask something; then they give way.
    tokio::task::block_in_place(|| {
        wait_for("readiness", || place.is_ready().then_some(()));
        wait_for("readiness again", || place.is_ready().then_some(()));
    });
    tokio::task::block_in_place(|| {
        wait_for("an answer of the admin API", || {
            let output = place.run(&["tenant", "list"]);
            (output.code == 0).then_some(())
        });
        wait_for("a place for a proxy", || {
            let mut settings = [0; 9];
            hello(place.authz, &[]).read_exact(&mut settings).ok()
        });
    });
    let channel = client::tcp(place.authz).await;
    assert_eq!(client::ask(&channel, &[]).await, 401);
    let gave_way = "keystile_connections_closed_total{listener=\"ops\",reason=\"gave_way\"}";
    assert!(tokio::task::block_in_place(|| metric(&place, gave_way)) > Some(0.0));
    drop(crowd);
}

#[test]
fn who_asks_nothing_in_ten_seconds_is_gone_and_who_is_idle_for_too_long_too() {
    let place = Place::bootstrapped();
    place.edit_config("authz:\n", "authz:\n  idle_timeout: 2s\n");
    let _running = place.serve();
    let began = Instant::now();
    let mut silent: Vec<_> = [place.authz, place.admin, place.ops]
        .map(|port| hello(port, &[]))
        .into();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let Connection { mut sender, ended } = connect(place.authz).await;
        let message = crate::support::check::framed(&[]);
        let answer = sender.send_request(check_request(Slow::whole(message)));
        assert_ne!(read_answer(answer.await.unwrap()).await.unwrap(), 200);
        // GOAWAY, then the end: a proxy loses no request by it.
        let ended = tokio::time::timeout(MINUTE, ended).await.expect("it ends");
        ended.unwrap().expect("in good order");
    });
    for stream in &mut silent {
        assert!(is_closed(stream, MINUTE));
    }
    assert!(began.elapsed() >= Duration::from_secs(9), "not before");
    let closed = "keystile_connections_closed_total{listener=\"authz\",reason=";
    assert!(metric(&place, &format!("{closed}\"no_request\"}}")) >= Some(1.0));
    assert!(metric(&place, &format!("{closed}\"idle\"}}")) >= Some(1.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_few_descriptors_probes_are_answered_and_the_log_stays_short() {
    let place = Place::bootstrapped();
    let running = tokio::task::block_in_place(|| place.serve_with_files(64));
    let mut proxies = Vec::new();
    for _ in 0..60 {
        // Refused or served: which, is a matter of how many files there are.
        let Ok(stream) = tokio::net::TcpStream::connect(("127.0.0.1", place.authz)).await else {
            continue;
        };
        proxies.push(stream);
    }
    tokio::task::block_in_place(|| {
        let crowd: Vec<_> = (0..60).map(|_| hello(place.admin, &[])).collect();
        for _ in 0..5 {
            let (status, _) = place.ops("/readyz").expect("an answer");
            assert_eq!(status, 200);
        }
        drop(crowd);
    });
    let log = running.log();
    let lines = log.lines().filter(|line| line.contains("WARN")).count();
    assert!((1..20).contains(&lines), "{lines}: {log}");
    assert!(log.contains("LimitNOFILE"), "{log}");
}

#[test]
fn the_limit_on_open_files_is_raised_at_the_start() {
    let place = Place::bootstrapped();
    let running = place.serve();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", running.pid())).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let mut numbers = line.unwrap().split_whitespace().skip(3);
    assert_eq!(numbers.next(), numbers.next(), "soft and hard: {line:?}");
}

/// Bytes of memory that the process has in use.
pub(super) fn resident(running: &Running) -> u64 {
    let path = format!("/proc/{}/statm", running.pid());
    let text = std::fs::read_to_string(path).unwrap();
    let pages: u64 = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

pub(super) const MIB: u64 = 1 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unfinished_requests_hold_little_memory_and_it_goes_back_to_the_system() {
    const MESSAGE: usize = 4 << 20;
    let place = Place::bootstrapped();
    let running = place.serve();
    let before = resident(&running);
    let Connection { sender, ended } = connect(place.authz).await;
    let mut half = vec![0; 5];
    half[1..].copy_from_slice(&u32::try_from(MESSAGE).unwrap().to_be_bytes());
    half.resize(MESSAGE - 1, 7);
    let half = bytes::Bytes::from(half);
    let mut bodies = Vec::new();
    let mut answers = Vec::new();
    for _ in 0..200 {
        let (body, slow) = Slow::new();
        body.send(half.clone()).await.unwrap();
        bodies.push(body);
        let mut sender = sender.clone();
        answers.push(tokio::spawn(async move {
            read_answer(sender.send_request(check_request(slow)).await?).await
        }));
    }
    let mut peak = before;
    let mut statuses = Vec::new();
    for answer in answers {
        statuses.push(answer.await.unwrap().expect("an answer in band"));
        peak = peak.max(resident(&running));
    }
    let refused = statuses.iter().filter(|status| **status == 503).count();
    assert!(
        refused > 100,
        "{refused} of {}: {statuses:?}",
        statuses.len()
    );
    assert!(!statuses.contains(&200));
    assert!(
        peak - before < 200 * MIB,
        "{} MiB more",
        (peak - before) / MIB
    );
    drop((bodies, sender, ended));
    tokio::task::block_in_place(|| {
        wait_for("memory goes back", || {
            let now = resident(&running);
            let is_back = now < before + 40 * MIB;
            is_back.then_some(()).ok_or((before / MIB, now / MIB))
        });
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strangers_message_is_not_read_on_admin() {
    let place = Place::bootstrapped();
    place.edit_config("admin: {", "admin: {guesses: 1000000/s, ");
    let running = place.serve();
    let before = resident(&running);
    let Connection { sender, ended } = connect(place.admin).await;
    let mut bodies = Vec::new();
    let mut answers = Vec::new();
    // Its answer comes after the server's settings: from then on the client keeps to the number of streams.
    let hello = http::Request::get("http://admin/")
        .body(Slow::whole(Vec::new()))
        .unwrap();
    sender.clone().send_request(hello).await.unwrap();
    for at in 0..300 {
        let (body, slow) = Slow::new();
        // The beginning of a message; the rest never comes.
        body.send(vec![0; 4].into()).await.unwrap();
        bodies.push(body);
        let mut sender = sender.clone();
        let (path, kind) = match at % 2 {
            0 => (
                "/keystile.admin.v1.KeyService/BatchCreateKeys",
                "application/grpc",
            ),
            _ => ("/api/v1/auth/apikeys", "application/json"),
        };
        let request = http::Request::post(format!("http://admin{path}"))
            .header("content-type", kind)
            .header("x-api-key", "nobody")
            .body(slow)
            .unwrap();
        answers.push(tokio::spawn(
            async move { sender.send_request(request).await },
        ));
    }
    for answer in answers {
        let answer = tokio::time::timeout(MINUTE, answer)
            .await
            .expect("an answer at once");
        let answer = answer.unwrap().unwrap();
        let code = answer.headers().get("grpc-status");
        let refused = answer.status() == 401 || code.is_some_and(|code| code == "16");
        assert!(refused, "{answer:?}");
    }
    let more = resident(&running).saturating_sub(before) / MIB;
    assert!(more < 60, "{more} MiB");
    drop((bodies, ended));
}
