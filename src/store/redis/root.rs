//! The root record: whose store this is. A Redis that answers without it has lost its data; one with another's was
//! never ours. Either is an outage: what is not found there says nothing about what exists.
//!
//! It is read on every new connection, once a second, and with every read whose answer could be "there is none", on
//! the same connection and after it: data that was gone before the read is missed by that look.
//!
//! On a Cluster one primary may have lost its data alone, so each slot has a marker, which is read in its place.

use std::time::Duration;

use futures_util::future::join;
use redis::{Cmd, FromRedisValue, Script, cmd};
use tokio::time::sleep;

use super::keyspace::{self, FORMAT, Keyspace};
use super::link::{Link, Live};
use super::nodes;
use super::problem::Problem;
use crate::store::StoreError;

/// How often the root record is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The root record.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) keyring: String,
    pub(super) store_id: Option<String>,
    pub(super) is_marked: bool,
}

impl Link {
    /// Reads, and answers only if what was read was read from our store: `near` is the name that is read.
    pub(super) async fn read<T: FromRedisValue>(
        &self,
        near: &str,
        command: &Cmd,
    ) -> Result<T, StoreError> {
        let live = self.live()?;
        let (answer, is_ours) = join(live.ask(command), self.verify_on(&live, near)).await;
        is_ours?;
        answer
    }

