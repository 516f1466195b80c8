//! Values that are written as text under rules of their own: names, paths, addresses, durations.
//!
//! Each type parses once, here, and carries its `format` into the JSON Schema, so that the checker, the
//! editor and the reader of the documentation see one rule.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::domain::limit::{Quota, Rate};
use crate::domain::route::{HostPattern, PathTemplate};
use crate::domain::san::SanPattern;
use crate::domain::text::{is_printable, is_visible};

/// Longest piece of a wrong value that a message repeats.
const SHOWN_CHARS_MAX: usize = 60;

/// The value as a message may show it: one line, bounded, nothing a terminal would act on.
pub(super) fn shown(text: &str) -> String {
    let mut short: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("`{}`", short.escape_debug())
}

pub(super) fn not_allowed(text: &str, allowed: &str) -> String {
    if text.is_empty() {
        return format!("must not be empty; write {allowed}");
    }
    format!("{} is not {allowed}", shown(text))
}

/// Serde and schema of a type that is text with a `FromStr` and a `Display`.
macro_rules! text_serde {
    ($name:ident, $format:literal, $pattern:literal) => {
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(source)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, sink: S) -> Result<S::Ok, S::Error> {
                sink.collect_str(self)
            }
        }
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn inline_schema() -> bool {
                true
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({"type": "string", "format": $format, "pattern": $pattern})
            }
        }
    };
}
pub(super) use text_serde;

/// A checked text: only `parse` makes one.
macro_rules! checked_text {
    ($(#[$doc:meta])* $vis:vis $name:ident, $format:literal, $pattern:literal, $parse:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
        $vis struct $name(String);

        impl std::ops::Deref for $name {
            type Target = str;
            fn deref(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                let parse: fn(&str) -> Result<String, String> = $parse;
                parse(text).map(Self)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.0)
            }
        }
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        text_serde!($name, $format, $pattern);
    };
}

