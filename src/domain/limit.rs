//! How much a tenant or a key may ask for: rates and quotas (DESIGN section 6), as people write them.
//!
//! A rate is a bucket of `burst` requests that is refilled evenly. A quota is a number of requests in a calendar
//! window in UTC. Either may be in shadow: counted and reported, never enforced.

use std::fmt;
use std::num::NonZeroU64;
use std::time::Duration;

use crate::domain::name::InvalidName;

/// The most requests in a rate or its burst: with a period of an hour in milliseconds, a bucket's level in parts of
/// a request still fits the 53 bits that a script in Redis counts with.
pub const RATE_MAX: u64 = 1_000_000_000;
/// The most requests in a quota.
pub const QUOTA_MAX: u64 = 1_000_000_000_000;
/// The most that one request may cost.
pub const COST_MAX: u32 = 1_000_000;

/// In which time a rate allows its number of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Period {
    /// `/s`
    Second,
    /// `/m`
    Minute,
    /// `/h`
    Hour,
}

impl Period {
    /// Every period.
    pub const ALL: [Self; 3] = [Self::Second, Self::Minute, Self::Hour];

    /// The letter behind the stroke.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Second => "s",
            Self::Minute => "m",
            Self::Hour => "h",
        }
    }

    /// How long it is, in milliseconds.
    pub const fn millis(self) -> u64 {
        match self {
            Self::Second => 1_000,
            Self::Minute => 60_000,
            Self::Hour => 3_600_000,
        }
    }

    /// How long it is.
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.millis())
    }
}

/// So many requests in a period, and how many at once: `100/s`, `100/s burst 200`, `6000/m shadow`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    amount: NonZeroU64,
    period: Period,
    burst: NonZeroU64,
    shadow: bool,
}

impl Rate {
    /// The rule that a text follows, in words.
    pub const RULE: &'static str = "a number from 1 to 1000000000 and /s, /m or /h, then `burst` and a number if more \
         or fewer may come at once, then `shadow` if it is only reported, such as `100/s` or `100/s burst 200`";

    /// Reads what [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        Self::read(text).ok_or(InvalidName {
            what: "rate",
            rule: Self::RULE,
        })
    }

    fn read(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace().peekable();
        let (amount, period) = words.next()?.split_once('/')?;
        let amount = number(amount, RATE_MAX)?;
        let period = Period::ALL.into_iter().find(|of| of.as_str() == period)?;
        let burst = match words.next_if_eq(&"burst") {
            Some(_) => number(words.next()?, RATE_MAX)?,
            None => amount,
        };
        let shadow = words.next_if_eq(&"shadow").is_some();
        words.next().is_none().then_some(Self {
            amount,
            period,
            burst,
            shadow,
        })
    }

    /// How many requests a period refills.
    pub fn amount(self) -> u64 {
        self.amount.get()
    }

    /// In which time.
    pub fn period(self) -> Period {
        self.period
    }

    /// How many requests may come at once; the amount if nothing else is said.
    pub fn burst(self) -> u64 {
        self.burst.get()
    }

    /// Whether it is only reported.
    pub fn is_shadow(self) -> bool {
        self.shadow
    }

    /// The same limit, only reported.
    #[must_use]
    pub fn in_shadow(self) -> Self {
        Self {
            shadow: true,
            ..self
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.amount, self.period.as_str())?;
        if self.burst != self.amount {
            write!(f, " burst {}", self.burst)?;
        }
        write_shadow(f, self.shadow)
    }
}

/// A calendar window, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Window {
    /// From midnight to midnight.
    Day,
    /// From the first of a month to the first of the next.
    Month,
}

impl Window {
    /// Every window.
    pub const ALL: [Self; 2] = [Self::Day, Self::Month];

    /// The word behind the stroke.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
        }
    }
}

/// So many requests in a window: `20/day`, `1000000/month`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cap {
    amount: NonZeroU64,
    shadow: bool,
}

impl Cap {
    /// How many requests.
    pub fn amount(self) -> u64 {
        self.amount.get()
    }

    /// Whether it is only reported.
    pub fn is_shadow(self) -> bool {
        self.shadow
    }
}

/// At least one cap: by day, by month, or both: `20/day`, `1000/day, 20000/month`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Quota {
    day: Option<Cap>,
    month: Option<Cap>,
}

impl Quota {
    /// The rule that a text follows, in words.
    pub const RULE: &'static str = "a number from 1 to 1000000000000 and /day or /month, then `shadow` if it is only \
         reported, or one of each with a comma between, such as `1000000/month` or `1000/day, 20000/month`";

    /// Reads what [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        Self::read(text).ok_or(InvalidName {
            what: "quota",
            rule: Self::RULE,
        })
    }

    fn read(text: &str) -> Option<Self> {
        let mut quota = Self {
            day: None,
            month: None,
        };
        for part in text.split(',') {
            let mut words = part.split_ascii_whitespace().peekable();
            let (amount, window) = words.next()?.split_once('/')?;
            let amount = number(amount, QUOTA_MAX)?;
            let window = Window::ALL.into_iter().find(|of| of.as_str() == window)?;
            let shadow = words.next_if_eq(&"shadow").is_some();
            let place = match window {
                Window::Day => &mut quota.day,
                Window::Month => &mut quota.month,
            };
            if words.next().is_some() || place.replace(Cap { amount, shadow }).is_some() {
                return None;
            }
        }
        Some(quota)
    }

    /// The cap of a window, if it has one.
    pub fn cap(self, window: Window) -> Option<Cap> {
        match window {
            Window::Day => self.day,
            Window::Month => self.month,
        }
    }

    /// The same limits, only reported.
    #[must_use]
    pub fn in_shadow(self) -> Self {
        let shade = |cap: Cap| Cap {
            shadow: true,
            ..cap
        };
        Self {
            day: self.day.map(shade),
            month: self.month.map(shade),
        }
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for window in Window::ALL {
            let Some(cap) = self.cap(window) else {
                continue;
            };
            let comma = if first { "" } else { ", " };
            write!(f, "{comma}{}/{}", cap.amount, window.as_str())?;
            write_shadow(f, cap.shadow)?;
            first = false;
        }
        Ok(())
    }
}

