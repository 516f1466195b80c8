//! An item of `authz.routes`, as written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::text::Method;
use crate::domain::name::{Feature, Scope};
use crate::domain::request::Mode;
use crate::domain::route::{HostPattern, PathTemplate, RoutePattern};

section! {
    #[serde(default)]
    Route {
        /// The methods that it is for, exactly as sent: `GET` is not `HEAD`. Empty: any.
        #[schemars(length(max = 16), extend("uniqueItems" = true))]
        pub methods: Vec<Method>,
        /// The host that it is for, without port, or `*.example.com` for all names under one. Absent: any.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub host: Option<HostPattern>,
        /// The path that it is for, without query. `{id}` stands for one segment, `{*rest}` at the end for any number of
        /// them, none too. A slash at the end of a request's path is ignored. Absent: any. With a path in any rule, a
        /// request whose path can be read in two ways is refused (docs/ENVOY.md).
        #[serde(skip_serializing_if = "Option::is_none")]
        pub path: Option<PathTemplate>,
        /// `required`: a valid key or nothing. `optional`: a key is checked if there is one. `off`: nothing is checked.
        pub mode: Mode,
        /// Features that the key must have, all of them.
        #[schemars(length(max = 64), extend("uniqueItems" = true))]
        pub features: Vec<Feature>,
        /// Scopes that the key must have, all of them.
        #[schemars(length(max = 64), extend("uniqueItems" = true))]
        pub scopes: Vec<Scope>,
        /// How much a request counts against limits.
        #[schemars(range(max = 1_000_000))]
        pub cost: u32,
        /// Counts and reports what this rule would refuse, and leaves the decision to the rules after it.
        pub shadow: bool,
    }
}

impl Route {
    /// The requests that it is for.
    pub fn pattern(&self) -> RoutePattern {
        RoutePattern {
            methods: self.methods.iter().map(ToString::to_string).collect(),
            host: self.host.clone(),
            path: self.path.clone(),
        }
    }
}