checked_text!(
    /// Name of a request header, in lower case.
    pub(super) HeaderName, "header-name", "^[A-Za-z0-9_-]{1,64}$", parse_header_name
);
checked_text!(
    /// Beginning of the names of headers that only Keystile may set.
    pub(super) HeaderPrefix, "header-prefix", "^[a-z][a-z0-9-]{0,30}-$", parse_header_prefix
);
checked_text!(
    /// Name of a query parameter, after percent-decoding.
    pub(super) QueryName, "query-name", "^[A-Za-z0-9._~-]{1,64}$",
    |text| keep(text, 64, "a query parameter name (1 to 64 of A-Z a-z 0-9 . _ ~ -)", |c| {
        c.is_ascii_alphanumeric() || "._~-".contains(c)
    })
);
checked_text!(
    /// Name of a cookie (an RFC 6265 token).
    pub(super) CookieName, "cookie-name", "^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$",
    |text| keep(text, 64, "a cookie name (1 to 64 of A-Z a-z 0-9 ! # $ % & ' * + . ^ _ ` | ~ -)", |c| {
        c.is_ascii_alphanumeric() || "!#$%&'*+.^_`|~-".contains(c)
    })
);
checked_text!(
    /// Beginning of the tokens of one kind of key.
    pub(super) TokenPrefix, "token-prefix", "^[a-z0-9]+(_[a-z0-9]+)*$", parse_token_prefix
);
checked_text!(
    /// Who makes or reads a token.
    pub(super) TokenParty, "token-party", "^[!-~]{1,255}$",
    |text| keep(text, 255, "a name or URL (1 to 255 visible ASCII characters)", |c| c.is_ascii_graphic())
);
checked_text!(
    /// Where in a JWT a value is.
    pub(super) ClaimName, "claim-name", "^[^\\s\\u0000-\\u001f]{1,255}$", parse_claim_name
);
checked_text!(
    /// A value of a claim.
    pub(super) ClaimValue, "claim-value", "^.{1,255}$",
    |text| match (1..=255).contains(&text.len()) && is_visible(text) {
        true => Ok(text.to_owned()),
        false => Err(not_allowed(text, "a value of a claim (1 to 255 bytes, without control or invisible characters)")),
    }
);
checked_text!(
    /// Where a key set is published.
    pub(super) JwksUrl, "jwks-url", "^https?://[A-Za-z0-9._:\\[\\]-]+(/[A-Za-z0-9._~%!$&'()*+,;=:@/?-]*)?$", super::oidc::parse_url
);
checked_text!(
    /// Name of an environment variable.
    pub(super) VariableName, "variable-name", "^[A-Za-z_][A-Za-z0-9_]{0,59}$", parse_variable_name
);
checked_text!(
    /// A system group: its name or its number.
    pub(super) Group, "group", "^[A-Za-z0-9_.-]{1,64}$",
    |text| keep(text, 64, "a group (its name or its number)", |c| {
        c.is_ascii_alphanumeric() || "_.-".contains(c)
    })
);
checked_text!(
    /// Name of a feature that routes can ask for.
    pub(super) FeatureName, "feature-name", "^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$", parse_feature
);
checked_text!(
    /// Name of a scope that routes can ask for.
    pub(super) ScopeName, "scope-name", "^[!#-+.-\\[\\]-~-]{1,64}$",
    |text| keep(text, 64, "a scope (1 to 64 visible ASCII characters, none of \" \\ ,)", |c| {
        c.is_ascii_graphic() && !"\"\\,".contains(c)
    })
);
checked_text!(
    /// Method of requests, as they send it.
    pub(super) Method, "method", "^[A-Z][A-Z_-]{0,31}$", parse_method
);
checked_text!(
    /// Host of requests, or all hosts under one.
    pub(super) RouteHost, "route-host", "^(\\*\\.)?[A-Za-z0-9_-]+(\\.[A-Za-z0-9_-]+)*$",
    |text| match text.parse::<HostPattern>() {
        Ok(host) => Ok(host.to_string()),
        Err(why) => Err(format!("{} {why}", shown(text))),
    }
);
checked_text!(
    /// Path of requests, with places left open.
    pub(super) RoutePath, "route-path", "^/.*$",
    |text| match text.parse::<PathTemplate>() {
        Ok(path) => Ok(path.to_string()),
        Err(why) => Err(format!("{} {why}", shown(text))),
    }
);
checked_text!(
    /// How fast somebody may ask.
    pub(super) RateText, "rate", "^[0-9]+/[smh]( burst [0-9]+)?( shadow)?$",
    |text| match Rate::parse(text) {
        Ok(rate) => Ok(rate.to_string()),
        Err(_) => Err(not_allowed(text, Rate::RULE)),
    }
);
checked_text!(
    /// How much somebody may ask.
    pub(super) QuotaText, "quota", "^[0-9]+/(day|month)( shadow)?(, ?[0-9]+/(day|month)( shadow)?)?$",
    |text| match Quota::parse(text) {
        Ok(quota) => Ok(quota.to_string()),
        Err(_) => Err(not_allowed(text, Quota::RULE)),
    }
);
checked_text!(
    /// Name of a plan.
    pub PlanName, "plan-name", "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
    |text| label(text, "a plan name (1 to 63 of a-z 0-9 -, a letter or digit first and last)")
);
checked_text!(
    /// Id of a tenant.
    pub(super) TenantName, "tenant-id", "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
    |text| label(text, "a tenant id (1 to 63 of a-z 0-9 -, a letter or digit first and last)")
);
checked_text!(
    /// Path of a file; a relative one starts at the working directory.
    pub(super) FilePath, "file-path", "^.+$",
    |text| match text.is_empty() || text.contains('\0') {
        true => Err(not_allowed(text, "a file path")),
        false => Ok(text.to_owned()),
    }
);
checked_text!(
    /// A user of Redis.
    pub(super) RedisUser, "redis-user", "^[!-~]{1,128}$",
    |text| keep(text, 128, "a user's name (1 to 128 visible ASCII characters)", |c| c.is_ascii_graphic())
);
checked_text!(
    /// What sentinels call a primary.
    pub(super) ServiceName, "service-name", "^[A-Za-z0-9._-]{1,128}$",
    |text| keep(text, 128, "a name that sentinels allow (1 to 128 of A-Z a-z 0-9 . _ -)", |c| {
        c.is_ascii_alphanumeric() || "._-".contains(c)
    })
);
checked_text!(
    /// Beginning of every name in Redis. Without what patterns, hash tags and ACL rules give a meaning to.
    pub(super) RedisPrefix, "redis-prefix", "^[A-Za-z0-9!#$%&+,./:;<=>@_`|~-]{1,32}$",
    |text| keep(text, 32, "a prefix (1 to 32 visible ASCII characters, none of { } ( ) * ? [ ] ^ \\ \" ')", |c| {
        c.is_ascii_graphic() && !"{}()*?[]^\\\"'".contains(c)
    })
);
checked_text!(
    /// Names of client certificates.
    pub(super) SanText, "certificate-name", "^(dns:[A-Za-z0-9._*-]+|uri:[^:/*]+://[^/*]+(/.*)?)$",
    |text| match text.parse::<SanPattern>() {
        Ok(pattern) => Ok(pattern.to_string()),
        Err(why) if text.is_empty() => Err(why.to_string()),
        Err(why) => Err(format!("{} {why}", shown(text))),
    }
);
checked_text!(
    /// Permission bits of a socket, as octal text.
    pub(super) SocketMode, "socket-mode", "^0?[0-7]{3}$", parse_socket_mode
);

