//! An item of `authz.credentials`, as written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::text::{CookieName, HeaderName, QueryName};

section! {
    #[derive(Default)]
    #[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
    RawCredential {
        /// A header that holds the key and nothing else.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub header: Option<HeaderName>,
        /// A header that holds `Bearer` and the key.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub bearer: Option<HeaderName>,
        /// A query parameter.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub query: Option<QueryName>,
        /// A cookie.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub cookie: Option<CookieName>,
    }
}
