//! Who may be connected to a listener, on whichever of its addresses.
//!
//! While there is room, everybody. When all places are taken, those give way who ask nothing: first connections on
//! which nothing was ever answered, then idle ones, then the newest of the peer that holds most, if that is much more
//! than whoever comes. Else whoever comes is refused at once, so that a proxy can go by its own policy for errors.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock as _, SteadyClock};
use crate::domain::block::Source;
use crate::server::bounds::Bounds;
use crate::server::budget::Budget;
use crate::server::connection::activity::{Activity, Ending};
use crate::server::descriptors::Descriptors;
use crate::telemetry::Throttle;
use crate::telemetry::metrics::Metrics;

/// An honest peer asks at once; younger connections are not judged.
const GRACE: Duration = Duration::from_millis(if cfg!(test) { 0 } else { 1_000 });
/// One place in so many is kept for peers that have been served before.
const KEPT_SHARE: usize = 8;
/// A peer that holds no more than one place in so many, or than so few, gives none of them away while it uses them.
const FAIR_SHARE: usize = 64;
const FAIR_LEAST: usize = 4;
/// How many peers are remembered to have been served.
const REMEMBERED_MAX: usize = 4096;
/// After nobody gave way, nobody is looked for again for so long.
const LOOK_AGAIN: Duration = Duration::from_millis(if cfg!(test) { 0 } else { 100 });

/// Values of a metric with their labels.
type Readings = Vec<(Vec<KeyValue>, u64)>;

/// Who connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Peer {
    /// By an address, or the /64 of one.
    Net(Source),
    /// By a Unix socket, which its mode guards.
    Local,
}

impl Peer {
    pub(super) fn at(address: IpAddr) -> Self {
        Self::Net(Source::of(address))
    }
}

/// Why a connection was not taken or did not stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Full,
    Descriptors,
    NoRequest,
    Idle,
    Unread,
    GaveWay,
}

impl Reason {
    const REFUSED: [Self; 2] = [Self::Full, Self::Descriptors];
    const CLOSED: [Self; 4] = [Self::NoRequest, Self::Idle, Self::Unread, Self::GaveWay];

    fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Descriptors => "descriptors",
            Self::NoRequest => "no_request",
            Self::Idle => "idle",
            Self::Unread => "unread_answer",
            Self::GaveWay => "gave_way",
        }
    }
}

/// The places of one listener.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) bounds: Bounds,
    budget: Arc<Budget>,
    descriptors: Arc<Descriptors>,
    state: Mutex<State>,
    counts: [AtomicU64; 6],
    accept_failures: AtomicU64,
    refusal_throttle: Throttle,
    failure_throttle: Throttle,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    open: HashMap<u64, Open>,
    by_peer: HashMap<Peer, usize>,
    /// Peers without a connection that have been served, and when.
    served: HashMap<Peer, Instant>,
    nobody_gave_way: Option<Instant>,
}

#[derive(Debug)]
struct Open {
    peer: Peer,
    activity: Arc<Activity>,
    gives_way: CancellationToken,
}

/// The place of one connection, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
    pub(super) activity: Arc<Activity>,
    gives_way: CancellationToken,
}

impl Places {
    pub(super) fn new(
        bounds: Bounds,
        process: &Arc<Budget>,
        descriptors: &Arc<Descriptors>,
    ) -> Arc<Self> {
        let (_, all) = bounds.unfinished_bytes;
        Arc::new(Self {
            bounds,
            budget: Arc::new(Budget::new(all, Some(Arc::clone(process)))),
            descriptors: Arc::clone(descriptors),
            state: Mutex::default(),
            counts: Default::default(),
            accept_failures: AtomicU64::new(0),
            refusal_throttle: Throttle::default(),
            failure_throttle: Throttle::default(),
        })
    }

    /// A place for a connection; none when it has to be refused.
    pub(super) fn take(self: &Arc<Self>, peer: Peer) -> Option<Place> {
        let mut state = self.state.lock();
        match self.find_room(&mut state, peer) {
            Ok(()) => {}
            Err(why) => {
                drop(state);
                self.log_refusal(why);
                return None;
            }
        }
        let (of_one, _) = self.bounds.unfinished_bytes;
        let budget = Budget::new(of_one, Some(Arc::clone(&self.budget)));
        let place = Place {
            places: Arc::clone(self),
            number: state.next,
            activity: Arc::new(Activity::new(budget)),
            gives_way: CancellationToken::new(),
        };
        state.next += 1;
        state.insert(&place, peer);
        Some(place)
    }

