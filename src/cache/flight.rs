//! Loads under way: one a key, shared by all who wait for it, cut off when the key changes meanwhile.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::OnceCell;

/// The loads under way.
pub(super) struct Flights<K, V>(HashMap<K, Flight<V>>);

/// One load and how many wait for it. Counted under the lock of the map: of two who leave at once, one is the last.
struct Flight<V> {
    cell: Arc<OnceCell<V>>,
    waiting: usize,
}

impl<V> Default for Flight<V> {
    fn default() -> Self {
        Self {
            cell: Arc::default(),
            waiting: 0,
        }
    }
}

impl<K, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K, V> fmt::Debug for Flights<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Flights({})", self.0.len())
    }
}

impl<K: Hash + Eq, V> Flights<K, V> {
    /// From now on, who asks starts anew; what is under way must not be kept.
    pub(super) fn cut(&mut self, key: &K) {
        self.0.remove(key);
    }

    /// The same for all keys.
    pub(super) fn cut_all(&mut self) {
        self.0.clear();
    }

    /// The load that `cell` belongs to, unless it was cut off or has landed.
    fn current(&mut self, key: &K, cell: &Arc<OnceCell<V>>) -> Option<&mut Flight<V>> {
        self.0
            .get_mut(key)
            .filter(|flight| Arc::ptr_eq(&flight.cell, cell))
    }
}

/// A place among those who wait for one load.
pub(super) struct Joined<'a, K: Hash + Eq, V> {
    flights: &'a Mutex<Flights<K, V>>,
    key: K,
    cell: Arc<OnceCell<V>>,
}

impl<'a, K: Hash + Eq + Clone, V> Joined<'a, K, V> {
    /// Joins the load of `key` that is under way, or starts one.
    pub(super) fn new(flights: &'a Mutex<Flights<K, V>>, key: K) -> Self {
        let mut map = flights.lock();
        let flight = map.0.entry(key.clone()).or_default();
        flight.waiting += 1;
        let cell = Arc::clone(&flight.cell);
        Self { flights, key, cell }
    }

    /// The first who waits does the work; if that one gives up, the next takes over.
    pub(super) async fn get_or_init<F: Future<Output = V>>(&self, load: impl FnOnce() -> F) -> &V {
        self.cell.get_or_init(load).await
    }

    /// Ends the load and does `keep`, before anybody can be told of a change; not if it was cut off or has been ended.
    pub(super) fn land(&self, keep: impl FnOnce(&K)) {
        self.end(|key, is_current| {
            if is_current {
                keep(key);
            }
        });
    }

    /// Ends the load and does `then`, before anybody can be told of a change. `then` learns whether the load still counts:
    /// it was not cut off, and nobody else has ended it.
    pub(super) fn end<R>(&self, then: impl FnOnce(&K, bool) -> R) -> R {
        let mut flights = self.flights.lock();
        let is_current = flights.current(&self.key, &self.cell).is_some();
        if is_current {
            flights.cut(&self.key);
        }
        then(&self.key, is_current)
    }
}

impl<K: Hash + Eq, V> Drop for Joined<'_, K, V> {
    fn drop(&mut self) {
        let mut flights = self.flights.lock();
        let Some(flight) = flights.current(&self.key, &self.cell) else {
            return;
        };
        flight.waiting -= 1;
        // The last to give up takes the load with it: loads that never end must not pile up.
        if flight.waiting == 0 {
            flights.cut(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    #[test]
    fn a_load_that_all_give_up_at_the_same_moment_leaves_nothing_behind() {
        let flights: Mutex<Flights<u8, ()>> = Mutex::default();
        let (joined, leave) = (Barrier::new(4), Barrier::new(4));
        let wait_and_give_up = || {
            for _ in 0..2_000 {
                let place = Joined::new(&flights, 1);
                joined.wait();
                drop(place);
                leave.wait();
                assert!(flights.lock().0.is_empty());
                leave.wait();
            }
        };
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(wait_and_give_up);
            }
        });
    }

    #[tokio::test]
    async fn a_load_that_was_cut_off_does_not_land() {
        let flights: Mutex<Flights<u8, u8>> = Mutex::default();
        let old = Joined::new(&flights, 1);
        flights.lock().cut(&1);
        let new = Joined::new(&flights, 1);
        assert_eq!(*old.get_or_init(async || 10).await, 10);
        old.land(|_| panic!("it was cut off"));
        assert_eq!(*new.get_or_init(async || 11).await, 11, "not shared");
        let mut kept = None;
        new.land(|key| kept = Some(*key));
        new.land(|_| panic!("it has landed"));
        assert_eq!(kept, Some(1));
        drop((old, new));
        assert!(flights.lock().0.is_empty());
    }
}
