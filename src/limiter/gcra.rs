//! The generic cell rate algorithm on one atomic number, and a table of such cells for limits that this process counts
//! by itself.
//!
//! A cell holds the *theoretical arrival time*: when the bucket will be full again. A request of cost `c` moves it `c`
//! intervals on, and is refused if it would then be further away than a whole bucket.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use crate::sharded::Sharded;

/// Few threads meet in one shard. A map doubles when it is full: so many maps are well filled by a million cells, and
/// small when their old halves are still to be freed.
const SHARDS: usize = 80;

/// What a request takes and what fits, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// In which time one request is refilled; rounded up, so that no more than the rate passes.
    pub interval: NonZeroU64,
    /// How many requests fit.
    pub burst: u64,
}

/// A request does not fit for so many nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooSoon(pub u64);

/// One bucket: 8 bytes.
#[derive(Debug, Default)]
pub struct Gcra(AtomicU64);

impl Gcra {
    /// Takes a request's cost, or says for how long it does not fit. `now` is in nanoseconds since any fixed time.
    /// Answers how many nanoseconds' worth is used then.
    pub fn take(&self, now: u64, pace: Pace, cost: u64) -> Result<u64, TooSoon> {
        let whole = pace.interval.get().saturating_mul(pace.burst);
        let more = pace.interval.get().saturating_mul(cost);
        let mut full_at = self.0.load(Ordering::Relaxed);
        loop {
            let next = full_at.max(now).saturating_add(more);
            let excess = (next - now).saturating_sub(whole);
            if excess > 0 {
                return Err(TooSoon(excess));
            }
            match self
                .0
                .compare_exchange_weak(full_at, next, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return Ok(next - now),
                Err(changed) => full_at = changed,
            }
        }
    }

    /// Gives back what was taken.
    pub fn put_back(&self, pace: Pace, cost: u64) {
        let less = pace.interval.get().saturating_mul(cost);
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
                Some(full_at.saturating_sub(less))
            })
            .ok();
    }

    /// How many requests fit now, and in how many nanoseconds the bucket is full.
    pub fn look(&self, now: u64, pace: Pace) -> (u64, u64) {
        let used = self.0.load(Ordering::Relaxed).saturating_sub(now);
        let taken = used.div_ceil(pace.interval.get());
        (pace.burst.saturating_sub(taken), used)
    }
}

/// A hash is its own hash.
#[derive(Default)]
struct Ready(u64);

impl Hasher for Ready {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are u64");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// A cell and the interval that it is in.
#[derive(Debug, Default)]
struct Cell {
    gcra: Gcra,
    interval: AtomicU64,
}

type Map = HashMap<u64, Cell, BuildHasherDefault<Ready>>;

#[derive(Debug, Default)]
struct Shard {
    cells: RwLock<Map>,
    /// When full cells were last looked for; only whoever writes changes it.
    swept_at: AtomicU64,
}

/// Looking through a shard takes a while: not for every new cell, in nanoseconds.
const SWEEP_EVERY: u64 = 1_000_000_000;
/// How many cells are compared to find one to do without.
const COMPARED: usize = 16;

/// Cells by the hash of what they are for: under 64 bytes each. A cell that is full again is as good as none.
#[derive(Debug)]
pub struct Cells {
    shards: Sharded<Shard, SHARDS>,
    /// The most cells in a shard.
    shard_max: usize,
}

impl Cells {
    /// A table of at most `max` cells.
    pub fn new(max: usize) -> Self {
        Self {
            shards: Sharded::default(),
            shard_max: max.div_ceil(SHARDS).max(1),
        }
    }

    /// How many cells there are.
    pub fn len(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| shard.cells.read().len())
            .sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How much memory the table takes, in bytes.
    pub fn bytes(&self) -> usize {
        // What std's table keeps of an entry: the entry and a byte; an eighth of the places stays empty.
        let places = |shard: &Shard| {
            (shard.cells.read().capacity() * 8)
                .div_ceil(7)
                .next_power_of_two()
        };
        let entry = size_of::<(u64, Cell)>() + 1;
        self.shards.iter().map(|shard| places(shard) * entry).sum()
    }

    /// Does something with the cell of a hash, which is made if there is none.
    pub fn with<T>(&self, hash: u64, now: u64, pace: Pace, act: impl FnOnce(&Gcra) -> T) -> T {
        let shard = self.shards.at(hash);
        let cells = shard.cells.read();
        if let Some(cell) = cells.get(&hash)
            && cell.interval.load(Ordering::Relaxed) == pace.interval.get()
        {
            return act(&cell.gcra);
        }
        drop(cells);
        let mut cells = shard.cells.write();
        if !cells.contains_key(&hash) {
            self.make_room(shard, &mut cells, now);
        }
        let cell = cells.entry(hash).or_default();
        cell.keep_used(now, pace.interval.get());
        act(&cell.gcra)
    }

