//! Who guesses, by whichever address, port or protocol.

use std::time::Instant;

use keystile::proto::admin as pb;
use keystile::proto::admin::key_service_client::KeyServiceClient;
use keystile::proto::admin::tenant_service_client::TenantServiceClient;
use serde_json::json;
use tonic::transport::Channel;
use tonic::{Code, Request};
use tonic_types::StatusExt as _;

use crate::harness::http1::Reply;
use crate::rest::{KEYS, VALIDATE, ask_at};
use crate::support::program::Place;
use crate::support::{check, client};

const TOKEN: &str = "a-guess-of-the-right-length";
const GUESS: (&str, &str) = ("x-api-key", TOKEN);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ipv4_guesser_is_one_source_behind_every_translator_and_its_neighbours_are_others() {
    let place = Place::bootstrapped();
    place.add_config("abuse: {max_failures: 5, nat64_prefixes: [\"64:ff9b:1::/48\"]}");
    let _running = place.serve();
    let authz = client::tcp(place.authz).await;
    let ways = [
        "192.0.2.33",
        "::ffff:192.0.2.33",
        "64:ff9b::192.0.2.33",
        "2002:c000:221::1",
        "64:ff9b:1:c000:2:2100::",
    ];
    for way in ways {
        assert_eq!(client::ask_from(&authz, &[GUESS], way).await, 401, "{way}");
    }
    for way in ways {
        assert_eq!(client::ask_from(&authz, &[GUESS], way).await, 429, "{way}");
    }
    for neighbour in [
        "192.0.2.34",
        "64:ff9b::192.0.2.34",
        "64:ff9b:1:c000:2:2200::",
    ] {
        let status = client::ask_from(&authz, &[GUESS], neighbour).await;
        assert_eq!(status, 401, "{neighbour}");
    }
    assert!(place.do_it(&["blocks", "list"]).contains("192.0.2.33"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guesser_who_has_a_48_is_blocked_with_it_and_an_operator_can_end_that() {
    let place = Place::bootstrapped();
    place.add_config("abuse: {max_failures: 2}");
    let _running = place.serve();
    let authz = client::tcp(place.authz).await;
    // Never twice from one /64.
    for number in 0..32 {
        let from = format!("2001:db8:7:{number:x}::1");
        let status = client::ask_from(&authz, &[GUESS], &from).await;
        assert_eq!(status, 401, "{from}");
    }
    let fresh = "2001:db8:7:ffff::1";
    assert_eq!(client::ask_from(&authz, &[GUESS], fresh).await, 429);
    let other = "2001:db8:8::1";
    assert_eq!(client::ask_from(&authz, &[GUESS], other).await, 401);
    let known = ("x-api-key", place.admin_token.as_str());
    place.do_it(&["tenant", "list"]);
    assert_eq!(
        client::ask_from(&authz, &[known], fresh).await,
        200,
        "in memory"
    );
    assert!(place.do_it(&["blocks", "list"]).contains("2001:db8:7::/48"));
    place.do_it(&["blocks", "clear", "2001:db8:7::/48"]);
    assert_eq!(client::ask_from(&authz, &[GUESS], fresh).await, 401);
}

/// A way to try a token on the admin API.
#[derive(Clone, Copy, Debug)]
enum Way {
    Grpc,
    GrpcWithoutForm,
    VerifyKey,
    Rest,
    RestHeader,
    Validate,
    ValidateByACaller,
}

/// What somebody heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Wrong,
    Blocked,
}

impl Way {
    const ALL: [Self; 7] = [
        Self::Grpc,
        Self::GrpcWithoutForm,
        Self::VerifyKey,
        Self::Rest,
        Self::RestHeader,
        Self::Validate,
        Self::ValidateByACaller,
    ];

    async fn guess(self, place: &Place, channel: &Channel) -> Heard {
        let body = json!({"token": TOKEN});
        let port = place.admin;
        let admin = place.admin_token.as_str();
        match self {
            Self::Grpc => of_grpc(list(channel, "x-api-key", TOKEN).await),
            Self::GrpcWithoutForm => of_grpc(list(channel, "authorization", "Basic eDp5").await),
            Self::VerifyKey => of_grpc(verify(channel, admin).await),
            Self::Rest => of_rest(&ask_at(port, "GET", KEYS, TOKEN, None).0),
            Self::RestHeader => {
                of_rest(&ask_at(port, "DELETE", &format!("{KEYS}/x"), TOKEN, None).0)
            }
            Self::Validate => of_rest(&ask_at(port, "POST", VALIDATE, "", Some(&body)).0),
            Self::ValidateByACaller => {
                of_rest(&ask_at(port, "POST", VALIDATE, admin, Some(&body)).0)
            }
        }
    }
}

async fn list(channel: &Channel, name: &'static str, value: &str) -> Result<(), tonic::Status> {
    let mut request = Request::new(pb::ListTenantsRequest::default());
    request.metadata_mut().insert(name, value.parse().unwrap());
    let listed = TenantServiceClient::new(channel.clone())
        .list_tenants(request)
        .await;
    listed.map(|_| panic!("{value} is no key"))
}

/// A token that is wrong is an answer there, not an error.
async fn verify(channel: &Channel, admin: &str) -> Result<(), tonic::Status> {
    let mut request = Request::new(pb::VerifyKeyRequest {
        token: TOKEN.to_owned(),
        ..pb::VerifyKeyRequest::default()
    });
    request
        .metadata_mut()
        .insert("x-api-key", admin.parse().unwrap());
    let verified = KeyServiceClient::new(channel.clone())
        .verify_key(request)
        .await?;
    assert!(!verified.get_ref().valid);
    Ok(())
}

fn of_grpc(answer: Result<(), tonic::Status>) -> Heard {
    let Err(status) = answer else {
        return Heard::Wrong;
    };
    let details = status.get_error_details();
    match status.code() {
        Code::Unauthenticated => Heard::Wrong,
        Code::ResourceExhausted => {
            let reason = &details.error_info().unwrap().reason;
            assert_eq!(reason, "TEMPORARILY_BLOCKED");
            let wait = details.retry_info().unwrap().retry_delay.unwrap();
            assert!(wait.as_secs() > 0);
            Heard::Blocked
        }
        _ => panic!("{status:?}"),
    }
}

fn of_rest(reply: &Reply) -> Heard {
    let wait = reply
        .one("retry-after")
        .map(|wait| wait.parse::<u64>().unwrap());
    match (reply.status, wait) {
        (401, None) => Heard::Wrong,
        (429, Some(1..)) => Heard::Blocked,
        _ => panic!("{reply:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guesser_is_blocked_by_whichever_way_and_then_on_every_port() {
    let place = Place::bootstrapped();
    place.add_config("abuse: {max_failures: 5}");
    let _running = place.serve();
    let (admin, authz) = (
        client::tcp(place.admin).await,
        client::tcp(place.authz).await,
    );
    place.do_it(&["tenant", "list"]);
    for way in Way::ALL {
        for number in 0..5 {
            assert_eq!(
                way.guess(&place, &admin).await,
                Heard::Wrong,
                "{way:?} {number}"
            );
        }
        for other in Way::ALL {
            // Its form is refused without a look, so it shows nothing.
            if !matches!(other, Way::GrpcWithoutForm) {
                let heard = other.guess(&place, &admin).await;
                assert_eq!(heard, Heard::Blocked, "{other:?} after {way:?}");
            }
        }
        let here = client::ask_from(&authz, &[GUESS], "127.0.0.1").await;
        assert_eq!(here, 429, "authz after {way:?}");
        let elsewhere = client::ask_from(&authz, &[GUESS], "192.0.2.1").await;
        assert_eq!(elsewhere, 401, "authz from elsewhere after {way:?}");
        // The operator behind the same address goes on: the key is in memory.
        place.do_it(&["blocks", "clear", "--all"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_blocked_on_authz_is_refused_on_admin() {
    let place = Place::bootstrapped();
    place.add_config("abuse: {max_failures: 3}");
    let _running = place.serve();
    let (admin, authz) = (
        client::tcp(place.admin).await,
        client::tcp(place.authz).await,
    );
    for _ in 0..3 {
        let status = client::ask_from(&authz, &[GUESS], "127.0.0.1").await;
        assert_eq!(status, 401);
    }
    for way in [Way::Grpc, Way::Rest, Way::Validate] {
        assert_eq!(way.guess(&place, &admin).await, Heard::Blocked, "{way:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_abuse_an_address_guesses_at_a_bounded_rate_and_known_keys_go_on() {
    let place = Place::bootstrapped();
    let _running = place.serve();
    let admin = client::tcp(place.admin).await;
    place.do_it(&["tenant", "list"]);
    let (mut wrong, begun) = (0, Instant::now());
    for number in 0..600 {
        let way = [Way::Grpc, Way::Rest, Way::Validate][number % 3];
        wrong += u64::from(way.guess(&place, &admin).await == Heard::Wrong);
    }
    let most = 100 + begun.elapsed().as_secs() + 1;
    assert!((100..=most).contains(&wrong), "{wrong} of at most {most}");
    place.do_it(&["tenant", "list"]);
    for way in [Way::VerifyKey, Way::ValidateByACaller] {
        let heard = way.guess(&place, &admin).await;
        assert_eq!(heard, Heard::Wrong, "{way:?}: it is known who asks");
    }
}

/// A request that is only rehearsed.
async fn rehearse(authz: &Channel, token: &str, source: &str) -> i32 {
    let mut request = check::from(check::headers(&[("x-api-key", token)]), source);
    let attributes = request.attributes.get_or_insert_default();
    attributes.context_extensions = [("keystile.dry_run".into(), "true".into())].into();
    client::answer_to(authz, request).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rehearsal_gets_past_no_block_and_makes_none() {
    let place = Place::bootstrapped();
    place.add_config("abuse: {max_failures: 3}");
    let _running = place.serve();
    let authz = client::tcp(place.authz).await;
    let (blocked, other) = ("192.0.2.1", "192.0.2.2");
    for _ in 0..3 {
        assert_eq!(client::ask_from(&authz, &[GUESS], blocked).await, 401);
    }
    let right = place.admin_token.as_str();
    for token in [TOKEN, right, "short"] {
        assert_eq!(rehearse(&authz, token, blocked).await, 429, "{token}");
    }
    for _ in 0..6 {
        assert_eq!(rehearse(&authz, TOKEN, other).await, 401);
    }
    assert_eq!(
        client::ask_from(&authz, &[GUESS], other).await,
        401,
        "nothing was counted"
    );
    let shown = place.run(&[
        "check",
        "--token",
        TOKEN,
        "--source",
        blocked,
        "--path",
        "/",
        "--addr",
        &format!("127.0.0.1:{}", place.authz),
    ]);
    assert!(
        shown.stdout.contains("too many wrong keys came from it"),
        "{shown:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rehearsals_are_no_way_to_guess() {
    for abuse in ["", "abuse: {}"] {
        let place = Place::bootstrapped();
        place.add_config(abuse);
        let _running = place.serve();
        let authz = client::tcp(place.authz).await;
        let (mut wrong, begun) = (0, Instant::now());
        for number in 0..400 {
            // Whoever asks says where from.
            let source = format!("192.0.2.{}", number % 256);
            wrong += u64::from(rehearse(&authz, TOKEN, &source).await == 401);
        }
        let most = 100 + begun.elapsed().as_secs() + 1;
        assert!((100..=most).contains(&wrong), "{wrong} of at most {most}");
        let right = place.admin_token.as_str();
        assert_eq!(client::ask(&authz, &[("x-api-key", right)]).await, 200);
        assert_eq!(rehearse(&authz, right, "192.0.2.1").await, 200, "in memory");
    }
}
