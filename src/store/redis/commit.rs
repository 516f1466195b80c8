//! Changes, step by step. Each step is one script on one slot; after each the state is safe, and what is left to
//! do is written down where the outbox worker (or the next change of the same key) finds it:
//!
//! | step | slot | if nothing follows |
//! |---|---|---|
//! | begin | directory | the worker looks at the tenant and finds nothing to do |
//! | claim | lookup id | the claim runs out; it opens nothing |
//! | commit | tenant | the truth is changed, the outbox holds the index writes, the worker does them |
//! | write index | lookup id | the worker writes the same again |
//! | confirm, end | tenant, directory | the worker finds it done |
//!
//! A revocation is kept in the tenant's slot first (`revoking`: from then on nobody else can change the key), then
//! written to the index, and only then becomes the truth. Whoever finds one kept completes it.

use futures_util::future::{join, try_join_all};
use redis::Value;

use super::RedisStore;
use super::answer::{Answer, numbers, read, word};
use super::change::{Change, IndexWrite, damaged, key_of};
use super::intent::{Claim, Intent};
use super::keyspace::OfTenant;
use super::read::{at_newline, hget};
use super::scripts;
use crate::domain::name::TenantId;
use crate::store::{CommitError, CountChange, CountScope, Expected, KeyCommit, StoreError};

/// How long a change may take from begin to commit, in ms: less than claims and held places live.
pub(super) const CHANGE_MS: &[u8] = b"5000";
/// How often a change that meets kept revocations of its key completes them and tries again.
const ATTEMPTS_MAX: usize = 4;

impl RedisStore {
    pub(super) async fn change_key(&self, commit: &KeyCommit) -> Result<(), CommitError> {
        let intent = Intent::new(&commit.tenant, commit.dek_id);
        let result = self.try_change_key(commit, &intent).await;
        // When the store failed, how far it came is not known.
        let changed = match &result {
            Ok(()) | Err(CommitError::Store(_)) => commit.lookup_ids().collect(),
            Err(_) => Vec::new(),
        };
        for lookup_id in changed {
            self.watchers
                .notify(|watcher| watcher.index_changed(lookup_id));
        }
        result
    }

    async fn try_change_key(&self, commit: &KeyCommit, intent: &Intent) -> Result<(), CommitError> {
        let limit = match commit.count {
            CountChange::Add { total, .. } => total,
            CountChange::None | CountChange::Remove => None,
        };
        // Both before the commit: the intent lets anybody complete or undo what a crash leaves, and a claimed place in the
        // index cannot go to another key between the commit and the write of its entry. Neither needs the other.
        let (begun, claimed) =
            join(self.begin(intent, limit), self.claim(commit, intent, false)).await;
        let begun = match begun? {
            Ok(begun) => begun,
            Err(taken) => {
                // The total is full. A refusal that the tenant's own slot has says more, so it goes first.
                let full = CommitError::CountLimit {
                    scope: CountScope::Total,
                    limit: limit.unwrap_or(0),
                    current: taken,
                };
                return self.refuse(commit, intent, full).await;
            }
        };
        let claimed = match claimed? {
            Claim::Taken => self.claim_after_others(commit, intent).await?,
            claimed => claimed,
        };
        let refusal = match claimed {
            Claim::Had => None,
            Claim::Taken => Some(CommitError::Exists),
            Claim::Revoked => Some(CommitError::Revoked),
        };
        if let Some(refusal) = refusal {
            return self.refuse(commit, intent, refusal).await;
        }
        let change = Change::new(commit, begun, &intent.name);
        match self.decide(commit, &change).await? {
            Ok(Decided { state, is_revoked }) => {
                // Last: while the intent is there, the counts and the index are still completed after a crash.
                self.end(intent, state, false).await?;
                match is_revoked {
                    true => Err(CommitError::Revoked),
                    false => Ok(()),
                }
            }
            Err(refused) => {
                // Nothing was committed: the claims go now and not when they expire, for the next who brings the token.
                self.take_back(commit, intent).await;
                Err(refused)
            }
        }
    }

    /// Claims again for a change of a key that is there, when what others decided of it is in the index: a change that
    /// was interrupted leaves its claim on the generation that it made. What is claimed still is taken over: the index
    /// has fallen back to the moment of a claim, or an entry was lost and somebody else brings the same token. Who is there
    /// goes before who comes.
    async fn claim_after_others(
        &self,
        commit: &KeyCommit,
        intent: &Intent,
    ) -> Result<Claim, StoreError> {
        let changes = matches!(commit.expected, Expected::Version(_) | Expected::Lost);
        let dek_id = commit.dek_id.to_string();
        if changes && self.flush(&commit.tenant, dek_id.as_bytes()).await? {
            return self.claim(commit, intent, true).await;
        }
        Ok(Claim::Taken)
    }

