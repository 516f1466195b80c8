//! What calls hold before their messages have come, and strangers' questions about health and schemas at all.

use http::{Request, Response};
use hyper::body::Incoming;

use super::connections::{MIB, MINUTE, resident};
use crate::harness::wait_for;
use crate::support::client::{Connection, Slow, ask, connect, tcp};
use crate::support::program::Place;

const CHECK: &str = "/grpc.health.v1.Health/Check";
const WATCH: &str = "/grpc.health.v1.Health/Watch";
/// For whom there is a key, whatever it may do.
const LIST: &str = "/keystile.admin.v1.KeyService/ListKeys";
const SCHEMAS: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
const OLDER_SCHEMAS: &str = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";
const WATCHERS_MAX: usize = 1024;

fn question(key: &str, path: &str, body: Slow) -> Request<Slow> {
    Request::post(format!("http://keystile{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("x-api-key", key)
        .body(body)
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_says_it_is_long_gets_no_room_before_it_comes() {
    const STREAMS: usize = 60;
    let place = Place::bootstrapped();
    let running = place.serve();
    let mut said = vec![0; 6];
    said[1..5].copy_from_slice(&(2_u32 << 20).to_be_bytes());
    for (port, path) in [
        (place.authz, CHECK),
        (place.authz, WATCH),
        (place.admin, CHECK),
        (place.admin, WATCH),
        (place.admin, SCHEMAS),
        (place.admin, OLDER_SCHEMAS),
        (place.admin, LIST),
    ] {
        let before = resident(&running);
        let Connection { mut sender, ended } = connect(port).await;
        let mut bodies = Vec::new();
        let mut answers = Vec::new();
        for _ in 0..STREAMS {
            let (body, slow) = Slow::new();
            body.send(said.clone().into()).await.unwrap();
            bodies.push(body);
            let request = question(&place.admin_token, path, slow);
            answers.push(tokio::spawn(sender.send_request(request)));
        }
        // Read after all that was sent before it.
        let whole = question("nobody", CHECK, Slow::whole(vec![0; 5]));
        sender.send_request(whole).await.unwrap();
        drop(bodies);
        for answer in answers {
            let answer = tokio::time::timeout(MINUTE, answer).await.unwrap();
            answer.unwrap().expect("an answer");
        }
        // What is freed is wiped, so all room that was made shows.
        let more = resident(&running).saturating_sub(before) / MIB;
        assert!(more < 60, "{more} MiB for {path} on {port}");
        drop((sender, ended));
    }
}

fn is_refused(answer: &Response<Incoming>) -> bool {
    let code = answer.headers().get("grpc-status");
    code.is_some_and(|code| code == "14")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_of_the_health_are_bounded_and_others_are_answered_meanwhile() {
    let place = Place::bootstrapped();
    let running = place.serve();
    let before = resident(&running);
    let mut connections = Vec::new();
    let mut watching = Vec::new();
    let mut refused = 0;
    for (port, count) in [(place.authz, 600), (place.authz, 600), (place.admin, 60)] {
        let Connection { mut sender, ended } = connect(port).await;
        let answers: Vec<_> = (0..count)
            .map(|_| sender.send_request(question("nobody", WATCH, Slow::whole(vec![0; 5]))))
            .collect();
        for answer in answers {
            let answer = answer.await.unwrap();
            match is_refused(&answer) {
                true => refused += 1,
                false => watching.push(answer),
            }
        }
        connections.push((sender, ended));
    }
    assert_eq!(
        (watching.len(), refused),
        (WATCHERS_MAX, 1260 - WATCHERS_MAX)
    );
    let more = resident(&running).saturating_sub(before) / MIB;
    assert!(more < 60, "{more} MiB");

    let channel = tcp(place.authz).await;
    assert_eq!(ask(&channel, &[]).await, 401, "checks go on");
    let Connection { mut sender, ended } = connect(place.authz).await;
    let request = question("nobody", CHECK, Slow::whole(vec![0; 5]));
    let answer = sender.send_request(request).await.unwrap();
    assert!(!is_refused(&answer), "a question that has an end");

    drop((watching, connections));
    let handle = tokio::runtime::Handle::current();
    tokio::task::block_in_place(|| {
        wait_for("a place to watch", || {
            let request = question("nobody", WATCH, Slow::whole(vec![0; 5]));
            let answer = handle.block_on(sender.send_request(request)).unwrap();
            (!is_refused(&answer)).then_some(())
        });
    });
    drop(ended);
}
