//! Time: the only module that reads the clock.
#![warn(missing_docs)]

use std::fmt;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

/// Milliseconds since the Unix epoch, UTC, without leap seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The latest time we handle: 9999-12-31T23:59:59.999Z, the end of RFC 3339.
    pub const MAX: Self = Self(253_402_300_799_999);

    /// The time that many milliseconds after the epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Later by `duration`; stays at [`Timestamp::MAX`] instead of passing it.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(millis).min(Self::MAX.0))
    }

    /// Earlier by `duration`.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(millis))
    }

    /// How long after `earlier` this is; zero when it is not after.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339, UTC.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not a `jiff::Timestamp`: with room for every zone, that ends a day before our MAX.
        let epoch = jiff::civil::date(1970, 1, 1).at(0, 0, 0, 0);
        match epoch.checked_add(jiff::SignedDuration::from_millis(self.0)) {
            Ok(time) => write!(f, "{time}Z"),
            Err(_) => write!(f, "{}ms", self.0),
        }
    }
}

/// A length of time as people say it and the configuration has it: `2d 16h 6m 9s`, to the millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl Span {
    /// In whole seconds, rounded up: for waits, which must not end too early.
    pub fn rounded_up(duration: Duration) -> Self {
        let more = u64::from(duration.subsec_nanos() > 0);
        Self(Duration::from_secs(duration.as_secs().saturating_add(more)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u128); 5] = [
            ("d", 86_400_000),
            ("h", 3_600_000),
            ("m", 60_000),
            ("s", 1_000),
            ("ms", 1),
        ];
        let mut millis = self.0.as_millis();
        if millis == 0 {
            return f.write_str("0s");
        }
        let mut separator = "";
        for (unit, length) in UNITS {
            let count = millis / length;
            millis %= length;
            if count > 0 {
                write!(f, "{separator}{count}{unit}")?;
                separator = " ";
            }
        }
        Ok(())
    }
}

/// A source of the time of day.
pub trait Clock: std::fmt::Debug + Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Timestamp;

    /// What the machine says that the time is, for what others are told: a clock that was set back and is right now
    /// must not make us tell them times that are yet to come.
    fn time_of_day(&self) -> Timestamp {
        self.now()
    }
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the one place that reads the clock"
        )]
        let now = std::time::SystemTime::now();
        let since = now
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

/// The machine's clock for what decides: it never goes back while the process runs.
///
/// Set back by somebody, it goes on from where it was, so that no age grows younger and nothing that has expired comes
/// to life again. All of a process are one. What is written down for others (when something was made, when a token ends) is the
/// business of [`SystemClock`].
#[derive(Clone, Copy, Debug, Default)]
pub struct SteadyClock;

impl SteadyClock {
    /// By how much the machine's clock is behind this one: it was set back by that.
    pub fn set_back_by() -> Duration {
        Self.now().since(SystemClock.now())
    }
}

impl Clock for SteadyClock {
    fn now(&self) -> Timestamp {
        static STEADY: Steady = Steady::new();
        static BEGUN: LazyLock<Instant> = LazyLock::new(begun);
        let passed = i64::try_from(BEGUN.elapsed().as_millis()).unwrap_or(i64::MAX);
        STEADY.now(SystemClock.now(), passed)
    }

    fn time_of_day(&self) -> Timestamp {
        SystemClock.now()
    }
}

fn begun() -> Instant {
    #[expect(
        clippy::disallowed_methods,
        reason = "tests pause tokio's clock, and this one stands beside the time of day"
    )]
    Instant::now()
}

/// The greatest difference that was seen between the time of day and the time that has passed, in ms.
struct Steady(AtomicI64);

impl Steady {
    const fn new() -> Self {
        Self(AtomicI64::new(i64::MIN))
    }

    /// The time, `passed` ms after the beginning by a clock that nobody sets.
    fn now(&self, of_day: Timestamp, passed: i64) -> Timestamp {
        let difference = of_day.0.saturating_sub(passed);
        let greatest = self.0.load(Ordering::Relaxed);
        if difference <= greatest {
            return Timestamp(greatest.saturating_add(passed));
        }
        let before = self.0.fetch_max(difference, Ordering::Relaxed);
        Timestamp(before.max(difference).saturating_add(passed))
    }
}

/// A clock that stands still until a test moves it.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that stands at `now`.
    pub fn at(now: Timestamp) -> Self {
        Self(AtomicI64::new(now.0))
    }

    /// Moves it on.
    pub fn advance(&self, by: Duration) {
        let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.0.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_reads_as_people_say_it() {
        let millis = Duration::from_millis;
        for (span, text) in [
            (millis(0), "0s"),
            (millis(20), "20ms"),
            (millis(1_500), "1s 500ms"),
            (millis(60_000), "1m"),
            (millis(3_600_000), "1h"),
            (millis(230_769_000), "2d 16h 6m 9s"),
            (millis(30 * 86_400_000), "30d"),
            (millis(86_401_000), "1d 1s"),
            (Duration::from_nanos(10), "0s"),
        ] {
            assert_eq!(Span(span).to_string(), text);
        }
        assert_eq!(Span::rounded_up(millis(1_001)).to_string(), "2s");
        assert_eq!(Span::rounded_up(Duration::MAX).0.as_secs(), u64::MAX);
    }

    #[test]
    fn a_clock_that_is_set_back_revives_nothing_and_time_goes_on() {
        let steady = Steady::new();
        for (what, of_day, passed, expected) in [
            ("the beginning", 1_000_000, 0, 1_000_000),
            ("a second later", 1_001_000, 1_000, 1_001_000),
            (
                "set back by an hour",
                1_001_000 - 3_600_000,
                1_000,
                1_001_000,
            ),
            ("a second later", 1_002_000 - 3_600_000, 2_000, 1_002_000),
            (
                "a day later",
                87_402_000 - 3_600_000,
                86_402_000,
                87_402_000,
            ),
            ("set right again", 87_402_000, 86_402_000, 87_402_000),
            ("set ahead", 87_500_000, 86_402_000, 87_500_000),
            ("a second later", 87_501_000, 86_403_000, 87_501_000),
        ] {
            let now = steady.now(Timestamp(of_day), passed);
            assert_eq!(now, Timestamp(expected), "{what}");
        }
    }

    #[test]
    fn the_steady_clock_is_the_machines_while_nobody_sets_that() {
        let before = SystemClock.now();
        let steady = SteadyClock.now();
        assert!(steady >= before && SteadyClock.now() >= steady);
        assert!(SteadyClock::set_back_by() < Duration::from_secs(60));
    }

    #[test]
    fn every_time_that_we_handle_has_a_text() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_800_000_000_123, "2027-01-15T08:00:00.123Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (Timestamp::MAX.as_millis(), "9999-12-31T23:59:59.999Z"),
            (i64::MAX, "9223372036854775807ms"),
        ] {
            assert_eq!(Timestamp::from_millis(millis).to_string(), text);
        }
    }
}
