//! One tenant on its way: row, keys in their order, and the audit in step with them.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::time::{Instant, sleep};

use super::{Copied, MigrateError, Migration, Mode, PAGE, Stop};
use crate::crypto::envelope::DataKey;
use crate::domain::key::Key;
use crate::domain::name::KeyId;
use crate::domain::version::Version;
use crate::store::records;
use crate::store::{
    CommitError, CountChange, Expected, IndexRow, KeyCommit, KeyRow, TenantCommit, TenantRow,
};

/// How long a lookup id can be kept for a change whose process has died: longer than a claim of a store lives.
const CLAIMED_MAX: Duration = Duration::from_secs(35);
/// How often it is tried again meanwhile.
const TRY_EVERY: Duration = Duration::from_millis(500);

/// A tenant that is being copied.
pub(super) struct Copying<'a> {
    of: &'a Migration,
    row: &'a TenantRow,
    mode: Mode,
    done: &'a dyn Fn(usize),
    /// Entries of the source's audit that were read and are not at the destination.
    audit: VecDeque<Vec<u8>>,
    /// How many entries were read: the number of the last one.
    audit_read: u64,
    /// How many entries the destination has, or would have.
    audit_there: u64,
    pub(super) copied: Copied,
}

impl<'a> Copying<'a> {
    pub(super) fn new(
        of: &'a Migration,
        row: &'a TenantRow,
        mode: Mode,
        done: &'a dyn Fn(usize),
    ) -> Self {
        Self {
            of,
            row,
            mode,
            done,
            audit: VecDeque::new(),
            audit_read: 0,
            audit_there: 0,
            copied: Copied::default(),
        }
    }

    /// Copies what is missing. A tenant that differs is left as it is: that is known before anything is written.
    pub(super) async fn run(&mut self) -> Result<(), Stop> {
        let (_, data_key) = records::open_tenant(&self.of.keyring, self.row)?;
        let there = self.of.destination.tenant(&self.row.id).await;
        let is_new = match there.map_err(MigrateError::Destination)? {
            None => {
                self.make().await?;
                true
            }
            Some(there) => {
                compare_tenants(self.row, &there)?;
                self.compare_audit().await?;
                self.compare_keys().await?;
                false
            }
        };
        (self.done)(1);
        self.keys(&data_key, is_new).await?;
        self.rest_of_audit().await
    }

    async fn make(&mut self) -> Result<(), Stop> {
        let commit = TenantCommit {
            expected: Expected::New,
            row: self.row.clone(),
            audit: self.next_entry().await?,
            request: None,
        };
        if self.mode == Mode::Write {
            let made = self.of.destination.commit_tenant(commit).await;
            made.map_err(|error| refused("the tenant", error))?;
        }
        self.copied.tenants += 1;
        self.copied.audit_entries += 1;
        Ok(())
    }

    /// The next entry that the destination does not have.
    async fn next_entry(&mut self) -> Result<Vec<u8>, Stop> {
        self.read_audit().await?;
        let too_few = || Stop::Tenant("it has fewer audit entries than changes".to_owned());
        let entry = self.audit.pop_front().ok_or_else(too_few)?;
        self.audit_there += 1;
        Ok(entry)
    }

    /// Reads a page of the source's audit when nothing that was read is left.
    async fn read_audit(&mut self) -> Result<(), Stop> {
        if !self.audit.is_empty() {
            return Ok(());
        }
        let source = &self.of.source;
        let page = source
            .audit_after(&self.row.id, self.audit_read, PAGE)
            .await;
        for (number, entry) in page.map_err(MigrateError::Source)? {
            if number != self.audit_read + 1 {
                let gap = format!(
                    "its audit has no entry {} at the source",
                    self.audit_read + 1
                );
                return Err(Stop::Tenant(gap));
            }
            self.audit_read = number;
            self.audit.push_back(entry);
        }
        Ok(())
    }

