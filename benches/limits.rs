//! Limits on a real Redis: the memory of a million of them, and what one hot tenant costs.
//!
//! `make bench-limits` takes a minute or two.
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

#[path = "world/server.rs"]
mod server;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use keystile::clock::SystemClock;
use keystile::domain::limit::{Limits, Rate};
use keystile::domain::name::TenantId;
use keystile::limiter::{Limiter, Mode, OnOutage, Settings, Subject};
use keystile::store::Store;
use keystile::store::redis::Access;
use mimalloc::MiMalloc;
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use zeroizing_alloc::ZeroAlloc;

use server::{Server, store};

#[global_allocator]
static ALLOCATOR: ZeroAlloc<MiMalloc> = ZeroAlloc(MiMalloc);

const KEYS: usize = 1_000_000;
/// How many ask at a time where Redis is asked for each key.
const SIDE_BY_SIDE: usize = 128;
const SIDECARS: usize = 2;
/// Of each sidecar.
const CHECKS_A_MS: u64 = 10;
const HOT_FOR: Duration = Duration::from_secs(10);
const STRICT_CHECKS: usize = 20_000;

fn main() {
    let runtime = Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let server = Server::start();
        memory(&server, Mode::Local, 1).await;
        memory(&server, Mode::Leased, SIDE_BY_SIDE).await;
        hot(&server, "25000/s").await;
        hot(&server, "15000/s").await;
        strict(&server).await;
    });
}

async fn limiter(server: &Server, mode: Mode) -> Arc<Limiter> {
    let store: Arc<dyn Store> = store(server.port, Access::Read).await;
    let settings = Settings {
        mode,
        on_outage: OnOutage::Local,
    };
    let limiter = Limiter::new(store, Arc::new(SystemClock), settings);
    tokio::spawn(Arc::clone(&limiter).run());
    limiter
}

fn limits(rate: &str) -> Limits {
    Limits {
        rate: Some(Rate::parse(rate).unwrap()),
        quota: None,
    }
}

/// Whether a request passes.
async fn passes(limiter: &Limiter, key: &str, tenant: &Limits, own: &Limits) -> bool {
    let id = TenantId::parse("acme").unwrap();
    let subject = Subject {
        tenant: &id,
        incarnation: 1,
        tenant_limits: tenant,
        key,
        key_limits: own,
    };
    let verdict = limiter.check(&subject, 1, None).await.unwrap();
    verdict.refused.is_none()
}

/// A request of each of a million keys, each with a rate of its own.
async fn memory(server: &Server, mode: Mode, side_by_side: usize) {
    let limiter = limiter(server, mode).await;
    let (before, begun) = (resident(), Instant::now());
    let (own, none) = (limits("10/h"), Limits::default());
    let mut tasks = JoinSet::new();
    for first in 0..side_by_side {
        let limiter = Arc::clone(&limiter);
        tasks.spawn(async move {
            for key in (first..KEYS).step_by(side_by_side) {
                let key = format!("{key:016x}");
                assert!(passes(&limiter, &key, &none, &own).await);
            }
        });
    }
    let (mut most, mut entries) = (0, 0);
    while !tasks.is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
        while let Some(ended) = tasks.try_join_next() {
            ended.unwrap();
        }
        most = most.max(resident().saturating_sub(before));
        entries = entries.max(limiter.entries());
    }
    println!(
        "{mode:?}: {KEYS} keys in {:.1} s: {entries} limits in memory at most, {:.1} MiB, {} bytes a key",
        begun.elapsed().as_secs_f64(),
        most as f64 / f64::from(1 << 20),
        most / KEYS as u64
    );
}

/// Memory of this process, in bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// One tenant, two sidecars, 20,000 checks a second in all.
async fn hot(server: &Server, rate: &str) {
    let tenant = limits(rate);
    let mut all = Vec::new();
    for _ in 0..SIDECARS {
        all.push(limiter(server, Mode::Leased).await);
    }
    let before = scripts(server).await;
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for limiter in &all {
        let limiter = Arc::clone(limiter);
        tasks.spawn(async move {
            let mut ticks = interval(Duration::from_millis(1));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let (mut checks, mut passed, mut times) = (0, 0, Vec::new());
            while begun.elapsed() < HOT_FOR {
                ticks.tick().await;
                for _ in 0..CHECKS_A_MS {
                    let asked = Instant::now();
                    let none = Limits::default();
                    passed += u64::from(passes(&limiter, "key", &tenant, &none).await);
                    checks += 1;
                    times.push(asked.elapsed());
                }
            }
            (checks, passed, times)
        });
    }
    let (mut checks, mut passed, mut times) = (0, 0, Vec::new());
    for (some, of_them, took) in tasks.join_all().await {
        checks += some;
        passed += of_them;
        times.extend(took);
    }
    let seconds = begun.elapsed().as_secs_f64();
    let calls = scripts(server).await - before;
    times.sort_unstable();
    println!(
        "a tenant of {rate}, {SIDECARS} sidecars: {:.0} checks/s, {:.0} passed/s, {:.0} Redis commands/s; {}",
        checks as f64 / seconds,
        passed as f64 / seconds,
        calls as f64 / seconds,
        tail(&times),
    );
    for limiter in &all {
        assert_eq!(limiter.counters().failed.load(Ordering::Relaxed), 0);
    }
}

async fn strict(server: &Server) {
    let limiter = limiter(server, Mode::Strict).await;
    let (tenant, own) = (limits("1000000/s"), limits("1000000/s"));
    let mut times = Vec::new();
    for _ in 0..STRICT_CHECKS {
        let asked = Instant::now();
        assert!(passes(&limiter, "key", &tenant, &own).await);
        times.push(asked.elapsed());
    }
    times.sort_unstable();
    println!("strict, tenant and key, one at a time: {}", tail(&times));
}

fn tail(times: &[Duration]) -> String {
    let at = |part: usize| times[(times.len() - 1) * part / 1000].as_secs_f64() * 1e6;
    format!(
        "a check p50 {:.1} us, p99 {:.1} us, p99.9 {:.1} us",
        at(500),
        at(990),
        at(999)
    )
}

/// How many scripts the server has run.
async fn scripts(server: &Server) -> u64 {
    let client = ::redis::Client::open(format!("redis://127.0.0.1:{}", server.port)).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut info = ::redis::cmd("INFO");
    let info: String = info
        .arg("commandstats")
        .query_async(&mut connection)
        .await
        .unwrap();
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}
