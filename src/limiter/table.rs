//! Slices by what they are of. Found by many threads at each request, made and forgotten seldom.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::domain::limit::LimitName;
use crate::limiter::Subject;
use crate::limiter::slice::Slice;
use crate::sharded::Sharded;

/// A power of two: few threads meet in one shard.
const SHARDS: usize = 64;

/// By hash; two with the same hash are told apart by their names.
type Shard<T> = RwLock<HashMap<u64, Vec<Arc<T>>>>;

#[derive(Debug)]
pub(super) struct Table<T> {
    shards: Sharded<Shard<T>, SHARDS>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            shards: Sharded::default(),
        }
    }
}

impl<T> Table<T> {
    /// Stands for a limit of a tenant or key, and of which window.
    pub(super) fn hash(&self, subject: &Subject<'_>, limit: LimitName, from: i64) -> u64 {
        let key = if limit.is_of_key() { subject.key } else { "" };
        self.shards.hash((
            subject.tenant.as_str(),
            subject.incarnation,
            key,
            limit as u8,
            from,
        ))
    }

    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().len()).sum()
    }
}

fn is_of(slice: &Slice, subject: &Subject<'_>, key: Option<&str>, limit: LimitName) -> bool {
    slice.limit == limit
        && slice.tenant == *subject.tenant
        && slice.incarnation == subject.incarnation
        && slice.key.as_deref() == key
}

impl Table<Slice> {
    /// The slice of a limit; it is made if there is none.
    pub(super) fn get(&self, subject: &Subject<'_>, limit: LimitName, from: i64) -> Arc<Slice> {
        let hash = self.hash(subject, limit, from);
        let key = limit.is_of_key().then_some(subject.key);
        let find = |slices: &Vec<Arc<Slice>>| {
            let found = slices
                .iter()
                .find(|slice| is_of(slice, subject, key, limit) && slice.from == from);
            found.map(Arc::clone)
        };
        let shard = self.shards.at(hash);
        if let Some(slice) = shard.read().get(&hash).and_then(find) {
            return slice;
        }
        let mut shard = shard.write();
        let slices = shard.entry(hash).or_default();
        // Somebody may have been faster.
        find(slices).unwrap_or_else(|| {
            let slice = Arc::new(Slice::new(
                (subject.tenant.clone(), subject.incarnation),
                key,
                limit,
                from,
            ));
            slices.push(Arc::clone(&slice));
            slice
        })
    }

    /// Those that `wanted` picks; those that nobody holds and `forget` names are let go.
    pub(super) fn sweep(
        &self,
        wanted: impl Fn(&Slice) -> bool,
        forget: impl Fn(&Slice) -> bool,
    ) -> Vec<Arc<Slice>> {
        let mut picked = Vec::new();
        for shard in self.shards.iter() {
            let slices = shard.read();
            let any = slices.values().flatten();
            let mut to_forget = false;
            for slice in any {
                to_forget |= forget(slice);
                if wanted(slice) {
                    picked.push(Arc::clone(slice));
                }
            }
            drop(slices);
            if to_forget {
                shard.write().retain(|_, slices| {
                    slices.retain(|slice| Arc::strong_count(slice) > 1 || !forget(slice));
                    !slices.is_empty()
                });
            }
        }
        picked
    }
}
