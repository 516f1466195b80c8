//! A world of sidecars that share one budget, in which time, messages and processes do as a test says.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::limiter::slice::*;
use crate::store::budgets::{self, BucketAsk, Settle, Settled};

pub(super) const LEASE_MS: u64 = 1_000;
/// The store's time at the beginning.
pub(super) const STORE_BEGAN: i64 = 1_800_000_000_000;

/// A sidecar: its slices by window, when its process began, and by how much its time of day is wrong.
pub(super) struct Sidecar {
    pub(super) name: String,
    pub(super) slices: BTreeMap<i64, (Slice, LeaseSession)>,
    pub(super) ahead: u64,
    pub(super) off: i64,
}

/// What happens to a message.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    Answered,
    /// It arrives, its answer does not.
    AnswerLost,
    Lost,
    /// It arrives after so many other messages, and nobody waits for its answer any more.
    Overtaken(u8),
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Wait(u64),
    Request {
        at: usize,
        cost: u64,
        fate: Fate,
    },
    /// Many requests, until one is refused.
    Storm {
        at: usize,
        most: usize,
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
    /// A process' time of day is set.
    SetClock {
        at: usize,
        off: i64,
    },
    /// Another server takes over, whose time of day is another.
    Failover {
        off: i64,
    },
}

/// No two clocks differ by more than this, in ms.
pub(super) const CLOCKS_DIFFER: i64 = 1_000;

pub(super) struct World {
    pub(super) terms: Terms,
    /// How long the windows of a quota are, in ms.
    pub(super) window: Option<i64>,
    /// By window.
    pub(super) buckets: RefCell<BTreeMap<i64, budgets::Bucket>>,
    /// By how much the store's time of day is wrong.
    pub(super) store_off: i64,
    /// Messages that are still on their way, by how many others overtake them.
    pub(super) on_their_way: RefCell<Vec<(u8, Settle)>>,
    pub(super) sidecars: Vec<Sidecar>,
    /// Since the beginning, in ms.
    pub(super) now: u64,
    pub(super) passed: Vec<Passed>,
}

/// A request that was let through.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passed {
    pub(super) at: u64,
    pub(super) cost: u64,
    pub(super) window: i64,
}

pub(super) fn sidecar(number: u64) -> Sidecar {
    Sidecar {
        name: format!("process{number}"),
        slices: BTreeMap::new(),
        ahead: 1 + number * 337 % 1_000,
        off: 0,
    }
}

fn slice(window: i64) -> (Slice, LeaseSession) {
    let tenant = TenantId::parse("acme").unwrap();
    let slice = Slice::new((tenant, 1), None, LimitName::TenantRate, window);
    (slice, LeaseSession::default())
}

impl Sidecar {
    pub(super) fn slice(&mut self, window: i64) -> &mut (Slice, LeaseSession) {
        self.slices.entry(window).or_insert_with(|| slice(window))
    }
}

impl World {
    pub(super) fn new(terms: Terms, sidecars: u64) -> Self {
        Self {
            terms,
            window: None,
            buckets: RefCell::default(),
            store_off: 0,
            on_their_way: RefCell::default(),
            sidecars: (0..sidecars).map(sidecar).collect(),
            now: 0,
            passed: Vec::new(),
        }
    }

    /// The limit as a sidecar would have it, by its own time of day.
    fn wanted(&self, at: usize) -> LimitDemand {
        let time = i64::try_from(self.now).unwrap() + self.sidecars[at].off;
        let window = self.window.map(|window| {
            let from = STORE_BEGAN + time.div_euclid(window) * window;
            (from, from + window)
        });
        LimitDemand {
            limit: LimitName::TenantRate,
            terms: Terms {
                window,
                ..self.terms
            },
            shadow: false,
        }
    }

