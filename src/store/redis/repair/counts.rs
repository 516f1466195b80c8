//! The counts of live keys: of owners in the tenant's slot, and what the sum of all tenants was told of it.

use redis::{Value, cmd};

use super::super::answer::word;
use super::super::change::damaged;
use super::super::{RedisStore, scripts};
use crate::domain::name::TenantId;
use crate::store::StoreError;
use crate::store::repair::{Counted, Mode};

/// Owner tags and counts by turns, with `*` for all and `#` for the number of the last change.
fn counts(pairs: &[Vec<u8>]) -> (Vec<([u8; 16], u64)>, Option<u64>) {
    let (mut owners, mut all) = (Vec::new(), None);
    for pair in pairs.chunks_exact(2) {
        let count = std::str::from_utf8(&pair[1]).ok();
        let count = count.and_then(|text| text.parse::<u64>().ok());
        match (pair[0].as_slice(), count) {
            (b"*", count) => all = count,
            (b"#", _) => {}
            // What is no count is one that cannot be right.
            (tag, count) => owners.push((tag.try_into().unwrap_or([0; 16]), count.unwrap_or(0))),
        }
    }
    owners.sort_unstable();
    (owners, all)
}

impl RedisStore {
    pub(super) async fn counts_of(&self, tenant: &TenantId) -> Result<Option<Counted>, StoreError> {
        let names = self.names.of_tenant(tenant);
        let keys = [names.tenant.clone(), names.owners(), names.audit()];
        let answer: Vec<Value> = self.link.run(&scripts::COUNTED, &keys, &[]).await?;
        if word(&answer)? != "ok" {
            return Ok(None);
        }
        let read = |at: usize| answer.get(at).ok_or_else(|| damaged("a script's answer"));
        let bad = |_| damaged("a script's answer");
        let dek_id: String = redis::from_redis_value_ref(read(1)?).map_err(bad)?;
        let number: u64 = redis::from_redis_value_ref(read(2)?).map_err(bad)?;
        let pairs: Vec<Vec<u8>> = redis::from_redis_value_ref(read(3)?).map_err(bad)?;
        let (owners, all) = counts(&pairs);
        let published = self.published(&format!("{tenant}/{dek_id}")).await?;
        Ok(Some(Counted {
            owners,
            all,
            published: published.and_then(|published| published.rsplit_once(':')?.1.parse().ok()),
            number,
        }))
    }

    async fn published(&self, incarnation: &str) -> Result<Option<String>, StoreError> {
        let mut get = cmd("HGET");
        get.arg(self.names.live()).arg(incarnation);
        let published: Option<Vec<u8>> = self.link.ask(&get).await?;
        Ok(published.map(|published| String::from_utf8_lossy(&published).into_owned()))
    }

    pub(super) async fn count_anew(
        &self,
        tenant: &TenantId,
        dek_id: u64,
        owners: &[([u8; 16], u64)],
        number: u64,
    ) -> Result<bool, StoreError> {
        let names = self.names.of_tenant(tenant);
        let incarnation = format!("{tenant}/{dek_id}");
        let before = self.published(&incarnation).await?.unwrap_or_default();
        let all: u64 = owners.iter().map(|(_, count)| count).sum();
        let head = [dek_id.to_string(), number.to_string(), all.to_string()];
        let counts: Vec<String> = owners.iter().map(|(_, count)| count.to_string()).collect();
        let mut args: Vec<&[u8]> = head.iter().map(String::as_bytes).collect();
        for ((tag, _), count) in owners.iter().zip(&counts) {
            args.extend([&tag[..], count.as_bytes()]);
        }
        let keys = [names.tenant.clone(), names.owners(), names.audit()];
        if !self.link.run(&scripts::RECOUNT, &keys, &args).await? {
            return Ok(false);
        }
        let now = format!("{number}:{all}");
        let args = [&incarnation, &before, &now].map(String::as_bytes);
        self.link.run(&scripts::RETELL, &self.of_all(), &args).await
    }

    /// Takes out of the list and the sum what is left of a tenant without a record. Answers whether anything was.
    pub(super) async fn forget_remains(
        &self,
        tenant: &TenantId,
        mode: Mode,
    ) -> Result<bool, StoreError> {
        let mut live = cmd("HKEYS");
        live.arg(self.names.live());
        let live: Vec<String> = self.link.ask(&live).await?;
        let prefix = format!("{tenant}/");
        let published: Vec<_> = live
            .iter()
            .filter(|incarnation| incarnation.starts_with(&prefix))
            .collect();
        let mut score = cmd("ZSCORE");
        score.arg(self.names.directory()).arg(tenant.as_str());
        let listed: Option<f64> = self.link.ask(&score).await?;
        if mode == Mode::Repair {
            let mut unlist = cmd("ZREM");
            unlist.arg(self.names.directory()).arg(tenant.as_str());
            self.link.ask::<u64>(&unlist).await?;
            for incarnation in &published {
                let mut forget = cmd("HDEL");
                forget.arg(self.names.live()).arg(incarnation.as_str());
                self.link.ask::<u64>(&forget).await?;
            }
        }
        Ok(listed.is_some() || !published.is_empty())
    }
}
