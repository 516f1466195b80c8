//! Plans, and how limits are counted.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::Delivery;
use crate::config::quantity::HumanDuration;
use crate::domain::limit::{Limits, Quota, Rate};
use crate::domain::name::Feature;
use crate::limiter;

section! {
    #[derive(Default)]
    #[serde(default)]
    Plan {
        /// How fast each tenant of this plan may ask, all its keys together: `100/s`, `6000/m`, `1000/h`, with ` burst 200`
        /// behind it if more or fewer may come at once. Absent: no limit.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub rate: Option<Rate>,
        /// How much it may ask in a calendar day or month of UTC: `20/day`, `1000000/month`, or both with a comma
        /// between. Absent: no limit.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub quota: Option<Quota>,
        /// Features that tenants of this plan have.
        #[schemars(length(max = 256), extend("uniqueItems" = true))]
        pub features: Vec<Feature>,
        /// Whether the plan is only tried out: what its limits and missing features would refuse is counted and
        /// reported, and passes.
        pub shadow: bool,
        /// Gives the keys of its tenants another token by schedule. Keys of global admins, and those that are bound to
        /// networks, are left alone. Needs kept tokens (`tokens.secret_retention: sealed`). Absent: none.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub rotation: Option<Rotation>,
    }
}

section! {
    #[serde(default)]
    Rotation {
        /// How old a token becomes.
        #[schemars(extend("x-minimum" = "1s", "x-maximum" = "3650d"))]
        pub every: HumanDuration,
        /// How long it works on beside the next one, which its holder claims in that time: at most `every`. What is not
        /// claimed by then only `RevealKey` shows.
        #[schemars(extend("x-minimum" = "1s", "x-maximum" = "30d"))]
        pub grace: HumanDuration,
        /// How the holder gets the next token: `claim`, by calling `ClaimKey` (`keystile key claim`) with the one before.
        pub deliver: Delivery,
    }
}

section! {
    #[derive(Default)]
    #[serde(default)]
    RateLimits {
        /// `strict`: in the store, at each request (docs/LIMITS.md). `leased`: each sidecar takes small parts of what is left ahead of need
        /// and spends them in memory; never more than the limit passes. `local`: by each sidecar for itself.
        pub mode: limiter::Mode,
    }
}

impl Plan {
    /// The limits of its tenants.
    pub fn limits(&self) -> Limits {
        Limits {
            rate: self.rate,
            quota: self.quota,
        }
    }
}
