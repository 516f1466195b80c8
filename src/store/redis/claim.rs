//! Making a store of an empty Redis, and only of that: where anything of ours is left, data was lost, and it is not
//! for who comes first to say whose it was.

use redis::aio::MultiplexedConnection;
use redis::cmd;
use tokio::time::timeout;

use super::keyspace::{self, FORMAT};
use super::root::read_root;
use super::settings::Address;
use super::{Access, RedisStore, connect, scripts};
use crate::domain::name::TenantId;
use crate::store::StoreError;

/// How many names one step of a search looks at.
const SCAN_COUNT: usize = 5_000;
/// So many tenants are tried with a keyring; one that opens proves it.
const TENANTS_TRIED_MAX: usize = 100;
/// How many markers are written at a time.
const MARKERS_AT_ONCE: usize = 2_000;

/// Why a store cannot be used with a keyring.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// There is no root record, and what is there was sealed with another keyring.
    #[error("the tenants there do not open with this keyring")]
    Foreign,
    /// The store failed, or what it holds cannot be told.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<RootError> for StoreError {
    fn from(error: RootError) -> Self {
        match error {
            RootError::Foreign => Self::Damaged(error.to_string()),
            RootError::Store(error) => error,
        }
    }
}

/// What is there beside a root record.
#[derive(Default)]
struct Remains {
    /// A name that is there.
    name: Option<String>,
    tenants: Vec<TenantId>,
}

impl RedisStore {
    /// The keyring that the store is sealed with. Where there is none, and we may write: an empty store is made ours,
    /// and one that has tenants of the keyring (`opens` says so) gets back the root record that it has lost.
    pub async fn remember(
        &self,
        keyring: &str,
        opens: &(dyn Fn(&TenantId, &[u8]) -> bool + Sync),
    ) -> Result<String, RootError> {
        if let Some(found) = self.keyring_of_root().await? {
            if self.access == Access::Write && found == keyring {
                self.complete_root(keyring).await?;
            }
            self.link.look().await?;
            return Ok(found);
        }
        if self.access == Access::Read {
            let problem = super::Problem::New;
            return Err(StoreError::Unavailable(problem.to_string().into()).into());
        }
        let remains = self.remains(TENANTS_TRIED_MAX).await?;
        if let Some(name) = remains.name {
            self.must_be_ours(&name, &remains.tenants, opens).await?;
            tracing::warn!(
                store = %self.link.settings().location(),
                "the root record was gone: this keyring opens the tenants that are there, so it is put back"
            );
        }
        self.complete_root(keyring).await?;
        self.link.look().await?;
        let made = self.keyring_of_root().await?;
        made.ok_or_else(|| StoreError::Lost("the root record is gone again".to_owned()).into())
    }

    /// Whether there is nothing of ours at all.
    pub async fn is_empty(&self) -> Result<bool, StoreError> {
        Ok(self.remains(0).await?.name.is_none())
    }

    /// The keyring of the root record.
    pub(super) async fn keyring_of_root(&self) -> Result<Option<String>, StoreError> {
        let live = self.link.live_unguarded()?;
        let root = read_root(&live, &self.names).await?;
        Ok(root.map(|root| root.keyring))
    }

    async fn must_be_ours(
        &self,
        name: &str,
        tenants: &[TenantId],
        opens: &(dyn Fn(&TenantId, &[u8]) -> bool + Sync),
    ) -> Result<(), RootError> {
        let live = self.link.live_unguarded()?;
        let mut sealed = false;
        for tenant in tenants {
            let mut get = cmd("HMGET");
            get.arg(self.names.tenant(tenant)).arg("k");
            let (wrapped,): (Option<Vec<u8>>,) = live.ask(&get).await?;
            let Some(wrapped) = wrapped else {
                continue;
            };
            if opens(tenant, &wrapped) {
                return Ok(());
            }
            sealed = true;
        }
        if sealed {
            return Err(RootError::Foreign);
        }
        Err(StoreError::Lost(format!(
            "{} is not there, but {name} is: the store has lost its data, and is not made anew while anything of it is left; restore the data, or stop all processes that use it and remove every key under the prefix",
            self.names.root()
        ))
        .into())
    }

