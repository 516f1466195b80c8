//! The worker that ends what others began and did not: a control plane's task, safe beside any number of its kind.
//!
//! A tenant whose records are damaged is looked at again, less and less often, and holds no other tenant up.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use redis::Value;
use tokio::time::{Instant, sleep};

use super::RedisStore;
use super::answer::word;
use super::change::{Change, IndexWrite};
use super::commit::Completed;
use super::intent::Intent;
use super::scripts;
use crate::domain::name::TenantId;
use crate::store::StoreError;
use crate::store::damage::Entry;

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often it looks whether what is kept of all tenants is what it should be.
const TIDY_EVERY: Duration = Duration::from_secs(30);
/// A change that is younger than this is left to who began it, in ms.
const YOUNG_MS: u64 = 1_000;
/// An intent that is older than this is of no change that can still commit, in ms: above `commit::CHANGE_MS`.
const OLD_MS: u64 = 7_000;
/// How many intents are looked at in one go.
const INTENTS_AT_ONCE: usize = 256;
/// Waits before a tenant with damaged records is tried again, doubled each time.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// What the worker remembers from one look to the next.
#[derive(Default)]
struct Memory {
    /// Tenants with damaged records: when they are tried again, and how long was waited before.
    waits: HashMap<TenantId, (Instant, Duration)>,
    tidied: Option<Instant>,
}

impl Memory {
    fn must_wait(&self, tenant: &TenantId) -> bool {
        let wait = self.waits.get(tenant);
        wait.is_some_and(|(until, _)| Instant::now() < *until)
    }

    fn failed(&mut self, tenant: &TenantId) {
        let before = self.waits.get(tenant).map(|(_, wait)| *wait * 2);
        let wait = before.unwrap_or(RETRY_MIN).min(RETRY_MAX);
        self.waits
            .insert(tenant.clone(), (Instant::now() + wait, wait));
    }
}

/// An intent, and how long ago its change began, in ms.
struct Begun {
    text: Vec<u8>,
    age_ms: u64,
}

impl RedisStore {
    /// Looks after what was begun, for ever.
    pub(super) async fn work(&self) {
        let mut memory = Memory {
            tidied: Some(Instant::now()),
            ..Memory::default()
        };
        loop {
            sleep(LOOK_EVERY).await;
            // Of one that cannot be reached the link says so itself.
            if let Err(StoreError::Damaged(what)) = self.look_after_all(&mut memory).await {
                self.damage.met(Entry::Outbox, None, &what);
                // Perhaps it can be told why, and mended, sooner than it is due.
                memory.tidied = None;
            }
        }
    }

    async fn look_after_all(&self, memory: &mut Memory) -> Result<(), StoreError> {
        if memory.tidied.is_none_or(|at| at.elapsed() >= TIDY_EVERY) {
            self.tidy().await?;
            memory.tidied = Some(Instant::now());
        }
        self.heal_all(memory).await
    }

    async fn heal_all(&self, memory: &mut Memory) -> Result<(), StoreError> {
        let now = self.time().await?;
        let mut pending = HashSet::new();
        // Intents that stay are stepped over: those behind them have their turn all the same.
        let mut stay = 0;
        loop {
            let intents = self.intents(now, stay).await?;
            let is_last = intents.len() < INTENTS_AT_ONCE;
            for begun in intents {
                let Some(intent) = std::str::from_utf8(&begun.text)
                    .ok()
                    .and_then(Intent::parse)
                else {
                    self.drop_mark(&begun.text).await?;
                    continue;
                };
                let is_old = begun.age_ms > OLD_MS;
                let is_healed = self.heal_or_wait(&intent, is_old, memory).await?;
                stay += usize::from(!(is_healed && is_old));
                pending.insert(intent.tenant);
            }
            if is_last {
                break;
            }
        }
        // What nobody has an intent for any more has been healed by somebody else, or deleted.
        memory.waits.retain(|tenant, _| pending.contains(tenant));
        self.damage
            .retain_unhealed(|tenant| pending.contains(tenant));
        Ok(())
    }

