//! That a revocation wins on a real Redis whose shards fall back: schedules of the model (`model`), with the registry,
//! the store, its scripts and the caches as they are in production.
//!
//! Commands of a control plane pass one by one, so that a shard can fall back, another control plane can act, or the
//! control plane can die between any two. `KEYSTILE_FALL_BACKS` says how many schedules are tried, `KEYSTILE_MODEL_SEED`
//! which.

mod gate;
mod shards;
mod world;

use std::sync::atomic::{AtomicU32, Ordering};

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use tokio::sync::Mutex;

use crate::model::{number_from, schedule};
use world::{Place, World};

const SCHEDULES: u32 = 60;
/// How many shorter ones are tried of a schedule that is wrong.
const SHORTER: u32 = 200;

#[test]
#[expect(clippy::print_stdout, reason = "who sees it fail tries the same again")]
fn an_acknowledged_revocation_holds_on_a_redis_whose_shards_fall_back() {
    let schedules = number_from("KEYSTILE_FALL_BACKS", SCHEDULES);
    let seed = number_from("KEYSTILE_MODEL_SEED", rand::random::<u64>());
    println!("{schedules} schedules, KEYSTILE_MODEL_SEED={seed}");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .unwrap();
    let place = Mutex::new(runtime.block_on(Place::new()));
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    let config = Config {
        cases: schedules,
        failure_persistence: None,
        max_shrink_iters: SHORTER,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let number = AtomicU32::new(0);
    let tried = TestRunner::new_with_rng(config, rng).run(&schedule::schedule(), |schedule| {
        let number = number.fetch_add(1, Ordering::Relaxed);
        let run = runtime.block_on(async {
            let mut place = place.lock().await;
            let world = World::new(&mut place, number, schedule.behind).await;
            world.run(&schedule).await
        });
        run.map_err(TestCaseError::fail)
    });
    match tried {
        Ok(()) => {}
        Err(TestError::Fail(why, schedule)) => {
            panic!("KEYSTILE_MODEL_SEED={seed} finds {why}: {schedule:#?}")
        }
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
}
