//! The embedded store: one `redb` file of one process, or memory.
//!
//! Reads see the last durable commit. Writes go through one thread, which puts many waiting commits into one
//! transaction and so into one `fsync`; see [`writer`].
//!
//! What deletion promises: after [`Records::delete_tenant`] no read finds anything of the tenant, whatever crashes.
//! It does not promise that the bytes are gone from the disk. `redb` copies pages on write, so the wrapped data
//! key may stay in a free page of the file until that page is used again, and nothing above `redb` can reach it;
//! backups and the disk itself keep copies too. Whoever has such a copy still needs the keyring to unwrap it:
//! to make it worthless, rotate the keyring and destroy the old key-encryption key.

mod budgets;
mod idempotency;
mod open;
mod operation;
mod overlay;
mod owners;
mod repair;
mod tables;
mod version_prefix;
mod write;
mod writer;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use redb::{Database, ReadTransaction, ReadableDatabase};

use crate::domain::key::LookupId;
use crate::domain::name::{KeyId, TenantId};
use crate::domain::version::Version;
use crate::store::budgets::{Settle, Settled};
use crate::store::damage::Damage;
use crate::store::owners::OwnerIndex;
use crate::store::repair::Repair;
use crate::store::write::Write;
use crate::store::{
    BlockStore, BudgetStore, CommitError, Confirmed, Fleet, IdempotencyRecord, IndexRow,
    Invalidations, KeyCommit, KeyRow, Leases, Records, Sidecar, Store, StoreError, StoreFuture,
    StoreInfo, TenantCommit, TenantRow, Watcher,
};

use budgets::Budgets;
pub use open::{Facts, OpenError};
use operation::Operation;
use tables as t;
use writer::Writer;

/// A store in one file, or in memory.
pub struct EmbeddedStore {
    location: String,
    // Before `database`: the writer finishes what is queued, then lets go of the file.
    writer: Writer,
    database: Arc<Database>,
    budgets: Budgets,
    damage: Damage,
}

impl fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedStore")
            .field("location", &self.location)
            .finish_non_exhaustive()
    }
}

impl EmbeddedStore {
    /// Opens the store in the file at `path`, or makes it (mode 0600) when there is no such file.
    ///
    /// Checks the whole file first, so the time grows with its size. A file that is refused is left as it was.
    /// Blocks: call it before the runtime has work to do.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Self::open_if(path, |_| Ok(()))
    }

    /// The same, unless `accept` refuses what the store shows: then, too, the file is left as it was.
    pub fn open_if<E: From<OpenError>>(
        path: &Path,
        accept: impl FnOnce(&Facts) -> Result<(), E>,
    ) -> Result<Self, E> {
        let database = open::open(path, accept)?;
        let started = Self::start(database, path.display().to_string());
        started.map_err(|error| {
            let path = path.to_owned();
            OpenError::Io { path, error }.into()
        })
    }

    /// A store that is in the file at `path`, unless `accept` refuses what it shows, to be read: what is written
    /// to it stays in memory and the file is left as it was.
    pub fn open_to_read<E: From<OpenError>>(
        path: &Path,
        accept: impl FnOnce(&Facts) -> Result<(), E>,
    ) -> Result<Self, E> {
        let (database, facts) = open::open_to_read(path)?;
        accept(&facts)?;
        let started = Self::start(database, path.display().to_string());
        started.map_err(|error| {
            let path = path.to_owned();
            OpenError::Io { path, error }.into()
        })
    }

    /// A store that is gone when it is dropped.
    pub fn in_memory() -> Result<Self, OpenError> {
        let path = Path::new("memory");
        let database = open::in_memory(path)?;
        Self::start(database, "memory".to_owned()).map_err(|error| OpenError::Io {
            path: path.to_owned(),
            error,
        })
    }

    fn start(database: Database, location: String) -> std::io::Result<Self> {
        let database = Arc::new(database);
        Ok(Self {
            location,
            writer: Writer::start(Arc::clone(&database))?,
            database,
            budgets: Budgets::default(),
            damage: Damage::default(),
        })
    }

    /// A read of a few pages, most likely cached: cheaper than a change of thread.
    fn point<T>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        read(&self.database.begin_read()?)
    }

    /// A read of many pages, away from the threads that answer requests.
    async fn scan<T: Send + 'static>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let database = Arc::clone(&self.database);
        tokio::task::spawn_blocking(move || read(&database.begin_read()?))
            .await
            .map_err(|error| StoreError::Unavailable(error.into()))?
    }
}

impl Store for EmbeddedStore {
    fn info(&self) -> StoreInfo {
        StoreInfo {
            kind: "embedded",
            location: self.location.clone(),
        }
    }

    fn repair(&self) -> &dyn Repair {
        self
    }

    fn keyring_id<'a>(&'a self, id_if_new: &'a str) -> StoreFuture<'a, String> {
        Box::pin(async move {
            if let Some(id) = self.point(t::keyring_id)? {
                return Ok(id);
            }
            let remember = Operation::RememberKeyring(id_if_new.to_owned());
            match self.writer.submit(remember).await {
                Ok(()) => {}
                Err(CommitError::Store(error)) => return Err(error),
                Err(refused) => return Err(StoreError::Damaged(refused.to_string())),
            }
            self.point(t::keyring_id)?
                .ok_or_else(|| StoreError::Damaged("the keyring id is not kept".to_owned()))
        })
    }

