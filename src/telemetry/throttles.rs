//! Lines that differ by who brings them about: each kind now and then, and all of them together not much more often.

use parking_lot::Mutex;

use crate::clock::Timestamp;
use crate::telemetry::Throttle;

/// Kinds beyond these share one allowance: peers may choose them.
const KINDS_MAX: usize = 64;

/// A [`Throttle`] for each kind of line.
#[derive(Debug, Default)]
pub struct Throttles(Mutex<Vec<(String, Throttle)>>);

impl Throttles {
    /// Whether to write a line of this kind now; then with how many were held back.
    pub fn admit(&self, kind: &str, now: Timestamp) -> Option<u64> {
        let mut all = self.0.lock();
        let known = all.iter().position(|(name, _)| name == kind);
        let at = match known {
            Some(at) => at,
            None if all.len() < KINDS_MAX => {
                all.push((kind.to_owned(), Throttle::default()));
                all.len() - 1
            }
            None => KINDS_MAX - 1,
        };
        all[at].1.admit(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_brings_about_a_line_again_and_again_gets_one_in_ten_seconds() {
        let throttles = Throttles::default();
        let at = Timestamp::from_millis;
        let lines = |kind: &str, from: i64| {
            let admitted = (0..200).filter(|more| throttles.admit(kind, at(from + more)).is_some());
            admitted.count()
        };
        assert_eq!(lines("h2::proto::streams", 1_000), 1);
        assert_eq!(lines("rustls::conn", 1_000), 1, "each kind has its own");
        assert_eq!(lines("h2::proto::streams", 5_000), 0);
        assert_eq!(lines("h2::proto::streams", 11_000), 1);
        let made_up =
            (0..500).filter(|number| throttles.admit(&format!("{number}"), at(0)).is_some());
        assert!(made_up.count() <= KINDS_MAX);
        assert_eq!(throttles.0.lock().len(), KINDS_MAX);
    }
}
