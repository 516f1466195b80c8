//! Versions: an order of changes and the identity of each.
//!
//! A store can fall back to an earlier state: a stale replica becomes primary, a backup is restored. Then a counter gives
//! the same number to another change. So a version is a hybrid logical clock (it follows the time of day and never
//! stands still) with the random id of the change that made it: two histories do not share one.

use std::fmt;

use crate::clock::Timestamp;

/// How many changes of one record have an order of their own within a millisecond.
const TICK_BITS: u32 = 10;
/// Orders stay below what a number in a Lua script counts exactly.
const ORDER_MAX: u64 = (1 << 53) - 1;
/// What the clock alone can lead to: a clock that is far ahead leaves room for the changes to come.
const CLOCK_MAX: u64 = ORDER_MAX >> 1;

/// Which change a state of a record comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Later changes have a greater one, whichever control plane makes them.
    pub order: u64,
    /// The random id of the change; 0 in records that were written before changes had one.
    pub change: u64,
}

impl Version {
    /// The version of a change with the random id `change` at `now`, of a record whose greatest known order is `last`.
    #[must_use]
    pub fn after(last: u64, now: Timestamp, change: u64) -> Self {
        let millis = u64::try_from(now.as_millis()).unwrap_or(0);
        let clock = millis.saturating_mul(1 << TICK_BITS).min(CLOCK_MAX);
        Self {
            order: clock.max(last.saturating_add(1)).min(ORDER_MAX),
            // 0 stands for none.
            change: change.max(1),
        }
    }
}

/// A version of before changes had ids.
impl From<u64> for Version {
    fn from(order: u64) -> Self {
        Self { order, change: 0 }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.change {
            0 => write!(f, "{}", self.order),
            change => write!(f, "{}/{change:016x}", self.order),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    #[test]
    fn a_later_change_has_a_greater_order_whatever_the_clocks_say() {
        let first = Version::after(0, NOW, 7);
        // Another control plane, whose clock is behind by a day and by far too much.
        for behind in [86_400_000, NOW.as_millis(), NOW.as_millis() + 1] {
            let clock = Timestamp::from_millis(NOW.as_millis() - behind);
            let next = Version::after(first.order, clock, 7);
            assert_eq!(next.order, first.order + 1);
        }
        // One that does not know of the first: in the next millisecond it is later all the same.
        let lost = Version::after(0, Timestamp::from_millis(NOW.as_millis() + 1), 8);
        assert!(lost.order > first.order);
        // Records of before there were clocks in versions.
        assert!(first.order > 1_000_000);
    }

    #[test]
    fn orders_are_exact_in_a_script_and_never_run_out_by_the_clock() {
        let far = Version::after(0, Timestamp::MAX, 1);
        assert!(far.order < ORDER_MAX);
        let next = Version::after(far.order, NOW, 2);
        assert_eq!(next.order, far.order + 1);
        // A double counts every whole number up to this one.
        assert_eq!(ORDER_MAX, (1 << f64::MANTISSA_DIGITS) - 1);
    }

    #[test]
    fn one_history_does_not_share_a_version_with_another() {
        assert_ne!(Version::after(1, NOW, 5), Version::after(1, NOW, 6));
        assert_ne!(Version::after(1, NOW, 0), Version::from(1));
        assert_ne!(Version::after(1, NOW, 0).change, 0);
    }
}