impl SanText {
    /// The pattern; none only for what `FromStr` refuses.
    pub(super) fn to_pattern(&self) -> Option<SanPattern> {
        self.0.parse().ok()
    }
}

impl RateText {
    /// The rate; none only for what `FromStr` refuses.
    pub(super) fn to_rate(&self) -> Option<Rate> {
        Rate::parse(&self.0).ok()
    }
}

impl QuotaText {
    /// The quota; none only for what `FromStr` refuses.
    pub(super) fn to_quota(&self) -> Option<Quota> {
        Quota::parse(&self.0).ok()
    }
}

impl RouteHost {
    /// The pattern; none only for what `FromStr` refuses.
    pub(super) fn to_pattern(&self) -> Option<HostPattern> {
        self.0.parse().ok()
    }
}

impl RoutePath {
    /// The template; none only for what `FromStr` refuses.
    pub(super) fn to_template(&self) -> Option<PathTemplate> {
        self.0.parse().ok()
    }
}

impl FilePath {
    pub(super) fn to_path(&self) -> PathBuf {
        PathBuf::from(&self.0)
    }
}

impl SocketMode {
    pub(super) fn bits(&self) -> u32 {
        u32::from_str_radix(&self.0, 8).unwrap_or_default()
    }
}

fn keep(
    text: &str,
    length_max: usize,
    allowed: &str,
    legal: fn(char) -> bool,
) -> Result<String, String> {
    let ok = (1..=length_max).contains(&text.len()) && text.chars().all(legal);
    ok.then(|| text.to_owned())
        .ok_or_else(|| not_allowed(text, allowed))
}

fn parse_claim_name(text: &str) -> Result<String, String> {
    let allowed = "a claim's name or path (1 to 255 bytes without blanks), such as `roles` or `realm_access.roles`";
    let legal = |c: char| !c.is_whitespace() && is_printable(c);
    let whole = text.contains("://") || text.split('.').all(|part| !part.is_empty());
    match whole && (1..=255).contains(&text.len()) && text.chars().all(legal) {
        true => Ok(text.to_owned()),
        false => Err(not_allowed(text, allowed)),
    }
}

fn parse_feature(text: &str) -> Result<String, String> {
    let allowed = "a feature name (1 to 64 of A-Z a-z 0-9 . _ : -, a letter or digit first)";
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err(not_allowed(text, allowed));
    }
    keep(text, 64, allowed, |c| {
        c.is_ascii_alphanumeric() || "._:-".contains(c)
    })
}

fn parse_method(text: &str) -> Result<String, String> {
    let allowed =
        "a method as requests send it (1 to 32 of A-Z _ -, a letter first), such as `GET`";
    if !text.starts_with(|c: char| c.is_ascii_uppercase()) {
        return Err(not_allowed(text, allowed));
    }
    keep(text, 32, allowed, |c| {
        c.is_ascii_uppercase() || "_-".contains(c)
    })
}

/// An RFC 1123 label.
fn label(text: &str, allowed: &str) -> Result<String, String> {
    if text.starts_with('-') || text.ends_with('-') {
        return Err(not_allowed(text, allowed));
    }
    keep(text, 63, allowed, |c| {
        c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'
    })
}

