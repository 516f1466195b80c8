//! What the benches measure on: tenants with a hundred keys each, and a request like Envoy's.

use std::sync::Arc;

use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Request};
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest};
use keystile::clock::{Clock as _, SystemClock};
use keystile::config::Config;
use keystile::crypto::keyring::{Keyring, Ring};
use keystile::domain::change::Actor;
use keystile::domain::name::{DisplayName, Owner, PlanName, Scope, TenantId};
use keystile::domain::role::Role;
use keystile::registry::{NewKey, NewTenant, Registry};
use keystile::server::parts::Parts;
use keystile::store::redb::EmbeddedStore;
use prost::Message;
use tokio::task::JoinSet;

/// Keys a tenant.
const KEYS_EACH: usize = 100;

/// A process with all its keys in memory and cached, and their tokens. `listen` is where it would serve Envoy.
pub(crate) async fn loaded(listen: &str, tenants: usize) -> (Config, Parts, Vec<String>) {
    let config = format!(
        "authz: {{listen: [\"{listen}\"], workers: 1}}\n\
         keyring: {{data: {{file: unused}}}}\n\
         cache: {{ttl: 1d, max_stale: 1d, max_entries: 2000000}}\n\
         plans: {{pro: {{features: [images, export]}}}}\n"
    );
    let config = Config::parse(&config, "the bench", std::iter::empty());
    let config = config.unwrap().config;
    let (now, mut rng) = (SystemClock.now(), rand::rng());
    let data = Arc::new(Keyring::generate(Ring::Data, now, &mut rng));
    let store = Arc::new(EmbeddedStore::in_memory().unwrap());
    let parts = Parts::assemble(&config, store, data, None).await.unwrap();
    let tokens = fill(&parts.registry, tenants).await;
    for token in &tokens {
        let found = parts.authorizer.authenticate(token.as_bytes()).await;
        assert!(found.unwrap().is_ok(), "every key is valid");
    }
    (config, parts, tokens)
}

/// Makes the tenants and their keys; the tokens come in random order.
async fn fill(registry: &Registry, tenants: usize) -> Vec<String> {
    let mut tasks = JoinSet::new();
    for number in 0..tenants {
        let registry = registry.clone();
        tasks.spawn(async move { fill_tenant(&registry, number).await });
        if tasks.len() >= 64 {
            tasks.join_next().await.unwrap().unwrap();
        }
    }
    drop(tasks.join_all().await);
    let mut tokens = Vec::with_capacity(tenants * KEYS_EACH);
    std::mem::swap(&mut tokens, &mut MADE.lock());
    shuffle(&mut tokens);
    tokens
}

/// Tokens as they are made, from all tasks.
static MADE: parking_lot::Mutex<Vec<String>> = parking_lot::Mutex::new(Vec::new());

async fn fill_tenant(registry: &Registry, number: usize) {
    let id = TenantId::parse(&format!("tenant-{number}")).unwrap();
    let mut tenant = NewTenant::named(id.clone(), DisplayName::parse("A Customer Inc.").unwrap());
    tenant.plan = Some(PlanName::parse("pro").unwrap());
    registry
        .create_tenant(&Actor::Operator, tenant)
        .await
        .unwrap();
    for key in 0..KEYS_EACH {
        let owner = Owner::parse(&format!("user-{key}@example.com")).unwrap();
        let mut new = NewKey::named(DisplayName::parse("bench").unwrap(), owner, Role::User);
        new.scopes = ["read", "write"]
            .map(|scope| Scope::parse(scope).unwrap())
            .into();
        let made = registry
            .create_key(&Actor::Operator, &id, new)
            .await
            .unwrap();
        MADE.lock().push(made.token.expose().to_owned());
    }
}

/// Fisher-Yates with a fixed seed: the same order in every run.
fn shuffle(tokens: &mut [String]) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for at in (1..tokens.len()).rev() {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        tokens.swap(at, usize::try_from(state >> 33).unwrap() % (at + 1));
    }
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
