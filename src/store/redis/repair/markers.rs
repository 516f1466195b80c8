//! The markers of a Cluster's slots. One that somebody deleted, or an eviction took, is put back; where a server lost its
//! data, its markers went with it and stay away, so that what is not found there is no answer.

use std::collections::BTreeSet;

use redis::aio::MultiplexedConnection;
use redis::cmd;

use super::super::connect::ConnectError;
use super::super::keyspace;
use super::super::link::Live;
use super::super::read::lex_after;
use super::super::refusal::store_error;
use super::super::root::read_root;
use super::super::{RedisStore, slots};
use crate::domain::name::TenantId;
use crate::store::StoreError;
use crate::store::repair::{LostMarkers, Mode};

/// How many markers or tenants are read at a time.
const AT_ONCE: usize = 1_000;

impl RedisStore {
    pub(super) async fn look_for_lost_markers(
        &self,
        mode: Mode,
    ) -> Result<LostMarkers, StoreError> {
        let mut found = LostMarkers::default();
        if !self.link.is_cluster() {
            return Ok(found);
        }
        // Whatever is lost keeps the store from being used otherwise.
        let live = self.link.live_unguarded()?;
        let root = read_root(&live, &self.names).await?;
        let marked = root.filter(|root| root.is_marked);
        let Some(store_id) = marked.and_then(|root| root.store_id) else {
            return Ok(found);
        };
        for (first, last, at) in self.link.ranges().await? {
            let unavailable = |error: ConnectError| StoreError::Unavailable(error.into());
            let mut connection = self.open(&at).await.map_err(unavailable)?;
            let slots: Vec<u16> = (first..=last).collect();
            let lost = self.without_marker(&mut connection, &slots, &store_id);
            let mut lost = lost.await?;
            let all = lost.len();
            // A server without any has lost everything.
            if all == slots.len() {
                lost.clear();
            }
            if !lost.is_empty() {
                let emptied = self.slots_without_tenant(&live, &lost).await?;
                lost.retain(|slot| !emptied.contains(slot));
            }
            found.alone += lost.len() as u64;
            found.with_data += (all - lost.len()) as u64;
            if mode == Mode::Repair {
                let slots: Vec<u16> = lost.into_iter().collect();
                self.write_markers(&mut connection, &slots, &store_id)
                    .await?;
            }
        }
        self.link.look().await?;
        Ok(found)
    }

    /// Those of the slots that have no marker, or that of another store.
    async fn without_marker(
        &self,
        connection: &mut MultiplexedConnection,
        slots: &[u16],
        store_id: &str,
    ) -> Result<BTreeSet<u16>, StoreError> {
        let mut lost = BTreeSet::new();
        for some in slots.chunks(AT_ONCE) {
            let mut pipeline = redis::pipe();
            for slot in some {
                let get = pipeline.cmd("HGET").arg(self.names.marker(*slot));
                get.arg(keyspace::ROOT_STORE);
            }
            let read = pipeline.query_async::<Vec<Option<String>>>(connection);
            let markers = read.await.map_err(store_error)?;
            let missing = some.iter().zip(markers);
            let missing = missing.filter(|(_, marker)| marker.as_deref() != Some(store_id));
            lost.extend(missing.map(|(slot, _)| *slot));
        }
        Ok(lost)
    }

    /// Those of the slots in which a tenant is missing that the list of tenants names.
    async fn slots_without_tenant(
        &self,
        live: &Live<'_>,
        among: &BTreeSet<u16>,
    ) -> Result<BTreeSet<u16>, StoreError> {
        let mut emptied = BTreeSet::new();
        let mut after: Option<String> = None;
        loop {
            let mut page = cmd("ZRANGEBYLEX");
            page.arg(self.names.directory());
            page.arg(lex_after(after.as_deref()));
            page.arg("+").arg("LIMIT").arg(0).arg(AT_ONCE);
            let ids: Vec<String> = live.ask(&page).await?;
            for tenant in ids.iter().filter_map(|id| TenantId::parse(id).ok()) {
                let name = self.names.tenant(&tenant);
                let slot = slots::slot_of(name.as_bytes());
                let mut exists = cmd("EXISTS");
                if among.contains(&slot) && !live.ask::<bool>(exists.arg(name)).await? {
                    emptied.insert(slot);
                }
            }
            after = match ids.into_iter().next_back() {
                Some(last) => Some(last),
                None => return Ok(emptied),
            };
        }
    }
}
