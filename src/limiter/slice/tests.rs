//! The lease protocol against the promise that it is for: whatever processes, clocks and the network do, no more than
//! the limit passes.

use std::cell::RefCell;
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::store::budgets::{self, BucketAsk, Settle, Settled};

const LEASE_MS: u64 = 1_000;
/// The store's time at the beginning.
const STORE_BEGAN: i64 = 1_800_000_000_000;

/// A sidecar: a slice, and a clock that began at some other time.
struct Sidecar {
    name: String,
    slice: Slice,
    talk: Talk,
    ahead: u64,
}

/// What happens to a message.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Answered,
    /// It arrives, its answer does not.
    AnswerLost,
    Lost,
    /// It arrives after so many other messages, and nobody waits for its answer any more.
    Overtaken(u8),
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Request {
        at: usize,
        cost: u64,
        fate: Fate,
    },
    /// A slice is filled ahead of need.
    Fill {
        at: usize,
        fate: Fate,
    },
    GiveBack {
        at: usize,
        fate: Fate,
    },
    /// A process ends without a word and another begins.
    Crash {
        at: usize,
    },
}

struct World {
    terms: Terms,
    bucket: RefCell<budgets::Bucket>,
    /// Messages that are still on their way, by how many others overtake them.
    on_their_way: RefCell<Vec<(u8, Settle)>>,
    sidecars: Vec<Sidecar>,
    /// Since the beginning, in ms.
    now: u64,
    /// When requests were let through, and of which cost.
    passed: Vec<(u64, u64)>,
}

fn sidecar(number: u64) -> Sidecar {
    let tenant = TenantId::parse("acme").unwrap();
    Sidecar {
        name: format!("process{number}"),
        slice: Slice::new(tenant, None, LimitName::TenantRate, 0),
        talk: Talk::default(),
        ahead: 1 + number * 337 % 1_000,
    }
}

impl World {
    fn new(terms: Terms, sidecars: u64) -> Self {
        Self {
            terms,
            bucket: RefCell::default(),
            on_their_way: RefCell::default(),
            sidecars: (0..sidecars).map(sidecar).collect(),
            now: 0,
            passed: Vec::new(),
        }
    }

    fn wanted(&self) -> Wanted {
        Wanted {
            limit: LimitName::TenantRate,
            terms: self.terms,
            shadow: false,
        }
    }

    fn arrives(&self, call: &Settle) -> Settled {
        let now = STORE_BEGAN + i64::try_from(self.now).unwrap();
        let mut bucket = [self.bucket.take()];
        let settled = budgets::settle(&mut bucket, call, now);
        let [bucket] = bucket;
        self.bucket.replace(bucket);
        settled
    }

    /// Sends a message; the answer, if there is one.
    fn send(&self, call: Settle, fate: Fate) -> Option<Settled> {
        let mut due = Vec::new();
        self.on_their_way.borrow_mut().retain_mut(|(others, late)| {
            *others = others.saturating_sub(1);
            if *others == 0 {
                due.push(late.clone());
            }
            *others > 0
        });
        for late in due {
            self.arrives(&late);
        }
        match fate {
            Fate::Answered => Some(self.arrives(&call)),
            Fate::AnswerLost => {
                self.arrives(&call);
                None
            }
            Fate::Lost => None,
            Fate::Overtaken(others) => {
                self.on_their_way.borrow_mut().push((others, call));
                None
            }
        }
    }

    fn call(&self, cost: u64, said: &Said) -> Settle {
        Settle {
            key: None,
            cost,
            lease_ms: LEASE_MS,
            buckets: vec![BucketAsk {
                limit: LimitName::TenantRate,
                terms: self.terms,
                shadow: false,
                debt: 0,
                lease: Some(said.ask.clone()),
            }],
        }
    }

    /// Says something of the lease of a sidecar; whether the cost was charged.
    fn tell(&mut self, at: usize, cost: u64, said: Option<Said>, fate: Fate) -> bool {
        let Some(said) = said else { return false };
        let call = self.call(cost, &said);
        let answer = self.send(call, fate);
        let (wanted, now) = (self.wanted(), self.now);
        let sidecar = &mut self.sidecars[at];
        let now = now + sidecar.ahead;
        let Some(Settled::Done {
            charged, buckets, ..
        }) = answer
        else {
            return false;
        };
        let heard = Heard {
            said: &said,
            wanted: &wanted,
            state: &buckets[0],
            cost,
        };
        sidecar.slice.apply(&mut sidecar.talk, &heard, now, now);
        charged
    }

