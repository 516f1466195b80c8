//! What is going on on one connection, and when it has to end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::server::bounds::Bounds;
use crate::server::budget::Budget;

/// A peer that asks nothing for so long after it has connected is no client.
pub(in crate::server) const FIRST_REQUEST: Duration =
    Duration::from_millis(if cfg!(test) { 20 } else { 10_000 });
/// How often a connection is looked at. An answer that waits for its peer for more than two looks is unread.
const LOOK: Duration = Duration::from_millis(if cfg!(test) { 10 } else { 15_000 });
/// Answers are counted by the look before which they began to wait: this one, the last, the one before.
const EPOCHS: usize = 3;

/// Counted as it goes, by whoever serves; looked at now and then. No clock is read and nothing is shared with another
/// connection on the way of a request.
#[derive(Debug)]
pub(in crate::server) struct Activity {
    asked: AtomicU64,
    asked_before_look: AtomicU64,
    served: AtomicBool,
    under_way: AtomicUsize,
    /// Answers that wait for the peer to take them.
    unread: [AtomicUsize; EPOCHS],
    epoch: AtomicUsize,
    opened: Instant,
    /// Milliseconds after `opened` at which nothing was under way for the first time in a row of looks.
    quiet_since: AtomicU64,
    /// What unfinished requests hold.
    pub(super) budget: Budget,
}

/// Why a connection has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Ending {
    /// Nothing was asked in time.
    NoRequest,
    /// Nothing was under way for too long.
    Idle,
    /// The peer does not take an answer.
    Unread,
}

impl Activity {
    pub(in crate::server) fn new(budget: Budget) -> Self {
        Self {
            asked: AtomicU64::new(0),
            asked_before_look: AtomicU64::new(0),
            served: AtomicBool::new(false),
            under_way: AtomicUsize::new(0),
            unread: Default::default(),
            epoch: AtomicUsize::new(0),
            opened: Instant::now(),
            quiet_since: AtomicU64::new(0),
            budget,
        }
    }

    pub(in crate::server) fn begin(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.under_way.fetch_add(1, Ordering::Relaxed);
    }

    pub(in crate::server) fn end(&self) {
        self.under_way.fetch_sub(1, Ordering::Relaxed);
    }

    /// A request has had its answer.
    pub(in crate::server) fn serve(&self) {
        if !self.served.load(Ordering::Relaxed) {
            self.served.store(true, Ordering::Relaxed);
        }
    }

    /// An answer waits for the peer; the number is needed to say that it does no more.
    pub(super) fn wait_for_peer(&self) -> usize {
        let epoch = self.epoch.load(Ordering::Relaxed) % EPOCHS;
        self.unread[epoch].fetch_add(1, Ordering::Relaxed);
        epoch
    }

    pub(super) fn taken(&self, epoch: usize) {
        self.unread[epoch].fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether anything was ever answered with success.
    pub(in crate::server) fn is_served(&self) -> bool {
        self.served.load(Ordering::Relaxed)
    }

    pub(in crate::server) fn age(&self) -> Duration {
        self.opened.elapsed()
    }

    /// For how long nothing has been under way, as far as is known; none while something is.
    pub(in crate::server) fn quiet_for(&self) -> Option<Duration> {
        if self.under_way.load(Ordering::Relaxed) > 0 {
            return None;
        }
        if self.asked.load(Ordering::Relaxed) != self.asked_before_look.load(Ordering::Relaxed) {
            return Some(Duration::ZERO);
        }
        let since = Duration::from_millis(self.quiet_since.load(Ordering::Relaxed));
        Some(self.age().saturating_sub(since))
    }

    /// Whether an answer has waited since before the last look but one.
    fn has_unread(&self) -> bool {
        let next = self.epoch.load(Ordering::Relaxed) + 1;
        let oldest = self.unread[next % EPOCHS].load(Ordering::Relaxed);
        self.epoch.store(next, Ordering::Relaxed);
        oldest > 0
    }

    pub(in crate::server) fn look(&self) {
        let asked = self.asked.load(Ordering::Relaxed);
        let before = self.asked_before_look.swap(asked, Ordering::Relaxed);
        if asked != before || self.under_way.load(Ordering::Relaxed) > 0 {
            let now = u64::try_from(self.age().as_millis()).unwrap_or(u64::MAX);
            self.quiet_since.store(now, Ordering::Relaxed);
        }
    }
}

/// Ends when the connection has to.
pub(super) async fn watch(activity: Arc<Activity>, bounds: Bounds) -> Ending {
    tokio::time::sleep(FIRST_REQUEST).await;
    if activity.asked.load(Ordering::Relaxed) == 0 {
        return Ending::NoRequest;
    }
    let look = LOOK.min(bounds.idle_timeout / 2);
    let mut looked = Instant::now();
    loop {
        activity.look();
        let idle = activity.quiet_for();
        if idle.is_some_and(|idle| idle >= bounds.idle_timeout) {
            return Ending::Idle;
        }
        if looked.elapsed() >= LOOK {
            looked = Instant::now();
            if activity.has_unread() {
                return Ending::Unread;
            }
        }
        tokio::time::sleep(look).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{HumanDuration, Ops, SocketMode};

    fn bounds(idle_timeout: Duration) -> Bounds {
        let config = Ops {
            listen: Vec::new(),
            unix_socket: crate::config::UnixSocket {
                mode: SocketMode(0o600),
                group: None,
            },
            tls: None,
            insecure: false,
            max_connections: 1,
            idle_timeout: HumanDuration(idle_timeout),
        };
        Bounds::ops(&config)
    }

    fn activity() -> Arc<Activity> {
        Arc::new(Activity::new(Budget::new(0, None)))
    }

    const IDLE: Duration = Duration::from_millis(30);

    async fn ended(activity: &Arc<Activity>) -> Ending {
        watch(Arc::clone(activity), bounds(IDLE)).await
    }

    #[tokio::test]
    async fn a_connection_ends_when_nothing_is_asked_or_nobody_takes_the_answers() {
        assert_eq!(ended(&activity()).await, Ending::NoRequest);

        let quiet = activity();
        quiet.begin();
        quiet.end();
        assert_eq!(ended(&quiet).await, Ending::Idle);

        let busy = activity();
        busy.begin();
        let watching = tokio::time::timeout(IDLE * 10, ended(&busy));
        assert!(watching.await.is_err(), "a request under way is not idle");
        busy.wait_for_peer();
        assert_eq!(ended(&busy).await, Ending::Unread);
    }

    #[test]
    fn an_answer_is_unread_when_it_waits_over_two_looks() {
        let busy = activity();
        // One after another, each taken before the next look but one.
        let mut waiting = busy.wait_for_peer();
        for _ in 0..10 {
            assert!(!busy.has_unread());
            let next = busy.wait_for_peer();
            busy.taken(waiting);
            waiting = next;
        }
        let looks = (0..EPOCHS).map(|_| busy.has_unread());
        assert_eq!(looks.collect::<Vec<_>>(), [false, false, true]);
        busy.taken(waiting);
    }
}