/// Names that frame a message or carry other credentials: taking a key from them would break the request.
const FRAMING_HEADERS: &[&str] = &[
    "connection",
    "content-length",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

fn parse_header_name(text: &str) -> Result<String, String> {
    let allowed = "a header name (1 to 64 of a-z 0-9 - _)";
    let name = keep(text, 64, allowed, |c| {
        c.is_ascii_alphanumeric() || "-_".contains(c)
    })?
    .to_ascii_lowercase();
    if FRAMING_HEADERS.contains(&name.as_str()) {
        return Err(format!(
            "{} frames the message and cannot hold a key; use a header of its own, such as `x-api-key`",
            shown(&name)
        ));
    }
    if name.starts_with("x-envoy-") || name.starts_with("x-forwarded-") {
        return Err(format!(
            "{} belongs to Envoy and cannot hold a key; use a header of its own, such as `x-api-key`",
            shown(&name)
        ));
    }
    Ok(name)
}

/// Headers that requests need on their way: a reserved prefix that covers one would remove it from every request.
const ORDINARY_HEADERS: &[&str] = &[
    "accept-encoding",
    "access-control-request-method",
    "cache-control",
    "content-length",
    "content-type",
    "grpc-timeout",
    "if-match",
    "keep-alive",
    "last-modified",
    "max-forwards",
    "proxy-authorization",
    "sec-fetch-mode",
    "set-cookie",
    "transfer-encoding",
    "user-agent",
    "www-authenticate",
    "x-b3-traceid",
    "x-envoy-",
    "x-forwarded-",
    "x-request-id",
];

fn parse_header_prefix(text: &str) -> Result<String, String> {
    let allowed = "a header prefix (2 to 32 of a-z 0-9 -, a letter first, `-` last)";
    let prefix = keep(text, 32, allowed, |c| {
        c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'
    })?;
    if prefix.len() < 2
        || !prefix.ends_with('-')
        || !prefix.starts_with(|c: char| c.is_ascii_lowercase())
    {
        return Err(not_allowed(text, allowed));
    }
    let covers = |header: &&&str| {
        header.starts_with(&prefix) || (header.ends_with('-') && prefix.starts_with(**header))
    };
    match ORDINARY_HEADERS.iter().find(covers) {
        Some(header) => Err(format!(
            "{} would take in `{header}` headers, which requests need; choose one of your own, such as `x-tenant-`",
            shown(&prefix)
        )),
        None => Ok(prefix),
    }
}

fn parse_token_prefix(text: &str) -> Result<String, String> {
    let allowed = "a token prefix (2 to 16 of a-z 0-9 _, no `_` first, last or doubled)";
    let prefix = keep(text, 16, allowed, |c| {
        c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'
    })?;
    let ok = prefix.len() >= 2 && prefix.split('_').all(|word| !word.is_empty());
    ok.then_some(prefix)
        .ok_or_else(|| not_allowed(text, allowed))
}

/// Never repeats the text: people paste the key itself where its variable's name belongs.
fn parse_variable_name(text: &str) -> Result<String, String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let ok = (1..=60).contains(&text.len())
        && text.chars().all(legal)
        && !text.starts_with(|c: char| c.is_ascii_digit());
    if !ok {
        return Err("must be the name of an environment variable (1 to 60 of A-Z a-z 0-9 _), not the key itself".to_owned());
    }
    if text.to_ascii_uppercase().starts_with("KEYSTILE__") {
        return Err(
            "must not begin with `KEYSTILE__`: such variables override fields of this file"
                .to_owned(),
        );
    }
    Ok(text.to_owned())
}

fn parse_socket_mode(text: &str) -> Result<String, String> {
    let digits = text.strip_prefix('0').unwrap_or(text);
    let octal = digits.len() == 3 && digits.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    // Without both bits the owner, which is this process, could not serve its own socket's clients.
    if !octal || !matches!(digits.as_bytes().first(), Some(b'6' | b'7')) {
        return Err(not_allowed(
            text,
            "a socket mode (octal text with read and write for the owner, such as \"0660\")",
        ));
    }
    Ok(format!("0{digits}"))
}
