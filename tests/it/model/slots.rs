//! The slots of a store in memory: each changes as a whole, and can fall back to any state that it ever had.

use std::collections::BTreeMap;

use keystile::domain::key::LookupId;
use keystile::domain::name::{KeyId, TenantId};
use keystile::store::{
    CommitError, CountChange, Expected, IdempotencyRecord, IndexRow, KeyCommit, KeyRow, Succession,
    TenantRow,
};

/// A shard of a store, with all the states that it had.
pub(super) struct Shard<T> {
    now: T,
    before: Vec<T>,
}

impl<T: Clone> Shard<T> {
    pub(super) fn new(now: T) -> Self {
        Self {
            now,
            before: Vec::new(),
        }
    }

    pub(super) fn read(&self) -> &T {
        &self.now
    }

    pub(super) fn change<A>(&mut self, change: impl FnOnce(&mut T) -> A) -> A {
        self.before.push(self.now.clone());
        change(&mut self.now)
    }

    /// Falls back by so many changes, and goes on from there.
    pub(super) fn fall_back(&mut self, changes: usize) {
        for _ in 0..changes {
            if let Some(before) = self.before.pop() {
                self.now = before;
            }
        }
    }
}

/// What is decided of a tenant: one slot.
#[derive(Clone, Default)]
pub(super) struct TenantSlot {
    pub(super) tenant: Option<TenantRow>,
    pub(super) keys: BTreeMap<KeyId, KeyRow>,
    /// Index writes that are not confirmed.
    pub(super) outbox: BTreeMap<LookupId, (KeyId, IndexRow)>,
    /// Revocations that are decided and not in the index.
    pub(super) revoking: BTreeMap<KeyId, KeyCommit>,
    pub(super) requests: BTreeMap<[u8; 16], IdempotencyRecord>,
    pub(super) live: u64,
    pub(super) audit: u64,
}

/// What the slot says to a change.
pub(super) enum Decided {
    Done,
    Revoking(Box<KeyCommit>),
    Refused(CommitError),
}

impl TenantSlot {
    pub(super) fn objection(&self, commit: &KeyCommit) -> Option<Decided> {
        let refused = |error| Some(Decided::Refused(error));
        let is_theirs = |row: &TenantRow| row.dek_id == commit.dek_id;
        if !self.tenant.as_ref().is_some_and(is_theirs) {
            return refused(CommitError::NotFound);
        }
        if let Some(kept) = self.revoking.get(&commit.row.id) {
            return Some(Decided::Revoking(Box::new(kept.clone())));
        }
        match (commit.expected, self.keys.get(&commit.row.id)) {
            (Expected::Version(_), None) => refused(CommitError::NotFound),
            (Expected::Version(expected), Some(row)) if row.version != expected => {
                refused(CommitError::Conflict)
            }
            (Expected::New | Expected::FirstOfTenant, Some(_)) => refused(CommitError::Exists),
            _ => None,
        }
    }

    /// Commits a change; a revocation is only kept.
    pub(super) fn commit(&mut self, commit: &KeyCommit) -> Decided {
        if let Some(objection) = self.objection(commit) {
            return objection;
        }
        if commit.is_revocation() {
            self.revoking.insert(commit.row.id.clone(), commit.clone());
        } else {
            self.apply(commit);
            for row in &commit.index {
                let write = (commit.row.id.clone(), row.clone());
                self.outbox.insert(row.lookup_id, write);
            }
        }
        Decided::Done
    }

    fn apply(&mut self, commit: &KeyCommit) {
        self.keys.insert(commit.row.id.clone(), commit.row.clone());
        match commit.count {
            CountChange::None => {}
            CountChange::Add { .. } => self.live += 1,
            CountChange::Remove => self.live = self.live.saturating_sub(1),
        }
        if let Some(request) = &commit.request {
            self.requests.insert(request.tag, request.clone());
        }
        self.audit += 1;
    }

    /// Makes a kept revocation the truth. Whether the key's record is what it has made.
    pub(super) fn finish(&mut self, commit: &KeyCommit) -> bool {
        let kept = self.revoking.get(&commit.row.id);
        if kept.is_some_and(|kept| kept.row == commit.row) {
            self.revoking.remove(&commit.row.id);
            self.apply(commit);
        }
        self.keys.get(&commit.row.id) == Some(&commit.row)
    }

    pub(super) fn confirm(&mut self, row: &IndexRow) {
        let waiting = self.outbox.get(&row.lookup_id);
        if waiting.is_some_and(|(_, waiting)| waiting.version == row.version) {
            self.outbox.remove(&row.lookup_id);
        }
    }
}

/// An index entry with whose it is.
#[derive(Clone)]
pub(super) struct Entry {
    owner: (TenantId, KeyId, u64),
    pub(super) row: IndexRow,
}

/// Index entries: slots that fall back together.
pub(super) type Index = BTreeMap<LookupId, Entry>;

pub(super) fn owner_of(commit: &KeyCommit) -> (TenantId, KeyId, u64) {
    (commit.tenant.clone(), commit.row.id.clone(), commit.dek_id)
}

/// Writes an entry by the rule of all backends. None: it is another key's.
pub(super) fn write(
    index: &mut Index,
    owner: &(TenantId, KeyId, u64),
    row: &IndexRow,
) -> Option<Succession> {
    let succession = match index.get(&row.lookup_id) {
        Some(there) if there.owner != *owner => return None,
        Some(there) => row.succeeds(there.row.version, there.row.revoked),
        None => Succession::Written,
    };
    if succession == Succession::Written {
        let entry = Entry {
            owner: owner.clone(),
            row: row.clone(),
        };
        index.insert(row.lookup_id, entry);
    }
    Some(succession)
}

/// Marks an entry of a key as revoked: another one of it is.
pub(super) fn mark_revoked(index: &mut Index, owner: &(TenantId, KeyId, u64), id: LookupId) {
    if let Some(entry) = index.get_mut(&id).filter(|entry| entry.owner == *owner) {
        entry.row.revoked = true;
    }
}

/// Whether a change may write where this entry is.
pub(super) fn claim(index: &Index, commit: &KeyCommit, row: &IndexRow) -> Result<(), CommitError> {
    let Some(there) = index.get(&row.lookup_id) else {
        return Ok(());
    };
    let is_update = matches!(commit.expected, Expected::Version(_));
    if !is_update || there.owner != owner_of(commit) {
        return Err(CommitError::Exists);
    }
    if there.row.revoked && !commit.is_revocation() {
        return Err(CommitError::Revoked);
    }
    Ok(())
}
