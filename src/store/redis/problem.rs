//! What can be wrong with a store that answers.

use std::fmt;

/// Why a Redis that answers is not our store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It has not been looked at yet.
    NotSeen,
    /// There has never been anything, as far as this process knows.
    New,
    /// The root record was there, and is not any more.
    Lost {
        /// The name that is missing.
        name: String,
    },
    /// The root record is of another keyring.
    Foreign {
        /// The keyring that it is of.
        found: String,
        /// Ours.
        ours: String,
    },
    /// It was made again by somebody, with nothing of what was there.
    Replaced,
    /// The root record is nothing that we can read.
    Unreadable(String),
}

impl Problem {
    /// Whether it is how every new store begins.
    pub(super) fn is_beginning(&self) -> bool {
        matches!(self, Self::NotSeen | Self::New)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSeen => f.write_str("the root record has not been read yet"),
            Self::New => f.write_str(
                "nothing is stored here yet: start a control plane on this Redis first",
            ),
            Self::Lost { name } => write!(
                f,
                "Redis answers, but {name} is gone: it has lost its data (FLUSHALL, a restart without persistence, a failover to an empty replica, eviction); restore its data"
            ),
            Self::Foreign { found, ours } => write!(
                f,
                "Redis answers, but its data was made with keyring {found}, and ours is {ours}: it is another installation's store"
            ),
            Self::Replaced => f.write_str(
                "Redis answers, but its data was lost and the store was made anew: restore the data, or restart this process to go on with the new store",
            ),
            Self::Unreadable(why) => write!(f, "Redis answers, but the root record cannot be used: {why}"),
        }
    }
}
