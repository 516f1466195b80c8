//! A process that checks requests, as others see it.

use std::time::Duration;

use crate::clock::Timestamp;

/// A live sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sidecar {
    /// What it calls itself; unique while it lives.
    pub id: String,
    /// What it says of itself.
    pub report: SidecarReport,
    /// How long ago it said so.
    pub silent_for: Duration,
}

/// What a sidecar says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SidecarReport {
    /// The version of the program.
    pub version: String,
    /// Since when it runs.
    pub started_at: Timestamp,
    /// How late changes reach it at most.
    pub lag: Duration,
    /// How many keys it has in memory.
    pub cached_keys: u64,
}

impl SidecarReport {
    /// `version started lag-in-us keys`
    pub(super) fn encode(&self) -> String {
        let started_at = self.started_at.as_millis();
        let (lag, keys) = (self.lag.as_micros(), self.cached_keys);
        format!("{} {started_at} {lag} {keys}", self.version)
    }

    /// What a later version adds at the end is not read.
    pub(super) fn decode(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        Some(Self {
            version: words.next()?.to_owned(),
            started_at: Timestamp::from_millis(words.next()?.parse().ok()?),
            lag: Duration::from_micros(words.next()?.parse().ok()?),
            cached_keys: words.next()?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_back_and_more_at_its_end_is_not_read() {
        let report = SidecarReport {
            version: "1.2.3".to_owned(),
            started_at: Timestamp::from_millis(1_700_000_000_000),
            lag: Duration::from_micros(250),
            cached_keys: 17,
        };
        let text = report.encode();
        assert_eq!(SidecarReport::decode(&text), Some(report.clone()));
        assert_eq!(SidecarReport::decode(&format!("{text} 9")), Some(report));
        assert_eq!(SidecarReport::decode("1.2.3 soon 0 0"), None);
        assert_eq!(SidecarReport::decode(""), None);
    }
}
