//! Loads under way: one a key, shared by all who wait for it, cut off when the key changes meanwhile.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::OnceCell;

/// The loads under way.
pub(super) struct Flights<K, V>(HashMap<K, Arc<OnceCell<V>>>);

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

    fn is_current(&self, key: &K, flight: &Arc<OnceCell<V>>) -> bool {
        self.0
            .get(key)
            .is_some_and(|current| Arc::ptr_eq(current, flight))
    }
}

/// A place among those who wait for one load.
pub(super) struct Joined<'a, K: Hash + Eq, V> {
    flights: &'a Mutex<Flights<K, V>>,
    key: K,
    flight: Arc<OnceCell<V>>,
}

impl<'a, K: Hash + Eq + Clone, V> Joined<'a, K, V> {
    /// Joins the load of `key` that is under way, or starts one.
    pub(super) fn new(flights: &'a Mutex<Flights<K, V>>, key: K) -> Self {
        let flight = Arc::clone(flights.lock().0.entry(key.clone()).or_default());
        Self {
            flights,
            key,
            flight,
        }
    }

    /// The first who waits does the work; if that one gives up, the next takes over.
    pub(super) async fn get_or_init<F: Future<Output = V>>(&self, load: impl FnOnce() -> F) -> &V {
        self.flight.get_or_init(load).await
    }

    /// Ends the load and does `keep`, before anybody can be told of a change; not if it was cut off or has been ended.
    pub(super) fn land(&self, keep: impl FnOnce(&K)) {
        let mut flights = self.flights.lock();
        if flights.is_current(&self.key, &self.flight) {
            flights.cut(&self.key);
            keep(&self.key);
        }
    }
}

impl<K: Hash + Eq, V> Drop for Joined<'_, K, V> {
    fn drop(&mut self) {
        let mut flights = self.flights.lock();
        // The last to give up takes the load with it: loads that never end must not pile up.
        if flights.is_current(&self.key, &self.flight) && Arc::strong_count(&self.flight) == 2 {
            flights.cut(&self.key);
        }
    }
}
