//! What the writer is asked to do, and what comes of it.

use crate::clock::Timestamp;
use crate::domain::key::LookupId;
use crate::domain::name::TenantId;
use crate::store::owners::OwnerEntry;
use crate::store::write::Write;
use crate::store::{CommitError, KeyRow, StoreError, TenantRow};

/// What the writer is asked to do.
#[derive(Debug)]
pub(super) enum Operation {
    Write(Write),
    RememberKeyring(String),
    Fix(Fix),
    Quotas(Vec<QuotaRow>, Timestamp),
}

/// What watchers are to be told.
#[derive(Debug, Default)]
pub(super) struct Touched {
    pub(super) index: Vec<LookupId>,
    pub(super) tenant: Option<TenantId>,
}

/// Why a change did not happen.
#[derive(Debug)]
pub(super) enum Stop {
    /// It was refused and has written nothing.
    Refused(CommitError),
    /// The transaction must not be committed.
    Failed(StoreError),
}

impl From<CommitError> for Stop {
    fn from(error: CommitError) -> Self {
        Self::Refused(error)
    }
}

impl From<redb::StorageError> for Stop {
    fn from(error: redb::StorageError) -> Self {
        Self::Failed(error.into())
    }
}

/// What a quota's bucket is in the file: what is used or held of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct QuotaRow {
    pub(super) tenant: TenantId,
    pub(super) name: String,
    pub(super) until: i64,
    pub(super) used: u64,
}

/// One repair.
#[derive(Debug)]
pub(super) enum Fix {
    Tenant {
        row: TenantRow,
        seen: Vec<u8>,
    },
    Key {
        tenant: TenantId,
        row: KeyRow,
        seen: Vec<u8>,
    },
    DropEntry {
        lookup_id: LookupId,
        seen: Vec<u8>,
    },
    ForbidEntry(LookupId),
    Counts {
        tenant: TenantId,
        dek_id: u64,
        owners: Vec<([u8; 16], u64)>,
        number: u64,
    },
    Lookups {
        tenant: TenantId,
        lookups: Vec<LookupId>,
    },
    Sum(u64),
    Owners {
        tenant: TenantId,
        dek_id: u64,
        put: Vec<OwnerEntry>,
        remove: Vec<OwnerEntry>,
    },
    OwnersWhole {
        tenant: TenantId,
        dek_id: u64,
    },
}
