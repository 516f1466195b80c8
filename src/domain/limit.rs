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

    /// The same limit, as if it were enforced.
    #[must_use]
    pub fn enforced(self) -> Self {
        Self {
            shadow: false,
            ..self
        }
    }

    /// Whether it allows no more than another does, whenever it is asked.
    pub fn is_within(self, other: Self) -> bool {
        let pace = self.amount() * other.period.millis() <= other.amount() * self.period.millis();
        pace && self.burst <= other.burst && (other.shadow || !self.shadow)
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

impl Quota {
    /// Whether it allows no more than another does, in any window.
    pub fn is_within(self, other: Self) -> bool {
        Window::ALL
            .into_iter()
            .all(|window| match (self.cap(window), other.cap(window)) {
                (_, None) => true,
                (None, Some(_)) => false,
                (Some(own), Some(other)) => {
                    own.amount <= other.amount && (other.shadow || !own.shadow)
                }
            })
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

    /// A limit, or nothing.
    pub fn of(limit: Option<T>) -> Self {
        limit.map_or(Self::Plan, Self::At)
    }

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
    /// Whether they allow no more than others do.
    pub fn is_within(&self, other: &Self) -> bool {
        let rate = match (self.rate, other.rate) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(own), Some(other)) => own.is_within(other),
        };
        let quota = match (self.quota, other.quota) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(own), Some(other)) => own.is_within(other),
        };
        rate && quota
    }

    /// The same limits, only reported.
    #[must_use]
    pub fn in_shadow(self) -> Self {
        Self {
            rate: self.rate.map(Rate::in_shadow),
            quota: self.quota.map(Quota::in_shadow),
        }
    }

    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        self.rate.is_none() && self.quota.is_none()
    }
}

/// Which of the limits of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LimitName {
    /// The rate of the tenant.
    TenantRate,
    /// The tenant's quota of the day.
    TenantDay,
    /// The tenant's quota of the month.
    TenantMonth,
    /// The rate of the key.
    KeyRate,
    /// The key's quota of the day.
    KeyDay,
    /// The key's quota of the month.
    KeyMonth,
}

impl LimitName {
    /// Every limit, in the order in which they are charged.
    pub const ALL: [Self; 6] = [
        Self::TenantRate,
        Self::TenantDay,
        Self::TenantMonth,
        Self::KeyRate,
        Self::KeyDay,
        Self::KeyMonth,
    ];

    /// The word that clients, metrics and logs see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TenantRate => "tenant",
            Self::TenantDay => "tenant-day",
            Self::TenantMonth => "tenant-month",
            Self::KeyRate => "key",
            Self::KeyDay => "key-day",
            Self::KeyMonth => "key-month",
        }
    }

    /// Whether it is of the key, not of the tenant.
    pub fn is_of_key(self) -> bool {
        matches!(self, Self::KeyRate | Self::KeyDay | Self::KeyMonth)
    }

    /// The calendar window of a quota; none for a rate.
    pub fn window(self) -> Option<Window> {
        match self {
            Self::TenantRate | Self::KeyRate => None,
            Self::TenantDay | Self::KeyDay => Some(Window::Day),
            Self::TenantMonth | Self::KeyMonth => Some(Window::Month),
        }
    }
}

/// How a limit stands after a request, for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitState {
    /// Which limit.
    pub limit: LimitName,
    /// The most requests at once, or in the window.
    pub amount: u64,
    /// In which time so many are allowed: until an empty rate is full again, or the length of the window.
    pub window: Duration,
    /// How many requests are left, as far as this process knows.
    pub remaining: u64,
    /// After which time all of them are there again.
    pub reset: Duration,
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
mod tests;
