//! A table in parts, each with a lock of its own, so that few threads meet at one.

use std::hash::{BuildHasher as _, Hash, RandomState};

/// `N` parts of a table.
#[derive(Debug)]
pub struct Sharded<T, const N: usize> {
    hasher: RandomState,
    shards: Box<[T]>,
}

impl<T: Default, const N: usize> Default for Sharded<T, N> {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            shards: (0..N).map(|_| T::default()).collect(),
        }
    }
}

impl<T, const N: usize> Sharded<T, N> {
    /// The hash of an entry, which nobody outside can foresee.
    pub fn hash(&self, of: impl Hash) -> u64 {
        self.hasher.hash_one(of)
    }

    /// The part that an entry is in: by bits of its hash that std's tables do not look at first.
    pub fn at(&self, hash: u64) -> &T {
        &self.shards[(hash >> 32) as usize % N]
    }

    /// All of them.
    pub fn iter(&self) -> std::slice::Iter<'_, T> {
        self.shards.iter()
    }
}