    fn ping(&self) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            self.writer.alive()?;
            self.point(t::format).map(drop)
        })
    }
}

impl Records for EmbeddedStore {
    fn damage(&self) -> &Damage {
        &self.damage
    }

    fn index(&self, lookup_id: LookupId) -> StoreFuture<'_, Option<IndexRow>> {
        Box::pin(async move { self.point(|txn| t::index(txn, lookup_id)) })
    }

    fn tenant<'a>(&'a self, tenant: &'a TenantId) -> StoreFuture<'a, Option<TenantRow>> {
        Box::pin(async move { self.point(|txn| t::tenant(txn, tenant)) })
    }

    fn tenants<'a>(
        &'a self,
        after: Option<&'a TenantId>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<TenantRow>> {
        let after = after.cloned();
        Box::pin(self.scan(move |txn| t::tenants(txn, after.as_ref(), limit)))
    }

    fn key<'a>(&'a self, tenant: &'a TenantId, key: &'a KeyId) -> StoreFuture<'a, Option<KeyRow>> {
        Box::pin(async move { self.point(|txn| t::key(txn, tenant, key)) })
    }

    fn keys<'a>(
        &'a self,
        tenant: &'a TenantId,
        after: Option<&'a KeyId>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<KeyRow>> {
        let (tenant, after) = (tenant.clone(), after.cloned());
        Box::pin(self.scan(move |txn| t::keys(txn, &tenant, after.as_ref(), limit)))
    }

    fn owner_index(&self) -> Option<&dyn OwnerIndex> {
        Some(self)
    }

    fn live_keys<'a>(
        &'a self,
        tenant: &'a TenantId,
        owner_tag: [u8; 16],
    ) -> StoreFuture<'a, (u64, u64)> {
        Box::pin(async move { self.point(|txn| t::live_keys(txn, tenant, owner_tag)) })
    }

    fn audit<'a>(
        &'a self,
        tenant: &'a TenantId,
        limit: usize,
    ) -> StoreFuture<'a, Vec<(u64, Vec<u8>)>> {
        let tenant = tenant.clone();
        Box::pin(self.scan(move |txn| t::audit(txn, &tenant, limit)))
    }

    fn audit_after<'a>(
        &'a self,
        tenant: &'a TenantId,
        after: u64,
        limit: usize,
    ) -> StoreFuture<'a, Vec<(u64, Vec<u8>)>> {
        let tenant = tenant.clone();
        Box::pin(self.scan(move |txn| t::audit_after(txn, &tenant, after, limit)))
    }

    fn request<'a>(
        &'a self,
        tenant: &'a TenantId,
        tag: [u8; 16],
    ) -> StoreFuture<'a, Option<IdempotencyRecord>> {
        Box::pin(async move { self.point(|txn| t::request(txn, tenant, tag)) })
    }

    fn commit_tenant(&self, commit: TenantCommit) -> StoreFuture<'_, (), CommitError> {
        Box::pin(self.writer.submit(Operation::Write(Write::Tenant(commit))))
    }

    fn commit_key(&self, commit: KeyCommit) -> StoreFuture<'_, (), CommitError> {
        Box::pin(self.writer.submit(Operation::Write(Write::Key(commit))))
    }

    fn append_audit<'a>(
        &'a self,
        tenant: &'a TenantId,
        dek_id: u64,
        after: u64,
        entries: Vec<Vec<u8>>,
    ) -> StoreFuture<'a, (), CommitError> {
        let append = Write::AppendAudit {
            tenant: tenant.clone(),
            dek_id,
            after,
            entries,
        };
        Box::pin(self.writer.submit(Operation::Write(append)))
    }

    fn delete_tenant<'a>(
        &'a self,
        tenant: &'a TenantId,
        dek_id: u64,
        expected: Version,
    ) -> StoreFuture<'a, (), CommitError> {
        let delete = Write::DeleteTenant {
            tenant: tenant.clone(),
            dek_id,
            expected,
        };
        Box::pin(async move {
            self.writer.submit(Operation::Write(delete)).await?;
            self.budgets.forget(tenant);
            Ok(())
        })
    }
}

impl Invalidations for EmbeddedStore {
    fn watch(&self, watcher: Arc<dyn Watcher>) {
        self.writer.watch(watcher);
    }
}

impl Fleet for EmbeddedStore {
    /// None: whoever uses this store is in this process, and is told before a commit returns.
    fn sidecars(&self) -> StoreFuture<'_, Vec<Sidecar>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn late<'a>(&'a self, _: &'a [LookupId], _: Duration) -> StoreFuture<'a, Confirmed> {
        Box::pin(async { Ok(Confirmed::default()) })
    }
}

impl BlockStore for EmbeddedStore {}

impl BudgetStore for EmbeddedStore {
    fn settle<'a>(&'a self, tenant: &'a TenantId, call: &'a Settle) -> StoreFuture<'a, Settled> {
        Box::pin(self.settle_call(tenant, call))
    }
}

impl Leases for EmbeddedStore {}
