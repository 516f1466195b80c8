//! The end: what is under way is finished, nothing new is begun, and the deadline is kept.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use keystile::ext_authz::service::SERVICE_NAME;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::{PATIENCE, wait_for};
use crate::support::check::{framed, with_headers};
use crate::support::client::{self, Connection, Slow, check_request, connect, read_answer};
use crate::support::program::{Place, Running};

/// Longer than any test waits: whatever ends does so by itself, and not because its time is over.
const NO_DEADLINE: &str = "shutdown: {drain_timeout: 10m}";

/// How the client's library tells of a request above the last one that a GOAWAY without an error names.
const NOT_TAKEN: &str = r#"GoAway(b"", NO_ERROR, Remote)"#;

fn message(place: &Place) -> Vec<u8> {
    framed(&with_headers(&[
        (":method", "GET"),
        ("x-api-key", &place.admin_token),
    ]))
}

/// Until the program has begun to stop.
fn wait_until_draining(place: &Place) {
    wait_for("not ready", || (!place.is_ready()).then_some(()));
}

async fn stop(running: Running, signal: &'static str) -> (Option<i32>, Duration) {
    tokio::task::spawn_blocking(move || running.stop(signal))
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_check_whose_message_is_half_here_when_the_signal_comes_is_answered() {
    for signal in ["TERM", "INT"] {
        let place = Arc::new(Place::bootstrapped());
        place.add_config(NO_DEADLINE);
        let running = place.serve();
        let Connection { mut sender, ended } = connect(place.authz).await;
        let message = message(&place);
        let (first, second) = message.split_at(message.len() / 2);
        let (body, slow) = Slow::new();
        body.send(first.to_vec().into()).await.unwrap();
        let answer = tokio::spawn(sender.send_request(check_request(slow)));
        // An answer on the same connection: the server has seen what came before.
        let other = check_request(Slow::whole(message.clone()));
        let other = sender.send_request(other).await.unwrap();
        assert_eq!(read_answer(other).await.unwrap(), 200);

        let stopped = tokio::spawn(stop(running, signal));
        let looking = Arc::clone(&place);
        tokio::task::spawn_blocking(move || wait_until_draining(&looking))
            .await
            .unwrap();
        body.send(second.to_vec().into()).await.unwrap();
        drop(body);
        let answer = answer.await.unwrap().unwrap();
        assert_eq!(read_answer(answer).await.unwrap(), 200, "{signal}");
        ended.await.unwrap().expect("closed in good order");
        let (code, _) = stopped.await.unwrap();
        assert_eq!(code, Some(0), "{signal}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stop_under_load_fails_no_check_that_was_sent() {
    let place = Place::bootstrapped();
    place.add_config(NO_DEADLINE);
    let running = place.serve();
    let message = Arc::new(message(&place));
    let mut callers = Vec::new();
    for _ in 0..4 {
        let Connection { sender, ended } = connect(place.authz).await;
        drop(ended);
        for _ in 0..8 {
            let (sender, message) = (sender.clone(), Arc::clone(&message));
            callers.push(tokio::spawn(call_until_told_to_go(sender, message)));
        }
    }
    let counted = || {
        let (_, text) = place.ops("/metrics")?;
        let line = text.lines().find(|line| {
            line.starts_with("keystile_decisions_total{outcome=\"allow\",reason=\"allowed\"}")
        })?;
        let count: u64 = line.rsplit(' ').next()?.parse().ok()?;
        (count > 500).then_some(())
    };
    tokio::task::block_in_place(|| wait_for("some load", counted));
    let (code, _) = stop(running, "TERM").await;
    assert_eq!(code, Some(0));
    let mut answered = 0;
    for caller in callers {
        answered += caller.await.unwrap();
    }
    assert!(answered > 500, "{answered}");
}

/// Calls until the connection takes no more calls; every call that the server took must be answered.
async fn call_until_told_to_go(
    mut sender: hyper::client::conn::http2::SendRequest<Slow>,
    message: Arc<Vec<u8>>,
) -> u32 {
    let mut answered = 0;
    while sender.ready().await.is_ok() {
        let request = check_request(Slow::whole(message.to_vec()));
        match sender.try_send_request(request).await {
            Ok(response) => {
                let status = read_answer(response).await.expect("the whole answer");
                assert_eq!(status, 200);
                answered += 1;
            }
            Err(mut refused) => {
                // Given back: it was never sent. Or it was written after the PING that the server's last GOAWAY waited for,
                // which names the last request that the server took: this one was not looked at (RFC 9113, section 6.8).
                let unsent = refused.take_message().is_some();
                let error = format!("{:?}", refused.into_error());
                assert!(unsent || error.contains(NOT_TAKEN), "not answered: {error}");
                break;
            }
        }
    }
    answered
}

/// Reads HTTP/2 frames until the connection ends, and answers their types.
fn frame_types(stream: &mut TcpStream) -> Vec<u8> {
    let mut types = Vec::new();
    let mut head = [0; 9];
    while stream.read_exact(&mut head).is_ok() {
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        types.push(head[3]);
        if head[3] == 6 && head[4] == 0 {
            // A PING: answered, as every peer does.
            let mut data = [0; 8];
            stream.read_exact(&mut data).unwrap();
            let ack = [&[0, 0, 8, 6, 1, 0, 0, 0, 0][..], &data].concat();
            stream.write_all(&ack).unwrap();
            continue;
        }
        std::io::copy(&mut stream.take(len.into()), &mut std::io::sink()).unwrap();
    }
    types
}

#[test]
fn an_idle_connection_is_told_to_go_away() {
    const GOAWAY: u8 = 7;
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let place = Place::bootstrapped();
    place.add_config(NO_DEADLINE);
    let running = place.serve();
    let ports = [place.authz, place.admin, place.ops];
    let mut idle = ports.map(|port| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let hello = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &SETTINGS[..]].concat();
        stream.write_all(&hello).unwrap();
        // The server's SETTINGS: it knows us.
        let mut head = [0; 9];
        stream.read_exact(&mut head).unwrap();
        let settings = u64::from(head[2]);
        std::io::copy(&mut (&mut stream).take(settings), &mut std::io::sink()).unwrap();
        stream
    });
    let ended = std::thread::spawn(move || running.stop("TERM"));
    for (stream, port) in idle.iter_mut().zip(ports) {
        let types = frame_types(stream);
        assert!(types.contains(&GOAWAY), "port {port}: {types:?}");
    }
    let (code, _) = ended.join().unwrap();
    assert_eq!(code, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_watches_the_health_is_told_and_does_not_hold_up_the_end() {
    let place = Place::bootstrapped();
    place.add_config(NO_DEADLINE);
    let running = place.serve();
    let mut watchers = Vec::new();
    for port in [place.authz, place.admin] {
        for service in ["", SERVICE_NAME] {
            let request = HealthCheckRequest {
                service: service.to_owned(),
            };
            let mut client = HealthClient::new(client::tcp(port).await);
            let mut watch = client.watch(request).await.unwrap().into_inner();
            let first = watch.message().await.unwrap().unwrap();
            assert_eq!(first.status(), ServingStatus::Serving);
            watchers.push((port, watch));
        }
    }
    let stopped = tokio::spawn(stop(running, "TERM"));
    for (port, mut watch) in watchers {
        let next = watch.message().await.unwrap().expect("another status");
        assert_eq!(next.status(), ServingStatus::NotServing, "port {port}");
        let end = watch.message().await;
        assert!(matches!(end, Ok(None)), "port {port}: {end:?}");
    }
    let (code, _) = stopped.await.unwrap();
    assert_eq!(code, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_connection_that_hangs_does_not_hold_the_process_past_the_deadline() {
    let place = Place::bootstrapped();
    place.add_config("shutdown: {drain_timeout: 1s}");
    let running = place.serve();
    let Connection { mut sender, ended } = connect(place.authz).await;
    let (body, slow) = Slow::new();
    body.send(vec![0, 0].into()).await.unwrap();
    let answer = tokio::spawn(sender.send_request(check_request(slow)));
    let other = check_request(Slow::whole(message(&place)));
    read_answer(sender.send_request(other).await.unwrap())
        .await
        .unwrap();
    let (code, took) = stop(running, "TERM").await;
    assert_eq!(code, Some(0));
    let deadline = Duration::from_secs(1);
    assert!(took >= deadline, "{took:?}");
    assert!(answer.await.unwrap().is_err());
    drop((body, ended));
}

#[test]
fn connections_without_a_request_do_not_hold_up_the_end() {
    let place = Place::bootstrapped();
    place.add_config(NO_DEADLINE);
    let running = place.serve();
    let mut silent = Vec::new();
    for port in [place.authz, place.admin, place.ops] {
        for said in ["", "PRI * HT"] {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            stream.write_all(said.as_bytes()).unwrap();
            silent.push(stream);
        }
    }
    // A client of HTTP/1.1 that has had its answer and stays.
    let mut stream = TcpStream::connect(("127.0.0.1", place.ops)).unwrap();
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        .unwrap();
    stream.read_exact(&mut [0; 15]).unwrap();
    silent.push(stream);
    let (code, _) = running.stop("TERM");
    assert_eq!(code, Some(0));
    drop(silent);
}

#[test]
fn a_second_signal_while_draining_does_no_harm() {
    let place = Place::bootstrapped();
    place.add_config("shutdown: {drain_timeout: 1s}");
    let mut running = place.serve();
    let hanging = TcpStream::connect(("127.0.0.1", place.authz)).unwrap();
    running.signal("TERM");
    running.signal("INT");
    assert_eq!(running.wait_for_end().code(), Some(0));
    drop(hanging);
}
