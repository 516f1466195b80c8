//! What Envoy hears when the store does not answer: in band, in time, and never a way through.

use std::time::Duration;

use bytes::Bytes;
use envoy_types::pb::envoy::service::auth::v3::CheckResponse;
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use http::Request;
use http_body_util::{BodyExt, Full};
use keystile::clock::Clock as _;
use keystile::ext_authz::{CheckService, Settings};
use prost::Message as _;

use crate::harness::pass;
use crate::support::check::{framed, with_headers};
use crate::support::fault_store::Mood;
use crate::support::world::World;

/// As configured: what a check may wait for the store.
const STORE_TIMEOUT: Duration = Duration::from_millis(40);
/// Much longer than any test may take.
const FOR_EVER: Duration = Duration::from_secs(3600);
/// Within this every answer must be there.
const ANSWERED_WITHIN: Duration = Duration::from_millis(50);
/// Of a right form, and nobody's.
const UNKNOWN: &str = "another-system-made-this-token-0123456789";
const MALFORMED: &str = "ks_live_tooShort";

struct Heard {
    http: i32,
    code: String,
    /// Whether `failure_mode_allow` decides.
    deferred: bool,
}

impl Heard {
    fn in_short(&self) -> (i32, &str, bool) {
        (self.http, self.code.as_str(), self.deferred)
    }
}

async fn ask(service: &CheckService, token: &str, grpc_timeout: Option<&str>) -> Heard {
    ask_within(service, token, grpc_timeout, ANSWERED_WITHIN).await
}

async fn ask_within(
    service: &CheckService,
    token: &str,
    grpc_timeout: Option<&str>,
    bound: Duration,
) -> Heard {
    let message = with_headers(&[(":method", "GET"), ("x-api-key", token)]);
    let mut request = Request::post("/").body(Full::new(Bytes::from(framed(&message))));
    if let (Ok(request), Some(timeout)) = (&mut request, grpc_timeout) {
        let value = timeout.parse().unwrap();
        request.headers_mut().insert("grpc-timeout", value);
    }
    let answered = async {
        let response = service.clone().call(request.unwrap()).await.unwrap();
        response.into_body().collect().await.unwrap()
    };
    // The bound begins after the answer's own time and is looked at after it: on a busy machine both end late, and only
    // an answer that waits for longer is found.
    let body = tokio::select! {
        biased;
        body = answered => body,
        () = pass(bound, "the bound of an answer") => panic!("no answer within {bound:?}"),
    };
    assert_eq!(body.trailers().unwrap()["grpc-status"], "0", "in band");
    let answer = CheckResponse::decode(&body.to_bytes()[5..]).unwrap();
    let status = answer.status.expect("an answer without status allows");
    let (denied, deferred) = match answer.http_response {
        None => panic!("no response"),
        Some(HttpResponse::OkResponse(_)) => {
            assert_eq!(status.code, 0);
            let (http, code) = (200, String::new());
            return Heard {
                http,
                code,
                deferred: false,
            };
        }
        Some(HttpResponse::DeniedResponse(denied)) => (denied, false),
        Some(HttpResponse::ErrorResponse(denied)) => (denied, true),
    };
    assert_ne!(status.code, 0, "0 would allow");
    Heard {
        http: denied.status.unwrap().code,
        code: status.message,
        deferred,
    }
}

const OUTAGE: (i32, &str, bool) = (503, "authorization_unavailable", false);
const INVALID: (i32, &str, bool) = (401, "invalid_api_key", false);
const ALLOWED: (i32, &str, bool) = (200, "", false);

#[tokio::test]
async fn an_outage_stops_unknown_keys_and_nothing_else() {
    for mood in [Mood::Failing, Mood::Hanging] {
        let world = World::new().await;
        let service = world.service(STORE_TIMEOUT, Settings::default());
        let [cached, cold] = [world.create_key().await, world.create_key().await];
        assert_eq!(ask(&service, &cached.token, None).await.in_short(), ALLOWED);
        world.store.be(mood);
        let rows = [
            ("cached", cached.token.as_str(), ALLOWED),
            ("not cached", cold.token.as_str(), OUTAGE),
            ("unknown", UNKNOWN, OUTAGE),
            ("malformed", MALFORMED, INVALID),
            ("missing", "", (401, "missing_api_key", false)),
        ];
        for (what, token, expected) in rows {
            let heard = ask(&service, token, None).await;
            assert_eq!(heard.in_short(), expected, "{what}, {mood:?}");
        }
        world.store.be(Mood::Well);
        assert_eq!(ask(&service, &cold.token, None).await.in_short(), ALLOWED);
        assert_eq!(ask(&service, UNKNOWN, None).await.in_short(), INVALID);
    }
}

