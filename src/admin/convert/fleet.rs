//! Sidecars as the API shows them, and how long a call waits for them.

use std::time::Duration;

use prost_types::Duration as ProtoDuration;
use tonic::Status;

use crate::admin::convert::{bad, duration_from_proto, time_to_proto};
use crate::clock::Timestamp;
use crate::proto::admin as pb;
use crate::registry::Sidecar;

/// The longest that a call waits for sidecars.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// How long the caller wants to wait; unset is not at all.
pub(in crate::admin) fn wait(asked: Option<&ProtoDuration>) -> Result<Duration, Status> {
    let Some(asked) = asked else {
        return Ok(Duration::ZERO);
    };
    duration_from_proto(asked, WAIT_MAX).ok_or_else(|| bad("wait", "must be 0 to 60 seconds"))
}

/// A sidecar as the API shows it at `now`.
pub(in crate::admin) fn sidecar_to_proto(sidecar: &Sidecar, now: Timestamp) -> pb::Sidecar {
    let report = &sidecar.report;
    let last_heartbeat = now.minus(sidecar.silent_for);
    pb::Sidecar {
        name: format!("sidecars/{}", sidecar.id),
        sidecar_id: sidecar.id.clone(),
        version: report.version.clone(),
        start_time: Some(time_to_proto(report.started_at)),
        revocation_lag: ProtoDuration::try_from(report.lag).ok(),
        cached_keys: u32::try_from(report.cached_keys).unwrap_or(u32::MAX),
        last_heard_time: Some(time_to_proto(last_heartbeat)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_a_minute_at_most_and_never_negative() {
        let proto = |seconds, nanos| ProtoDuration { seconds, nanos };
        for (asked, expected) in [
            (None, Some(Duration::ZERO)),
            (Some(proto(0, 0)), Some(Duration::ZERO)),
            (Some(proto(5, 0)), Some(Duration::from_secs(5))),
            (Some(proto(60, 0)), Some(WAIT_MAX)),
            (Some(proto(60, 1)), None),
            (Some(proto(0, -1)), None),
            (Some(proto(-1, 0)), None),
            (Some(proto(i64::MAX, i32::MAX)), None),
            (Some(proto(i64::MIN, i32::MIN)), None),
        ] {
            assert_eq!(wait(asked.as_ref()).ok(), expected, "{asked:?}");
        }
    }
}