    fn ask(&mut self, at: usize, cost: u64, fate: Fate) -> bool {
        let (terms, now) = (self.terms, self.now);
        let Sidecar {
            name,
            slice,
            talk,
            ahead,
        } = &mut self.sidecars[at];
        let said = slice.ask(talk, name, &terms, cost, now + *ahead);
        self.tell(at, cost, Some(said), fate)
    }

    fn request(&mut self, at: usize, cost: u64, fate: Fate) {
        let sidecar = &self.sidecars[at];
        let passes = match sidecar
            .slice
            .take(&self.terms, cost, self.now + sidecar.ahead)
        {
            Take::Taken(_) => true,
            Take::Refused(_) => false,
            Take::Dry => self.ask(at, cost, fate),
        };
        if passes {
            self.passed.push((self.now, cost));
        }
    }

    fn step(&mut self, step: &Step) {
        let count = self.sidecars.len();
        match *step {
            Step::Wait(millis) => self.now += millis,
            Step::Request { at, cost, fate } => self.request(at % count, cost, fate),
            Step::Fill { at, fate } => drop(self.ask(at % count, 0, fate)),
            Step::GiveBack { at, fate } => {
                let now = self.now;
                let Sidecar {
                    name,
                    slice,
                    talk,
                    ahead,
                } = &mut self.sidecars[at % count];
                let said = slice.give_back(talk, name, now + *ahead);
                self.tell(at % count, 0, said, fate);
            }
            Step::Crash { at } => {
                let number = u64::try_from(self.passed.len()).unwrap() + self.now + 100;
                self.sidecars[at % count] = Sidecar {
                    name: format!("process{number}.{at}"),
                    ..sidecar(number)
                };
            }
        }
    }

    /// A bucket that is charged with what has passed, when it passed, never overflows: over every span of time, no
    /// more than burst + rate x time.
    fn check(&self) {
        let (mut level, mut at) = (0_u64, 0);
        for (time, cost) in &self.passed {
            level =
                level.saturating_sub(self.terms.amount * (time - at)) + cost * self.terms.period;
            at = *time;
            let most = self.terms.burst * self.terms.period;
            assert!(
                level <= most,
                "{level} > {most} at {time}: {:?}",
                self.passed
            );
        }
    }
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        6 => Just(Fate::Answered),
        1 => Just(Fate::AnswerLost),
        1 => Just(Fate::Lost),
        1 => (1..5_u8).prop_map(Fate::Overtaken),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let at = || 0..5_usize;
    prop_oneof![
        4 => (0..40_u64).prop_map(Step::Wait),
        1 => (100..2_500_u64).prop_map(Step::Wait),
        20 => (at(), 1..4_u64, fate()).prop_map(|(at, cost, fate)| Step::Request { at, cost, fate }),
        4 => (at(), fate()).prop_map(|(at, fate)| Step::Fill { at, fate }),
        2 => (at(), fate()).prop_map(|(at, fate)| Step::GiveBack { at, fate }),
        1 => at().prop_map(|at| Step::Crash { at }),
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
        world.check();
    }

    #[test]
    fn no_more_than_the_quota_passes_in_its_window(
        burst in 1..200_u64,
        sidecars in 1..5_u64,
        steps in proptest::collection::vec(step(), 50..400),
    ) {
        // The window ends while things happen.
        let until = STORE_BEGAN + 5_000;
        let terms = Terms { amount: 0, period: 1, burst, window: Some((STORE_BEGAN, until)) };
        let mut world = World::new(terms, sidecars);
        for step in &steps {
            world.step(step);
        }
        let inside = world.passed.iter().map(|(_, cost)| cost);
        prop_assert!(inside.sum::<u64>() <= burst);
        let late = world.passed.iter().filter(|(at, _)| *at >= 5_000);
        prop_assert_eq!(late.count(), 0, "of a window that has ended");
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
    let before: BTreeMap<_, _> = world.bucket.borrow().leases.clone();
    let held: u64 = before
        .values()
        .map(|lease| lease.granted - lease.spent)
        .sum();
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