#[tokio::test]
async fn a_malformed_token_and_a_cached_key_cost_no_read() {
    let world = World::new().await;
    let service = world.service(STORE_TIMEOUT, Settings::default());
    let key = world.create_key().await;
    assert_eq!(ask(&service, &key.token, None).await.in_short(), ALLOWED);
    let reads = world.store.reads();
    for token in [&key.token, MALFORMED, "short", "with a space inside", ""] {
        ask(&service, token, None).await;
    }
    assert_eq!(world.store.reads(), reads);
    ask(&service, UNKNOWN, None).await;
    assert_eq!(world.store.reads(), (reads.0 + 1, reads.1), "one look");
}

#[tokio::test]
async fn under_defer_an_outage_is_left_to_envoy_and_a_refusal_is_not() {
    let defer = Settings {
        defer_on_outage: true,
        ..Settings::default()
    };
    let world = World::new().await;
    let service = world.service(STORE_TIMEOUT, defer);
    let key = world.create_key().await;
    world.store.be(Mood::Failing);
    let rows = [
        (key.token.as_str(), (503, "authorization_unavailable", true)),
        (UNKNOWN, (503, "authorization_unavailable", true)),
        (MALFORMED, INVALID),
        ("", (401, "missing_api_key", false)),
    ];
    for (token, expected) in rows {
        assert_eq!(ask(&service, token, None).await.in_short(), expected);
    }
}

#[tokio::test]
async fn a_damaged_record_is_no_reason_to_let_pass_or_to_call_the_key_invalid() {
    let world = World::new().await;
    let service = world.service(STORE_TIMEOUT, Settings::default());
    let key = world.create_key().await;
    let mut row = world
        .store
        .beneath()
        .index(key.lookup)
        .await
        .unwrap()
        .unwrap();
    *row.body.last_mut().unwrap() ^= 1;
    world.store.put_index_by_hand(row);
    assert_eq!(ask(&service, &key.token, None).await.in_short(), OUTAGE);
}

#[tokio::test]
async fn a_deadline_shorter_than_the_store_timeout_is_kept() {
    let world = World::new().await;
    let service = world.service(FOR_EVER, Settings::default());
    let key = world.create_key().await;
    world.store.be(Mood::Hanging);
    for (header, deadline) in [("900m", 900), ("700000u", 700)] {
        let deadline = Duration::from_millis(deadline);
        let heard = ask_within(&service, &key.token, Some(header), deadline).await;
        assert_eq!(heard.in_short(), OUTAGE);
    }
    // A deadline that has passed is no reason to fail: what is in memory is still answered.
    world.store.be(Mood::Well);
    assert_eq!(ask(&service, &key.token, None).await.in_short(), ALLOWED);
    world.store.be(Mood::Hanging);
    assert_eq!(
        ask(&service, &key.token, Some("0m")).await.in_short(),
        ALLOWED
    );
    assert_eq!(ask(&service, UNKNOWN, Some("0m")).await.in_short(), OUTAGE);
}

#[tokio::test]
async fn an_expired_key_is_refused_as_expired_in_an_outage() {
    let world = World::new().await;
    let service = world.service(STORE_TIMEOUT, Settings::default());
    let end = world.clock.now().plus(world.settings.ttl);
    let key = world.create_key_until(Some(end)).await;
    assert_eq!(ask(&service, &key.token, None).await.in_short(), ALLOWED);
    world.store.be(Mood::Hanging);
    world.let_ttl_pass();
    let heard = ask(&service, &key.token, None).await;
    assert_eq!(heard.in_short(), (401, "api_key_expired", false));
}