    /// The same by a script.
    pub(super) async fn read_by<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &[String],
        args: &[&[u8]],
    ) -> Result<T, StoreError> {
        let live = self.live()?;
        let near = keys.first().map_or("", String::as_str);
        let (answer, is_ours) =
            join(live.run(script, keys, args), self.verify_on(&live, near)).await;
        is_ours?;
        answer
    }

    /// Whether what is stored beside `near` is our store's, now.
    pub(super) async fn verify(&self, near: &str) -> Result<(), StoreError> {
        self.verify_on(&self.live()?, near).await
    }

    async fn verify_on(&self, live: &Live<'_>, near: &str) -> Result<(), StoreError> {
        if self.guard().keyring.get().is_none() {
            return Ok(());
        }
        let problem = if self.guard().is_cluster {
            let marker = self.guard().names.marker_beside(near);
            self.look_at_marker(live, &marker).await?
        } else {
            self.look_at_root(live).await?.err()
        };
        if let Some(problem) = problem {
            self.guard().set(&self.settings().location(), Some(problem));
            self.guard().check()?;
        }
        Ok(())
    }

    /// Looks at all that says whose store it is, and remembers what it finds.
    pub(super) async fn look(&self) -> Result<(), StoreError> {
        self.look_on(&self.live_unguarded()?).await
    }

    pub(super) async fn look_on(&self, live: &Live<'_>) -> Result<(), StoreError> {
        if self.guard().keyring.get().is_none() {
            return Ok(());
        }
        let problem = match self.look_at_root(live).await? {
            Ok(root) if self.guard().is_cluster && root.is_marked => {
                self.look_at_markers(live).await?
            }
            Ok(_) => None,
            Err(problem) => Some(problem),
        };
        self.guard().set(&self.settings().location(), problem);
        Ok(())
    }

    async fn look_at_root(&self, live: &Live<'_>) -> Result<Result<Root, Problem>, StoreError> {
        let found = match read_root(live, &self.guard().names).await {
            Err(StoreError::Damaged(why)) => return Ok(Err(Problem::Unreadable(why))),
            found => found?,
        };
        let Some(root) = found else {
            let problem = if self.guard().seen.lock().root {
                let name = self.guard().names.root();
                Problem::Lost { name }
            } else {
                Problem::New
            };
            return Ok(Err(problem));
        };
        match self.guard().keyring.get() {
            Some(ours) if *ours != root.keyring => {
                return Ok(Err(Problem::Foreign {
                    found: root.keyring,
                    ours: ours.clone(),
                }));
            }
            Some(_) | None => {}
        }
        if self.is_replaced(live, &root).await? {
            return Ok(Err(Problem::Replaced));
        }
        let mut seen = self.guard().seen.lock();
        seen.root = true;
        if root.store_id.is_some() {
            seen.store_id.clone_from(&root.store_id);
        }
        drop(seen);
        Ok(Ok(root))
    }

    /// Whether it is another store than the one that we have worked with. One that has a tenant of ours with the same
    /// data key was restored from a copy.
    async fn is_replaced(&self, live: &Live<'_>, root: &Root) -> Result<bool, StoreError> {
        let witness = {
            let seen = self.guard().seen.lock();
            match (&seen.store_id, &root.store_id) {
                (Some(seen), Some(found)) if seen != found => {}
                _ => return Ok(false),
            }
            seen.witness.clone()
        };
        let Some((tenant, dek_id)) = witness else {
            return Ok(true);
        };
        let mut get = cmd("HMGET");
        get.arg(self.guard().names.tenant(&tenant)).arg("d");
        let (found,): (Option<u64>,) = live.ask(&get).await?;
        Ok(found != Some(dek_id))
    }

    /// What speaks against a slot of a Cluster: its marker is not there, though once all were.
    async fn look_at_marker(
        &self,
        live: &Live<'_>,
        marker: &str,
    ) -> Result<Option<Problem>, StoreError> {
        let mut get = cmd("HMGET");
        get.arg(marker).arg(keyspace::ROOT_STORE);
        let (found,): (Option<String>,) = live.ask(&get).await?;
        let expected = self.guard().seen_store_id();
        if found.is_some() && found == expected {
            self.guard().seen.lock().missing.remove(marker);
            return Ok(None);
        }
        let root = match self.look_at_root(live).await? {
            Ok(root) => root,
            Err(problem) => return Ok(Some(problem)),
        };
        if !root.is_marked || found == root.store_id {
            return Ok(None);
        }
        self.guard().seen.lock().missing.insert(marker.to_owned());
        let name = marker.to_owned();
        Ok(Some(Problem::Lost { name }))
    }

    /// One marker of each primary, and those that were missing before.
    async fn look_at_markers(&self, live: &Live<'_>) -> Result<Option<Problem>, StoreError> {
        let mut markers = std::mem::take(&mut self.guard().seen.lock().missing);
        let ranges = self.ranges().await?;
        let first = ranges.iter().map(|(first, _, _)| *first);
        markers.extend(first.map(|slot| self.guard().names.marker(slot)));
        let mut problem = None;
        for marker in markers {
            // Every one of them: those that are missing are remembered.
            if let Some(found) = self.look_at_marker(live, &marker).await? {
                problem.get_or_insert(found);
            }
        }
        Ok(problem)
    }

    pub(super) async fn ranges(&self) -> Result<Vec<nodes::Range>, StoreError> {
        match self.cluster()? {
            None => Ok(Vec::new()),
            Some(cluster) => nodes::cluster_ranges(self.settings(), cluster)
                .await
                .map_err(|error| StoreError::Unavailable(error.into())),
        }
    }

    /// Looks, for ever.
    pub(super) async fn watch_root(&self, back: impl Fn()) {
        let mut problem = self.guard().problem();
        let mut was_out = false;
        loop {
            tokio::select! {
                () = sleep(LOOK_EVERY) => {
                    // Who is not reached is told of by the link.
                    drop(self.look().await);
                }
                changed = problem.changed() => drop(changed),
            }
            let is_out = problem.borrow_and_update().is_some();
            if was_out && !is_out {
                back();
            }
            was_out = is_out;
        }
    }
}

/// The root record; none where there is none.
pub(super) async fn read_root(
    live: &Live<'_>,
    names: &Keyspace,
) -> Result<Option<Root>, StoreError> {
    type Fields = [Option<String>; 4];
    let mut get = cmd("HMGET");
    get.arg(names.root());
    get.arg(
        [
            keyspace::ROOT_FORMAT,
            keyspace::ROOT_KEYRING,
            keyspace::ROOT_STORE,
            keyspace::ROOT_MARKED,
        ]
        .as_slice(),
    );
    let read = live.ask(&get).await;
    let [format, keyring, store_id, marked]: Fields = read.map_err(|error| match error {
        StoreError::Damaged(why) => StoreError::Damaged(format!(
            "{name} is not the hash that keystile keeps there ({why}): somebody wrote something else; remove it with `DEL {name}`, then start a control plane with this store's keyring, which writes it anew",
            name = names.root()
        )),
        other => other,
    })?;
    if let Some(format) = format.filter(|format| *format != FORMAT.to_string()) {
        return Err(StoreError::Damaged(format!(
            "it has format {format}, this version of keystile reads format {FORMAT}"
        )));
    }
    Ok(keyring.map(|keyring| Root {
        keyring,
        store_id,
        is_marked: marked.is_some(),
    }))
}