    fn arrives(&self, call: &Settle) -> Settled {
        let now = STORE_BEGAN + i64::try_from(self.now).unwrap() + self.store_off;
        let window = call.buckets[0].terms.window.map_or(0, |(from, _)| from);
        let mut buckets = self.buckets.borrow_mut();
        let bucket = buckets.entry(window).or_default();
        budgets::settle(std::slice::from_mut(bucket), call, now)
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

    /// Says something of the lease of a sidecar; whether the cost was charged.
    fn report(
        &mut self,
        at: usize,
        wanted: &LimitDemand,
        cost: u64,
        request: Option<LeaseRequest>,
        fate: Fate,
    ) -> bool {
        let Some(request) = request else { return false };
        let answer = self.send(call(wanted, cost, &request), fate);
        let now = self.now + self.sidecars[at].ahead;
        let Some(Settled::Done {
            charged, buckets, ..
        }) = answer
        else {
            return false;
        };
        let reply = LeaseReply {
            request: &request,
            wanted,
            state: &buckets[0],
            cost,
        };
        let (slice, session) = self.sidecars[at].slice(window_of(wanted));
        slice.apply(session, &reply, now, now);
        charged
    }

    fn ask(&mut self, at: usize, cost: u64, fate: Fate) -> bool {
        let wanted = self.wanted(at);
        let sidecar = &mut self.sidecars[at];
        let (name, now) = (sidecar.name.clone(), self.now + sidecar.ahead);
        let (slice, session) = sidecar.slice(window_of(&wanted));
        let request = slice.ask(session, &name, &wanted.terms, cost, now);
        self.report(at, &wanted, cost, Some(request), fate)
    }

    pub(super) fn request(&mut self, at: usize, cost: u64, fate: Fate) {
        let wanted = self.wanted(at);
        let window = window_of(&wanted);
        let sidecar = &mut self.sidecars[at];
        let now = self.now + sidecar.ahead;
        let passes = match sidecar.slice(window).0.take(&wanted.terms, cost, now) {
            Acquired::Taken(_) => true,
            Acquired::Refused(_) => false,
            Acquired::Empty => self.ask(at, cost, fate),
        };
        if passes {
            self.passed.push(Passed {
                at: self.now,
                cost,
                window,
            });
        }
    }

    fn give_back(&mut self, at: usize, fate: Fate) {
        let wanted = self.wanted(at);
        let sidecar = &mut self.sidecars[at];
        let (name, now) = (sidecar.name.clone(), self.now + sidecar.ahead);
        let (slice, session) = sidecar.slice(window_of(&wanted));
        let request = slice.give_back(session, &name, now);
        self.report(at, &wanted, 0, request, fate);
    }

    pub(super) fn step(&mut self, step: &Step) {
        let count = self.sidecars.len();
        match *step {
            Step::Wait(millis) => self.now += millis,
            Step::Request { at, cost, fate } => self.request(at % count, cost, fate),
            Step::Storm { at, most } => {
                let before = self.passed.len();
                for sent in 0..most {
                    self.request(at % count, 1, Fate::Answered);
                    if self.passed.len() - before <= sent {
                        break;
                    }
                }
            }
            Step::Fill { at, fate } => drop(self.ask(at % count, 0, fate)),
            Step::GiveBack { at, fate } => self.give_back(at % count, fate),
            Step::Crash { at } => {
                let number = u64::try_from(self.passed.len()).unwrap() + self.now + 100;
                self.sidecars[at % count] = Sidecar {
                    name: format!("process{number}.{at}"),
                    ..sidecar(number)
                };
            }
            Step::SetClock { at, off } => self.sidecars[at % count].off = off,
            Step::Failover { off } => self.store_off = off,
        }
    }

    /// A bucket that is charged with what has passed, when it passed, never overflows: over every span of time, no
    /// more than burst + rate x time, and what a server whose clock is ahead takes for time.
    pub(super) fn check(&self, clock_differs: u64) {
        let (mut level, mut before) = (0_u64, 0);
        for (count, Passed { at, cost, .. }) in self.passed.iter().enumerate() {
            level =
                level.saturating_sub(self.terms.amount * (at - before)) + cost * self.terms.period;
            before = *at;
            let most = self.terms.burst * self.terms.period + self.terms.amount * clock_differs;
            assert!(
                level <= most,
                "{level} > {most} at {at} with request {count}"
            );
        }
    }
}

fn window_of(wanted: &LimitDemand) -> i64 {
    wanted.terms.window.map_or(0, |(from, _)| from)
}

fn call(wanted: &LimitDemand, cost: u64, request: &LeaseRequest) -> Settle {
    Settle {
        incarnation: 1,
        key: None,
        cost,
        lease_ms: LEASE_MS,
        buckets: vec![BucketAsk {
            limit: wanted.limit,
            terms: wanted.terms,
            shadow: false,
            debt: 0,
            lease: Some(request.ask.clone()),
        }],
    }
}
