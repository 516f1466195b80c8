//! A key that does not work for a while.

use crate::clock::Timestamp;
use crate::domain::decision::is_past;
use crate::domain::name::Description;

/// How long a pause lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PauseEnd {
    /// Until somebody ends it.
    Open,
    /// Until this instant, from which on the key works again by itself.
    At(Timestamp),
}

impl PauseEnd {
    /// Whether the key still does not work at `now`.
    pub fn holds(self, now: Timestamp) -> bool {
        match self {
            Self::Open => true,
            Self::At(end) => !is_past(Some(end), now),
        }
    }

    /// The instant, if there is one.
    pub fn time(self) -> Option<Timestamp> {
        match self {
            Self::Open => None,
            Self::At(end) => Some(end),
        }
    }
}

/// Who put a pause on a key, as far as that decides who may end it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PausedBy {
    /// The user that the key belongs to.
    Owner,
    /// An admin: the owner does not end it, nor change it.
    Admin,
}

/// That a key does not work for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// Since when.
    pub since: Timestamp,
    /// How long.
    pub end: PauseEnd,
    /// Why, in the words of who paused it; may be empty.
    pub reason: Description,
    /// Who may end it.
    pub by: PausedBy,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_ends_at_its_end_and_an_open_one_never_by_itself() {
        let at = Timestamp::from_millis;
        assert!(PauseEnd::Open.holds(Timestamp::MAX));
        let end = PauseEnd::At(at(1000));
        assert_eq!(
            [0, 999, 1000, 1001].map(|now| end.holds(at(now))),
            [true, true, false, false]
        );
    }
}
