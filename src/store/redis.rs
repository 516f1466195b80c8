//! The store on Redis: many processes, one truth. Standalone, Sentinel or Cluster.
//!
//! What a tenant is and has is in one slot and changes in one script; the index that sidecars read is derived from
//! it and follows (see [`commit`]). Other processes receive invalidations by push (see [`invalidation`]).
//!
//! Nothing happens without [`RedisStore::run`]: it holds the connections and does the writing.

pub mod acl;
mod answer;
mod audit;
mod blocks;
mod budgets;
mod change;
mod claim;
mod commit;
mod connect;
mod diagnose;
mod eviction;
mod fleet;
mod guard;
mod index;
mod intent;
mod invalidation;
mod keyspace;
mod link;
mod mend;
mod nodes;
mod outbox;
mod owners;
mod problem;
mod read;
mod refusal;
mod repair;
mod root;
mod scripts;
mod settings;
mod slots;
mod state;
mod tenants;
mod time;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use redis::cmd;
use tokio::sync::{SetOnce, mpsc, oneshot};

use crate::domain::block::{Block, Source};
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

use change::damaged;
pub use claim::RootError;
use fleet::{Member, Questions};
use invalidation::{InvalidationListener, Watchers};
use keyspace::Keyspace;
use link::Link;
pub use problem::Problem;
use read::{check_place, hget, key_row, version_of};
pub use settings::{Address, Login, Settings, Tls, Topology};

/// The most changes that wait; who comes next waits for a place.
const QUEUE_LEN_MAX: usize = 1024;
/// The most changes under way at a time.
const AT_ONCE_MAX: usize = 256;

/// Whether this process may change anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A sidecar: it runs under an ACL user that may only read.
    Read,
    /// A control plane: it writes, and ends what was begun and not ended.
    Write,
}

/// A store on Redis.
pub struct RedisStore {
    names: Keyspace,
    access: Access,
    link: Link,
    watchers: Arc<Watchers>,
    invalidations: InvalidationListener,
    questions: Arc<Questions>,
    member: SetOnce<Member>,
    damage: Damage,
    /// By how much our clock is ahead of the servers', in ms.
    skew_ms: AtomicI64,
    queue: mpsc::Sender<Job>,
    // Taken by `run`.
    jobs: Mutex<Option<mpsc::Receiver<Job>>>,
}

struct Job {
    write: Write,
    answer: oneshot::Sender<Result<(), CommitError>>,
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}

impl RedisStore {
    /// A store that is not connected yet. The first use of rustls must have been prepared by the caller.
    pub fn new(settings: Settings, access: Access) -> Arc<Self> {
        let prefix = settings.prefix.clone();
        let names = Keyspace::new(&prefix);
        let watchers = Arc::new(Watchers::default());
        let questions = Arc::new(Questions::default());
        let (queue, jobs) = mpsc::channel(QUEUE_LEN_MAX);
        Arc::new(Self {
            invalidations: InvalidationListener::new(
                names.clone(),
                Arc::clone(&watchers),
                Arc::clone(&questions),
                access,
            ),
            questions,
            member: SetOnce::new(),
            damage: Damage::default(),
            skew_ms: AtomicI64::new(0),
            names,
            access,
            link: Link::new(settings, Keyspace::new(&prefix)),
            watchers,
            queue,
            jobs: Mutex::new(Some(jobs)),
        })
    }

    /// From now on, only a store of this keyring is used: anything else that answers is an outage.
    pub fn belongs_to(&self, keyring: &str) {
        self.link.guard().expect(keyring);
    }

    /// Connects, once. Without it, [`Self::run`] connects.
    pub async fn connect(&self) -> Result<(), StoreError> {
        self.link.connect().await
    }

    /// Keeps the connections, receives invalidations, serves changes. Never returns; drop the future to stop.
    pub async fn run(self: Arc<Self>) {
        let jobs = self.jobs.lock().take();
        let Some(jobs) = jobs else {
            return;
        };
        let write = async {
            match self.access {
                Access::Read => self.refuse_all(jobs).await,
                Access::Write => {
                    futures_util::future::join(self.serve(jobs), self.work()).await;
                }
            }
        };
        let listen = self.invalidations.listen(&self.link);
        // What was restored may be older than what is in memory.
        let watch = self.link.watch_root(|| self.invalidations.invalidate_all());
        let watch = futures_util::future::join(watch, self.watch_clock());
        tokio::join!(self.link.keep(), listen, watch, self.take_part(), write);
    }

    async fn refuse_all(&self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(job) = jobs.recv().await {
            let error = StoreError::Unavailable("this process only reads the store".into());
            drop(job.answer.send(Err(error.into())));
        }
    }

