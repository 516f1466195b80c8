//! What is left of tokens in a process' own memory when nobody uses them any more.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};

use futures_util::future::join_all;
use keystile::proto::admin as pb;
use keystile::proto::admin::key_service_client::KeyServiceClient;
use tonic::Request;

use crate::harness::wait_for;
use crate::support::client;
use crate::support::program::{Place, Running};

/// What a thread may have left on its stack or in a register's place; buffers leave nothing.
const LEFT_MAX: usize = 8;
const PREFIX: &[u8] = b"ks_live_";

/// Every private writable piece of a process' memory: heap, stacks, statics.
fn memory(pid: u32) -> Vec<Vec<u8>> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let mut file = File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut pieces = Vec::new();
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let [from, to] = [from, to].map(|text| u64::from_str_radix(text, 16).unwrap());
        // Page by page: between the look at the list and now some may have gone.
        for start in (from..to).step_by(1 << 20) {
            let mut piece = vec![0; usize::try_from((to - start).min(1 << 20) + 64).unwrap()];
            file.seek(SeekFrom::Start(start)).unwrap();
            let len = file.read(&mut piece).unwrap_or_default();
            piece.truncate(len);
            pieces.push(piece);
        }
    }
    pieces
}

/// How many of these tokens there are in it.
fn count(pid: u32, tokens: &HashSet<Vec<u8>>) -> usize {
    let len = tokens.iter().next().unwrap().len();
    let in_piece = |piece: &Vec<u8>| {
        let places = piece.windows(len).enumerate();
        places
            // What begins in the overlap is counted with the next piece.
            .filter(|(at, window)| *at < 1 << 20 && window.starts_with(PREFIX))
            .filter(|(_, window)| tokens.contains(*window))
            .count()
    };
    memory(pid).iter().map(in_piece).sum()
}

#[track_caller]
fn check_few_are_left(running: &Running, what: &str, tokens: &[&str]) {
    let tokens: HashSet<Vec<u8>> = tokens
        .iter()
        .map(|token| token.as_bytes().to_vec())
        .collect();
    // The server may still be closing its end of the connections.
    wait_for(what, || {
        (count(running.pid(), &tokens) <= LEFT_MAX).then_some(())
    });
}

/// Starts `dev`, whose memory a process of the same user may read.
fn start(place: &Place) -> (Running, String, String) {
    let address = |port| format!("127.0.0.1:{port}");
    let (authz, admin, ops) = (
        address(place.authz),
        address(place.admin),
        address(place.ops),
    );
    let args = [
        "dev",
        "--dir",
        "dev",
        "-o",
        "json",
        "--authz-listen",
        &authz,
        "--admin-listen",
        &admin,
        "--ops-listen",
        &ops,
    ];
    let out = place.path("greeting.json");
    let to = [
        File::create(&out).unwrap().into(),
        File::create(place.path("dev.log")).unwrap().into(),
    ];
    let running = place.start_into("dev", &args, &[("KEYSTILE__AUTHZ__WORKERS", "2")], to);
    let greeting = wait_for("the greeting", || {
        let text = fs::read_to_string(&out).ok()?;
        serde_json::from_str::<serde_json::Value>(&text).ok()
    });
    let token = |name: &str| greeting["tokens"][name].as_str().unwrap().to_owned();
    let (user, admin) = (token("user"), token("admin"));
    (running, user, admin)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_do_not_stay_in_memory_when_their_requests_are_over() {
    let place = Place::empty();
    let (running, user, admin) = start(&place);
    for _ in 0..10 {
        let channel = client::tcp(place.authz).await;
        let header = [("x-api-key", user.as_str())];
        for _ in 0..10 {
            let answers = join_all((0..100).map(|_| client::ask(&channel, &header))).await;
            assert!(answers.iter().all(|status| *status == 200));
        }
    }
    check_few_are_left(&running, "a key's token after 10,000 Checks", &[&user]);
    let made = create_batches(&place, &admin).await;
    let made: Vec<&str> = made.iter().map(String::as_str).collect();
    assert_eq!(made.len(), 2_000);
    check_few_are_left(&running, "2,000 tokens that were made", &made);
    check_few_are_left(&running, "the admin's own token", &[&admin]);
}

/// Makes 2,000 keys over one connection, which is closed when this ends.
async fn create_batches(place: &Place, admin: &str) -> Vec<String> {
    let mut keys = KeyServiceClient::new(client::tcp(place.admin).await);
    let mut made = Vec::new();
    for batch in 0..20 {
        let one = |number| pb::CreateKeyRequest {
            key: Some(pb::Key {
                display_name: "one of many".to_owned(),
                owner: format!("owner-{batch}-{number}"),
                ..pb::Key::default()
            }),
            ..pb::CreateKeyRequest::default()
        };
        let mut request = Request::new(pb::BatchCreateKeysRequest {
            parent: "tenants/demo".to_owned(),
            requests: (0..100).map(one).collect(),
        });
        let value = format!("Bearer {admin}").parse().unwrap();
        request.metadata_mut().insert("authorization", value);
        let answer = keys.batch_create_keys(request).await.unwrap();
        for result in answer.into_inner().results {
            match result.result {
                Some(pb::batch_create_keys_result::Result::Created(created)) => {
                    made.push(created.plaintext);
                }
                other => panic!("{other:?}"),
            }
        }
    }
    made
}
