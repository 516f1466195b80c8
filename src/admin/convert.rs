//! Proto to domain and back. Collects every bad field with its path before it refuses.

mod key;
mod tenant;

pub use key::key_to_proto;
pub(super) use key::{key_name, new_key};
pub(super) use tenant::{TenantChange, new_tenant, tenant_name, tenant_to_proto};

use std::collections::BTreeSet;

use prost_types::Timestamp as ProtoTime;
use tonic::Status;
use tonic_types::FieldViolation;

use crate::clock::Timestamp;
use crate::domain::name::{Description, InvalidName};
use crate::status;

/// The bad fields of one request.
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<FieldViolation>);

impl Fields {
    /// Notes a bad field.
    pub(super) fn refuse(&mut self, field: impl Into<String>, problem: impl Into<String>) {
        self.0.push(FieldViolation::new(field, problem));
    }

    /// The value, or a note of why there is none.
    pub(super) fn take<T>(
        &mut self,
        field: impl Into<String>,
        parsed: Result<T, InvalidName>,
    ) -> Option<T> {
        parsed
            .inspect_err(|error| self.refuse(field, error.to_string()))
            .ok()
    }

    /// The set of values, or a note for each that is bad. Too many are refused unread.
    pub(super) fn set<T: Ord>(
        &mut self,
        field: &str,
        texts: &[String],
        max: usize,
        parse: impl Fn(&str) -> Result<T, InvalidName>,
    ) -> BTreeSet<T> {
        if texts.len() > max {
            self.refuse(field, format!("at most {max} are allowed"));
            return BTreeSet::new();
        }
        let parsed = texts
            .iter()
            .enumerate()
            .map(|(at, text)| self.take(format!("{field}[{at}]"), parse(text)));
        parsed.collect::<Vec<_>>().into_iter().flatten().collect()
    }

    /// The result, when no field was bad.
    pub(super) fn finish<T>(self, value: Option<T>) -> Result<T, Status> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            Some(_) | None => Err(status::invalid(self.0)),
        }
    }
}

/// One bad field.
pub(super) fn bad(field: &str, problem: impl Into<String>) -> Status {
    status::invalid(vec![FieldViolation::new(field, problem)])
}

/// A reason for the audit.
pub(super) fn reason(text: &str) -> Result<Description, Status> {
    Description::parse(text).map_err(|error| bad("reason", error.to_string()))
}

/// An etag: opaque to the client. It names the version and the making, so that the etag of a deleted tenant does
/// not fit one that was made again under its id.
pub(super) fn etag(version: u64, created_at: Timestamp) -> String {
    format!("{version:x}-{:x}", created_at.as_millis())
}

/// The version to expect, if the caller sent an etag; refuses when it is not `current`.
pub(super) fn expect_etag(
    what: &'static str,
    sent: &str,
    current: &str,
    version: u64,
) -> Result<Option<u64>, Status> {
    match sent {
        "" => Ok(None),
        sent if sent == current => Ok(Some(version)),
        _ => Err(status::etag_mismatch(what)),
    }
}

fn time_to_proto(time: Timestamp) -> ProtoTime {
    let millis = time.as_millis();
    ProtoTime {
        seconds: millis.div_euclid(1000),
        nanos: i32::try_from(millis.rem_euclid(1000) * 1_000_000)
            .expect("less than a second of nanoseconds fits"),
    }
}

fn time_from_proto(time: ProtoTime) -> Option<Timestamp> {
    let nanos = u32::try_from(time.nanos)
        .ok()
        .filter(|nanos| *nanos < 1_000_000_000)?;
    let millis = time
        .seconds
        .checked_mul(1000)?
        .checked_add(i64::from(nanos / 1_000_000))?;
    Some(Timestamp::from_millis(millis)).filter(|time| *time <= Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_and_impossible_ones_are_refused() {
        for millis in [0, 1, 999, 1_800_000_000_123, Timestamp::MAX.as_millis()] {
            let time = Timestamp::from_millis(millis);
            assert_eq!(time_from_proto(time_to_proto(time)), Some(time));
        }
        for (seconds, nanos) in [
            (i64::MAX, 0),
            (i64::MIN, 0),
            (253_402_300_800, 0),
            (0, -1),
            (0, 1_000_000_000),
        ] {
            assert_eq!(
                time_from_proto(ProtoTime { seconds, nanos }),
                None,
                "{seconds} {nanos}"
            );
        }
    }

    #[test]
    fn an_etag_fits_one_version_of_one_making() {
        let made = Timestamp::from_millis(1_800_000_000_000);
        let current = etag(3, made);
        assert_eq!(
            expect_etag("tenant", &current, &current, 3).unwrap(),
            Some(3)
        );
        assert_eq!(expect_etag("tenant", "", &current, 3).unwrap(), None);
        let later = etag(3, Timestamp::from_millis(1_800_000_000_001));
        for stale in [etag(2, made), later, "3".into(), "\"".into()] {
            let refused = expect_etag("tenant", &stale, &current, 3).unwrap_err();
            assert_eq!(refused.code(), tonic::Code::Aborted, "{stale}");
        }
    }
}
