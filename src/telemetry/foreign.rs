//! Lines of other crates. Their peers can bring them about: hundreds in a second, at will.

use tracing::{Level, Metadata};

use crate::clock::{Clock as _, SteadyClock};
use crate::telemetry::throttles::Throttles;

/// Lets each target of another crate's write a line now and then.
#[derive(Debug, Default)]
pub(super) struct Foreign(Throttles);

impl Foreign {
    /// Whether a line may be written. Ours always may: where needed, they are throttled one by one.
    pub(super) fn admits(&self, line: &Metadata<'_>) -> bool {
        if line.is_span() || is_ours(line.target()) {
            return true;
        }
        let now = SteadyClock.now();
        *line.level() <= Level::WARN && self.0.admit(line.target(), now).is_some()
    }
}

fn is_ours(target: &str) -> bool {
    target == "keystile" || target.starts_with("keystile::")
}