    fn find_room(&self, state: &mut State, peer: Peer) -> Result<(), Reason> {
        let kept = self.bounds.connections / KEPT_SHARE;
        let room = match state.was_served(peer) {
            true => self.bounds.connections,
            false => self.bounds.connections - kept,
        };
        let why = if state.open.len() >= room {
            Reason::Full
        } else if self.descriptors.take(self.bounds.listener) {
            return Ok(());
        } else {
            Reason::Descriptors
        };
        let now = Instant::now();
        let lately = |at: Instant| now.duration_since(at) < LOOK_AGAIN;
        if state.nobody_gave_way.is_some_and(lately) {
            return Err(why);
        }
        let Some(number) = state.who_gives_way(peer, &self.bounds) else {
            state.nobody_gave_way = Some(now);
            return Err(why);
        };
        if let Some(open) = state.remove(number) {
            open.gives_way.cancel();
        }
        self.count(Reason::GaveWay);
        self.descriptors.take_over();
        Ok(())
    }

    fn label(&self) -> KeyValue {
        KeyValue::new("listener", self.bounds.listener)
    }

    fn count(&self, reason: Reason) {
        self.counts[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn log_refusal(&self, why: Reason) {
        self.count(why);
        let Some(held_back) = self.refusal_throttle.admit(SteadyClock.now()) else {
            return;
        };
        let listener = self.bounds.listener;
        let open = self.state.lock().open.len();
        match why {
            Reason::Descriptors => tracing::warn!(
                listener,
                open,
                held_back,
                "refused a connection: the process may open no more files; raise its limit (LimitNOFILE, ulimit -n)"
            ),
            _ => tracing::warn!(
                listener,
                open,
                max_connections = self.bounds.connections,
                held_back,
                "refused a connection: all places are taken; raise `max_connections` of this listener if they are yours"
            ),
        }
    }

    /// Counts that a connection had to end, and says it to who looks for it.
    pub(super) fn closed(&self, ending: Ending) {
        let reason = match ending {
            Ending::NoRequest => Reason::NoRequest,
            Ending::Idle => Reason::Idle,
            Ending::Unread => Reason::Unread,
        };
        self.count(reason);
        let listener = self.bounds.listener;
        tracing::debug!(listener, reason = reason.as_str(), "closed a connection");
    }

    /// A connection could not be accepted, through no fault of its own.
    pub(super) fn accept_failed(&self, error: &std::io::Error) {
        self.accept_failures.fetch_add(1, Ordering::Relaxed);
        if let Some(held_back) = self.failure_throttle.admit(SteadyClock.now()) {
            let listener = self.bounds.listener;
            tracing::warn!(listener, %error, held_back, "cannot accept connections");
        }
    }
}

impl State {
    fn insert(&mut self, place: &Place, peer: Peer) {
        let open = Open {
            peer,
            activity: Arc::clone(&place.activity),
            gives_way: place.gives_way.clone(),
        };
        self.open.insert(place.number, open);
        *self.by_peer.entry(peer).or_default() += 1;
    }

    fn remove(&mut self, number: u64) -> Option<Open> {
        let open = self.open.remove(&number)?;
        if let Some(count) = self.by_peer.get_mut(&open.peer) {
            *count -= 1;
            if *count == 0 {
                self.by_peer.remove(&open.peer);
            }
        }
        if open.activity.is_served() {
            self.remember(open.peer);
        }
        Some(open)
    }

    fn remember(&mut self, peer: Peer) {
        let full = self.served.len() >= REMEMBERED_MAX && !self.served.contains_key(&peer);
        if full && let Some(oldest) = self.served.iter().min_by_key(|(_, at)| **at) {
            let oldest = *oldest.0;
            self.served.remove(&oldest);
        }
        self.served.insert(peer, Instant::now());
    }

    fn was_served(&self, peer: Peer) -> bool {
        let served = |open: &Open| open.peer == peer && open.activity.is_served();
        self.served.contains_key(&peer)
            || (self.by_peer.contains_key(&peer) && self.open.values().any(served))
    }

    /// Whose connection is closed in favour of one of `peer`'s.
    fn who_gives_way(&self, peer: Peer, bounds: &Bounds) -> Option<u64> {
        let quiet = |open: &Open| open.activity.quiet_for();
        let silent = self.open.iter().filter(|(_, open)| {
            !open.activity.is_served() && open.activity.age() >= GRACE && quiet(open).is_some()
        });
        if let Some((number, _)) = silent.min_by_key(|(number, _)| **number) {
            return Some(*number);
        }
        let idle = self.open.iter().filter_map(|(number, open)| {
            let idle = quiet(open).filter(|idle| *idle >= bounds.gives_way_after)?;
            Some((idle, std::cmp::Reverse(*number)))
        });
        if let Some((_, std::cmp::Reverse(number))) = idle.max() {
            return Some(number);
        }
        let theirs = self.by_peer.get(&peer).copied().unwrap_or_default();
        let fair = (bounds.connections / FAIR_SHARE).max(FAIR_LEAST);
        let greedy = self.by_peer.iter().max_by_key(|(_, count)| **count);
        let (greedy, _) = greedy.filter(|(_, count)| **count > fair.max(2 * (theirs + 1)))?;
        let given = self.open.iter().filter(|(_, open)| open.peer == *greedy);
        given.map(|(number, _)| *number).max()
    }
}

impl Place {
    /// Ends when the place is needed for another.
    pub(super) async fn given_away(&self) {
        self.gives_way.cancelled().await;
    }

    pub(super) fn bounds(&self) -> Bounds {
        self.places.bounds
    }

    pub(super) fn closed(&self, ending: Ending) {
        self.places.closed(ending);
    }

    /// Why the listener has closed connections.
    #[cfg(test)]
    pub(super) fn closed_for(&self) -> Option<&'static str> {
        let counted =
            |reason: &&Reason| self.places.counts[**reason as usize].load(Ordering::Relaxed) > 0;
        Reason::CLOSED
            .iter()
            .find(counted)
            .map(|reason| reason.as_str())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.state.lock().remove(self.number);
        self.places.descriptors.give_back();
    }
}

/// Shows how full the listeners are, and whom they refused.
pub(super) fn observe(metrics: &Metrics, all: &[Arc<Places>]) {
    metrics.gauges(
        "keystile_connections",
        "Open connections by listener.",
        by_listener(all, |places| places.state.lock().open.len() as u64),
    );
    metrics.gauges(
        "keystile_unfinished_request_bytes",
        "What requests that have not come whole hold in memory, by listener.",
        by_listener(all, |places| places.budget.taken() as u64),
    );
    metrics.counters(
        "keystile_accept_failures",
        "Connections that could not be accepted, by listener.",
        by_listener(all, |places| places.accept_failures.load(Ordering::Relaxed)),
    );
    metrics.counters(
        "keystile_connections_refused",
        "Connections that were refused at once, by listener and reason.",
        by_reason(all, &Reason::REFUSED),
    );
    metrics.counters(
        "keystile_connections_closed",
        "Connections that we closed before their peers did, by listener and reason.",
        by_reason(all, &Reason::CLOSED),
    );
}

fn by_listener(all: &[Arc<Places>], read: fn(&Places) -> u64) -> impl Fn() -> Readings + use<> {
    let all = all.to_vec();
    move || {
        let each = all.iter();
        each.map(|places| (vec![places.label()], read(places)))
            .collect()
    }
}

fn by_reason(all: &[Arc<Places>], reasons: &'static [Reason]) -> impl Fn() -> Readings + use<> {
    let all = all.to_vec();
    move || {
        let counts_of = |places: &Arc<Places>| {
            let places = Arc::clone(places);
            reasons.iter().map(move |reason| {
                let label = KeyValue::new("reason", reason.as_str());
                let count = places.counts[*reason as usize].load(Ordering::Relaxed);
                (vec![places.label(), label], count)
            })
        };
        all.iter().flat_map(counts_of).collect()
    }
}

#[cfg(test)]
mod tests;
