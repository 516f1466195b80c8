//! The script in Redis against the arithmetic that is proven: the same calls, the same answers.

use std::time::Duration;

use keystile::domain::limit::{LimitName, Period, QUOTA_MAX, RATE_MAX};
use keystile::domain::name::TenantId;
use keystile::store::BudgetStore;
use keystile::store::budgets::{self, Bucket, BucketAsk, LeaseAsk, Settle, Settled, Terms};
use rand::rngs::StdRng;
use rand::{Rng, RngExt as _, SeedableRng as _};

use super::prefix;
use crate::harness::pass;
use crate::harness::redis::RedisServer;
use crate::store_contract::redis_address;

const CALLS: usize = 3_000;
const LIMITS: [LimitName; 3] = [
    LimitName::TenantRate,
    LimitName::TenantDay,
    LimitName::KeyRate,
];

/// Small ones that are soon used up, and now and then the largest that there are.
fn terms(limit: LimitName, rng: &mut StdRng) -> Terms {
    let most = [60, 600, RATE_MAX][rng.random_range(0..3)];
    if limit == LimitName::TenantDay {
        return Terms {
            amount: 0,
            period: 1,
            burst: rng.random_range(1..=QUOTA_MAX.min(most * 1_000)),
            window: Some((0, i64::from(u32::MAX) * 1_000)),
        };
    }
    Terms {
        amount: rng.random_range(1..=most.min(50)),
        period: Period::ALL[rng.random_range(0..3)].millis(),
        burst: rng.random_range(1..=most),
        window: None,
    }
}

/// Mostly in order; now and then of a message that was overtaken.
fn ask(limit: LimitName, terms: Terms, at: usize, rng: &mut StdRng) -> BucketAsk {
    let (at, most) = (at as u64, [20, 2_000][rng.random_range(0..2)]);
    let lease = rng.random_bool(0.7).then(|| LeaseAsk {
        holder: format!("p{}.{}", rng.random_range(0..3), at / 400),
        sequence: (1 + at).saturating_sub(rng.random_range(0..3)),
        spent: rng.random_range(0..=at % 400),
        target: rng.random_range(0..most),
    });
    BucketAsk {
        limit,
        terms,
        shadow: rng.random_bool(0.2),
        debt: if rng.random_bool(0.05) { 3 } else { 0 },
        lease,
    }
}

#[tokio::test]
async fn the_script_in_redis_answers_as_the_arithmetic_does() {
    let server = RedisServer::start();
    let settings = keystile::store::redis::Settings {
        prefix: prefix(),
        ..keystile::store::redis::Settings::standalone(redis_address(server.port()))
    };
    let store =
        keystile::store::redis::RedisStore::new(settings, keystile::store::redis::Access::Read);
    store.connect().await.unwrap();
    let tenant = TenantId::parse("acme").unwrap();
    let seed: u64 = rand::rng().next_u64();
    let mut rng = StdRng::seed_from_u64(seed);
    let mut buckets = vec![Bucket::default(); LIMITS.len()];
    let mut all: Vec<Terms> = LIMITS.map(|limit| terms(limit, &mut rng)).to_vec();
    let (mut charged_some, mut ended, mut reached) = (0, 0, 0);
    for at in 0..CALLS {
        if at % 1_000 == 500 {
            ended += buckets
                .iter()
                .map(Bucket::held)
                .filter(|held| *held > 0)
                .count();
            let longer = Duration::from_millis(1_100);
            pass(longer, "longer than any lease, by the clock of Redis").await;
        }
        if rng.random_bool(0.02) {
            let changed = rng.random_range(0..LIMITS.len());
            all[changed] = terms(LIMITS[changed], &mut rng);
        }
        // A quota that is lowered below what is used, and raised again.
        all[1].burst = match at % 600 {
            300 => 5,
            450 => QUOTA_MAX,
            _ => all[1].burst,
        };
        let mut asks = Vec::new();
        for (limit, terms) in LIMITS.iter().zip(&all) {
            asks.push(ask(*limit, *terms, at, &mut rng));
        }
        let call = Settle {
            incarnation: 1,
            key: Some("thekey".to_owned()),
            cost: rng.random_range(0..4),
            lease_ms: rng.random_range(0..40),
            buckets: asks,
        };
        let answer = store.settle(&tenant, &call).await.unwrap();
        let Settled::Done {
            now,
            charged,
            buckets: states,
        } = &answer
        else {
            panic!("{answer:?}");
        };
        charged_some += usize::from(*charged);
        reached += states.iter().filter(|state| state.reached > 0).count();
        let expected = budgets::settle(&mut buckets, &call, *now);
        assert_eq!(answer, expected, "seed {seed}, call {at}: {call:?}");
    }
    assert!(charged_some > 100, "seed {seed}: {charged_some}");
    assert!(ended > 0 && reached > 0, "seed {seed}: {ended} {reached}");
}

#[tokio::test]
async fn another_window_is_told_and_a_bucket_that_cannot_be_read_is_begun_anew() {
    let server = RedisServer::start();
    let settings = keystile::store::redis::Settings::standalone(redis_address(server.port()));
    let store =
        keystile::store::redis::RedisStore::new(settings, keystile::store::redis::Access::Read);
    store.connect().await.unwrap();
    let tenant = TenantId::parse("acme").unwrap();
    let call = |window: Option<(i64, i64)>, limit| Settle {
        incarnation: 1,
        key: None,
        cost: 1,
        lease_ms: 10,
        buckets: vec![BucketAsk {
            limit,
            terms: Terms {
                amount: u64::from(window.is_none()),
                period: 1,
                burst: 5,
                window,
            },
            shadow: false,
            debt: 0,
            lease: None,
        }],
    };
    let past = call(Some((0, 1_000)), LimitName::TenantDay);
    let answer = store.settle(&tenant, &past).await.unwrap();
    assert!(matches!(answer, Settled::OtherWindow { now } if now > 1_700_000_000_000));
    let rate = call(None, LimitName::TenantRate);
    store.settle(&tenant, &rate).await.unwrap();
    server.cli(&["HSET", "ks:n:{acme}:rl:t:1", "l", "much"]);
    let answer = store.settle(&tenant, &rate).await.unwrap();
    let Settled::Done { buckets, .. } = &answer else {
        panic!("{answer:?}");
    };
    assert_eq!(buckets[0].available, 4, "of five, this one taken");
}
