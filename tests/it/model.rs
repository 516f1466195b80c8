//! That a revocation wins, whatever happened before: a model of two control planes and three sidecars over a store whose
//! shards may at any time fall back to any state that they ever had, while control planes die at any step.
//!
//! The registry, the records and the cache are the real ones, the store decides by the real rule (`IndexRow::succeeds`) and
//! takes the steps of the store on Redis. That the scripts there decide by the same rule is held by the contract suite.
//!
//! - After a revocation was acknowledged, no sidecar lets any token of the key pass once it has asked again: not after
//!   later changes, nor after the tenant's shard has fallen back.
//! - A sidecar that has confirmed one lets none pass, whatever falls back.
//! - A key can always be revoked, and a change that is acknowledged is in force everywhere: a later change of something
//!   else, which has read an earlier state, does not undo it.
//!
//! `KEYSTILE_MODEL_SCHEDULES` says how many schedules are tried, `KEYSTILE_MODEL_SEED` which.

pub(crate) mod change;
mod cluster;
mod repair;
pub(crate) mod schedule;
mod slots;
mod world;

use std::cell::Cell;
use std::thread;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

const SCHEDULES: u32 = 10_000;

pub(crate) fn number_from<T: std::str::FromStr>(variable: &str, otherwise: T) -> T {
    let text = std::env::var(variable).ok();
    text.map_or(otherwise, |text| text.parse().ok().expect("a number"))
}

/// Tries schedules; answers the first that is wrong, as short as it could be made.
fn try_schedules(schedules: u32, seed: [u8; 32]) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_time().build().unwrap();
    let _context = runtime.enter();
    let config = Config {
        cases: schedules,
        failure_persistence: None,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let (held, is_over) = (Cell::new(0), Cell::new(false));
    let tried = runner.run(&schedule::schedule(), |schedule| {
        let run = world::run(&schedule);
        // What comes after the first that is wrong are shorter ones.
        is_over.set(is_over.get() || run.is_err());
        held.set(held.get() + u32::from(!is_over.get()));
        run.map_err(TestCaseError::fail)
    });
    tried.map_err(|error| match error {
        TestError::Fail(why, schedule) => {
            format!("after {} schedules: {why}: {schedule:#?}", held.get())
        }
        TestError::Abort(why) => why.to_string(),
    })
}

#[test]
#[expect(clippy::print_stdout, reason = "who sees it fail tries the same again")]
fn an_acknowledged_revocation_holds_whatever_the_store_falls_back_to() {
    let schedules = number_from("KEYSTILE_MODEL_SCHEDULES", SCHEDULES);
    let seed = number_from("KEYSTILE_MODEL_SEED", rand::random::<u64>());
    println!("{schedules} schedules, KEYSTILE_MODEL_SEED={seed}");
    let threads = thread::available_parallelism().map_or(1, |count| count.get().min(8));
    let per_thread = schedules.div_ceil(u32::try_from(threads).unwrap());
    thread::scope(|scope| {
        let started: Vec<_> = (0..threads as u64)
            .map(|thread| {
                let mut bytes = [0; 32];
                bytes[..8].copy_from_slice(&seed.to_be_bytes());
                bytes[8..16].copy_from_slice(&thread.to_be_bytes());
                scope.spawn(move || try_schedules(per_thread, bytes))
            })
            .collect();
        for tried in started {
            if let Err(wrong) = tried.join().unwrap() {
                panic!("KEYSTILE_MODEL_SEED={seed} finds {wrong}");
            }
        }
    });
}
