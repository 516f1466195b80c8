//! A change as it is queued, the same for every store.

use crate::domain::key::LookupId;
use crate::domain::name::TenantId;
use crate::domain::version::Version;
use crate::store::{KeyCommit, TenantCommit};

/// What [`crate::store::Records`] is asked to change.
#[derive(Debug)]
pub(in crate::store) enum Write {
    Tenant(TenantCommit),
    Key(KeyCommit),
    DeleteTenant {
        tenant: TenantId,
        dek_id: u64,
        expected: Version,
    },
    AppendAudit {
        tenant: TenantId,
        dek_id: u64,
        after: u64,
        entries: Vec<Vec<u8>>,
    },
}

impl Write {
    /// Whose records it changes.
    pub(in crate::store) fn tenant(&self) -> &TenantId {
        match self {
            Self::Tenant(commit) => &commit.row.id,
            Self::Key(commit) => &commit.tenant,
            Self::DeleteTenant { tenant, .. } | Self::AppendAudit { tenant, .. } => tenant,
        }
    }

    /// The index entries that it writes or removes.
    pub(in crate::store) fn lookup_ids(&self) -> Vec<LookupId> {
        let Self::Key(commit) = self else {
            return Vec::new();
        };
        commit.lookup_ids().collect()
    }
}

impl KeyCommit {
    /// The index entries that it writes or removes.
    pub(in crate::store) fn lookup_ids(&self) -> impl Iterator<Item = LookupId> {
        let written = self.index.iter().map(|entry| entry.lookup_id);
        written.chain(self.drop.iter().copied())
    }
}
