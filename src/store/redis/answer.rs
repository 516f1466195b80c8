//! What the scripts on a tenant's slot answer.

use redis::Value;

use super::change::{Change, damaged};
use crate::store::{CommitError, CountScope, StoreError};

/// What a script on a tenant's slot answered.
pub(super) enum Answer {
    /// Done; the number of the audit entry and the tenant's live keys.
    Done(u64, u64),
    /// A revocation of the key is kept and has to be completed first.
    Revoking(Change),
    Refused(CommitError),
}

pub(super) fn word(answer: &[Value]) -> Result<&str, StoreError> {
    match answer.first() {
        Some(Value::BulkString(word)) => {
            std::str::from_utf8(word).map_err(|_| damaged("a script's answer"))
        }
        Some(_) | None => Err(damaged("a script's answer")),
    }
}

pub(super) fn numbers(answer: &[Value]) -> Result<(u64, u64), StoreError> {
    let number = |at: usize| {
        let value = answer.get(at).ok_or_else(|| damaged("a script's answer"))?;
        redis::from_redis_value_ref(value).map_err(|_| damaged("a script's answer"))
    };
    Ok((number(1)?, number(2)?))
}

/// Reads the answer of a script that commits; `per_owner` is the limit that it was given.
pub(super) fn read(
    answer: &[Value],
    per_owner: impl Fn() -> Option<u64>,
) -> Result<Answer, StoreError> {
    let refused = match word(answer)? {
        "ok" => {
            let (number, live) = numbers(answer)?;
            return Ok(Answer::Done(number, live));
        }
        "revoking" => {
            let kept = answer.get(1).ok_or_else(|| damaged("a script's answer"))?;
            return Ok(Answer::Revoking(Change::parse(kept)?));
        }
        "gone" => CommitError::NotFound,
        "exists" => CommitError::Exists,
        "conflict" => CommitError::Conflict,
        "repeated" => CommitError::Repeated,
        "owner" => CommitError::CountLimit {
            scope: CountScope::Owner,
            limit: per_owner().unwrap_or(0),
            current: answer
                .get(1)
                .and_then(|live| redis::from_redis_value_ref(live).ok())
                .unwrap_or(0),
        },
        "uncounted" => CommitError::Uncounted,
        "lost" => {
            let lost = "the tenant's record is gone, and others of it are there: restore its data from a backup";
            return Err(StoreError::Lost(lost.to_owned()));
        }
        "late" => {
            let late = "the change took too long and was not made; try again";
            return Err(StoreError::Unavailable(late.into()));
        }
        _ => return Err(damaged("a script's answer")),
    };
    Ok(Answer::Refused(refused))
}
