//! Bytes that unfinished requests may hold: of a connection, of its listener, of the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A bound, and what is taken of it; what is taken here is taken of its parent as well.
#[derive(Debug)]
pub(super) struct Budget {
    taken: AtomicUsize,
    max: usize,
    parent: Option<Arc<Self>>,
}

impl Budget {
    pub(super) fn new(max: usize, parent: Option<Arc<Self>>) -> Self {
        Self {
            taken: AtomicUsize::new(0),
            max,
            parent,
        }
    }

    /// Takes so many bytes, or nothing.
    pub(super) fn take(&self, bytes: usize) -> bool {
        let before = self.taken.fetch_add(bytes, Ordering::Relaxed);
        let fits = before.saturating_add(bytes) <= self.max
            && self.parent.as_ref().is_none_or(|parent| parent.take(bytes));
        if !fits {
            self.taken.fetch_sub(bytes, Ordering::Relaxed);
        }
        fits
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(parent) = &self.parent {
            parent.give_back(bytes);
        }
    }

    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_anywhere_is_taken_nowhere() {
        let process = Arc::new(Budget::new(100, None));
        let listener = Arc::new(Budget::new(80, Some(Arc::clone(&process))));
        let one = Budget::new(50, Some(Arc::clone(&listener)));
        let other = Budget::new(50, Some(Arc::clone(&listener)));
        assert!(one.take(50));
        assert!(!one.take(1), "the connection's own bound");
        assert!(!other.take(31), "the listener's bound");
        assert_eq!(
            (other.taken(), listener.taken(), process.taken()),
            (0, 50, 50)
        );
        assert!(process.take(30));
        assert!(!other.take(21), "the process's bound");
        assert!(other.take(20));
        one.give_back(50);
        assert_eq!(
            (one.taken(), listener.taken(), process.taken()),
            (0, 20, 50)
        );
    }
}
