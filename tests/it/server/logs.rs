//! Logs that nobody reads: a pipe whose reader has stopped, a terminal that is held.

use std::io::{BufRead as _, BufReader, PipeReader, PipeWriter, Write as _};
use std::sync::mpsc::{Receiver, channel};

use futures_util::future::join_all;
use nix::fcntl::{FcntlArg, fcntl};

use crate::harness::{PATIENCE, wait_for};
use crate::support::client;
use crate::support::program::{Place, Running};

const SERVE: [&str; 3] = ["serve", "-c", "keystile.yaml"];

/// A pipe that takes nothing more until somebody reads.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (read, mut write) = std::io::pipe().unwrap();
    let size = fcntl(&write, FcntlArg::F_GETPIPE_SZ).unwrap();
    let fill = vec![b'\n'; size.try_into().unwrap()];
    write.write_all(&fill).unwrap();
    (read, write)
}

/// Starts a server, ready, whose output nobody reads.
fn start(place: &Place, args: &[&str]) -> (Running, [PipeReader; 2]) {
    let (out, write_out) = full_pipe();
    let (err, write_err) = full_pipe();
    let mut running = place.start_into(
        "unread",
        args,
        &[("KEYSTILE__TELEMETRY__LOG__LEVEL", "debug")],
        [write_out.into(), write_err.into()],
    );
    wait_for("keystile to be ready", || {
        assert!(running.ended().is_none(), "it ended");
        place.is_ready().then_some(())
    });
    (running, [out, err])
}

fn dropped(place: &Place) -> u64 {
    let (_, metrics) = place.ops("/metrics").unwrap();
    let name = "keystile_log_lines_dropped_total{reason=\"queue_full\"} ";
    let count = metrics.lines().find_map(|line| line.strip_prefix(name));
    count
        .unwrap_or_else(|| panic!("{metrics}"))
        .parse()
        .unwrap()
}

/// Has requests refused, each with a line in the log, until lines are dropped.
async fn deny_until_lines_are_dropped(place: &Place) {
    let channel = client::tcp(place.authz).await;
    for _ in 0..200 {
        let answers = (0..200).map(|_| client::ask(&channel, &[]));
        let answers = tokio::time::timeout(PATIENCE, join_all(answers)).await;
        let answers = answers.expect("each is answered though nobody reads the log");
        assert!(answers.iter().all(|status| *status == 401), "{answers:?}");
        if dropped(place) > 0 {
            return;
        }
    }
    panic!("no line was dropped: the log takes memory without end");
}

fn lines_of(pipe: PipeReader) -> Receiver<String> {
    let (send, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn output_that_nobody_reads_stops_no_check_and_not_the_end() {
    for command in [serve, dev] {
        let place = Place::bootstrapped();
        let args = command(&place);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let (running, unread) = start(&place, &args);
        deny_until_lines_are_dropped(&place).await;
        assert_eq!(running.stop("TERM").0, Some(0), "{args:?}");
        drop(unread);
    }
}

fn serve(_: &Place) -> Vec<String> {
    SERVE.map(str::to_owned).to_vec()
}

fn dev(place: &Place) -> Vec<String> {
    let address = |port| format!("127.0.0.1:{port}");
    let mut args = ["dev", "--dir", "dev"].map(str::to_owned).to_vec();
    for (flag, port) in [
        ("--authz-listen", place.authz),
        ("--admin-listen", place.admin),
        ("--ops-listen", place.ops),
    ] {
        args.extend([flag.to_owned(), address(port)]);
    }
    args
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_lines_are_told_of_once_the_log_is_read_again() {
    let place = Place::bootstrapped();
    let (running, [_out, err]) = start(&place, &SERVE);
    deny_until_lines_are_dropped(&place).await;
    let expected = dropped(&place);
    let lines = lines_of(err);
    let mut denials = 0;
    let told = loop {
        let line = lines.recv_timeout(PATIENCE).expect("it is told");
        denials += u64::from(line.contains("\"denied\""));
        if line.contains("log lines were dropped") {
            break line;
        }
    };
    assert!(denials > 0, "what was kept is written");
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["lines"], expected, "{told}");
    assert_eq!(running.stop("TERM").0, Some(0));
}

#[test]
fn a_start_that_fails_ends_though_nobody_reads_why() {
    let place = Place::empty();
    let ((_out, write_out), (_err, write_err)) = (full_pipe(), full_pipe());
    let mut refused =
        place.start_into("refused", &SERVE, &[], [write_out.into(), write_err.into()]);
    assert_eq!(refused.wait_for_end().code(), Some(78), "it has no keyring");
}

/// An Envoy with `allowed_headers` hides from us what a client may forge: its operator is told, and not with each request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_envoy_that_hides_headers_is_told_of_once_and_each_of_its_checks_is_counted() {
    let place = Place::bootstrapped();
    let mut running = place.serve();
    let channel = client::tcp(place.authz).await;
    let counted = || {
        let (_, metrics) = place.ops("/metrics").unwrap();
        let name = "keystile_filtered_checks_total ";
        let count = metrics.lines().find_map(|line| line.strip_prefix(name));
        count.unwrap_or_else(|| panic!("{metrics}")).to_owned()
    };
    let key = ("x-api-key", place.admin_token.as_str());
    let whole = [(":method", "GET"), (":path", "/"), key];
    assert_eq!(client::ask(&channel, &whole).await, 200);
    assert_eq!(counted(), "0", "an Envoy that shows all");
    // With a key and without: who is refused is counted too.
    for headers in [&[key][..], &[], &[key]] {
        client::ask(&channel, headers).await;
    }
    assert_eq!(counted(), "3");
    assert_eq!(client::ask(&channel, &whole).await, 200);
    assert_eq!(counted(), "3");
    // Every line is written before it ends.
    running.signal("TERM");
    running.wait_for_end();
    let log = running.log();
    let told = log
        .lines()
        .filter(|line| line.contains("a Check came without pseudo-headers"));
    let told: Vec<_> = told.collect();
    assert_eq!(told.len(), 1, "{log}");
    assert!(told[0].contains("allowed_headers"), "{told:?}");
}
