//! Who has failed too often: counts failures by source, and blocks a source for a while, each time for longer.
//!
//! All is in memory, and bounded. Of sources that fail the oldest are forgotten first; a block that is live is never
//! given up for another. Counting is this process's own. Blocks are shared where the store is: see [`share`].
#![warn(missing_docs)]

pub mod guesses;
mod share;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::clock::Timestamp;
use crate::domain::block::{Block, Source};
use crate::sharded::Sharded;
use crate::store::BlockStore;
use share::Outbox;

/// When a source is blocked and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// So many failures within [`Self::window`] lead to a block.
    pub max_failures: u32,
    /// Counted from the first failure on.
    pub window: Duration,
    /// The first block of a source.
    pub block: Duration,
    /// The longest, and how long the last one is remembered after its end.
    pub block_max: Duration,
    /// Whether a blocked source may use keys that are in memory.
    pub known_keys_pass: bool,
    /// The most sources that are counted, and the most that are blocked.
    pub max_sources: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_failures: 20,
            window: Duration::from_secs(60),
            block: Duration::from_secs(60),
            block_max: Duration::from_secs(3600),
            known_keys_pass: true,
            max_sources: 1_000_000,
        }
    }
}

/// So many /64s of one /48 must have failed as often as leads to a block, or more of them less often, until all of it is
/// blocked. One host cannot bring that about: it has one /64, which counts once.
const SITE_FACTOR: u32 = 16;

/// How many locks there are: workers seldom meet at one.
const SHARDS: usize = 64;

/// Sources that fail and sources that are blocked.
pub struct Blocks {
    settings: ArcSwap<Settings>,
    shards: Sharded<Mutex<Shard>, SHARDS>,
    /// How many blocks are remembered: while there is none, nobody has to be looked up.
    remembered: AtomicUsize,
    made: AtomicU64,
    /// Where blocks are told to others.
    outbox: Option<Outbox>,
}

#[derive(Default)]
struct Shard {
    /// Failures since the last time that it was full, and those before.
    failing: HashMap<Source, Tally>,
    failed: HashMap<Source, Tally>,
    blocks: HashMap<Source, Remembered>,
}

/// Failures of one window.
#[derive(Clone, Copy)]
struct Tally {
    since: Timestamp,
    failures: u32,
}

/// What leads to a block: so many failures in so long.
#[derive(Clone, Copy)]
struct Most {
    failures: u32,
    window: Duration,
}

/// A block, live or over.
#[derive(Clone, Copy)]
struct Remembered {
    until: Timestamp,
    length: Duration,
    /// Others have it too: when they drop it, so do we.
    is_shared: bool,
}

impl fmt::Debug for Blocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Blocks({} remembered)",
            self.remembered.load(Ordering::Relaxed)
        )
    }
}

impl Blocks {
    /// Nobody has failed yet. Blocks are shared through the store, if others use it too.
    pub fn new(settings: Settings, store: Arc<dyn BlockStore>) -> Arc<Self> {
        let blocks = Arc::new(Self {
            settings: ArcSwap::from_pointee(settings),
            shards: Sharded::default(),
            remembered: AtomicUsize::new(0),
            made: AtomicU64::new(0),
            outbox: store.shares_blocks().then_some(store).map(Outbox::new),
        });
        share::listen(&blocks);
        blocks
    }

    /// Counts and blocks by these from now on; blocks that are made stay as they are.
    pub fn set(&self, settings: Settings) {
        self.settings.store(Arc::new(settings));
    }

    fn settings(&self) -> Settings {
        **self.settings.load()
    }

    /// Whether a blocked source may use keys that are in memory.
    pub fn known_keys_pass(&self) -> bool {
        self.settings().known_keys_pass
    }

    /// How long a source is still blocked.
    pub fn wait(&self, source: Source, now: Timestamp) -> Option<Duration> {
        if self.remembered.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let wait = |source| self.wait_of(source, now);
        wait(source).max(source.site().and_then(wait))
    }

    fn wait_of(&self, source: Source, now: Timestamp) -> Option<Duration> {
        let block = self.shard(source).lock().blocks.get(&source).copied()?;
        (now < block.until).then(|| block.until.since(now))
    }

    /// Counts a failure, and blocks the source, or the site that it belongs to, if it was one too many.
    pub fn failed(&self, source: Source, now: Timestamp) {
        let settings = self.settings();
        let most = Most {
            failures: settings.max_failures,
            window: settings.window,
        };
        // One that was blocked before has had its share in the site's failures.
        let of_site = source.site().filter(|_| !self.is_remembered(source, now));
        self.count(source, most, now);
        if let Some(site) = of_site {
            let of_site = Most {
                failures: most.failures.saturating_mul(SITE_FACTOR),
                // No longer than a block is remembered, or one host could fail often enough by itself.
                window: most.window.min(settings.block_max),
            };
            self.count(site, of_site, now);
        }
    }

