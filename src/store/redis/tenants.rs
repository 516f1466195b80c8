//! Changes of tenants, step by step.

use redis::Value;

use super::RedisStore;
use super::answer::{Answer, read, word};
use super::change::{damaged, request_args, version_text};
use super::commit::CHANGE_MS;
use super::intent::Intent;
use super::read::hget;
use super::scripts;
use crate::domain::key::LookupId;
use crate::domain::name::TenantId;
use crate::domain::version::Version;
use crate::store::{CommitError, Expected, StoreError, TenantCommit};

/// How long a deletion is remembered, in ms: counts that are told later than that do not exist.
const DELETED_MS: &[u8] = b"3600000";
/// How many index entries of a deleted tenant are removed side by side.
const LEFTOVERS_AT_ONCE: usize = 200;

impl RedisStore {
    pub(super) async fn change_tenant(&self, commit: &TenantCommit) -> Result<(), CommitError> {
        let row = &commit.row;
        let intent = Intent::new(&row.id, row.dek_id);
        let result = self.try_change_tenant(commit, &intent).await;
        self.watchers
            .notify(|watcher| watcher.tenant_changed(&row.id));
        result
    }

    async fn try_change_tenant(
        &self,
        commit: &TenantCommit,
        intent: &Intent,
    ) -> Result<(), CommitError> {
        let begun = self
            .begin(intent, None)
            .await?
            .unwrap_or_else(|taken| taken);
        let row = &commit.row;
        let expected = match commit.expected {
            Expected::New | Expected::FirstOfTenant => "new".to_owned(),
            Expected::Lost => return Err(CommitError::NotFound),
            Expected::Version(version) => version_text(version),
        };
        let (version, dek_id) = (version_text(row.version), row.dek_id.to_string());
        let begun = begun.to_string();
        let request = request_args(commit.request.as_ref());
        let mut args: Vec<&[u8]> = vec![
            expected.as_bytes(),
            version.as_bytes(),
            dek_id.as_bytes(),
            &row.data_dek,
            &row.vault_dek,
            &row.body,
            &commit.audit,
        ];
        args.extend(request.iter().map(Vec::as_slice));
        args.extend([begun.as_bytes(), CHANGE_MS]);
        let names = self.names.of_tenant(&row.id);
        let keys = [
            names.tenant.clone(),
            names.owners(),
            names.audit(),
            names.requests(),
            names.requests_due(),
        ];
        let answer: Vec<Value> = self.link.run(&scripts::COMMIT_TENANT, &keys, &args).await?;
        match read(&answer, || None)? {
            Answer::Done(number, live) => Ok(self.end(intent, Some((number, live)), true).await?),
            Answer::Refused(refused) => {
                self.end(intent, None, false).await?;
                Err(refused)
            }
            Answer::Revoking(_) => Err(damaged("a script's answer").into()),
        }
    }

    pub(super) async fn remove_tenant(
        &self,
        tenant: &TenantId,
        dek_id: u64,
        expected: Version,
    ) -> Result<(), CommitError> {
        let intent = Intent::new(tenant, dek_id);
        // The number of the change does not matter: a deletion needs no claim that could run out.
        let _begun = self.begin(&intent, None).await?;
        let names = self.names.of_tenant(tenant);
        let mut keys = names.for_keys();
        keys.push(names.leftovers(dek_id));
        let (dek, version) = (dek_id.to_string(), version_text(expected));
        let args = [dek.as_bytes(), version.as_bytes()];
        let answer: Vec<Value> = self.link.run(&scripts::DELETE_TENANT, &keys, &args).await?;
        let result = match word(&answer)? {
            "ok" => self.finish_removal(&intent).await.map_err(Into::into),
            _ => {
                self.end(&intent, None, false).await?;
                match read(&answer, || None)? {
                    Answer::Refused(refused) => Err(refused),
                    Answer::Done(..) | Answer::Revoking(_) => {
                        Err(damaged("a script's answer").into())
                    }
                }
            }
        };
        self.watchers
            .notify(|watcher| watcher.tenant_changed(tenant));
        result
    }

    /// Removes what is left of a deleted tenant outside its slot.
    pub(super) async fn finish_removal(&self, intent: &Intent) -> Result<(), StoreError> {
        let names = self.names.of_tenant(&intent.tenant);
        let leftovers = names.leftovers(intent.dek_id);
        let dek_id = intent.dek_id.to_string();
        loop {
            let mut some = redis::cmd("SRANDMEMBER");
            some.arg(&leftovers).arg(LEFTOVERS_AT_ONCE);
            let ids: Vec<Vec<u8>> = self.link.ask(&some).await?;
            if ids.is_empty() {
                break;
            }
            let parsed: Vec<LookupId> = ids
                .iter()
                .filter_map(|id| Some(LookupId(id.as_slice().try_into().ok()?)))
                .collect();
            self.drop_entries(&intent.tenant, dek_id.as_bytes(), &parsed)
                .await?;
            let mut removed = redis::cmd("SREM");
            removed.arg(&leftovers).arg(&ids);
            let _count: u64 = self.link.ask(&removed).await?;
        }
        let incarnation = intent.incarnation();
        let args = [
            incarnation.as_bytes(),
            intent.tenant.as_str().as_bytes(),
            DELETED_MS,
        ];
        let _done: u8 = self
            .link
            .run(&scripts::FORGET, &self.of_all(), &args)
            .await?;
        // Somebody may have made the tenant again and be in the directory already: then it stays there.
        let exists = hget(&names.tenant, b"d");
        if self.link.ask::<Option<Vec<u8>>>(&exists).await?.is_some() {
            let mut add = redis::cmd("ZADD");
            add.arg(self.names.directory())
                .arg(0)
                .arg(intent.tenant.as_str());
            let _count: u8 = self.link.ask(&add).await?;
        }
        self.end(intent, None, false).await
    }
}
