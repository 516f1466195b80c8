//! Intents: the write-ahead record of a change in progress, with the lookup ids that it claims and the place under the
//! limit of all keys that it holds.

use std::time::Duration;

use futures_util::future::{join, join_all, try_join_all};
use redis::Value;
use tokio::time::{Instant, sleep};

use super::RedisStore;
use super::answer::numbers;
use super::scripts;
use crate::domain::name::TenantId;
use crate::store::{Expected, KeyCommit, StoreError};

/// How long claims and held places live, in ms: longer than a change may take.
const CLAIM_MS: &[u8] = b"30000";
/// Longest wait for places that others hold: longer than a create takes, and than anybody wants to wait for one who
/// has crashed.
const PLACE_TIMEOUT: Duration = Duration::from_secs(1);
const PLACE_PAUSE: Duration = Duration::from_millis(10);

/// A change in progress: its tenant, the tenant's data key and a random name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Intent {
    pub(super) tenant: TenantId,
    pub(super) dek_id: u64,
    pub(super) name: String,
}

impl Intent {
    pub(super) fn new(tenant: &TenantId, dek_id: u64) -> Self {
        Self {
            tenant: tenant.clone(),
            dek_id,
            name: format!("{:016x}", rand::random::<u64>()),
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let intent = Self {
            tenant: TenantId::parse(parts.next()?).ok()?,
            dek_id: parts.next()?.parse().ok()?,
            name: parts.next()?.to_owned(),
        };
        parts.next().is_none().then_some(intent)
    }

    pub(super) fn text(&self) -> String {
        format!("{}/{}/{}", self.tenant, self.dek_id, self.name)
    }

    /// Under which name the tenant's live keys are counted.
    pub(super) fn incarnation(&self) -> String {
        format!("{}/{}", self.tenant, self.dek_id)
    }
}

/// What came of claiming lookup ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    Had,
    /// One is another's.
    Taken,
    /// One is the key's own, and revoked.
    Revoked,
}

impl RedisStore {
    /// Writes down that something begins. `Err`: there are that many keys already.
    ///
    /// Where only places that are held stand in the way, their creates may yet fail, or be counted twice for the moment
    /// between their commit and their end: so it waits until they have ended, and nobody is refused who has room.
    pub(super) async fn begin(
        &self,
        intent: &Intent,
        limit: Option<u64>,
    ) -> Result<Result<u64, u64>, StoreError> {
        let keys = [self.names.begun(), self.names.total(), self.names.held()];
        let text = intent.text();
        let limit_text = limit.map(|limit| limit.to_string()).unwrap_or_default();
        let args = [text.as_bytes(), limit_text.as_bytes(), CLAIM_MS];
        let end = Instant::now() + PLACE_TIMEOUT;
        loop {
            let answer = self.link.run(&scripts::BEGIN, &keys, &args).await?;
            let (word, number, live): (String, u64, u64) = answer;
            if word == "ok" {
                return Ok(Ok(number));
            }
            if limit.is_some_and(|limit| live >= limit) {
                return Ok(Err(live));
            }
            if Instant::now() >= end {
                return Ok(Err(number));
            }
            sleep(PLACE_PAUSE).await;
        }
    }

    /// Claims every lookup id of a commit, or none; what another change has claimed too, if it is to `take_over`.
    pub(super) async fn claim(
        &self,
        commit: &KeyCommit,
        intent: &Intent,
        take_over: bool,
    ) -> Result<Claim, StoreError> {
        let whose: &[u8] = match commit.expected {
            Expected::Version(_) | Expected::Lost if commit.is_revocation() => b"revoke",
            Expected::Version(_) | Expected::Lost => b"own",
            Expected::New | Expected::FirstOfTenant => b"new",
        };
        let dek_id = commit.dek_id.to_string();
        let dek_id = dek_id.as_bytes();
        let take_over: &[u8] = if take_over { b"1" } else { b"0" };
        let claims = commit.index.iter().map(|entry| async move {
            let keys = [self.names.index(entry.lookup_id)];
            let args: [&[u8]; 7] = [
                intent.name.as_bytes(),
                CLAIM_MS,
                commit.tenant.as_str().as_bytes(),
                commit.row.id.as_str().as_bytes(),
                whose,
                dek_id,
                take_over,
            ];
            self.link.run::<u8>(&scripts::CLAIM, &keys, &args).await
        });
        let claims = try_join_all(claims).await?;
        Ok(if claims.contains(&0) {
            Claim::Taken
        } else if claims.contains(&2) {
            Claim::Revoked
        } else {
            Claim::Had
        })
    }

    /// Undoes begin and claim, as far as it can: what is left runs out by itself.
    pub(super) async fn take_back(&self, commit: &KeyCommit, intent: &Intent) {
        let unclaims = commit.index.iter().map(|entry| async move {
            let keys = [self.names.index(entry.lookup_id)];
            let args = [intent.name.as_bytes()];
            self.link.run::<u8>(&scripts::UNCLAIM, &keys, &args).await
        });
        let (unclaimed, ended) = join(join_all(unclaims), self.end(intent, None, false)).await;
        for failed in unclaimed
            .into_iter()
            .filter_map(Result::err)
            .chain(ended.err())
        {
            tracing::debug!(error = %failed, "a refused change leaves a claim that runs out");
        }
    }

    pub(super) fn of_all(&self) -> [String; 6] {
        [
            self.names.begun(),
            self.names.total(),
            self.names.held(),
            self.names.live(),
            self.names.deleted(),
            self.names.directory(),
        ]
    }

    /// Tells the sum of all tenants what has become of one, and takes the intent away.
    pub(super) async fn end(
        &self,
        intent: &Intent,
        state: Option<(u64, u64)>,
        in_directory: bool,
    ) -> Result<(), StoreError> {
        self.publish(&intent.text(), intent, state, in_directory)
            .await
    }

    /// The same with the intent left in place when `begun` is empty.
    pub(super) async fn publish(
        &self,
        begun: &str,
        intent: &Intent,
        state: Option<(u64, u64)>,
        in_directory: bool,
    ) -> Result<(), StoreError> {
        let (number, live) = state.map_or_else(Default::default, |(number, live)| {
            (number.to_string(), live.to_string())
        });
        let incarnation = intent.incarnation();
        let tenant = if in_directory {
            intent.tenant.as_str()
        } else {
            ""
        };
        let args = [begun, &incarnation, &number, &live, tenant].map(str::as_bytes);
        let _changed: u8 = self.link.run(&scripts::END, &self.of_all(), &args).await?;
        Ok(())
    }

    /// What there is to tell of a tenant: the number of its last audit entry and its live keys. None: it is gone.
    pub(super) async fn state(
        &self,
        tenant: &TenantId,
        dek_id: &[u8],
    ) -> Result<Option<(u64, u64)>, StoreError> {
        let names = self.names.of_tenant(tenant);
        let keys = [names.tenant.clone(), names.owners(), names.audit()];
        let state: Vec<Value> = self.link.run(&scripts::STATE, &keys, &[dek_id]).await?;
        if state.len() < 3 {
            return Ok(None);
        }
        numbers(&state).map(Some)
    }
}
