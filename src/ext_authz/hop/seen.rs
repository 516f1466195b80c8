//! Which contexts have been taken already, so that none pays for two requests. Bounded: past the bound each is taken for
//! one that was seen, which costs its tenant a request and lets nobody in.

use std::collections::HashSet;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Timestamp;

/// Most ids of one time; two times are remembered. At 60 s some 4,000 requests a second.
const IDS_MAX: usize = 250_000;

/// The ids of contexts that may still be valid.
#[derive(Debug)]
pub(super) struct Seen {
    /// After this time no context is valid any more.
    window: Duration,
    ids: Mutex<Ids>,
}

#[derive(Debug, Default)]
struct Ids {
    begun: Option<Timestamp>,
    now: HashSet<[u8; 16]>,
    before: HashSet<[u8; 16]>,
}

impl Seen {
    pub(super) fn new(window: Duration) -> Self {
        Self {
            window,
            ids: Mutex::default(),
        }
    }

    /// Whether an id is seen for the first time, as far as is known.
    pub(super) fn is_first(&self, id: [u8; 16], now: Timestamp) -> bool {
        let mut ids = self.ids.lock();
        if ids.begun.is_none_or(|begun| now >= begun.plus(self.window)) {
            ids.before = std::mem::take(&mut ids.now);
            ids.begun = Some(now);
        }
        !ids.before.contains(&id) && ids.now.len() < IDS_MAX && ids.now.insert(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_first_once_for_as_long_as_it_may_be_valid() {
        let seen = Seen::new(Duration::from_secs(60));
        let at = |seconds: i64| Timestamp::from_millis(1_800_000_000_000 + seconds * 1000);
        let id = |n: u64| u128::from(n).to_le_bytes();
        assert!(seen.is_first(id(1), at(0)));
        assert!(!seen.is_first(id(1), at(0)));
        assert!(seen.is_first(id(2), at(59)));
        assert!(!seen.is_first(id(1), at(60)), "in the time before");
        assert!(!seen.is_first(id(2), at(118)));
        assert!(!seen.is_first(id(2), at(50)), "a clock that is set back");
        for n in 10..IDS_MAX as u64 + 20 {
            seen.is_first(id(n), at(119));
        }
        assert!(
            !seen.is_first(id(5), at(119)),
            "past the bound none is first"
        );
        assert!(seen.is_first(id(5), at(180)));
    }
}
