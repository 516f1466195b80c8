//! The decision path: what one Check costs, without the network.
//!
//! `check` is everything between the bytes of a CheckRequest and the bytes of its answer; `decide` is the decision
//! alone. Each with 1,000 keys in 10 tenants and 1,000,000 keys in 10,000 tenants, all cached, asked in random order.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a bench fails by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use divan::{Bencher, counter::ItemsCount};
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Request};
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest};
use keystile::authorizer::{Authorizer, Decision};
use keystile::cache::{self, Cache};
use keystile::clock::{Clock, SystemClock};
use keystile::crypto::keyring::{Keyring, Ring};
use keystile::crypto::signing::ContextKeys;
use keystile::crypto::token::{Token, TokenPrefixes};
use keystile::domain::change::Actor;
use keystile::domain::name::{DisplayName, Feature, Owner, PlanName, Scope, TenantId};
use keystile::domain::request::{AccessRequest, Credential, Rule};
use keystile::domain::role::Role;
use keystile::ext_authz::signed::SignedContext;
use keystile::ext_authz::{CheckService, Settings};
use keystile::registry::{self, NewKey, NewTenant, Registry};
use keystile::store::Store;
use keystile::store::redb::EmbeddedStore;
use keystile::telemetry::metrics::Metrics;
use prost::Message;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

#[global_allocator]
static ALLOCATOR: divan::AllocProfiler<mimalloc::MiMalloc> =
    divan::AllocProfiler::new(mimalloc::MiMalloc);

/// Keys a tenant.
const KEYS_EACH: usize = 100;
/// How many different requests a round walks through.
const SAMPLE: usize = 100_000;

/// A service with all its keys in memory.
struct World {
    runtime: Runtime,
    authorizer: Arc<Authorizer>,
    service: CheckService,
    /// The same with a signed token for the upstream.
    signing: CheckService,
    /// In random order.
    tokens: Vec<String>,
}

static SMALL: LazyLock<World> = LazyLock::new(|| World::new(10));
static LARGE: LazyLock<World> = LazyLock::new(|| World::new(10_000));

fn world(keys: usize) -> &'static World {
    if keys == 1_000 { &SMALL } else { &LARGE }
}

impl World {
    fn new(tenants: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap();
        let store: Arc<dyn Store> = Arc::new(EmbeddedStore::in_memory().unwrap());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let data = Arc::new(Keyring::generate(Ring::Data, clock.now(), &mut rand::rng()));
        let lookup = Arc::new(data.lookup_key().unwrap());
        let registry = Registry::new(
            Arc::clone(&store),
            Arc::clone(&data),
            None,
            Arc::clone(&lookup),
            Arc::clone(&clock),
            registry::Settings::default(),
        );
        let mut tokens = runtime.block_on(fill(&registry, tenants));
        shuffle(&mut tokens);
        let feature = |name: &str| Feature::parse(name).unwrap();
        let plans = BTreeMap::from([(
            PlanName::parse("pro").unwrap(),
            BTreeSet::from([feature("images"), feature("export")]),
        )]);
        let settings = cache::Settings {
            ttl: Duration::from_secs(86_400),
            max_entries: 2_000_000,
            ..cache::Settings::default()
        };
        let cache = Cache::new(&store, data, plans, settings);
        let authorizer = Arc::new(Authorizer::new(
            cache,
            lookup,
            TokenPrefixes::default(),
            clock,
            Duration::from_secs(1),
        ));
        for token in &tokens {
            let found = runtime
                .block_on(authorizer.authenticate(token.as_bytes()))
                .unwrap();
            assert!(found.is_ok(), "every key is valid");
        }
        let service = CheckService::new(
            Arc::clone(&authorizer),
            Settings::default(),
            Metrics::new().unwrap(),
        );
        let signing = CheckService::new(
            Arc::clone(&authorizer),
            Settings {
                signed_context: Some(signed_context()),
                ..Settings::default()
            },
            Metrics::new().unwrap(),
        );
        Self {
            runtime,
            authorizer,
            service,
            signing,
            tokens,
        }
    }