    /// Does what is asked, side by side, whether or not anybody still waits for it.
    async fn serve(&self, mut jobs: mpsc::Receiver<Job>) {
        let mut under_way = FuturesUnordered::new();
        loop {
            tokio::select! {
                Some(job) = jobs.recv(), if under_way.len() < AT_ONCE_MAX => {
                    under_way.push(self.change(job));
                }
                Some(()) = under_way.next(), if !under_way.is_empty() => {}
            }
        }
    }

    async fn change(&self, job: Job) {
        let mut result = self.do_if_ours(&job.write).await;
        if let Err(CommitError::Store(StoreError::Damaged(met))) = &result
            && self.make_room(&job.write, met).await
        {
            result = self.do_if_ours(&job.write).await;
        }
        // Nobody waits any more when the caller's future was dropped; the change stands.
        drop(job.answer.send(result));
    }

    /// A store that has lost its data is not written to, and its refusals say nothing.
    async fn do_if_ours(&self, write: &Write) -> Result<(), CommitError> {
        let near = self.names.tenant(write.tenant());
        self.link.verify(&near).await?;
        match self.attempt(write).await {
            Err(error @ CommitError::Store(_)) => Err(error),
            Err(refused) => {
                self.link.verify(&near).await?;
                Err(refused)
            }
            Ok(()) => Ok(()),
        }
    }

    async fn attempt(&self, write: &Write) -> Result<(), CommitError> {
        match write {
            Write::Tenant(commit) => self.change_tenant(commit).await,
            Write::Key(commit) => self.change_key(commit).await,
            Write::DeleteTenant {
                tenant,
                dek_id,
                expected,
            } => self.remove_tenant(tenant, *dek_id, *expected).await,
            Write::AppendAudit {
                tenant,
                dek_id,
                after,
                entries,
            } => self.continue_audit(tenant, *dek_id, *after, entries).await,
        }
    }

    async fn submit(&self, write: Write) -> Result<(), CommitError> {
        let stopped = || StoreError::Unavailable("the store has stopped".into());
        let (answer, answered) = oneshot::channel();
        self.queue
            .send(Job { write, answer })
            .await
            .map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }
}

impl Store for RedisStore {
    fn info(&self) -> StoreInfo {
        StoreInfo {
            kind: "redis",
            location: self.link.settings().location(),
        }
    }

    fn repair(&self) -> &dyn Repair {
        self
    }

    fn keyring_id<'a>(&'a self, id_if_new: &'a str) -> StoreFuture<'a, String> {
        Box::pin(async move {
            let nobody = |_: &TenantId, _: &[u8]| false;
            Ok(self.remember(id_if_new, &nobody).await?)
        })
    }

    fn ping(&self) -> StoreFuture<'_, ()> {
        Box::pin(async move { self.keyring_of_root().await.map(drop) })
    }
}

impl Records for RedisStore {
    fn damage(&self) -> &Damage {
        &self.damage
    }