/// What a tenant says of a limit that its plan may have as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Own<T> {
    /// Nothing: the plan's limit holds.
    #[default]
    Plan,
    /// No limit, whatever the plan says.
    Unlimited,
    /// This limit in place of the plan's.
    At(T),
}

impl<T> Own<T> {
    /// The word for no limit.
    pub const UNLIMITED: &'static str = "unlimited";

    /// Reads a text with `parse`: an empty one is [`Own::Plan`], `unlimited` is [`Own::Unlimited`].
    pub fn parse(
        text: &str,
        parse: impl FnOnce(&str) -> Result<T, InvalidName>,
    ) -> Result<Self, InvalidName> {
        match text {
            "" => Ok(Self::Plan),
            Self::UNLIMITED => Ok(Self::Unlimited),
            text => parse(text).map(Self::At),
        }
    }

    /// The limit that holds over a plan's.
    pub fn over(self, plan: Option<T>) -> Option<T> {
        match self {
            Self::Plan => plan,
            Self::Unlimited => None,
            Self::At(limit) => Some(limit),
        }
    }
}

impl<T: fmt::Display> fmt::Display for Own<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plan => Ok(()),
            Self::Unlimited => f.write_str(Self::UNLIMITED),
            Self::At(limit) => limit.fmt(f),
        }
    }
}

/// The limits that hold for a tenant, or that a key has of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Limits {
    /// How fast; none is unlimited.
    pub rate: Option<Rate>,
    /// How many in a window; none is unlimited.
    pub quota: Option<Quota>,
}

impl Limits {
    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        self.rate.is_none() && self.quota.is_none()
    }
}

/// A whole number without sign or leading zeros.
fn number(text: &str, max: u64) -> Option<NonZeroU64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|number| *number <= max)?;
    NonZeroU64::new(number).filter(|_| digits && !text.starts_with('0'))
}

fn write_shadow(f: &mut fmt::Formatter<'_>, shadow: bool) -> fmt::Result {
    if shadow {
        f.write_str(" shadow")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_they_are_written() {
        for text in [
            "1/s",
            "100/s",
            "6000/m",
            "1000/h",
            "100/s burst 200",
            "100/s burst 1 shadow",
            "1000000000/h shadow",
        ] {
            assert_eq!(Rate::parse(text).unwrap().to_string(), text);
        }
        let rate = Rate::parse("100/s").unwrap();
        assert_eq!((rate.amount(), rate.burst()), (100, 100));
        assert!(!rate.is_shadow() && rate.in_shadow().is_shadow());
        assert_eq!(
            Rate::parse(" 5/m  burst  5 ").unwrap().to_string(),
            "5/m",
            "blanks and a burst that says nothing new"
        );
    }

    #[test]
    fn what_is_no_rate_is_refused() {
        for text in [
            "",
            "100",
            "/s",
            "0/s",
            "-1/s",
            "+1/s",
            "01/s",
            "1.5/s",
            "1/d",
            "1/sec",
            "1/S",
            "1 /s",
            "1000000001/s",
            "1/s burst",
            "1/s burst 0",
            "1/s burst x",
            "1/s burst 2 3",
            "1/s shadow burst 2",
            "1/s shadow shadow",
            "1/s 2/s",
        ] {
            assert!(Rate::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn quotas_are_read_as_they_are_written() {
        for text in [
            "20/day",
            "1000000/month",
            "1000/day, 20000/month",
            "20/day shadow, 100/month",
            "1000000000000/month shadow",
        ] {
            assert_eq!(Quota::parse(text).unwrap().to_string(), text);
        }
        let both = Quota::parse("7/month,5/day").unwrap();
        assert_eq!(both.to_string(), "5/day, 7/month");
        assert_eq!(both.cap(Window::Day).unwrap().amount(), 5);
        let shaded = both.in_shadow();
        assert!(
            Window::ALL
                .iter()
                .all(|window| shaded.cap(*window).unwrap().is_shadow())
        );
    }

    #[test]
    fn what_is_no_quota_is_refused() {
        for text in [
            "",
            ",",
            "20",
            "0/day",
            "20/days",
            "20/week",
            "20/day,",
            "20/day, 30/day",
            "20/day 30/month",
            "20/day shadow shadow",
            "1000000000001/day",
        ] {
            assert!(Quota::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_tenant_keeps_lifts_or_replaces_the_limit_of_its_plan() {
        let plan = Rate::parse("10/s").unwrap();
        let own = |text| Own::parse(text, Rate::parse).unwrap();
        assert_eq!(own("").over(Some(plan)), Some(plan));
        assert_eq!(own("unlimited").over(Some(plan)), None);
        assert_eq!(own("20/s").over(Some(plan)).unwrap().amount(), 20);
        assert_eq!(own("unlimited").to_string(), "unlimited");
        assert!(Own::parse("none", Rate::parse).is_err());
    }
}
