use envoy_types::pb::envoy::service::auth::v3::CheckResponse;
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use prost::Message as _;
use serde_json::{Value, json};

use super::*;
use crate::clock::{Clock as _, SystemClock};
use crate::crypto::keyring::{Keyring, Ring};
use crate::ext_authz::testing::World;
use crate::ext_authz::{Settings, response::Answer};

fn signing(audience: &[&str]) -> SignedContext {
    let keyring = Keyring::generate(Ring::Signing, SystemClock.now(), &mut rand::rng());
    SignedContext {
        keys: Arc::new(ArcSwap::from_pointee(ContextKeys::new(&keyring).unwrap())),
        issuer: "https://keys.example".to_owned(),
        audience: audience.iter().map(ToString::to_string).collect(),
        ttl: Duration::from_secs(60),
        key_ref: false,
    }
}

async fn world(audience: &[&str]) -> World {
    World::with(Settings {
        signed_context: Some(signing(audience)),
        ..Settings::default()
    })
    .await
}

/// The token that an allow sets, and the names that it removes.
fn read(answer: Answer) -> (Option<String>, Vec<String>) {
    let response = CheckResponse::decode(answer.into_bytes()).unwrap();
    let Some(HttpResponse::OkResponse(ok)) = response.http_response else {
        panic!("not an allow");
    };
    let headers = ok.headers.into_iter().filter_map(|option| option.header);
    let token = headers
        .filter(|header| header.key == "x-tenant-token")
        .map(|header| header.value)
        .next();
    (token, ok.headers_to_remove)
}

fn claims(token: &str) -> Value {
    let part = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64URL_NOPAD.decode(part.as_bytes()).unwrap()).unwrap()
}

#[tokio::test]
async fn the_token_says_whose_key_it_was_and_for_which_request() {
    let world = world(&[]).await;
    let before = SystemClock.now().as_millis() / 1000;
    let (token, removed) = read(world.check(&[("x-api-key", &world.token)], &[]).await);
    let token = token.unwrap();
    assert!(!removed.contains(&"x-tenant-token".to_owned()));
    let mut claims = claims(&token);
    assert!(!claims.to_string().contains(&world.token));
    let iat = claims["iat"].as_i64().unwrap();
    assert!((before..=before + 60).contains(&iat));
    let taken = claims.as_object_mut().unwrap();
    assert_eq!(taken.remove("jti").unwrap().as_str().unwrap().len(), 22);
    assert_eq!(
        claims,
        json!({
            "iss": "https://keys.example",
            "sub": "acme",
            "aud": "api.example.com",
            "iat": iat,
            "nbf": iat,
            "exp": iat + 60,
            "tenant": "acme",
            "key_id": world.key_id,
            "owner": "alice@example.com",
            "plan": "pro",
            "features": ["export", "images"],
            "scopes": ["read", "write"],
            "htm": "GET",
            "authority": "api.example.com:8443",
            "path": "/v1/orders",
        })
    );
}

#[tokio::test]
async fn a_client_token_never_passes_for_ours() {
    let forged = [("x-tenant-token", "forged"), ("x_tenant-token", "forged")];
    let world = world(&[]).await;
    let key = ("x-api-key", world.token.as_str());
    let (token, removed) = read(world.check(&[key, forged[0], forged[1]], &[]).await);
    assert!(token.is_some_and(|token| token.starts_with("ey")));
    assert_eq!(
        removed
            .iter()
            .filter(|name| name.contains("token"))
            .collect::<Vec<_>>(),
        ["x_tenant-token"]
    );
    // Nobody to speak for: no token, and none of the client's either.
    for mode in ["optional", "off"] {
        let (token, removed) = read(world.check(&forged, &[("keystile.mode", mode)]).await);
        assert_eq!(token, None);
        for name in ["x-tenant-token", "x_tenant-token"] {
            assert!(removed.contains(&name.to_owned()), "{mode}: {name}");
        }
    }
}

#[tokio::test]
async fn a_configured_audience_stands_for_the_host() {
    for (audience, expected) in [
        (&["orders"][..], json!("orders")),
        (&["orders", "billing"], json!(["orders", "billing"])),
    ] {
        let world = world(audience).await;
        let (token, _) = read(world.check(&[("x-api-key", &world.token)], &[]).await);
        assert_eq!(claims(&token.unwrap())["aud"], expected);
    }
}

#[test]
fn a_host_is_an_authority_without_its_port() {
    for (authority, expected) in [
        ("api.example.com", "api.example.com"),
        ("api.example.com:8443", "api.example.com"),
        ("[::1]", "[::1]"),
        ("[::1]:80", "[::1]"),
        ("a,second", "a,second"),
        ("user:pass@api", "user:pass@api"),
        ("", ""),
    ] {
        assert_eq!(host(authority), expected, "{authority}");
    }
}

#[test]
fn a_request_is_bound_by_method_authority_and_path_without_its_query() {
    let bound = |method: &'static str, authority: &'static [u8], path: &'static [u8]| {
        let method = method.as_bytes();
        let target = Target {
            method,
            authority,
            path,
        };
        let bound = Bound::of(&target)?;
        Some(format!(
            "{} {} {}",
            bound.method, bound.authority, bound.path
        ))
    };
    for (method, authority, path, expected) in [
        (
            "GET",
            &b"API.Example:80"[..],
            &b"/a%2Fb?x=/y?z"[..],
            Some("GET api.example:80 /a%2Fb"),
        ),
        ("POST", b"h", b"/A//b/", Some("POST h /A//b/")),
        ("CONNECT", b"h:443", b"", Some("CONNECT h:443 ")),
        ("GET", b"", b"/", None),
        ("", b"h", b"/", None),
        ("GET", b"h\xff", b"/", None),
        ("GET", b"h", b"/\xff", None),
    ] {
        assert_eq!(bound(method, authority, path).as_deref(), expected);
    }
}

#[test]
fn no_two_tokens_share_an_id() {
    assert_ne!(unique(), unique());
}
