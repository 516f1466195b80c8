//! What can happen, in which order.

use proptest::collection::vec;
use proptest::prelude::*;

pub(crate) use super::cluster::Part;

pub(crate) const CONTROL_PLANES: usize = 2;
pub(crate) const SIDECARS: usize = 3;

/// What a control plane is asked to do to the key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    Revoke {
        wait: bool,
    },
    Narrow,
    Rotate,
    Renew,
    /// An update that changes nothing.
    Same,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// A control plane that has nothing to do begins a change.
    Begin(usize, Change),
    /// It takes so many steps.
    Step(usize, usize),
    /// It does all that is left to do.
    Finish(usize),
    /// It dies, and is started again.
    Crash(usize),
    /// The outbox worker comes by.
    Heal,
    /// A sidecar checks a request with each token.
    Check(usize),
    /// The same, and it has to ask the store for all of them.
    Reload(usize),
    /// It begins with nothing in memory.
    Restart(usize),
    /// A shard falls back by so many changes.
    FallBack(Part, usize),
    /// Each of them does: all that is stored is as it was before.
    FallBackAll(usize),
    /// Time goes on, in ms.
    Wait(u64),
}

/// How far the clock of the second control plane is behind, in ms.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    pub(crate) behind: u64,
    pub(crate) events: Vec<Event>,
    /// After the key is revoked for good: of these, no index shard falls back.
    pub(crate) after: Vec<Event>,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => any::<bool>().prop_map(|wait| Change::Revoke { wait }),
        3 => Just(Change::Narrow),
        3 => Just(Change::Rotate),
        1 => Just(Change::Renew),
        1 => Just(Change::Same),
    ]
}

fn event(parts: Vec<Part>) -> impl Strategy<Value = Event> {
    let control = 0..CONTROL_PLANES;
    let sidecar = 0..SIDECARS;
    let part = proptest::sample::select(parts);
    prop_oneof![
        6 => (control.clone(), change()).prop_map(|(at, change)| Event::Begin(at, change)),
        5 => (control.clone(), 1..10_usize).prop_map(|(at, steps)| Event::Step(at, steps)),
        4 => control.clone().prop_map(Event::Finish),
        1 => control.prop_map(Event::Crash),
        1 => Just(Event::Heal),
        2 => sidecar.clone().prop_map(Event::Check),
        3 => sidecar.clone().prop_map(Event::Reload),
        1 => sidecar.prop_map(Event::Restart),
        5 => (part, 1..8_usize).prop_map(|(part, changes)| Event::FallBack(part, changes)),
        1 => prop_oneof![Just(0), Just(1), Just(60_000)].prop_map(Event::Wait),
    ]
}

pub(crate) fn schedule() -> impl Strategy<Value = Schedule> {
    let behind = prop_oneof![Just(0), Just(5), Just(3_600_000)];
    let events = prop_oneof![
        28 => event(Part::ALL.to_vec()),
        2 => (1..8_usize).prop_map(Event::FallBackAll),
    ];
    let events = vec(events, 0..20);
    let after = vec(event(vec![Part::Tenant]), 0..8);
    (behind, events, after).prop_map(|(behind, events, after)| Schedule {
        behind,
        events,
        after,
    })
}