    fn index(&self, lookup_id: LookupId) -> StoreFuture<'_, Option<IndexRow>> {
        Box::pin(async move {
            let mut get = cmd("HMGET");
            let name = self.names.index(lookup_id);
            get.arg(&name);
            get.arg(["v", "n", "r", "b", "t", "k", "d"].as_slice());
            let fields: [Option<Vec<u8>>; 7] = self.link.read(&name, &get).await?;
            let [order, change, revoked, body, place @ ..] = fields;
            // Without a body it is a claim, or what is left of an entry that was removed.
            let Some(body) = body else {
                return Ok(None);
            };
            let order = order.ok_or_else(|| damaged("an index entry without a version"))?;
            check_place(&body, &place)?;
            Ok(Some(IndexRow {
                lookup_id,
                version: version_of(&order, change.as_deref(), "an index entry's version")?,
                revoked: revoked.is_some(),
                body,
            }))
        })
    }

    fn tenant<'a>(&'a self, tenant: &'a TenantId) -> StoreFuture<'a, Option<TenantRow>> {
        Box::pin(self.fetch_tenant(tenant))
    }

    fn was_deleted<'a>(&'a self, tenant: &'a TenantId) -> StoreFuture<'a, bool> {
        Box::pin(self.is_deleted(tenant))
    }

    fn tenants<'a>(
        &'a self,
        after: Option<&'a TenantId>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<TenantRow>> {
        Box::pin(self.page_of_tenants(after, limit))
    }

    fn key<'a>(&'a self, tenant: &'a TenantId, key: &'a KeyId) -> StoreFuture<'a, Option<KeyRow>> {
        Box::pin(async move {
            let keys = self.names.of_tenant(tenant).keys();
            let get = hget(&keys, key.as_str().as_bytes());
            let stored: Option<Vec<u8>> = self.link.read(&keys, &get).await?;
            stored
                .map(|stored| key_row(key.clone(), &stored))
                .transpose()
        })
    }

    fn keys<'a>(
        &'a self,
        tenant: &'a TenantId,
        after: Option<&'a KeyId>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<KeyRow>> {
        Box::pin(self.page_of_keys(tenant, after, limit))
    }

    fn owner_index(&self) -> Option<&dyn OwnerIndex> {
        Some(self)
    }

    fn live_keys<'a>(
        &'a self,
        tenant: &'a TenantId,
        owner_tag: [u8; 16],
    ) -> StoreFuture<'a, (u64, u64)> {
        Box::pin(async move {
            let owners = self.names.of_tenant(tenant).owners();
            let get = hget(&owners, &owner_tag);
            let of_owner: Option<u64> = self.link.read(&owners, &get).await?;
            let total = self.names.total();
            let mut get = cmd("GET");
            get.arg(&total);
            let total: Option<u64> = self.link.read(&total, &get).await?;
            Ok((of_owner.unwrap_or(0), total.unwrap_or(0)))
        })
    }

    fn audit<'a>(
        &'a self,
        tenant: &'a TenantId,
        limit: usize,
    ) -> StoreFuture<'a, Vec<(u64, Vec<u8>)>> {
        Box::pin(self.newest_audit(tenant, limit))
    }

    fn audit_after<'a>(
        &'a self,
        tenant: &'a TenantId,
        after: u64,
        limit: usize,
    ) -> StoreFuture<'a, Vec<(u64, Vec<u8>)>> {
        Box::pin(self.audit_page(tenant, after, limit))
    }

    fn request<'a>(
        &'a self,
        tenant: &'a TenantId,
        tag: [u8; 16],
    ) -> StoreFuture<'a, Option<IdempotencyRecord>> {
        Box::pin(self.fetch_request(tenant, tag))
    }

    fn commit_tenant(&self, commit: TenantCommit) -> StoreFuture<'_, (), CommitError> {
        Box::pin(self.submit(Write::Tenant(commit)))
    }

    fn commit_key(&self, commit: KeyCommit) -> StoreFuture<'_, (), CommitError> {
        Box::pin(self.submit(Write::Key(commit)))
    }

    fn append_audit<'a>(
        &'a self,
        tenant: &'a TenantId,
        dek_id: u64,
        after: u64,
        entries: Vec<Vec<u8>>,
    ) -> StoreFuture<'a, (), CommitError> {
        Box::pin(self.submit(Write::AppendAudit {
            tenant: tenant.clone(),
            dek_id,
            after,
            entries,
        }))
    }

    fn delete_tenant<'a>(
        &'a self,
        tenant: &'a TenantId,
        dek_id: u64,
        expected: Version,
    ) -> StoreFuture<'a, (), CommitError> {
        Box::pin(self.submit(Write::DeleteTenant {
            tenant: tenant.clone(),
            dek_id,
            expected,
        }))
    }
}

impl Invalidations for RedisStore {
    fn watch(&self, watcher: Arc<dyn Watcher>) {
        self.invalidations.add(watcher);
    }
}

impl Fleet for RedisStore {
    fn sidecars(&self) -> StoreFuture<'_, Vec<Sidecar>> {
        Box::pin(self.live_sidecars())
    }

    fn late<'a>(
        &'a self,
        lookup_ids: &'a [LookupId],
        within: Duration,
    ) -> StoreFuture<'a, Confirmed> {
        Box::pin(self.late_sidecars(lookup_ids, within))
    }
}

impl BlockStore for RedisStore {
    fn shares_blocks(&self) -> bool {
        true
    }

    fn put_block(&self, block: Block) -> StoreFuture<'_, ()> {
        Box::pin(self.publish_block(block))
    }

    fn blocks(&self, part: u8) -> StoreFuture<'_, Vec<Block>> {
        Box::pin(self.blocks_of(part))
    }

    fn drop_blocks(&self, only: Option<Source>) -> StoreFuture<'_, ()> {
        Box::pin(self.remove_blocks(only))
    }
}

impl BudgetStore for RedisStore {
    fn settle<'a>(&'a self, tenant: &'a TenantId, call: &'a Settle) -> StoreFuture<'a, Settled> {
        Box::pin(self.settle_call(tenant, call))
    }
}

impl Leases for RedisStore {
    fn lease<'a>(
        &'a self,
        name: &'a str,
        holder: &'a str,
        length: Duration,
    ) -> StoreFuture<'a, bool> {
        Box::pin(self.take_lease(name, holder, length))
    }
}
