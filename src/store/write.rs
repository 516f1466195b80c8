//! A change as it is queued, the same for every store.

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
