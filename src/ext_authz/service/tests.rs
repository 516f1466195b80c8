use envoy_types::pb::envoy::service::auth::v3::CheckResponse;
use http_body_util::{BodyExt, Full};
use prost::Message;

use super::*;
use crate::domain::request::Mode;
use crate::domain::route::RoutePattern;
use crate::ext_authz::routes::RouteRule;
use crate::ext_authz::testing::{World, message};

fn framed(message: &[u8]) -> Vec<u8> {
    let mut out = vec![0];
    out.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    out.extend_from_slice(message);
    out
}

/// Sends bytes as a request body and returns `status.code` of the answer and the `grpc-status`.
async fn call(world: &World, body: Vec<u8>) -> (i32, String) {
    let request = Request::new(Full::new(Bytes::from(body)));
    let response = world.service().call(request).await.unwrap();
    let collected = response.into_body().collect().await.unwrap();
    let grpc_status = collected.trailers().unwrap()["grpc-status"]
        .to_str()
        .unwrap()
        .to_owned();
    let bytes = collected.to_bytes();
    let answer = CheckResponse::decode(&bytes[5..]).unwrap();
    (
        answer
            .status
            .expect("an answer without a status allows")
            .code,
        grpc_status,
    )
}

#[tokio::test]
async fn whatever_comes_in_is_answered_in_band() {
    let world = World::new().await;
    let good = framed(&message(&[("x-api-key", &world.token)], &[]));
    let rows: [(&str, Vec<u8>, i32); 8] = [
        ("a valid key", good.clone(), 0),
        ("no key", framed(&message(&[], &[])), 16),
        ("an empty message", framed(&[]), 16),
        ("nothing at all", Vec::new(), 3),
        ("a message cut short", good[..good.len() - 1].to_vec(), 3),
        ("a compressed message", [&[1], &good[1..]].concat(), 3),
        ("no protobuf", framed(&[0xff; 64]), 3),
        (
            "a length beyond the limit",
            vec![0, 0xff, 0xff, 0xff, 0xff, 0],
            3,
        ),
    ];
    for (what, body, code) in rows {
        assert_eq!(call(&world, body).await, (code, "0".to_owned()), "{what}");
    }
}

#[tokio::test]
async fn a_rule_that_is_not_understood_lets_nothing_pass() {
    let world = World::new().await;
    let request = framed(&message(
        &[("x-api-key", &world.token)],
        &[("keystile.scope", "read")],
    ));
    assert_eq!(call(&world, request).await.0, 14);
}

#[tokio::test]
async fn a_message_in_many_frames_is_put_together() {
    let world = World::new().await;
    let body = framed(&message(&[("x-api-key", &world.token)], &[]));
    let chunks = body
        .chunks(3)
        .map(Bytes::copy_from_slice)
        .collect::<Vec<_>>()
        .into_iter();
    let expected = message(&[("x-api-key", &world.token)], &[]);
    assert_eq!(
        read_message(Chunks(chunks), 1 << 20).await.unwrap(),
        expected
    );
}

/// A body that comes a few bytes at a time.
struct Chunks(std::vec::IntoIter<Bytes>);

impl http_body::Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.next().map(|chunk| Ok(http_body::Frame::data(chunk))))
    }
}

#[test]
fn a_deadline_is_read_like_the_grpc_specification_says() {
    let left = |text: &'static str| {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", HeaderValue::from_static(text));
        time_left(&headers)
    };
    assert_eq!(left("200m"), Some(Duration::from_millis(180)));
    assert_eq!(left("1S"), Some(Duration::from_millis(900)));
    assert_eq!(left("10u"), Some(Duration::from_micros(9)));
    for bad in ["", "m", "1", "1x", "-1S", "123456789S"] {
        assert_eq!(left(bad), None, "{bad}");
    }
    assert_eq!(time_left(&HeaderMap::new()), None);
}

#[tokio::test]
async fn a_panic_is_an_answer() {
    assert_eq!(
        Caught(Box::pin(async { panic!("on purpose") as u8 })).await,
        None
    );
    assert_eq!(Caught(Box::pin(async { 7 })).await, Some(7));
}

/// A body that never comes.
struct Never;

impl http_body::Body for Never {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}

#[tokio::test]
async fn a_message_that_does_not_come_is_given_up() {
    let world = World::new().await;
    let response = world.service().call(Request::new(Never)).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(
        CheckResponse::decode(&body[5..])
            .unwrap()
            .status
            .unwrap()
            .code,
        3
    );
}

#[tokio::test]
async fn rules_are_replaced_in_every_clone_and_by_what_a_route_says() {
    let world = World::new().await;
    let service = world.service();
    let rule = |mode, features: &str| RouteRule {
        pattern: RoutePattern {
            path: Some("/v1/{*rest}".parse().unwrap()),
            ..RoutePattern::default()
        },
        mode,
        features: features.to_owned(),
        scopes: String::new(),
        cost: 1,
        shadow: false,
    };
    let code = async |extensions: &[(&str, &str)]| {
        let message = message(&[(":method", "GET")], extensions);
        let answer = service.check(&message, None).await.0.into_bytes();
        CheckResponse::decode(answer).unwrap().status.unwrap().code
    };
    assert_eq!(code(&[]).await, 16, "no rule: a key is needed");
    let set = |rules| {
        world.service().set_routes(RouteSettings {
            rules,
            ..RouteSettings::default()
        });
    };
    set(vec![rule(Mode::Off, "")]);
    assert_eq!(code(&[]).await, 0, "the rule says off");
    assert_eq!(
        code(&[("keystile.cost", "2")]).await,
        14,
        "off, and yet something to be charged"
    );
    let required = [("keystile.cost", "2"), ("keystile.mode", "required")];
    assert_eq!(code(&required).await, 16, "the route has its own mode");
    assert_eq!(code(&[("other.product", "2")]).await, 0);
    set(vec![rule(Mode::Optional, "export")]);
    assert_eq!(code(&[]).await, 16, "a feature needs a key");
    assert_eq!(code(&[("keystile.mode", "off")]).await, 0);
    assert_eq!(
        code(&[("keystile.cost", "2")]).await,
        16,
        "the cost alone takes nothing else of the rule away"
    );
    set(Vec::new());
    assert_eq!(code(&[]).await, 16);
}