    /// Drops cells that are full again; if there are none, one that is full sooner than others.
    fn make_room(&self, shard: &Shard, cells: &mut Map, now: u64) {
        if cells.len() < self.shard_max {
            return;
        }
        if now.saturating_sub(shard.swept_at.load(Ordering::Relaxed)) >= SWEEP_EVERY {
            shard.swept_at.store(now, Ordering::Relaxed);
            cells.retain(|_, cell| *cell.gcra.0.get_mut() > now);
        }
        if cells.len() < self.shard_max {
            return;
        }
        let full_at = |cell: &Cell| cell.gcra.0.load(Ordering::Relaxed);
        let compared = cells.iter().take(COMPARED);
        let first = compared.min_by_key(|(_, cell)| full_at(cell));
        if let Some(hash) = first.map(|(hash, _)| *hash) {
            cells.remove(&hash);
        }
    }
}

impl Cell {
    /// Another rate: what is used stays used.
    fn keep_used(&mut self, now: u64, interval: u64) {
        let before = std::mem::replace(self.interval.get_mut(), interval);
        let full_at = self.gcra.0.get_mut();
        if before != 0 && before != interval && *full_at > now {
            let used = u128::from(*full_at - now) * u128::from(interval);
            let used = used.div_ceil(u128::from(before));
            *full_at = now.saturating_add(u64::try_from(used).unwrap_or(u64::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pace(interval: u64, burst: u64) -> Pace {
        Pace {
            interval: NonZeroU64::new(interval).unwrap(),
            burst,
        }
    }

    /// A bucket of tokens in exact arithmetic: `burst * interval` nanoseconds' worth, refilled by time.
    struct Tokens {
        filled: u64,
        at: u64,
    }

    impl Tokens {
        fn take(&mut self, now: u64, pace: Pace, cost: u64) -> bool {
            let whole = pace.interval.get() * pace.burst;
            self.filled = (self.filled + (now - self.at)).min(whole);
            self.at = now;
            let price = pace.interval.get() * cost;
            let fits = self.filled >= price;
            if fits {
                self.filled -= price;
            }
            fits
        }
    }

    proptest! {
        #[test]
        fn it_decides_like_a_bucket_of_tokens(
            interval in 1..1_000_u64,
            burst in 1..50_u64,
            steps in proptest::collection::vec((0..5_000_u64, 1..8_u64), 1..200),
        ) {
            let pace = pace(interval, burst);
            let (cell, mut now) = (Gcra::default(), 1_000_000);
            let mut model = Tokens { filled: interval * burst, at: now };
            for (step, cost) in steps {
                now += step;
                let taken = cell.take(now, pace, cost);
                prop_assert_eq!(taken.is_ok(), model.take(now, pace, cost));
                if let Err(TooSoon(wait)) = taken && cost <= burst {
                    // Exact: a nanosecond sooner is too soon.
                    prop_assert!(cell.take(now + wait - 1, pace, cost).is_err());
                    let same = Gcra(AtomicU64::new(cell.0.load(Ordering::Relaxed)));
                    prop_assert!(same.take(now + wait, pace, cost).is_ok());
                }
            }
        }

        #[test]
        fn a_changed_rate_keeps_what_is_used(
            old in 1..10_000_u64, new in 1..10_000_u64, used in 1..100_u64,
        ) {
            let cells = Cells::new(1_000);
            let (now, before, after) = (1_000_000_000_000, pace(old, 100), pace(new, 100));
            for _ in 0..used {
                cells.with(7, now, before, |cell| cell.take(now, before, 1)).unwrap();
            }
            let (left, _) = cells.with(7, now, after, |cell| cell.look(now, after));
            prop_assert_eq!(left, 100 - used);
        }
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let (cell, pace) = (Gcra::default(), pace(10, 2));
        cell.take(100, pace, 2).unwrap();
        assert_eq!(cell.take(100, pace, 1), Err(TooSoon(10)));
        cell.put_back(pace, 1);
        cell.take(100, pace, 1).unwrap();
    }

    #[test]
    fn a_million_cells_take_less_than_64_bytes_each_and_never_more_than_allowed() {
        let cells = Cells::new(1_000_000);
        let pace = pace(1_000_000_000, 5);
        // Hashes as good as a hash function's.
        let hash = |at: u64| at.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17);
        for at in 0..1_000_000 {
            cells
                .with(hash(at), 1, pace, |cell| cell.take(1, pace, 1))
                .unwrap();
        }
        let (count, bytes) = (cells.len(), cells.bytes());
        assert!(count > 950_000, "shards fill evenly: {count}");
        assert!(bytes < 40 * count, "{bytes} bytes for {count} cells");
        for at in 0..300_000 {
            cells
                .with(hash(at + 5_000_000), 2, pace, |cell| cell.take(2, pace, 1))
                .unwrap();
        }
        assert!(cells.len() <= 1_000_000 + SHARDS, "{}", cells.len());
        // All of them are full again after some time, and make room at the first need.
        let later = 10_000_000_000_000;
        for at in 0..100_u64 {
            cells.with(at << 32, later, pace, |_| ());
        }
        assert!(cells.len() < 100_000, "{}", cells.len());
    }
}