    /// Whether what the destination has of the audit is how it begins at the source.
    async fn compare_audit(&mut self) -> Result<(), Stop> {
        let (source, destination) = (&self.of.source, &self.of.destination);
        loop {
            let there = destination.audit_after(&self.row.id, self.audit_there, PAGE);
            let there = there.await.map_err(MigrateError::Destination)?;
            let Some((last, _)) = there.last() else {
                return Ok(());
            };
            let here = source.audit_after(&self.row.id, self.audit_there, there.len());
            if here.await.map_err(MigrateError::Source)? != there {
                let differs = "its audit at the destination is not how it begins at the source: it was changed there since it was copied";
                return Err(Stop::Tenant(differs.to_owned()));
            }
            self.audit_there = *last;
            self.audit_read = *last;
        }
    }

    /// Whether the keys that the destination has are those of the source.
    async fn compare_keys(&self) -> Result<(), Stop> {
        let mut page = self.page_of_keys(None).await?;
        while let Some(last) = page.last().map(|row| row.id.clone()) {
            let there = self.keys_there(&page).await?;
            for (row, there) in page.iter().zip(there) {
                if let Some(there) = there {
                    compare_keys(row, &there)?;
                }
            }
            page = self.page_of_keys(Some(&last)).await?;
        }
        Ok(())
    }

    async fn page_of_keys(&self, after: Option<&KeyId>) -> Result<Vec<KeyRow>, Stop> {
        let page = self.of.source.keys(&self.row.id, after, PAGE).await;
        Ok(page.map_err(MigrateError::Source)?)
    }

    async fn keys_there(&self, page: &[KeyRow]) -> Result<Vec<Option<KeyRow>>, Stop> {
        let destination = &self.of.destination;
        let there = page
            .iter()
            .map(|row| destination.key(&self.row.id, &row.id));
        Ok(try_join_all(there)
            .await
            .map_err(MigrateError::Destination)?)
    }

    async fn keys(&mut self, data_key: &DataKey, is_new: bool) -> Result<(), Stop> {
        let mut page = self.page_of_keys(None).await?;
        while let Some(last) = page.last().map(|row| row.id.clone()) {
            let there = match is_new {
                true => vec![None; page.len()],
                false => self.keys_there(&page).await?,
            };
            for (row, there) in page.into_iter().zip(there) {
                if there.is_none() {
                    self.key(data_key, row).await?;
                }
                (self.done)(1);
            }
            page = self.page_of_keys(Some(&last)).await?;
        }
        Ok(())
    }

    async fn key(&mut self, data_key: &DataKey, row: KeyRow) -> Result<(), Stop> {
        let key = records::open_key(data_key, &self.row.id, &row)?;
        let index = self.index_of(&key).await?;
        let count = match key.is_live() {
            // The limits held when the key was made.
            true => CountChange::Add {
                per_owner: u64::MAX,
                total: None,
            },
            false => CountChange::None,
        };
        let commit = KeyCommit {
            tenant: self.row.id.clone(),
            dek_id: self.row.dek_id,
            expected: Expected::New,
            row,
            index,
            drop: Vec::new(),
            owner_tag: records::owner_tag(&self.of.lookup, &key),
            count,
            audit: self.next_entry().await?,
            request: None,
        };
        if self.mode == Mode::Write {
            self.commit_key(commit).await?;
        }
        self.copied.keys += 1;
        self.copied.audit_entries += 1;
        Ok(())
    }

    /// The index entries of a key as they are. One that is not of the key's version is of a change under way.
    async fn index_of(&self, key: &Key) -> Result<Vec<IndexRow>, Stop> {
        let lookup_ids = key
            .generations
            .iter()
            .map(|generation| generation.lookup_id);
        let entries = lookup_ids.map(|lookup_id| self.of.source.index(lookup_id));
        let entries = try_join_all(entries).await.map_err(MigrateError::Source)?;
        let settled = |entry: Option<IndexRow>| entry.filter(|entry| entry.version == key.version);
        let forgotten = key.forgotten.iter();
        let forgotten = forgotten.map(|lookup_id| self.of.source.index(*lookup_id));
        let forgotten = try_join_all(forgotten)
            .await
            .map_err(MigrateError::Source)?;
        let forgotten = forgotten.into_iter().flatten().map(Ok);
        entries
            .into_iter()
            .map(|entry| {
                let entry = settled(entry).ok_or_else(|| {
                    Stop::Tenant(format!(
                        "a change of key {} is not complete at the source: run a control plane on it for ten seconds, stop it, and run this again",
                        key.id
                    ))
                })?;
                // Entries of earlier versions do not say so beside their seal.
                let revoked = entry.revoked || key.is_revoked();
                Ok(IndexRow { revoked, ..entry })
            })
            .chain(forgotten)
            .collect()
    }

