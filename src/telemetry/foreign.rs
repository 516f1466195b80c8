//! Lines of other crates. Their peers can bring them about: hundreds in a second, at will.

use parking_lot::Mutex;
use tracing::{Level, Metadata};

use crate::clock::{Clock as _, SystemClock, Timestamp};
use crate::telemetry::Throttle;

/// More targets than these share one allowance.
const TARGETS_MAX: usize = 64;

/// Lets each target of another crate's write a line now and then.
#[derive(Debug, Default)]
pub(super) struct Foreign {
    by_target: Mutex<Vec<(String, Throttle)>>,
}

impl Foreign {
    /// Whether a line may be written. Ours always may: where needed, they are throttled one by one.
    pub(super) fn admits(&self, line: &Metadata<'_>) -> bool {
        if line.is_span() || is_ours(line.target()) {
            return true;
        }
        *line.level() <= Level::WARN && self.admits_at(line.target(), SystemClock.now())
    }

    fn admits_at(&self, target: &str, now: Timestamp) -> bool {
        let mut all = self.by_target.lock();
        let known = all.iter().position(|(name, _)| name == target);
        let at = match known {
            Some(at) => at,
            None if all.len() < TARGETS_MAX => {
                all.push((target.to_owned(), Throttle::default()));
                all.len() - 1
            }
            None => TARGETS_MAX - 1,
        };
        all[at].1.admit(now).is_some()
    }
}

fn is_ours(target: &str) -> bool {
    target == "keystile" || target.starts_with("keystile::")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_makes_another_crate_complain_gets_a_line_in_ten_seconds() {
        let foreign = Foreign::default();
        let at = Timestamp::from_millis;
        let lines = |target: &str, from: i64| {
            let admitted = (0..200).filter(|more| foreign.admits_at(target, at(from + more)));
            admitted.count()
        };
        assert_eq!(lines("h2::proto::streams", 1_000), 1);
        assert_eq!(lines("rustls::conn", 1_000), 1, "each target has its own");
        assert_eq!(lines("h2::proto::streams", 5_000), 0);
        assert_eq!(lines("h2::proto::streams", 11_000), 1);
        for number in 0..500 {
            foreign.admits_at(&format!("made::up{number}"), at(0));
        }
        assert_eq!(foreign.by_target.lock().len(), TARGETS_MAX);
    }
}
