//! Blocks of all processes that use one store: published when they are made, read when another's change arrives.
//!
//! There is no polling. Sources are divided into parts; the store notifies of a change by the part, and that part is
//! read, once for all notifications until then. While the store is unavailable, the blocks in memory stay as they are.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

use super::Blocks;
use crate::clock::{Clock, Timestamp};
use crate::domain::block::{Block, Source};
use crate::domain::key::LookupId;
use crate::domain::name::TenantId;
use crate::store::{BlockStore, StoreError, Watcher};

/// The most blocks that wait to be told; what is beyond stays this process's own.
const QUEUE_LEN_MAX: usize = 4096;

/// What is to be told and what is to be read.
pub(super) struct Outbox {
    store: Arc<dyn BlockStore>,
    put: mpsc::Sender<Block>,
    // Taken by `run`.
    queue: Mutex<Option<mpsc::Receiver<Block>>>,
    /// One bit a part that has changed.
    changed: AtomicU64,
    wake: Notify,
}

impl Outbox {
    pub(super) fn new(store: Arc<dyn BlockStore>) -> Self {
        let (put, queue) = mpsc::channel(QUEUE_LEN_MAX);
        Self {
            store,
            put,
            queue: Mutex::new(Some(queue)),
            changed: AtomicU64::new(0),
            wake: Notify::new(),
        }
    }

    pub(super) fn put(&self, block: Block) {
        if self.put.try_send(block).is_err() {
            tracing::debug!("too many blocks at once: one stays unknown to other processes");
        }
    }

    fn mark_changed(&self, parts: u64) {
        self.changed.fetch_or(parts, Ordering::AcqRel);
        self.wake.notify_one();
    }
}

/// What the store tells of. Weak: the store keeps its watchers.
struct BlockWatcher(Weak<Blocks>);

impl BlockWatcher {
    fn mark_changed(&self, parts: u64) {
        let blocks = self.0.upgrade();
        if let Some(outbox) = blocks.as_ref().and_then(|blocks| blocks.outbox.as_ref()) {
            outbox.mark_changed(parts);
        }
    }
}

impl Watcher for BlockWatcher {
    fn index_changed(&self, _: LookupId) {}

    fn tenant_changed(&self, _: &TenantId) {}

    fn blocks_changed(&self, part: u8) {
        self.mark_changed(1_u64.checked_shl(part.into()).unwrap_or(0));
    }

    fn tracking_lost(&self) {}

    fn tracking_restored(&self) {
        self.mark_changed(u64::MAX);
    }
}

/// Has the store tell of the blocks of others, where they are shared.
pub(super) fn listen(blocks: &Arc<Blocks>) {
    if let Some(outbox) = &blocks.outbox {
        let watcher = BlockWatcher(Arc::downgrade(blocks));
        outbox.store.watch(Arc::new(watcher));
    }
}

impl Blocks {
    /// Publishes blocks and reads those of others, for ever; ends at once where blocks are not shared.
    pub async fn run(self: Arc<Self>, clock: Arc<dyn Clock>) {
        let Some(outbox) = &self.outbox else {
            return;
        };
        let queue = outbox.queue.lock().take();
        let Some(mut queue) = queue else {
            return;
        };
        // What others have told before.
        outbox.mark_changed(u64::MAX);
        loop {
            tokio::select! {
                Some(block) = queue.recv() => {
                    if let Err(error) = outbox.store.put_block(block).await {
                        // It is in force here all the same.
                        tracing::debug!(error = %crate::telemetry::chain(&error), "cannot share a block");
                    }
                }
                () = outbox.wake.notified() => self.read_changed(outbox, clock.now()).await,
            }
        }
    }

    async fn read_changed(&self, outbox: &Outbox, now: Timestamp) {
        let changed = outbox.changed.swap(0, Ordering::AcqRel);
        for part in (0..Source::PARTS).filter(|part| changed & (1 << part) != 0) {
            if let Err(error) = self.read_part(outbox, part, now).await {
                // Read with the next change, and with all others when tracking is restored.
                outbox.changed.fetch_or(1 << part, Ordering::AcqRel);
                tracing::debug!(error = %crate::telemetry::chain(&error), "cannot read blocks");
            }
        }
    }

    async fn read_part(&self, outbox: &Outbox, part: u8, now: Timestamp) -> Result<(), StoreError> {
        let mut shared = outbox.store.blocks(part).await?;
        let memory = self.settings().block_max;
        let forgotten = shared.extract_if(.., |block| block.until.plus(memory) <= now);
        let forgotten: Vec<Block> = forgotten.collect();
        self.take_over(part, &shared, now);
        for block in forgotten {
            outbox.store.drop_blocks(Some(block.source)).await?;
        }
        Ok(())
    }

    /// Makes the shared blocks of this part those of the store.
    pub(super) fn take_over(&self, part: u8, shared: &[Block], now: Timestamp) {
        let longest = now.plus(self.settings().block_max);
        for block in shared {
            let mut shard = self.shard(block.source).lock();
            let own = shard.blocks.get(&block.source).copied();
            // Whoever can write to the store must not be able to block for longer than we would.
            let shared = block.until.min(longest);
            let until = own.map_or(shared, |own| own.until.max(shared));
            let kept = Block {
                until,
                length: block.length.min(self.settings().block_max),
                ..*block
            };
            shard.remember(kept, true, now, self);
        }
        let there: HashSet<Source> = shared.iter().map(|block| block.source).collect();
        let mut gone = self.shared_in(part);
        gone.retain(|source| !there.contains(source));
        for source in gone {
            self.forget(source);
        }
    }

    fn shared_in(&self, part: u8) -> Vec<Source> {
        let mut found = Vec::new();
        for shard in self.shards.iter() {
            let shard = shard.lock();
            let shared = shard.blocks.iter().filter(|(_, block)| block.is_shared);
            found.extend(
                shared
                    .map(|(source, _)| *source)
                    .filter(|source| source.part() == part),
            );
        }
        found
    }

    /// Every live block, in the order of their sources: of all processes where they are shared.
    pub async fn list(&self, now: Timestamp) -> Result<Vec<Block>, StoreError> {
        let mut all = Vec::new();
        match &self.outbox {
            Some(outbox) => {
                for part in 0..Source::PARTS {
                    all.extend(outbox.store.blocks(part).await?);
                }
            }
            None => all = self.in_memory(),
        }
        all.retain(|block| now < block.until);
        all.sort_by_key(|block| block.source);
        Ok(all)
    }

    /// Ends the block of one source or of all, and forgets what they failed before. Answers how many live ones there
    /// were.
    pub async fn clear(&self, only: Option<Source>, now: Timestamp) -> Result<u64, StoreError> {
        let mut live = self.list(now).await?;
        live.retain(|block| only.is_none_or(|source| block.source == source));
        if let Some(outbox) = &self.outbox {
            outbox.store.drop_blocks(only).await?;
        }
        match only {
            Some(source) => self.forget(source),
            None => self.forget_all(),
        }
        Ok(live.len() as u64)
    }
}
