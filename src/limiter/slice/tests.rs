//! The lease protocol against the promise that it is for: whatever processes, clocks and the network do, no more than
//! the limit passes.

mod world;

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use world::{CLOCKS_DIFFER, Fate, LEASE_MS, STORE_BEGAN, Step, World};

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        6 => Just(Fate::Answered),
        1 => Just(Fate::AnswerLost),
        1 => Just(Fate::Lost),
        1 => (1..5_u8).prop_map(Fate::Overtaken),
    ]
}

fn off() -> impl Strategy<Value = i64> {
    -CLOCKS_DIFFER / 2..=CLOCKS_DIFFER / 2
}

/// The same, and now and then another server.
fn step_or_failover() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => step(),
        1 => off().prop_map(|off| Step::Failover { off }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let at = || 0..5_usize;
    prop_oneof![
        4 => (0..40_u64).prop_map(Step::Wait),
        6 => (100..3_500_u64).prop_map(Step::Wait),
        20 => (at(), 1..4_u64, fate()).prop_map(|(at, cost, fate)| Step::Request { at, cost, fate }),
        8 => (at(), 1..400_usize).prop_map(|(at, most)| Step::Storm { at, most }),
        4 => (at(), fate()).prop_map(|(at, fate)| Step::Fill { at, fate }),
        2 => (at(), fate()).prop_map(|(at, fate)| Step::GiveBack { at, fate }),
        1 => at().prop_map(|at| Step::Crash { at }),
        1 => (at(), off()).prop_map(|(at, off)| Step::SetClock { at, off }),
    ]
}

fn rate() -> impl Strategy<Value = Terms> {
    (
        1..200_u64,
        prop_oneof![Just(1_000_u64), Just(60_000)],
        1..300_u64,
    )
        .prop_map(|(amount, period, burst)| Terms {
            amount,
            period,
            burst,
            window: None,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn no_more_than_the_rate_passes_whatever_happens(
        terms in rate(),
        sidecars in 1..5_u64,
        steps in proptest::collection::vec(step(), 50..400),
    ) {
        let mut world = World::new(terms, sidecars);
        for step in &steps {
            world.step(step);
        }
        world.check(0);
    }

    #[test]
    fn servers_whose_clocks_differ_let_pass_what_a_second_refills_and_no_more(
        terms in rate(),
        sidecars in 1..5_u64,
        steps in proptest::collection::vec(step_or_failover(), 50..400),
    ) {
        let mut world = World::new(terms, sidecars);
        for step in &steps {
            world.step(step);
        }
        world.check(CLOCKS_DIFFER.unsigned_abs());
    }

    #[test]
    fn no_more_than_the_quota_passes_in_any_window(
        burst in 1..200_u64,
        sidecars in 1..5_u64,
        window in 1_500..6_000_i64,
        steps in proptest::collection::vec(step_or_failover(), 50..400),
    ) {
        let terms = Terms { amount: 0, period: 1, burst, window: None };
        let mut world = World { window: Some(window), ..World::new(terms, sidecars) };
        for step in &steps {
            world.step(step);
        }
        let mut windows = BTreeMap::new();
        for passed in &world.passed {
            *windows.entry(passed.window).or_insert(0) += passed.cost;
            let since = STORE_BEGAN + i64::try_from(passed.at).unwrap() - passed.window;
            let of_window = -CLOCKS_DIFFER..window + CLOCKS_DIFFER;
            prop_assert!(of_window.contains(&since), "{since} in a window of {window}");
        }
        prop_assert!(windows.values().all(|sum| *sum <= burst), "{windows:?} of {burst}");
    }

    #[test]
    fn what_is_used_stays_used_when_the_rate_changes(
        before in rate(), after in rate(), used in 1..100_u64,
    ) {
        let mut world = World::new(before, 1);
        for _ in 0..used {
            world.request(0, 1, Fate::Answered);
        }
        let used = u64::try_from(world.passed.len()).unwrap();
        world.terms = after;
        // More than what is left does not pass under the new terms, not even of a slice of the old ones.
        for _ in 0..2 * after.burst {
            world.request(0, 1, Fate::Answered);
        }
        let passed = u64::try_from(world.passed.len()).unwrap();
        prop_assert_eq!(passed - used, after.burst.saturating_sub(used));
    }
}

/// What docs/LIMITS.md promises of under-use: where nothing is lost, all of a budget can be used, by whoever wants it.
#[test]
fn nothing_is_left_unused_while_somebody_asks_for_it() {
    for sidecars in [1_usize, 3, 5] {
        let terms = Terms {
            amount: 1,
            period: 3_600_000,
            burst: 100,
            window: None,
        };
        let mut world = World::new(terms, sidecars as u64);
        for at in 0..2_000 {
            world.request(at % sidecars, 1, Fate::Answered);
        }
        // Slices that some hold while others ask are spent by their holders, who ask as well.
        assert_eq!(world.passed.len(), 100, "{sidecars} sidecars");
    }
}

#[test]
fn a_holder_that_was_away_does_not_spend_what_the_store_has_taken_back() {
    let terms = Terms {
        amount: 100,
        period: 1_000,
        burst: 100,
        window: None,
    };
    let storm = |at, most| Step::Storm { at, most };
    for away in (0..4_000).step_by(50) {
        let mut world = World::new(terms, 2);
        world.step(&storm(0, 8));
        let left = left_of(world.sidecars[0].slice(0).0.packed.load(Ordering::Relaxed));
        assert!(left > 0, "it holds some");
        // Somebody else meets the end of its lease, and comes again when that much is refilled.
        let steps = [
            Step::Wait(away),
            storm(1, 1),
            Step::Wait(200),
            storm(1, 200),
            storm(0, 200),
        ];
        for step in steps {
            world.step(&step);
        }
        world.check(0);
    }
}

#[test]
fn a_lease_that_nobody_speaks_of_again_is_taken_as_spent() {
    let terms = Terms {
        amount: 1,
        period: 3_600_000,
        burst: 100,
        window: None,
    };
    let mut world = World::new(terms, 2);
    for _ in 0..10 {
        world.request(0, 1, Fate::Answered);
        world.now += 1;
    }
    world.step(&Step::Crash { at: 0 });
    world.now += 3 * LEASE_MS;
    let held = world.buckets.borrow()[&0].held();
    for _ in 0..200 {
        world.request(1, 1, Fate::Answered);
    }
    let passed = u64::try_from(world.passed.len()).unwrap();
    // Some of what was held had been spent and not been told of.
    assert!(
        (100 - held..=100).contains(&passed),
        "{passed} with {held} held"
    );
    assert!(held <= 10, "never more than a tenth: {held}");
}