    async fn commit_key(&self, commit: KeyCommit) -> Result<(), Stop> {
        let begun = Instant::now();
        loop {
            let made = self.of.destination.commit_key(commit.clone()).await;
            let error = match made {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let may_be_claimed =
                matches!(error, CommitError::Exists) && begun.elapsed() < CLAIMED_MAX;
            if !may_be_claimed || self.is_taken(&commit).await? {
                return Err(refused(&format!("key {}", commit.row.id), error));
            }
            sleep(TRY_EVERY).await;
        }
    }

    /// Whether the key or one of its lookup ids is really there. If not, a run that has died has claimed it.
    async fn is_taken(&self, commit: &KeyCommit) -> Result<bool, Stop> {
        let destination = &self.of.destination;
        let key = destination.key(&commit.tenant, &commit.row.id).await;
        let entries = commit.index.iter().map(|entry| entry.lookup_id);
        let entries = try_join_all(entries.map(|lookup_id| destination.index(lookup_id))).await;
        let key = key.map_err(MigrateError::Destination)?;
        let entries = entries.map_err(MigrateError::Destination)?;
        Ok(key.is_some() || entries.iter().any(Option::is_some))
    }

    /// Appends what no key has taken along.
    async fn rest_of_audit(&mut self) -> Result<(), Stop> {
        loop {
            self.read_audit().await?;
            let entries: Vec<Vec<u8>> = self.audit.drain(..).collect();
            if entries.is_empty() {
                return Ok(());
            }
            let (count, after) = (entries.len() as u64, self.audit_there);
            if self.mode == Mode::Write {
                let (id, dek_id) = (&self.row.id, self.row.dek_id);
                let destination = &self.of.destination;
                let appended = destination.append_audit(id, dek_id, after, entries).await;
                appended.map_err(|error| refused("its audit", error))?;
            }
            self.audit_there += count;
            self.copied.audit_entries += count;
        }
    }
}

/// What a refusal says of the destination.
fn refused(what: &str, error: CommitError) -> Stop {
    let says = match error {
        CommitError::Store(error) => return MigrateError::Destination(error).into(),
        CommitError::Exists => "is there already, or its token is another key's",
        CommitError::Conflict | CommitError::NotFound => {
            "changed there while it was copied: stop what writes to the destination"
        }
        CommitError::Repeated
        | CommitError::Revoked
        | CommitError::Uncounted
        | CommitError::CountLimit { .. } => "is refused",
    };
    Stop::Tenant(format!("{what} {says}"))
}

fn compare_tenants(here: &TenantRow, there: &TenantRow) -> Result<(), Stop> {
    if here.dek_id != there.dek_id {
        let other = "another tenant has its name at the destination (it has another data key)";
        return Err(Stop::Tenant(other.to_owned()));
    }
    compare("it", here.version, there.version, here == there)
}

fn compare_keys(here: &KeyRow, there: &KeyRow) -> Result<(), Stop> {
    let what = format!("key {}", here.id);
    compare(&what, here.version, there.version, here == there)
}

fn compare(what: &str, here: Version, there: Version, is_same: bool) -> Result<(), Stop> {
    if is_same {
        return Ok(());
    }
    Err(Stop::Tenant(match here == there {
        true => format!("{what} has version {here} on both sides with another content"),
        false => format!("{what} has version {here} at the source and {there} at the destination"),
    }))
}
