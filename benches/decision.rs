//! The decision path: what one Check costs, without the network.
//!
//! `check` is everything between the bytes of a CheckRequest and the bytes of its answer; `decide` is the decision
//! alone. Each with 1,000 keys in 10 tenants and 1,000,000 keys in 10,000 tenants, all cached, asked in random order.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a bench fails by panicking"
)]

mod world;

use std::num::NonZeroU64;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use divan::{Bencher, counter::ItemsCount};
use keystile::authorizer::{Authorizer, Decision};
use keystile::clock::{Clock, SystemClock};
use keystile::crypto::keyring::{Keyring, Ring};
use keystile::crypto::signing::ContextKeys;
use keystile::crypto::token::Token;
use keystile::domain::request::{AccessRequest, Charge, Credential, Rule};
use keystile::ext_authz::signed::SignedContext;
use keystile::ext_authz::{CheckService, Settings};
use keystile::limiter::gcra::{Cells, Pace};
use keystile::telemetry::metrics::Metrics;
use mimalloc::MiMalloc;
use tokio::runtime::Runtime;
use world::{loaded, message};
use zeroizing_alloc::ZeroAlloc;

#[global_allocator]
static ALLOCATOR: divan::AllocProfiler<ZeroAlloc<MiMalloc>> =
    divan::AllocProfiler::new(ZeroAlloc(MiMalloc));

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

static SMALL: LazyLock<World> = LazyLock::new(|| World::new(10, ""));
static LARGE: LazyLock<World> = LazyLock::new(|| World::new(10_000, ""));
/// A rate that nobody reaches: each tenant's is counted, in slices.
static LIMITED: LazyLock<World> = LazyLock::new(|| World::new(10, ", rate: 1000000000/s"));

fn world(keys: usize) -> &'static World {
    if keys == 1_000 { &SMALL } else { &LARGE }
}

impl World {
    fn new(tenants: usize, limits: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap();
        let (_, parts, tokens) = runtime.block_on(loaded("127.0.0.1:9001", tenants, limits));
        let authorizer = parts.authorizer;
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
    let keys = ContextKeys::new(&keyring).unwrap();
    SignedContext {
        keys: Arc::new(ArcSwap::from_pointee(keys)),
        issuer: "keystile".to_owned(),
        audience: Vec::new(),
        ttl: Duration::from_secs(60),
        key_ref: false,
    }
}

fn request(token: &[u8]) -> AccessRequest<'_> {
    AccessRequest {
        rule: Rule::default(),
        credential: Credential::One(token),
        shadow: None,
        ambiguity: None,
        source: None,
        caller: None,
        time_left: None,
        charge: Charge::Cost,
        proven: None,
    }
}

/// The decision alone.
#[divan::bench(args = [1_000, 1_000_000])]
fn decide_cached(bencher: Bencher<'_, '_>, keys: usize) {
    decide(bencher, world(keys));
}

fn decide(bencher: Bencher<'_, '_>, world: &World) {
    let _context = world.runtime.enter();
    let mut at = 0;
    bencher.counter(ItemsCount::new(1_usize)).bench_local(|| {
        at = (at + 1) % world.tokens.len();
        let request = request(world.tokens[at].as_bytes());
        let decision = now_or_never(world.authorizer.authorize(&request)).unwrap();
        assert!(matches!(decision, Decision::Allow(_)));
    });
}

/// The decision alone, held against a rate.
#[divan::bench(args = [1_000])]
fn decide_cached_limited(bencher: Bencher<'_, '_>, _keys: usize) {
    decide(bencher, &LIMITED);
}

/// One bucket's decision in memory, by its hash; the buckets are asked in no order.
#[divan::bench(args = [1, 1_000, 1_000_000])]
fn gcra(bencher: Bencher<'_, '_>, buckets: u64) {
    let cells = Cells::new(2_000_000);
    let pace = Pace {
        interval: NonZeroU64::MIN,
        burst: 1_000_000_000,
    };
    let hash = |at: u64| {
        (at % buckets)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(17)
    };
    for at in 0..buckets {
        cells.with(hash(at), 1, pace, |_| ());
    }
    let mut at = 0_u64;
    bencher.counter(ItemsCount::new(1_usize)).bench_local(|| {
        at = at.wrapping_add(7_919);
        cells.with(hash(at), at, pace, |cell| cell.take(at, pace, 1))
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

/// The same held against a rate of its tenant, and told how that stands.
#[divan::bench(args = [1_000])]
fn check_cached_limited(bencher: Bencher<'_, '_>, _keys: usize) {
    let world = &LIMITED;
    // What is asked of the store now and then has a deadline.
    let _context = world.runtime.enter();
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
