//! Proto to domain and back. Collects every bad field with its path before it refuses.

mod effective;
mod fleet;
mod key;
mod key_change;
mod limit;
mod tenant;

pub(super) use effective::explain_key;
pub(super) use fleet::{sidecar_to_proto, wait};
pub use key::key_to_proto;
pub(super) use key::{imported_key, key_name, new_key, role_of};
pub(super) use key_change::{KeyChange, grace, new_end, pause_end};
pub(super) use limit::{
    key_limit_changes, key_limits_name, key_limits_to_proto, system_config_to_proto,
};
pub(super) use tenant::{TenantChange, new_tenant, tenant_name, tenant_to_proto};

use std::collections::BTreeSet;
use std::time::Duration;

use prost_types::{Duration as ProtoDuration, Timestamp as ProtoTime};
use tonic::Status;
use tonic_types::FieldViolation;

use crate::clock::Timestamp;
use crate::domain::name::{Description, InvalidName};
use crate::registry::{Etag, RequestId};
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

/// The state to expect, if the caller sent an etag. What is no etag of ours is nobody's state.
pub(super) fn expect_etag(what: &'static str, sent: &str) -> Result<Option<Etag>, Status> {
    match (sent, Etag::parse(sent)) {
        ("", _) => Ok(None),
        (_, Some(etag)) => Ok(Some(etag)),
        (_, None) => Err(status::etag_mismatch(what)),
    }
}

/// The request, if its caller gave it an id. `content` is the request without the id.
pub(super) fn request_id(
    id: &str,
    content: &impl prost::Message,
) -> Result<Option<RequestId>, Status> {
    if id.is_empty() {
        return Ok(None);
    }
    RequestId::new(id, &content.encode_to_vec())
        .map(Some)
        .map_err(|error| bad("request_id", error.to_string()))
}

/// The fields that a mask names, of those that may be changed, in the order of their names.
fn masked<F: Copy + PartialEq>(
    fields: &mut Fields,
    mask: &[String],
    mutable: &[F],
    name: fn(F) -> &'static str,
) -> Vec<F> {
    if mask.is_empty() {
        fields.refuse("update_mask", "must name at least one field");
    }
    if mask.len() > mutable.len() {
        fields.refuse("update_mask", "names more fields than there are");
        return Vec::new();
    }
    let mut named = Vec::with_capacity(mutable.len());
    for (at, path) in mask.iter().enumerate() {
        match mutable.iter().find(|known| name(**known) == path) {
            Some(known) => named.push(*known),
            None if path == "*" => named.extend(mutable),
            None => {
                let names: Vec<&str> = mutable.iter().map(|known| name(*known)).collect();
                let problem = format!("must be one of {} or *", names.join(", "));
                fields.refuse(format!("update_mask.paths[{at}]"), problem);
            }
        }
    }
    named.sort_unstable_by_key(|field| name(*field));
    named.dedup();
    named
}

/// Puts a value there that was sent.
fn put<T: Clone>(place: &mut T, value: Option<&T>) {
    if let Some(value) = value {
        *place = value.clone();
    }
}

pub(super) fn time_to_proto(time: Timestamp) -> ProtoTime {
    let millis = time.as_millis();
    ProtoTime {
        seconds: millis.div_euclid(1000),
        nanos: i32::try_from(millis.rem_euclid(1000) * 1_000_000)
            .expect("less than a second of nanoseconds fits"),
    }
}

/// A duration up to `max`. By hand: the crate's own conversion overflows on what nobody means.
fn duration_from_proto(asked: &ProtoDuration, max: Duration) -> Option<Duration> {
    let (seconds, nanos) = (u64::try_from(asked.seconds), u32::try_from(asked.nanos));
    let (seconds, nanos) = (seconds.ok()?, nanos.ok()?);
    let asked = (nanos < 1_000_000_000).then(|| Duration::new(seconds, nanos))?;
    (asked <= max).then_some(asked)
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
    fn what_is_no_etag_of_ours_fits_nothing() {
        assert_eq!(expect_etag("tenant", "").unwrap(), None);
        assert!(expect_etag("tenant", "3-abc").unwrap().is_some());
        let huge = "f".repeat(1 << 20);
        for forged in ["3", "\"", "*", "W/\"3\"", huge.as_str()] {
            let refused = expect_etag("tenant", forged).unwrap_err();
            assert_eq!(refused.code(), tonic::Code::Aborted, "{forged:.20}");
        }
    }
}