    fn messages(&self, token: impl Fn(usize) -> String) -> Vec<Vec<u8>> {
        (0..SAMPLE.min(self.tokens.len()))
            .map(|at| message(&token(at)))
            .collect()
    }
}

fn signed_context() -> SignedContext {
    let keyring = Keyring::generate(Ring::Signing, SystemClock.now(), &mut rand::rng());
    SignedContext {
        keys: Arc::new(ContextKeys::new(&keyring).unwrap().into()),
        issuer: "keystile".to_owned(),
        audience: Vec::new(),
        ttl: Duration::from_secs(60),
    }
}

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
fn message(token: &str) -> Vec<u8> {
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

fn request(token: &[u8]) -> AccessRequest<'_> {
    AccessRequest {
        rule: Rule::default(),
        credential: Credential::One(token),
        ambiguity: None,
        source: None,
        time_left: None,
    }
}

/// The decision alone.
#[divan::bench(args = [1_000, 1_000_000])]
fn decide_cached(bencher: Bencher<'_, '_>, keys: usize) {
    let world = world(keys);
    let mut at = 0;
    bencher.counter(ItemsCount::new(1_usize)).bench_local(|| {
        at = (at + 1) % world.tokens.len();
        let request = request(world.tokens[at].as_bytes());
        let decision = now_or_never(world.authorizer.authorize(&request)).unwrap();
        assert!(matches!(decision, Decision::Allow(_)));
    });
}

/// Bytes in, bytes out.
fn check(bencher: Bencher<'_, '_>, service: &CheckService, messages: &[Vec<u8>]) {
    let mut at = 0;
    bencher.counter(ItemsCount::new(1_usize)).bench_local(|| {
        at = (at + 1) % messages.len();
        now_or_never(service.check(&messages[at], None))
    });
}

#[divan::bench(args = [1_000, 1_000_000])]
fn check_cached(bencher: Bencher<'_, '_>, keys: usize) {
    let world = world(keys);
    check(
        bencher,
        &world.service,
        &world.messages(|at| world.tokens[at].clone()),
    );
}

/// The same with an Ed25519 signature over the tenant's context.
#[divan::bench(args = [1_000])]
fn check_cached_signed(bencher: Bencher<'_, '_>, keys: usize) {
    let world = world(keys);
    check(
        bencher,
        &world.signing,
        &world.messages(|at| world.tokens[at].clone()),
    );
}

#[divan::bench(args = [1_000, 1_000_000])]
fn check_malformed(bencher: Bencher<'_, '_>, keys: usize) {
    let world = world(keys);
    // One character of the checksum is wrong.
    let malformed = |at: usize| {
        let mut token = world.tokens[at].clone();
        let last = if token.pop() == Some('0') { '1' } else { '0' };
        token.push(last);
        token
    };
    check(bencher, &world.service, &world.messages(malformed));
}

/// Well-formed and unknown, asked for the second time: answered from the negative cache.
#[divan::bench(args = [1_000, 1_000_000])]
fn check_unknown(bencher: Bencher<'_, '_>, keys: usize) {
    let world = world(keys);
    let tokens: Vec<String> = (0..1_000)
        .map(|_| {
            Token::generate("ks_live", &mut rand::rng())
                .expose()
                .to_owned()
        })
        .collect();
    let messages: Vec<Vec<u8>> = tokens.iter().map(|token| message(token)).collect();
    for message in &messages {
        world.runtime.block_on(world.service.check(message, None));
    }
    check(bencher, &world.service, &messages);
}

/// Well-formed and unknown, each for the first time: one look into the embedded store.
#[divan::bench(args = [1_000, 1_000_000])]
fn check_unknown_cold(bencher: Bencher<'_, '_>, keys: usize) {
    let world = world(keys);
    bencher
        .counter(ItemsCount::new(1_usize))
        .with_inputs(|| message(Token::generate("ks_live", &mut rand::rng()).expose()))
        .bench_local_refs(|message| world.runtime.block_on(world.service.check(message, None)));
}

/// What is answered from memory never waits.
fn now_or_never<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    match future
        .as_mut()
        .poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
    {
        std::task::Poll::Ready(output) => output,
        std::task::Poll::Pending => panic!("a cached decision waited for something"),
    }
}

fn main() {
    divan::main();
}