    /// Writes what is missing of the root record, and of what stands beside it.
    async fn complete_root(&self, keyring: &str) -> Result<(), StoreError> {
        let live = self.link.live_unguarded()?;
        let mut kept = cmd("GET");
        kept.arg(self.names.store_id());
        let kept: Option<String> = live.ask(&kept).await?;
        let store_id = self
            .link
            .guard()
            .seen_store_id()
            .or_else(|| kept.clone())
            .unwrap_or_else(|| format!("{:016x}", rand::random::<u64>()));
        let args = [FORMAT.to_string(), keyring.to_owned(), store_id];
        let args = args.each_ref().map(String::as_bytes);
        let keys = [self.names.root()];
        let _is_ours: u8 = live.run(&scripts::CLAIM_ROOT, &keys, &args).await?;
        let Some(root) = read_root(&live, &self.names).await? else {
            return Ok(());
        };
        let Some(store_id) = root.store_id.filter(|_| root.keyring == keyring) else {
            return Ok(());
        };
        if kept.as_ref() != Some(&store_id) {
            let mut keep = cmd("SET");
            keep.arg(self.names.store_id()).arg(&store_id);
            let _ok: redis::Value = live.ask(&keep).await?;
        }
        if self.link.is_cluster() && !root.is_marked {
            self.mark_slots(&store_id).await?;
            let mut marked = cmd("HSET");
            marked.arg(&keys[0]).arg(keyspace::ROOT_MARKED).arg(1);
            let _new: u8 = live.ask(&marked).await?;
        }
        Ok(())
    }

    /// Writes the marker of every slot of a Cluster.
    async fn mark_slots(&self, store_id: &str) -> Result<(), StoreError> {
        let unavailable = |error: connect::ConnectError| StoreError::Unavailable(error.into());
        for (first, last, at) in self.link.ranges().await? {
            let mut connection = self.open(&at).await.map_err(unavailable)?;
            let slots: Vec<u16> = (first..=last).collect();
            self.write_markers(&mut connection, &slots, store_id)
                .await?;
        }
        Ok(())
    }

    /// Writes the markers of these slots of one server.
    pub(super) async fn write_markers(
        &self,
        connection: &mut MultiplexedConnection,
        slots: &[u16],
        store_id: &str,
    ) -> Result<(), StoreError> {
        for some in slots.chunks(MARKERS_AT_ONCE) {
            let mut pipeline = redis::pipe();
            for slot in some {
                let marker = self.names.marker(*slot);
                pipeline.cmd("HSET").arg(marker);
                pipeline.arg(keyspace::ROOT_STORE).arg(store_id).ignore();
            }
            let written = pipeline.query_async::<()>(connection);
            written
                .await
                .map_err(|error| StoreError::Unavailable(error.into()))?;
        }
        Ok(())
    }

    pub(super) async fn open(
        &self,
        at: &Address,
    ) -> Result<MultiplexedConnection, connect::ConnectError> {
        connect::open(self.link.settings(), at, |_| {}).await
    }

    /// Looks through all names for ours, until one is found and so many tenants, or all were seen.
    async fn remains(&self, tenants_max: usize) -> Result<Remains, StoreError> {
        let mut remains = Remains::default();
        for at in self.link.primaries().await? {
            self.search(&at, tenants_max, &mut remains).await?;
        }
        Ok(remains)
    }

    async fn search(
        &self,
        at: &Address,
        tenants_max: usize,
        remains: &mut Remains,
    ) -> Result<(), StoreError> {
        let unavailable = |error: connect::ConnectError| StoreError::Unavailable(error.into());
        let mut connection = self.open(at).await.map_err(unavailable)?;
        let mut cursor = 0_u64;
        loop {
            let mut scan = cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(self.names.all());
            scan.arg("COUNT").arg(SCAN_COUNT);
            let page = scan.query_async::<(u64, Vec<Vec<u8>>)>(&mut connection);
            let within = self.link.settings().response_timeout;
            let page = timeout(within, page).await;
            let late = |_| StoreError::Unavailable("no answer within the time allowed".into());
            let (next, names) = page.map_err(late)?.map_err(super::refusal::store_error)?;
            for name in names {
                if let Some(tenant) = self.names.parse_tenant(&name) {
                    remains.tenants.push(tenant);
                }
                if remains.name.is_none() {
                    remains.name = Some(String::from_utf8_lossy(&name).into_owned());
                }
            }
            let enough = remains.name.is_some() && remains.tenants.len() >= tenants_max;
            cursor = next;
            if cursor == 0 || enough {
                return Ok(());
            }
        }
    }
}
