//! A key that does not work for a while, and works again.

use crate::clock::Timestamp;
use crate::domain::change::{Action, Actor};
use crate::domain::key::Key;
use crate::domain::name::Description;
use crate::domain::pause::{Pause, PauseEnd, PausedBy};
use crate::registry::key_changes::{Edit, Outcome};
use crate::registry::{Etag, NewEnd, Opened, ReadKey, Registry, RegistryError};
use crate::store::CountChange;

/// What is asked of a pause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPause {
    /// When it ends by itself; none: when somebody ends it.
    pub end: Option<NewEnd>,
    /// Why; may be empty.
    pub reason: Description,
    /// Who asks.
    pub by: PausedBy,
}

/// The key as it now is, unless it is revoked.
fn changed(outcome: Outcome<()>) -> Result<Key, RegistryError> {
    match outcome {
        Outcome::Changed(key, ()) | Outcome::Same(key) => Ok(key),
        Outcome::Revoked(_) => Err(RegistryError::KeyRevoked),
    }
}

impl Registry {
    /// Makes a key refuse as `api_key_paused`, all its generations, until the pause is over or is ended. Pausing a paused
    /// key sets end and reason anew. A revoked key is [`RegistryError::KeyRevoked`] and stays so; what an admin has
    /// paused is [`RegistryError::PausedByAdmin`] to its owner.
    pub async fn pause_key(
        &self,
        actor: &Actor,
        read: ReadKey,
        new: &NewPause,
        etag: Option<Etag>,
    ) -> Result<Key, RegistryError> {
        let edit = Edit {
            actor,
            action: Action::KeyPaused,
            count: CountChange::None,
            note: new.reason.to_string(),
            etag,
            request: None,
            change: |_: &Opened, key: &mut Key, now| pause(key, new, now),
        };
        changed(self.edit_key(read, edit).await?)
    }

    /// Ends the pause of a key: it works again from then on. Of a key that is not paused it changes nothing.
    pub async fn resume_key(
        &self,
        actor: &Actor,
        read: ReadKey,
        by: PausedBy,
        etag: Option<Etag>,
    ) -> Result<Key, RegistryError> {
        let edit = Edit {
            actor,
            action: Action::KeyResumed,
            count: CountChange::None,
            note: String::new(),
            etag,
            request: None,
            change: |_: &Opened, key: &mut Key, now| {
                check_may_change(key, by, now)?;
                key.pause = None;
                Ok(())
            },
        };
        changed(self.edit_key(read, edit).await?)
    }
}

fn pause(key: &mut Key, new: &NewPause, now: Timestamp) -> Result<(), RegistryError> {
    check_may_change(key, new.by, now)?;
    let end = match new.end {
        None => PauseEnd::Open,
        Some(NewEnd::At(end)) => PauseEnd::At(end),
        Some(NewEnd::After(length)) => PauseEnd::At(now.plus(length)),
    };
    if !end.holds(now) {
        return Err(RegistryError::Invalid {
            field: "end_time",
            problem: format!("must be after now, {now}"),
        });
    }
    let before = key.pause.take().filter(|pause| pause.end.holds(now));
    key.pause = Some(Box::new(Pause {
        since: before.map_or(now, |before| before.since),
        end,
        reason: new.reason.clone(),
        by: new.by,
    }));
    Ok(())
}

/// Whether who asks may change the pause that there is.
fn check_may_change(key: &Key, by: PausedBy, now: Timestamp) -> Result<(), RegistryError> {
    let pause = key.pause.as_ref().filter(|pause| pause.end.holds(now));
    match pause {
        Some(pause) if pause.by == PausedBy::Admin && by == PausedBy::Owner => {
            Err(RegistryError::PausedByAdmin)
        }
        Some(_) | None => Ok(()),
    }
}
