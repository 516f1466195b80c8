//! Wrong tokens where nobody is blocked for them: so many in a time for each source, whoever it is.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;

use super::SITE_FACTOR;
use crate::clock::Timestamp;
use crate::domain::block::Source;
use crate::domain::limit::Rate;

/// The most sources that are told apart at a time. Those beyond share one measure.
const SOURCES_MAX: usize = 16_384;

/// How often each source may guess. A guess is counted before it is known to be wrong, so that many at once count as well,
/// and is given back if it was right.
#[derive(Debug)]
pub struct Guesses {
    rate: Rate,
    /// By source; what has none, such as a Unix socket, is one.
    measures: Mutex<HashMap<Option<Source>, Measure>>,
}

/// A leaking bucket.
#[derive(Clone, Copy, Debug)]
struct Measure {
    level: f64,
    at: Timestamp,
}

impl Guesses {
    /// Nobody has guessed yet.
    pub fn new(rate: Rate) -> Self {
        Self {
            rate,
            measures: Mutex::default(),
        }
    }

    /// Counts a guess, or answers how long to wait for the next.
    pub fn admit(&self, source: Option<Source>, now: Timestamp) -> Result<(), Duration> {
        let mut measures = self.measures.lock();
        let measured = self.measured(&mut measures, source, now);
        let waits = measured.iter().filter_map(|(key, most)| {
            let level = measures.get(key).map_or(0.0, |measure| measure.level);
            let over = level + 1.0 - self.burst(*most);
            (over > 0.0).then(|| Duration::from_secs_f64(over / self.per_second(*most)))
        });
        if let Some(wait) = waits.max() {
            return Err(wait);
        }
        for (key, _) in measured {
            let fresh = Measure {
                level: 0.0,
                at: now,
            };
            measures.entry(key).or_insert(fresh).level += 1.0;
        }
        Ok(())
    }

    /// Takes a guess back: it was none.
    pub fn give_back(&self, source: Option<Source>, now: Timestamp) {
        let mut measures = self.measures.lock();
        for (key, _) in self.measured(&mut measures, source, now) {
            if let Some(measure) = measures.get_mut(&key) {
                measure.level = (measure.level - 1.0).max(0.0);
            }
        }
    }

    /// By what a source is measured, each brought to the present, and how many times the rate it may have.
    fn measured(
        &self,
        measures: &mut HashMap<Option<Source>, Measure>,
        source: Option<Source>,
        now: Timestamp,
    ) -> Vec<(Option<Source>, u32)> {
        let site = source.and_then(Source::site);
        let all = [(source, 1)]
            .into_iter()
            .chain(site.map(|site| (Some(site), SITE_FACTOR)));
        all.map(|(key, most)| {
            let key = match self.has_place(measures, key, now) {
                true => key,
                false => None,
            };
            if let Some(measure) = measures.get_mut(&key) {
                let elapsed = now.since(measure.at).as_secs_f64();
                measure.level = (measure.level - elapsed * self.per_second(most)).max(0.0);
                measure.at = now;
            }
            (key, most)
        })
        .collect()
    }

    fn has_place(
        &self,
        measures: &mut HashMap<Option<Source>, Measure>,
        key: Option<Source>,
        now: Timestamp,
    ) -> bool {
        if measures.len() >= SOURCES_MAX && !measures.contains_key(&key) {
            // Whoever has waited long enough to be as if he had never guessed.
            let empty = self.burst(1) / self.per_second(1);
            measures.retain(|_, measure| now.since(measure.at).as_secs_f64() < empty);
        }
        measures.len() < SOURCES_MAX || measures.contains_key(&key)
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate is at most 10^9")]
    fn burst(&self, most: u32) -> f64 {
        self.rate.burst() as f64 * f64::from(most)
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate is at most 10^9")]
    fn per_second(&self, most: u32) -> f64 {
        let period = self.rate.period().duration().as_secs_f64();
        self.rate.amount() as f64 / period * f64::from(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn guesses() -> Guesses {
        Guesses::new(Rate::parse("2/s burst 4").unwrap())
    }

    fn source(text: &str) -> Option<Source> {
        Some(text.parse().unwrap())
    }

    fn at(millis: u64) -> Timestamp {
        NOON.plus(Duration::from_millis(millis))
    }

    /// How many of many guesses are admitted.
    fn admitted(guesses: &Guesses, source: Option<Source>, millis: u64) -> usize {
        (0..200)
            .filter(|_| guesses.admit(source, at(millis)).is_ok())
            .count()
    }

    #[test]
    fn each_source_has_its_burst_and_then_its_rate() {
        let guesses = guesses();
        let (one, other) = (source("192.0.2.1"), source("192.0.2.2"));
        assert_eq!(admitted(&guesses, one, 0), 4);
        let wait = guesses.admit(one, at(0));
        assert_eq!(wait, Err(Duration::from_millis(500)));
        assert_eq!(admitted(&guesses, one, 500), 1);
        assert_eq!(admitted(&guesses, one, 1_500), 2);
        assert_eq!(
            admitted(&guesses, one, 3_600_000),
            4,
            "no more than a burst"
        );
        assert_eq!(admitted(&guesses, other, 0), 4);
        assert_eq!(admitted(&guesses, None, 0), 4, "a socket is one of them");
    }

    #[test]
    fn what_was_right_counts_nothing() {
        let guesses = guesses();
        let one = source("2001:db8::1");
        for _ in 0..1_000 {
            guesses.admit(one, at(0)).unwrap();
            guesses.give_back(one, at(0));
        }
        assert_eq!(admitted(&guesses, one, 0), 4);
    }

    #[test]
    fn the_64s_of_a_48_together_have_a_bound_too() {
        let guesses = guesses();
        let host = |number| source(&format!("2001:db8:1:{number:x}::1"));
        let all: usize = (0..100)
            .map(|number| admitted(&guesses, host(number), 0))
            .sum();
        assert_eq!(all, 4 * 16);
        assert_eq!(admitted(&guesses, source("2001:db8:2::1"), 0), 4);
    }

    #[test]
    fn memory_is_bounded_and_who_finds_no_place_shares_one() {
        let guesses = guesses();
        let numbered = |number: u32| Some(Source::of(std::net::Ipv4Addr::from_bits(number).into()));
        let sources = u32::try_from(SOURCES_MAX).unwrap();
        for number in 0..sources {
            guesses.admit(numbered(number), at(0)).unwrap();
        }
        let all: usize = (0..100)
            .map(|number| admitted(&guesses, numbered(sources + number), 1))
            .sum();
        assert_eq!(all, 4);
        assert!(guesses.measures.lock().len() <= SOURCES_MAX + 1);
        assert_eq!(
            admitted(&guesses, numbered(sources), 60_000),
            4,
            "others have left"
        );
    }
}