    /// Intents that are not young, oldest first.
    async fn intents(&self, now: u64, skip: usize) -> Result<Vec<Begun>, StoreError> {
        let mut begun = redis::cmd("ZRANGEBYSCORE");
        begun.arg(self.names.begun()).arg("-inf");
        begun.arg(now.saturating_sub(YOUNG_MS)).arg("WITHSCORES");
        begun.arg("LIMIT").arg(skip).arg(INTENTS_AT_ONCE);
        let intents: Vec<(Vec<u8>, f64)> = self.link.ask(&begun).await?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a time in ms, which we wrote; what is below 0 was not written by us, and is old"
        )]
        let age = |score: f64| now.saturating_sub(score as u64);
        Ok(intents
            .into_iter()
            .map(|(text, score)| Begun {
                text,
                age_ms: age(score),
            })
            .collect())
    }

    async fn drop_mark(&self, text: &[u8]) -> Result<(), StoreError> {
        let what = "an intent of a change is none of ours, and was taken away";
        self.damage.met(Entry::Outbox, None, &what);
        let mut remove = redis::cmd("ZREM");
        remove.arg(self.names.begun()).arg(text);
        self.link.ask::<u64>(&remove).await.map(drop)
    }

    /// Does what is left to do of a tenant, unless damage stands in the way: then it is tried again later. Answers
    /// whether it is done. An error is one of the store as a whole.
    async fn heal_or_wait(
        &self,
        intent: &Intent,
        is_old: bool,
        memory: &mut Memory,
    ) -> Result<bool, StoreError> {
        let tenant = &intent.tenant;
        if memory.must_wait(tenant) {
            return Ok(false);
        }
        let mut healed = self.heal(intent, is_old).await;
        if matches!(healed, Err(StoreError::Damaged(_))) && self.mend(tenant, &[]).await? > 0 {
            healed = self.heal(intent, is_old).await;
        }
        match healed {
            Ok(()) => {
                memory.waits.remove(tenant);
                self.damage.is_healed(tenant);
                Ok(true)
            }
            Err(StoreError::Damaged(what)) => {
                memory.failed(tenant);
                self.damage.met(Entry::Outbox, Some(tenant), &what);
                self.damage.is_unhealed(tenant, &what);
                Ok(false)
            }
            Err(
                error
                @ (StoreError::Unavailable(_) | StoreError::Unusable(_) | StoreError::Lost(_)),
            ) => Err(error),
        }
    }

    /// Keeps what belongs to all tenants together usable: of the right types, and without intents from the future, which
    /// nobody would ever look at.
    async fn tidy(&self) -> Result<(), StoreError> {
        self.mend_shared().await?;
        let now = self.time().await?;
        let mut ahead = redis::cmd("ZRANGEBYSCORE");
        ahead.arg(self.names.begun());
        ahead.arg(format!("({}", now + OLD_MS)).arg("+inf");
        ahead.arg("LIMIT").arg(0).arg(INTENTS_AT_ONCE);
        for intent in self.link.ask::<Vec<Vec<u8>>>(&ahead).await? {
            let mut date = redis::cmd("ZADD");
            date.arg(self.names.begun()).arg("XX").arg(now).arg(intent);
            let _added: u64 = self.link.ask(&date).await?;
        }
        Ok(())
    }

    /// The server's time in ms.
    async fn time(&self) -> Result<u64, StoreError> {
        let (seconds, micros): (u64, u64) = self.link.ask(&redis::cmd("TIME")).await?;
        Ok(seconds * 1000 + micros / 1000)
    }

    /// Does what is left to do of a tenant. `is_old`: nothing can come of the intent any more.
    async fn heal(&self, intent: &Intent, is_old: bool) -> Result<(), StoreError> {
        let dek_id = intent.dek_id.to_string();
        if !self.flush(&intent.tenant, dek_id.as_bytes()).await? {
            // Deleted, or not made yet.
            return if is_old || self.has_leftovers(intent).await? {
                self.finish_removal(intent).await
            } else {
                Ok(())
            };
        }
        if let Some(state) = self.state(&intent.tenant, dek_id.as_bytes()).await? {
            let begun = if is_old { intent.text() } else { String::new() };
            self.publish(&begun, intent, Some(state), true).await?;
        }
        Ok(())
    }

    /// Does what is decided of a tenant and not yet in the index. Answers whether the tenant is there.
    pub(super) async fn flush(&self, tenant: &TenantId, dek_id: &[u8]) -> Result<bool, StoreError> {
        let names = self.names.of_tenant(tenant);
        let keys = [
            names.tenant.clone(),
            names.outbox(),
            names.revoking(),
            names.keys(),
        ];
        let pending: Vec<Value> = self.link.run(&scripts::PENDING, &keys, &[dek_id]).await?;
        let [
            _,
            Value::Array(revocations),
            Value::Array(writes),
            Value::Int(lost),
        ] = pending.as_slice()
        else {
            return match word(&pending)? {
                "lost" => Err(StoreError::Damaged(
                    "the tenant's record is not there, but its keys are".to_owned(),
                )),
                _ => Ok(false),
            };
        };
        if *lost > 0 {
            let what = format!("{lost} changes that waited for the index could not be read");
            self.damage.met(Entry::Outbox, Some(tenant), &what);
        }
        for revocation in revocations {
            let change = Change::parse(revocation)?;
            if let Completed::Here(..) = self.complete(tenant, &change).await? {
                tracing::info!(%tenant, "a revocation that was interrupted is complete");
            }
        }
        if !writes.is_empty() {
            let writes: Vec<_> = writes
                .iter()
                .map(IndexWrite::parse)
                .collect::<Result<_, _>>()?;
            self.write_index(tenant, dek_id, &writes).await?;
            tracing::info!(
                %tenant,
                entries = writes.len(),
                "index writes that were interrupted are complete"
            );
        }
        Ok(true)
    }

    async fn has_leftovers(&self, intent: &Intent) -> Result<bool, StoreError> {
        let mut exists = redis::cmd("EXISTS");
        let names = self.names.of_tenant(&intent.tenant);
        exists.arg(names.leftovers(intent.dek_id));
        self.link.ask(&exists).await
    }
}
