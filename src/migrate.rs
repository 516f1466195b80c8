//! Copies everything from one store to another: tenants, keys, index entries, counts and audit.
//!
//! Records are copied as they are sealed; they are opened only to find what belongs to them. Existing
//! entries of the destination are skipped, so an interrupted copy is resumed by running it again. A
//! tenant that is not the same there is named and nothing of it is overwritten. The source is only read.
//!
//! Nobody may write to either store meanwhile. What is remembered of requests is not copied: it expires in a day.
#![warn(missing_docs)]

mod census;
mod copying;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};

use crate::crypto::digest::LookupKey;
use crate::crypto::keyring::Keyring;
use crate::domain::name::TenantId;
use crate::store::records::RecordError;
use crate::store::{Store, StoreError, TenantRow};

pub use census::Census;
use copying::Copying;

/// How many tenants are worked on at a time: enough that their commits share the disk's or the network's time.
const TENANTS_AT_ONCE: usize = 64;
/// How many rows are read at a time.
const PAGE: usize = 100;

/// Why a copy stopped. What has been copied stays.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The source failed.
    #[error("cannot read the source")]
    Source(#[source] StoreError),
    /// The destination failed.
    #[error("cannot use the destination")]
    Destination(#[source] StoreError),
}

/// Why tenants are not the same on both sides, or cannot be copied: a sentence for each.
pub type Findings = BTreeMap<TenantId, String>;

/// What was copied, or would be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Tenants.
    pub tenants: u64,
    /// Keys, with their index entries.
    pub keys: u64,
    /// Audit entries.
    pub audit_entries: u64,
}

/// Whether the copy is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Everything is read and compared, nothing is written.
    Try,
    /// It is made.
    Write,
}

/// Two stores and what opens their records.
pub struct Migration {
    source: Arc<dyn Store>,
    destination: Arc<dyn Store>,
    keyring: Arc<Keyring>,
    lookup: LookupKey,
}

impl fmt::Debug for Migration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Migration")
            .field("source", &self.source)
            .field("destination", &self.destination)
            .finish_non_exhaustive()
    }
}

/// Why one tenant is given up, or everything.
enum Stop {
    Tenant(String),
    Everything(MigrateError),
}

impl From<MigrateError> for Stop {
    fn from(error: MigrateError) -> Self {
        Self::Everything(error)
    }
}

impl From<RecordError> for Stop {
    fn from(error: RecordError) -> Self {
        Self::Tenant(format!("a record at the source cannot be used: {error}"))
    }
}

impl Migration {
    /// Between two stores that were made with `keyring`, whose lookup key is `lookup`.
    pub fn new(
        source: Arc<dyn Store>,
        destination: Arc<dyn Store>,
        keyring: Arc<Keyring>,
        lookup: LookupKey,
    ) -> Self {
        Self {
            source,
            destination,
            keyring,
            lookup,
        }
    }

    /// Copies what the destination does not have. `done` is told of tenants and keys, together, as they are done.
    pub async fn copy(
        &self,
        mode: Mode,
        done: &dyn Fn(usize),
    ) -> Result<(Copied, Findings), MigrateError> {
        let mut all = (Copied::default(), Findings::new());
        let mut tenants = tenants(self.source.as_ref())
            .map_err(MigrateError::Source)
            .map_ok(|row| async move { Ok(self.copy_tenant(row, mode, done).await) })
            .try_buffer_unordered(TENANTS_AT_ONCE)
            .boxed_local();
        while let Some((id, copied, stopped)) = tenants.try_next().await? {
            all.0.add(copied);
            match stopped {
                Ok(()) => {}
                Err(Stop::Tenant(why)) => drop(all.1.insert(id, why)),
                Err(Stop::Everything(error)) => return Err(error),
            }
        }
        drop(tenants);
        Ok(all)
    }

    async fn copy_tenant(
        &self,
        row: TenantRow,
        mode: Mode,
        done: &dyn Fn(usize),
    ) -> (TenantId, Copied, Result<(), Stop>) {
        let mut copying = Copying::new(self, &row, mode, done);
        let stopped = copying.run().await;
        (row.id.clone(), copying.copied, stopped)
    }

    /// Counts what is at the source, and says of which tenants records cannot be used.
    pub async fn count_source(&self) -> Result<(Census, Findings), MigrateError> {
        let counted = census::count("source", self.source.as_ref(), &self.keyring, &self.lookup);
        counted.await.map_err(MigrateError::Source)
    }

    /// Counts what is at the destination, and says of which tenants records cannot be used.
    pub async fn count_destination(&self) -> Result<(Census, Findings), MigrateError> {
        let counted = census::count(
            "destination",
            self.destination.as_ref(),
            &self.keyring,
            &self.lookup,
        );
        counted.await.map_err(MigrateError::Destination)
    }

    /// The first `limit` tenants that only the destination has.
    pub async fn strangers(&self, limit: usize) -> Result<Findings, MigrateError> {
        let mut found = Findings::new();
        let mut tenants = tenants(self.destination.as_ref()).boxed_local();
        while found.len() < limit {
            let next = tenants.try_next().await;
            let Some(row) = next.map_err(MigrateError::Destination)? else {
                break;
            };
            let here = self.source.tenant(&row.id).await;
            if here.map_err(MigrateError::Source)?.is_none() {
                found.insert(row.id, "is at the destination alone".to_owned());
            }
        }
        Ok(found)
    }
}

impl Copied {
    fn add(&mut self, more: Self) {
        self.tenants += more.tenants;
        self.keys += more.keys;
        self.audit_entries += more.audit_entries;
    }
}

/// All tenants in the order of their ids.
fn tenants(store: &dyn Store) -> impl Stream<Item = Result<TenantRow, StoreError>> {
    stream::try_unfold(None::<TenantId>, move |after| async move {
        let page = store.tenants(after.as_ref(), PAGE).await?;
        let last = page.last().map(|row| row.id.clone());
        let rows = stream::iter(page.into_iter().map(Ok::<_, StoreError>));
        Ok::<_, StoreError>(last.map(|last| (rows, Some(last))))
    })
    .try_flatten()
}