    /// Commits, and writes the index before (a revocation) or after (all else).
    async fn decide(
        &self,
        commit: &KeyCommit,
        change: &Change,
    ) -> Result<Result<Decided, CommitError>, StoreError> {
        let names = self.names.of_tenant(&commit.tenant);
        let revokes = commit.is_revocation();
        let mode: &[u8] = if revokes { b"revoke" } else { b"commit" };
        for _ in 0..ATTEMPTS_MAX {
            match self.on_keys(&names, mode, change).await? {
                // Not committed yet, but kept in the slot: refusing in the index comes before the record says so.
                Answer::Done(..) if revokes => return self.revoke(commit, change).await,
                // Committed. The index follows; until it does, keys go by what it had before.
                Answer::Done(number, live) => {
                    let (tenant, entries) = (&commit.tenant, change.index()?);
                    let is_revoked = self.write_index(tenant, change.dek_id(), &entries).await?;
                    return Ok(Ok(Decided {
                        state: Some((number, live)),
                        is_revoked,
                    }));
                }
                // A revocation wins over every other change of its key: it is completed first, and then this one is
                // refused as revoked or fits again.
                Answer::Revoking(other) => {
                    self.complete(&commit.tenant, &other).await?;
                }
                Answer::Refused(refused) => return Ok(Err(refused)),
            }
        }
        Ok(Err(CommitError::Conflict))
    }

    /// Completes a revocation that is kept in the tenant's slot.
    async fn revoke(
        &self,
        commit: &KeyCommit,
        change: &Change,
    ) -> Result<Result<Decided, CommitError>, StoreError> {
        let state = match self.complete(&commit.tenant, change).await? {
            Completed::Here(number, live) => Some((number, live)),
            // Who completed it may not have told of it yet.
            Completed::Elsewhere if self.stands(&commit.tenant, change).await? => {
                self.state(&commit.tenant, change.dek_id()).await?
            }
            // The slot has fallen back to before it.
            Completed::Elsewhere => return Ok(Err(CommitError::Conflict)),
            Completed::Gone => return Ok(Err(CommitError::NotFound)),
        };
        Ok(Ok(Decided {
            state,
            is_revoked: false,
        }))
    }

    /// Whether the key's own record is what a change made of it.
    async fn stands(&self, tenant: &TenantId, change: &Change) -> Result<bool, StoreError> {
        let keys = self.names.of_tenant(tenant).keys();
        let stored: Option<Vec<u8>> = self.link.ask(&hget(&keys, change.key())).await?;
        let stored = stored.as_deref().and_then(at_newline);
        Ok(stored.is_some_and(|(version, _)| version == change.version()))
    }

    async fn on_keys(
        &self,
        names: &OfTenant,
        mode: &[u8],
        change: &Change,
    ) -> Result<Answer, StoreError> {
        let args: Vec<&[u8]> = [mode, CHANGE_MS]
            .into_iter()
            .chain(change.args().iter().map(Vec::as_slice))
            .collect();
        let answer: Vec<Value> = self
            .link
            .run(&scripts::COMMIT_KEY, &names.for_keys(), &args)
            .await?;
        read(&answer, || {
            let per_owner = &change.args()[6];
            std::str::from_utf8(per_owner).ok()?.parse().ok()
        })
    }

    /// Completes a kept revocation: index first, then the truth.
    pub(super) async fn complete(
        &self,
        tenant: &TenantId,
        change: &Change,
    ) -> Result<Completed, StoreError> {
        let entries = change.index()?.into_iter().map(IndexWrite::revoke);
        let entries: Vec<_> = entries.collect::<Result<_, _>>()?;
        let writes = entries
            .iter()
            .map(|entry| self.write_entry(tenant, change.dek_id(), entry));
        try_join_all(writes).await?;
        let names = self.names.of_tenant(tenant);
        let args: [&[u8]; 3] = [change.key(), change.name(), change.dek_id()];
        let answer: Vec<Value> = self
            .link
            .run(&scripts::FINISH_REVOKE, &names.for_keys(), &args)
            .await?;
        match word(&answer)? {
            "ok" => {
                tracing::debug!(%tenant, key = ?key_of(change), "revoked");
                let (number, live) = numbers(&answer)?;
                Ok(Completed::Here(number, live))
            }
            "done" => Ok(Completed::Elsewhere),
            "gone" => {
                let ids: Vec<_> = entries.iter().map(|entry| entry.lookup_id).collect();
                self.drop_entries(tenant, change.dek_id(), &ids).await?;
                Ok(Completed::Gone)
            }
            _ => Err(damaged("a script's answer")),
        }
    }

    /// Ends with the refusal that the tenant's own slot has, or else with `otherwise`.
    async fn refuse(
        &self,
        commit: &KeyCommit,
        intent: &Intent,
        otherwise: CommitError,
    ) -> Result<(), CommitError> {
        let change = Change::new(commit, u64::MAX >> 12, &intent.name);
        let names = self.names.of_tenant(&commit.tenant);
        let looked = self.on_keys(&names, b"check", &change).await;
        self.take_back(commit, intent).await;
        match looked? {
            Answer::Refused(refused) if !matches!(refused, CommitError::CountLimit { .. }) => {
                Err(refused)
            }
            Answer::Refused(_) | Answer::Done(..) | Answer::Revoking(_) => Err(otherwise),
        }
    }
}

/// What a change came to, and what there is to tell of its tenant.
struct Decided {
    state: Option<(u64, u64)>,
    /// The key is revoked in the index, whatever this change says.
    is_revoked: bool,
}

/// How the completion of a kept revocation went.
pub(super) enum Completed {
    /// It became the truth here: the number of the audit entry and the tenant's live keys.
    Here(u64, u64),
    /// Somebody else completed it.
    Elsewhere,
    /// The tenant was deleted meanwhile.
    Gone,
}
