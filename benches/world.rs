//! What the benches measure on: tenants with a hundred keys each, and a request like Envoy's.

mod fill;

use std::sync::Arc;

use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Request};
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest};
use keystile::clock::{Clock as _, SystemClock};
use keystile::config::Config;
use keystile::crypto::keyring::{Keyring, Ring};
use keystile::domain::block::Presenter;
use keystile::server::parts::Parts;
use keystile::store::redb::EmbeddedStore;
use prost::Message;

/// Keys a tenant.
const KEYS_EACH: usize = 100;

/// A process with all its keys in memory and cached, and their tokens. `listen` is where it would serve Envoy, `limits`
/// what the plan of its tenants says beside its features.
pub(crate) async fn loaded(
    listen: &str,
    tenants: usize,
    limits: &str,
) -> (Config, Parts, Vec<String>) {
    let config = format!(
        "authz: {{listen: [\"{listen}\"], workers: 1}}\n\
         keyring: {{data: {{file: unused}}}}\n\
         cache: {{ttl: 1d, max_stale: 1d, max_entries: 2000000}}\n\
         plans: {{pro: {{features: [images, export]{limits}}}}}\n"
    );
    let config = Config::parse(&config, "the bench", std::iter::empty());
    let config = config.unwrap().config;
    let (now, mut rng) = (SystemClock.now(), rand::rng());
    let data = Arc::new(Keyring::generate(Ring::Data, now, &mut rng));
    let store = Arc::new(EmbeddedStore::in_memory().unwrap());
    let parts = Parts::assemble(&config, store, data, None).await.unwrap();
    let tokens = fill::fill(&parts.registry, tenants, KEYS_EACH).await;
    for token in &tokens {
        let found = parts
            .authorizer
            .authenticate(token.as_bytes(), Presenter::Recognised(None))
            .await;
        assert!(found.unwrap().is_ok(), "every key is valid");
    }
    (config, parts, tokens)
}

/// A CheckRequest of some 1 KiB with 15 headers, as Envoy sends for a browser-like client.
pub(crate) fn message(token: &str) -> Vec<u8> {
    let headers = [
        (":authority", "api.example.com"),
        (":method", "GET"),
        (
            ":path",
            "/v1/images/7c9e6679-7425-40de-944b-e07fc1f90ae7?size=large",
        ),
        (":scheme", "https"),
        ("accept", "application/json, text/plain, */*"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("accept-language", "en-GB,en;q=0.9,de;q=0.8"),
        ("content-type", "application/json"),
        (
            "user-agent",
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0 Safari/537.36",
        ),
        ("x-api-key", token),
        ("x-envoy-external-address", "203.0.113.7"),
        ("x-forwarded-for", "203.0.113.7"),
        ("x-forwarded-proto", "https"),
        ("x-request-id", "7c9e6679-7425-40de-944b-e07fc1f90ae7"),
        (
            "traceparent",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ),
    ];
    let http = HttpRequest {
        id: "15517477020455803835".into(),
        method: "GET".into(),
        headers: headers
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect(),
        path: "/v1/images/7c9e6679-7425-40de-944b-e07fc1f90ae7?size=large".into(),
        host: "api.example.com".into(),
        scheme: "https".into(),
        protocol: "HTTP/1.1".into(),
        ..Default::default()
    };
    let attributes = AttributeContext {
        request: Some(Request {
            http: Some(http),
            ..Default::default()
        }),
        ..Default::default()
    };
    CheckRequest {
        attributes: Some(attributes),
    }
    .encode_to_vec()
}