    /// Whether a source is blocked, or was not long ago.
    fn is_remembered(&self, source: Source, now: Timestamp) -> bool {
        if self.remembered.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let block = self.shard(source).lock().blocks.get(&source).copied();
        let memory = self.settings().block_max;
        block.is_some_and(|block| now < block.until.plus(memory))
    }

    fn count(&self, source: Source, most: Most, now: Timestamp) {
        let made = self.shard(source).lock().failed(source, most, now, self);
        let Some(block) = made else {
            return;
        };
        self.made.fetch_add(1, Ordering::Relaxed);
        tracing::info!(source = %block.source, length = ?block.length, "a source is blocked: too many failures");
        if let Some(outbox) = &self.outbox {
            outbox.put(block);
        }
    }

    /// How many blocks this process has made.
    pub fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    /// How many sources are blocked.
    pub fn live(&self, now: Timestamp) -> u64 {
        let live = |shard: &Mutex<Shard>| {
            let shard = shard.lock();
            shard
                .blocks
                .values()
                .filter(|block| now < block.until)
                .count() as u64
        };
        self.shards.iter().map(live).sum()
    }

    fn in_memory(&self) -> Vec<Block> {
        let mut all = Vec::new();
        for shard in self.shards.iter() {
            let shard = shard.lock();
            all.extend(shard.blocks.iter().map(|(source, block)| Block {
                source: *source,
                until: block.until,
                length: block.length,
            }));
        }
        all
    }

    /// Forgets the block of a source, and what it failed before.
    fn forget(&self, source: Source) {
        let mut shard = self.shard(source).lock();
        shard.failing.remove(&source);
        shard.failed.remove(&source);
        let had = shard.blocks.remove(&source).is_some();
        self.remembered
            .fetch_sub(usize::from(had), Ordering::Relaxed);
    }

    fn forget_all(&self) {
        for shard in self.shards.iter() {
            let cleared = std::mem::take(&mut *shard.lock());
            self.remembered
                .fetch_sub(cleared.blocks.len(), Ordering::Relaxed);
        }
    }

    fn shard(&self, source: Source) -> &Mutex<Shard> {
        self.shards.at(self.shards.hash(source))
    }

    /// The share of one shard in the most sources.
    fn shard_max(&self) -> usize {
        self.settings().max_sources.div_ceil(SHARDS)
    }
}

impl Shard {
    fn failed(&mut self, source: Source, most: Most, now: Timestamp, of: &Blocks) -> Option<Block> {
        if self
            .blocks
            .get(&source)
            .is_some_and(|block| now < block.until)
        {
            return None;
        }
        if self.count(source, most.window, now, of) < most.failures {
            return None;
        }
        self.failing.remove(&source);
        self.block(source, now, of)
    }

    fn count(&mut self, source: Source, window: Duration, now: Timestamp, of: &Blocks) -> u32 {
        // Half for the newer ones, half for the older: when the newer half is full, the older is forgotten.
        if self.failing.len() >= of.shard_max().div_ceil(2) && !self.failing.contains_key(&source) {
            std::mem::swap(&mut self.failing, &mut self.failed);
            self.failing.clear();
        }
        let fresh = Tally {
            since: now,
            failures: 0,
        };
        let before = self.failed.remove(&source).unwrap_or(fresh);
        let tally = self.failing.entry(source).or_insert(before);
        if now.since(tally.since) >= window {
            *tally = fresh;
        }
        tally.failures = tally.failures.saturating_add(1);
        tally.failures
    }

    fn block(&mut self, source: Source, now: Timestamp, of: &Blocks) -> Option<Block> {
        let Settings {
            block, block_max, ..
        } = of.settings();
        let last = self.blocks.get(&source);
        let length = match last {
            Some(last) if now < last.until.plus(block_max) => (last.length * 2).min(block_max),
            Some(_) | None => block,
        };
        let made = Block {
            source,
            until: now.plus(length),
            length,
        };
        self.remember(made, false, now, of).then_some(made)
    }

    /// Keeps a block, unless there is no place but that of a live one.
    fn remember(&mut self, block: Block, is_shared: bool, now: Timestamp, of: &Blocks) -> bool {
        let before = self.blocks.len();
        let max = of.shard_max();
        if before >= max && !self.blocks.contains_key(&block.source) {
            let memory = of.settings().block_max;
            self.blocks.retain(|_, kept| now < kept.until.plus(memory));
            if self.blocks.len() >= max {
                self.blocks.retain(|_, kept| now < kept.until);
            }
        }
        let has_place = self.blocks.len() < max || self.blocks.contains_key(&block.source);
        if has_place {
            let remembered = Remembered {
                until: block.until,
                length: block.length,
                is_shared,
            };
            self.blocks.insert(block.source, remembered);
        }
        of.remembered
            .fetch_add(self.blocks.len(), Ordering::Relaxed);
        of.remembered.fetch_sub(before, Ordering::Relaxed);
        has_place
    }
}

#[cfg(test)]
mod tests;
