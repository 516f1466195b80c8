//! What is of another type than ours is moved aside: somebody wrote something else there, and what was there is lost
//! either way, but changes (revocations above all) need the place.

use super::RedisStore;
use super::scripts;
use crate::domain::block::Source;
use crate::domain::key::LookupId;
use crate::domain::name::TenantId;
use crate::store::StoreError;
use crate::store::damage::Entry;
use crate::store::repair::Mode;
use crate::store::write::Write;

/// The types of what [`super::keyspace::OfTenant::for_keys`] names, the tenant's record apart.
const OF_TENANT: [&[u8]; 10] = [
    b"hash", b"zset", b"hash", b"hash", b"stream", b"set", b"hash", b"zset", b"hash", b"zset",
];
/// The types of what [`RedisStore::of_all`] names.
const OF_ALL: [&[u8]; 6] = [b"zset", b"string", b"zset", b"hash", b"zset", b"zset"];

/// Nothing is moved.
const LOOK: &[u8] = b"look";

fn how(mode: Mode) -> &'static [u8] {
    match mode {
        Mode::Check => LOOK,
        Mode::Repair => b"keep",
    }
}

impl RedisStore {
    /// Makes room for a change that met damage. Answers whether it is worth trying again.
    pub(super) async fn make_room(&self, write: &Write, met: &str) -> bool {
        let tenant = write.tenant();
        self.damage.met(Entry::Lists, Some(tenant), &met);
        match self.mend(tenant, &write.lookup_ids()).await {
            Ok(moved) => moved > 0,
            Err(_) => false,
        }
    }

    /// Moves aside what has the wrong type of a tenant, of what is kept of all together, and of these index entries.
    /// Answers how many names that were. The record of a tenant stays: without it nothing of it opens, so there is
    /// nothing to make room for.
    pub(super) async fn mend(
        &self,
        tenant: &TenantId,
        lookup_ids: &[LookupId],
    ) -> Result<usize, StoreError> {
        let of_tenant = &self.names.of_tenant(tenant).for_keys()[1..];
        let mut moved = self.mend_names(b"keep", of_tenant, &OF_TENANT).await?;
        moved += self.mend_shared().await?;
        for id in lookup_ids {
            let name = [self.names.index(*id)];
            moved += self.mend_names(b"drop", &name, &[b"hash"]).await?;
        }
        Ok(moved)
    }

    /// The same of what is kept of all tenants together, and of what sidecars write.
    pub(super) async fn mend_shared(&self) -> Result<usize, StoreError> {
        let mut moved = self.mend_names(b"keep", &self.of_all(), &OF_ALL).await?;
        moved += self.mend_fleet().await?;
        let blocks: Vec<String> = (0..Source::PARTS)
            .map(|part| self.names.blocks(part))
            .collect();
        let types = vec![&b"hash"[..]; blocks.len()];
        moved += self.mend_names(b"drop", &blocks, &types).await?;
        Ok(moved)
    }

    /// The same of what sidecars write of themselves.
    pub(super) async fn mend_fleet(&self) -> Result<usize, StoreError> {
        let fleet = [self.names.fleet_live(), self.names.fleet_reports()];
        self.mend_names(b"drop", &fleet, &[b"zset", b"hash"]).await
    }

    /// How many of a tenant's entries are of another type than ours.
    pub(super) async fn wrong_types(
        &self,
        tenant: &TenantId,
        mode: Mode,
    ) -> Result<u64, StoreError> {
        let names = &self.names.of_tenant(tenant).for_keys()[1..];
        let wrong = self.mend_names(how(mode), names, &OF_TENANT).await?;
        Ok(wrong as u64)
    }

    /// The same of what is kept of all tenants together.
    pub(super) async fn wrong_shared_types(&self, mode: Mode) -> Result<u64, StoreError> {
        let wrong = self.mend_names(how(mode), &self.of_all(), &OF_ALL).await?;
        Ok(wrong as u64)
    }

    async fn mend_names(
        &self,
        mode: &[u8],
        names: &[String],
        types: &[&[u8]],
    ) -> Result<usize, StoreError> {
        let args: Vec<&[u8]> = [mode].into_iter().chain(types.iter().copied()).collect();
        let moved: Vec<String> = self.link.run(&scripts::MEND, names, &args).await?;
        for name in moved.iter().filter(|_| mode != LOOK) {
            tracing::error!(%name, "an entry in Redis had another type than ours and was moved aside");
        }
        Ok(moved.len())
    }
}
