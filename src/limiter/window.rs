//! Calendar windows of quotas, in UTC. Time is what [`Timestamp`] counts: without leap seconds, so every day is as long.

use jiff::civil::DateTime;
use jiff::{SignedDuration, Span};

use crate::clock::Timestamp;
use crate::domain::limit::Window;

/// The beginning of the window that a time is in, and of the next one, in ms since the epoch.
pub(super) fn around(window: Window, now: Timestamp) -> (i64, i64) {
    let epoch = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);
    let time = epoch
        .checked_add(SignedDuration::from_millis(now.as_millis()))
        .unwrap_or(DateTime::MAX);
    let day = time.date();
    let (first, next) = match window {
        Window::Day => (day, day.checked_add(Span::new().days(1))),
        Window::Month => {
            let first = day.first_of_month();
            (first, first.checked_add(Span::new().months(1)))
        }
    };
    let millis = |date: jiff::civil::Date| {
        let since = date
            .to_datetime(jiff::civil::Time::midnight())
            .duration_since(epoch);
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    };
    (millis(first), next.map_or(i64::MAX, millis))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: i64 = 86_400_000;

    /// Counts days from 1970 on, one after the other.
    fn by_counting(now: i64) -> ((i64, i64), (i64, i64)) {
        let day = now.div_euclid(DAY);
        let (mut year, mut month, mut first) = (1970, 0, 0);
        loop {
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let days = [
                31,
                if leap { 29 } else { 28 },
                31,
                30,
                31,
                30,
                31,
                31,
                30,
                31,
                30,
                31,
            ];
            let next = first + days[month];
            if day < next {
                return ((day * DAY, (day + 1) * DAY), (first * DAY, next * DAY));
            }
            first = next;
            month += 1;
            if month == 12 {
                (month, year) = (0, year + 1);
            }
        }
    }

    fn check(now: i64) {
        let time = Timestamp::from_millis(now);
        let (day, month) = by_counting(now);
        assert_eq!(around(Window::Day, time), day, "the day of {time}");
        assert_eq!(around(Window::Month, time), month, "the month of {time}");
    }

    #[test]
    fn edges_are_where_the_calendar_has_them() {
        for text in [
            "1970-01-01T00:00:00Z",
            "2026-12-31T23:59:59.999Z",
            "2027-01-01T00:00:00Z",
            "2028-02-28T23:59:59.999Z",
            "2028-02-29T00:00:00Z",
            "2028-03-01T00:00:00Z",
            "2100-02-28T23:59:59.999Z",
            "2100-03-01T00:00:00Z",
            // When a leap second was added, and clocks elsewhere change.
            "2016-12-31T23:59:59.999Z",
            "2017-01-01T00:00:00Z",
            "2026-03-29T01:00:00Z",
            "2026-10-25T01:00:00Z",
        ] {
            let time: jiff::Timestamp = text.parse().unwrap();
            check(time.as_millisecond());
        }
    }

    proptest! {
        #[test]
        fn any_time_is_in_the_window_that_counting_finds(now in 0..7_000_000_000_000_i64) {
            check(now);
        }
    }
}
