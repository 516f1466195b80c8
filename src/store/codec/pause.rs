//! That a key is paused.

use prost::Message;

use super::{DecodeError, Reader};
use crate::clock::Timestamp;
use crate::domain::name::Description;
use crate::domain::pause::{Pause, PauseEnd, PausedBy};

/// Of a key. Absent in records of before there were pauses: such a key is not paused.
#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredPause {
    #[prost(int64, tag = "1")]
    since: i64,
    /// Absent: until somebody ends it.
    #[prost(int64, optional, tag = "2")]
    end: Option<i64>,
    #[prost(string, tag = "3")]
    reason: String,
    /// 1 its owner, 2 an admin.
    #[prost(uint32, tag = "4")]
    by: u32,
}

/// Of an index record, whose own `expires_at` is then in the past: a sidecar of before there were pauses refuses the key
/// as expired, and does not let it pass.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct StoredPaused {
    /// Absent: until somebody ends it.
    #[prost(int64, optional, tag = "1")]
    end: Option<i64>,
    /// When the generation stops working in truth.
    #[prost(int64, optional, tag = "2")]
    expires_at: Option<i64>,
}

fn end_of(stored: Option<i64>) -> PauseEnd {
    stored.map_or(PauseEnd::Open, |end| {
        PauseEnd::At(Timestamp::from_millis(end))
    })
}

impl StoredPause {
    pub(super) fn of(pause: &Pause) -> Self {
        Self {
            since: pause.since.as_millis(),
            end: pause.end.time().map(Timestamp::as_millis),
            reason: pause.reason.to_string(),
            by: match pause.by {
                PausedBy::Owner => 1,
                PausedBy::Admin => 2,
            },
        }
    }

    pub(super) fn read(&self, read: &Reader) -> Result<Pause, DecodeError> {
        Ok(Pause {
            since: Timestamp::from_millis(self.since),
            end: end_of(self.end),
            reason: read.name(Description::stored, &self.reason)?,
            by: match self.by {
                1 => PausedBy::Owner,
                2 => PausedBy::Admin,
                _ => return Err(read.fail("who paused it")),
            },
        })
    }
}

/// How an expiry and a pause are stored in an index record.
pub(super) fn stored_end(
    expires_at: Option<Timestamp>,
    paused: Option<PauseEnd>,
) -> (Option<i64>, Option<StoredPaused>) {
    let expires_at = expires_at.map(Timestamp::as_millis);
    match paused {
        None => (expires_at, None),
        Some(pause) => {
            let end = pause.time().map(Timestamp::as_millis);
            (Some(0), Some(StoredPaused { end, expires_at }))
        }
    }
}

/// The expiry and the pause of an index record.
pub(super) fn read_end(
    expires_at: Option<i64>,
    paused: Option<StoredPaused>,
) -> (Option<Timestamp>, Option<PauseEnd>) {
    let expires_at = paused.map_or(expires_at, |paused| paused.expires_at);
    let paused = paused.map(|paused| end_of(paused.end));
    (expires_at.map(Timestamp::from_millis), paused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_survives_and_an_older_reader_takes_the_key_for_expired() {
        let at = Timestamp::from_millis;
        let ends = [PauseEnd::Open, PauseEnd::At(at(0)), PauseEnd::At(at(7))];
        for end in ends {
            for by in [PausedBy::Owner, PausedBy::Admin] {
                let pause = Pause {
                    since: at(5),
                    end,
                    reason: Description::parse("why").unwrap(),
                    by,
                };
                assert_eq!(StoredPause::of(&pause).read(&Reader("key")), Ok(pause));
            }
        }
        for expires_at in [None, Some(at(9))] {
            for paused in ends.map(Some).into_iter().chain([None]) {
                let (stored, beside) = stored_end(expires_at, paused);
                assert_eq!(read_end(stored, beside), (expires_at, paused));
                // What a reader sees that does not know of pauses.
                let seen = stored.map(at);
                let expected = if paused.is_some() {
                    Some(at(0))
                } else {
                    expires_at
                };
                assert_eq!(seen, expected);
            }
        }
        let nobody = StoredPause::default();
        assert!(nobody.read(&Reader("key")).is_err());
    }
}
