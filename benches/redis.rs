//! The store on a real Redis: loading 10,000 tenants with 10 keys each, what a key costs there, and a Check of a key
//! that is not in memory.
//!
//! `make bench-redis` takes a minute; `-- 1000` loads 1,000 tenants.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a bench fails by panicking"
)]
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench is a program of its own"
)]

#[path = "world/fill.rs"]
mod fill;
#[path = "world/server.rs"]
mod server;

use std::sync::Arc;
use std::time::{Duration, Instant};

use keystile::authorizer::Authorizer;
use keystile::cache::{self, Cache};
use keystile::clock::{Clock as _, SystemClock};
use keystile::crypto::keyring::{Keyring, Ring};
use keystile::crypto::token::TokenPrefixes;
use keystile::domain::block::Presenter;
use keystile::registry::{self, Registry};
use keystile::store::Store;
use keystile::store::redis::Access;
use mimalloc::MiMalloc;
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use zeroizing_alloc::ZeroAlloc;

use server::{Server, store};

#[global_allocator]
static ALLOCATOR: ZeroAlloc<MiMalloc> = ZeroAlloc(MiMalloc);

const KEYS_EACH: usize = 10;
/// How many cold lookups are timed.
const LOOKUPS: usize = 20_000;
/// How many are under way at a time in the second round.
const SIDE_BY_SIDE: usize = 32;

fn main() {
    let tenants = std::env::args().find_map(|arg| arg.parse().ok());
    let runtime = Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(measure(tenants.unwrap_or(10_000)));
}

async fn measure(tenants: usize) {
    let server = Server::start();
    let (now, mut rng) = (SystemClock.now(), rand::rng());
    let data = Arc::new(Keyring::generate(Ring::Data, now, &mut rng));
    let vault = Arc::new(Keyring::generate(Ring::Vault, now, &mut rng));
    let lookup = Arc::new(data.lookup_key().unwrap());
    let registry = Registry::new(
        store(server.port, Access::Write).await,
        Arc::clone(&data),
        Some(vault),
        Arc::clone(&lookup),
        Arc::new(SystemClock),
        registry::Settings::default(),
    );
    let empty = used_memory(&server).await;
    let begun = Instant::now();
    let tokens = fill::fill(&registry, tenants, KEYS_EACH).await;
    let took = begun.elapsed();
    let bytes = (used_memory(&server).await - empty) / tokens.len() as u64;
    println!(
        "{} keys in {tenants} tenants: loaded in {:.1} s, {bytes} bytes of Redis memory a key, all of a tenant included",
        tokens.len(),
        took.as_secs_f64()
    );

    let store: Arc<dyn Store> = store(server.port, Access::Read).await;
    let authorizer = move || {
        let cache = Cache::new(
            Arc::<dyn Store>::clone(&store),
            Arc::clone(&data),
            Default::default(),
            cache::Settings::default(),
        );
        let clock = Arc::new(SystemClock);
        let patience = Duration::from_secs(1);
        let lookup = Arc::clone(&lookup);
        Arc::new(Authorizer::new(
            cache,
            lookup,
            TokenPrefixes::default(),
            clock,
            patience,
        ))
    };
    let tokens: Arc<Vec<String>> = Arc::new(tokens);
    let count = LOOKUPS.min(tokens.len());
    let alone = look_up(&authorizer(), &tokens, 0, 1, count).await;
    show("one at a time", alone);
    let shared = authorizer();
    let mut tasks = JoinSet::new();
    for first in 0..SIDE_BY_SIDE {
        let (shared, tokens) = (Arc::clone(&shared), Arc::clone(&tokens));
        tasks.spawn(async move { look_up(&shared, &tokens, first, SIDE_BY_SIDE, count).await });
    }
    let all = tasks.join_all().await.into_iter().flatten().collect();
    show(&format!("{SIDE_BY_SIDE} at a time"), all);
}

async fn look_up(
    authorizer: &Authorizer,
    tokens: &[String],
    first: usize,
    step: usize,
    count: usize,
) -> Vec<Duration> {
    let mut times = Vec::new();
    for token in tokens[..count].iter().skip(first).step_by(step) {
        let begun = Instant::now();
        let found = authorizer
            .authenticate(token.as_bytes(), Presenter::Recognised(None))
            .await;
        times.push(begun.elapsed());
        assert!(found.unwrap().is_ok(), "every key is valid");
    }
    times
}

fn show(how: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |part: usize| times[(times.len() - 1) * part / 1000].as_micros();
    println!(
        "{} keys that are not in memory, {how}: p50 {} us, p99 {} us, p99.9 {} us",
        times.len(),
        at(500),
        at(990),
        at(999)
    );
}

async fn used_memory(server: &Server) -> u64 {
    let client = ::redis::Client::open(format!("redis://127.0.0.1:{}", server.port)).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut info = ::redis::cmd("INFO");
    let info: String = info
        .arg("memory")
        .query_async(&mut connection)
        .await
        .unwrap();
    let used = info
        .lines()
        .find_map(|line| line.strip_prefix("used_memory:"));
    used.unwrap().trim().parse().unwrap()
}
