//! The `format` names of the schema and the rule behind each.

use std::str::FromStr;

use super::listen::ListenAddr;
use super::quantity::{ByteSize, HumanDuration};
use super::redis::{RedisNode, RedisUrl};
use super::text::{
    ClaimName, ClaimValue, CookieName, FeatureName, FilePath, Group, HeaderName, HeaderPrefix,
    JwksUrl, Method, PlanName, QueryName, QuotaText, RateText, RedisPrefix, RedisUser, RouteHost,
    RoutePath, SanText, ScopeName, ServiceName, SocketMode, TenantName, TokenParty, TokenPrefix,
    VariableName,
};

pub(super) struct Format {
    pub name: &'static str,
    /// What to write, for a value of the wrong type.
    pub example: &'static str,
    pub check: fn(&str) -> Result<(), String>,
}

fn parses<T: FromStr<Err = String>>(text: &str) -> Result<(), String> {
    text.parse::<T>().map(drop)
}

pub(super) const FORMATS: &[Format] = &[
    Format {
        name: "duration",
        example: "a duration such as `30s`",
        check: parses::<HumanDuration>,
    },
    Format {
        name: "byte-size",
        example: "a size such as `4MiB`",
        check: parses::<ByteSize>,
    },
    Format {
        name: "listen-address",
        example: "an address such as \"127.0.0.1:9001\"",
        check: parses::<ListenAddr>,
    },
    Format {
        name: "header-name",
        example: "a header name such as `x-api-key`",
        check: parses::<HeaderName>,
    },
    Format {
        name: "header-prefix",
        example: "a header prefix such as `x-tenant-`",
        check: parses::<HeaderPrefix>,
    },
    Format {
        name: "query-name",
        example: "a query parameter name such as `api_key`",
        check: parses::<QueryName>,
    },
    Format {
        name: "cookie-name",
        example: "a cookie name such as `api_key`",
        check: parses::<CookieName>,
    },
    Format {
        name: "token-prefix",
        example: "a token prefix such as `ks_live`",
        check: parses::<TokenPrefix>,
    },
    Format {
        name: "token-party",
        example: "a name or URL such as `keystile`",
        check: parses::<TokenParty>,
    },
    Format {
        name: "claim-name",
        example: "a claim such as `roles` or `realm_access.roles`",
        check: parses::<ClaimName>,
    },
    Format {
        name: "claim-value",
        example: "a value of a claim, such as `keystile-admin`",
        check: parses::<ClaimValue>,
    },
    Format {
        name: "jwks-url",
        example: "a URL such as \"https://id.example.com/jwks\"",
        check: parses::<JwksUrl>,
    },
    Format {
        name: "variable-name",
        example: "the name of an environment variable",
        check: parses::<VariableName>,
    },
    Format {
        name: "group",
        example: "a group name or number",
        check: parses::<Group>,
    },
    Format {
        name: "feature-name",
        example: "a feature name such as `images`",
        check: parses::<FeatureName>,
    },
    Format {
        name: "scope-name",
        example: "a scope such as `read`",
        check: parses::<ScopeName>,
    },
    Format {
        name: "method",
        example: "a method such as `GET`",
        check: parses::<Method>,
    },
    Format {
        name: "route-host",
        example: "a host such as \"api.example.com\" or \"*.example.com\"",
        check: parses::<RouteHost>,
    },
    Format {
        name: "route-path",
        example: "a path such as \"/v1/images/{id}\" or \"/v1/{*rest}\"",
        check: parses::<RoutePath>,
    },
    Format {
        name: "rate",
        example: "a rate such as `100/s` or `100/s burst 200`",
        check: parses::<RateText>,
    },
    Format {
        name: "quota",
        example: "a quota such as `1000000/month` or `1000/day, 20000/month`",
        check: parses::<QuotaText>,
    },
    Format {
        name: "plan-name",
        example: "a plan name such as `pro`",
        check: parses::<PlanName>,
    },
    Format {
        name: "tenant-id",
        example: "a tenant id such as `acme`",
        check: parses::<TenantName>,
    },
    Format {
        name: "file-path",
        example: "a file path",
        check: parses::<FilePath>,
    },
    Format {
        name: "certificate-name",
        example: "a name such as `dns:envoy.mesh`",
        check: parses::<SanText>,
    },
    Format {
        name: "redis-url",
        example: "a URL such as \"redis://127.0.0.1:6379\"",
        check: parses::<RedisUrl>,
    },
    Format {
        name: "redis-node",
        example: "an address such as \"redis-1.example:6379\"",
        check: parses::<RedisNode>,
    },
    Format {
        name: "redis-user",
        example: "a user's name",
        check: parses::<RedisUser>,
    },
    Format {
        name: "redis-prefix",
        example: "a prefix such as \"ks:\"",
        check: parses::<RedisPrefix>,
    },
    Format {
        name: "service-name",
        example: "a name such as `mymaster`",
        check: parses::<ServiceName>,
    },
    Format {
        name: "socket-mode",
        example: "octal text in quotes such as \"0660\"",
        check: parses::<SocketMode>,
    },
];

pub(super) fn format(name: &str) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.name == name)
}
