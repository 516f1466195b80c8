//! Values that are written as text under rules of their own: names, paths, addresses, durations.
//!
//! Each type parses once, here, and carries its `format` into the JSON Schema, so that the checker, the
//! editor and the reader of the documentation see one rule.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::domain::limit::{Quota, Rate};
use crate::domain::name::{Feature, PlanName, Scope, TenantId};
use crate::domain::route::{HostPattern, PathTemplate};
use crate::domain::san::{InvalidPattern, SanPattern};
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

/// A value that is written as text under a rule of its own. It is read once, here, and kept as what it means.
pub(super) trait Text: Sized {
    /// The rule's name in the schema.
    const FORMAT: &'static str;
    /// The rule as an editor may check it.
    const PATTERN: &'static str;
    /// What to write, for a value of the wrong type.
    const EXAMPLE: &'static str;

    /// Reads it, or says what it must be.
    fn read(text: &str) -> Result<Self, String>;
}

/// Makes a type with a `Display` text of the configuration. A type of another module has its words here, and none there.
macro_rules! text {
    ($type:ty, $format:literal, $pattern:literal, $example:literal, $read:expr) => {
        impl $crate::config::text::Text for $type {
            const FORMAT: &'static str = $format;
            const PATTERN: &'static str = $pattern;
            const EXAMPLE: &'static str = $example;

            fn read(text: &str) -> Result<Self, String> {
                let read: fn(&str) -> Result<Self, String> = $read;
                read(text)
            }
        }
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(source)?;
                <Self as $crate::config::text::Text>::read(&text).map_err(serde::de::Error::custom)
            }
        }
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, sink: S) -> Result<S::Ok, S::Error> {
                sink.collect_str(self)
            }
        }
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
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
pub(super) use text;

/// Texts that mean themselves: only `read` makes one.
macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $format:literal, $pattern:literal, $example:literal, $read:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(String);

        impl std::ops::Deref for $name {
            type Target = str;
            fn deref(&self) -> &str {
                &self.0
            }
        }
        impl From<$name> for String {
            fn from(text: $name) -> Self {
                text.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.0)
            }
        }
        text!($name, $format, $pattern, $example, |text| {
            let read: fn(&str) -> Result<String, String> = $read;
            read(text).map(Self)
        });
    };
}

pub(super) use checked_text;

checked_text!(
    /// Name of a request header, in lower case.
    HeaderName, "header-name", "^[A-Za-z0-9_-]{1,64}$", "a header name such as `x-api-key`", parse_header_name
);
checked_text!(
    /// Beginning of the names of headers that only Keystile may set.
    HeaderPrefix, "header-prefix", "^[a-z][a-z0-9-]{0,30}-$", "a header prefix such as `x-tenant-`", parse_header_prefix
);
checked_text!(
    /// Name of a query parameter, after percent-decoding.
    QueryName, "query-name", "^[A-Za-z0-9._~-]{1,64}$", "a query parameter name such as `api_key`",
    |text| keep(text, 64, "a query parameter name (1 to 64 of A-Z a-z 0-9 . _ ~ -)", |c| {
        c.is_ascii_alphanumeric() || "._~-".contains(c)
    })
);
checked_text!(
    /// Name of a cookie (an RFC 6265 token).
    CookieName, "cookie-name", "^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$", "a cookie name such as `api_key`",
    |text| keep(text, 64, "a cookie name (1 to 64 of A-Z a-z 0-9 ! # $ % & ' * + . ^ _ ` | ~ -)", |c| {
        c.is_ascii_alphanumeric() || "!#$%&'*+.^_`|~-".contains(c)
    })
);
checked_text!(
    /// Beginning of the tokens of one kind of key.
    TokenPrefix, "token-prefix", "^[a-z0-9]+(_[a-z0-9]+)*$", "a token prefix such as `ks_live`", parse_token_prefix
);
checked_text!(
    /// Who makes or reads a token.
    TokenParty, "token-party", "^[!-~]{1,255}$", "a name or URL such as `keystile`",
    |text| keep(text, 255, "a name or URL (1 to 255 visible ASCII characters)", |c| c.is_ascii_graphic())
);
checked_text!(
    /// Where in a JWT a value is.
    ClaimName, "claim-name", "^[^\\s\\u0000-\\u001f]{1,255}$", "a claim such as `roles` or `realm_access.roles`", parse_claim_name
);
checked_text!(
    /// A value of a claim.
    ClaimValue, "claim-value", "^.{1,255}$", "a value of a claim, such as `keystile-admin`",
    |text| match (1..=255).contains(&text.len()) && is_visible(text) {
        true => Ok(text.to_owned()),
        false => Err(not_allowed(text, "a value of a claim (1 to 255 bytes, without control or invisible characters)")),
    }
);
checked_text!(
    /// Name of an environment variable.
    VariableName, "variable-name", "^[A-Za-z_][A-Za-z0-9_]{0,59}$", "the name of an environment variable", parse_variable_name
);
checked_text!(
    /// A system group: its name or its number.
    Group, "group", "^[A-Za-z0-9_.-]{1,64}$", "a group name or number",
    |text| keep(text, 64, "a group (its name or its number)", |c| {
        c.is_ascii_alphanumeric() || "_.-".contains(c)
    })
);
text!(
    Feature,
    "feature-name",
    "^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$",
    "a feature name such as `images`",
    |text| Feature::parse(text).map_err(|_| not_allowed(
        text,
        "a feature name (1 to 64 of A-Z a-z 0-9 . _ : -, a letter or digit first)"
    ))
);
text!(
    Scope,
    "scope-name",
    "^[!#-+.-\\[\\]-~-]{1,64}$",
    "a scope such as `read`",
    |text| Scope::parse(text).map_err(|_| not_allowed(
        text,
        "a scope (1 to 64 visible ASCII characters, none of \" \\ ,)"
    ))
);
checked_text!(
    /// Method of requests, as they send it.
    Method, "method", "^[A-Z][A-Z_-]{0,31}$", "a method such as `GET`", parse_method
);
text!(
    HostPattern,
    "route-host",
    "^(\\*\\.)?[A-Za-z0-9_-]+(\\.[A-Za-z0-9_-]+)*$",
    "a host such as \"api.example.com\" or \"*.example.com\"",
    shown_with
);
text!(
    PathTemplate,
    "route-path",
    "^/.*$",
    "a path such as \"/v1/images/{id}\" or \"/v1/{*rest}\"",
    shown_with
);
text!(
    Rate,
    "rate",
    "^[0-9]+/[smh]( burst [0-9]+)?( shadow)?$",
    "a rate such as `100/s` or `100/s burst 200`",
    |text| Rate::parse(text).map_err(|_| not_allowed(text, Rate::RULE))
);
text!(
    Quota,
    "quota",
    "^[0-9]+/(day|month)( shadow)?(, ?[0-9]+/(day|month)( shadow)?)?$",
    "a quota such as `1000000/month` or `1000/day, 20000/month`",
    |text| Quota::parse(text).map_err(|_| not_allowed(text, Quota::RULE))
);
text!(
    PlanName,
    "plan-name",
    "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
    "a plan name such as `pro`",
    |text| PlanName::parse(text).map_err(|_| not_allowed(
        text,
        "a plan name (1 to 63 of a-z 0-9 -, a letter or digit first and last)"
    ))
);
text!(
    TenantId,
    "tenant-id",
    "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
    "a tenant id such as `acme`",
    |text| TenantId::parse(text).map_err(|_| not_allowed(
        text,
        "a tenant id (1 to 63 of a-z 0-9 -, a letter or digit first and last)"
    ))
);
/// Path of a file; a relative one starts at the working directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePath(PathBuf);

impl std::ops::Deref for FilePath {
    type Target = Path;
    fn deref(&self) -> &Path {
        &self.0
    }
}
impl From<FilePath> for PathBuf {
    fn from(path: FilePath) -> Self {
        path.0
    }
}
#[cfg(test)]
impl From<&Path> for FilePath {
    fn from(path: &Path) -> Self {
        Self(path.to_owned())
    }
}
impl fmt::Display for FilePath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(out)
    }
}
text!(
    FilePath,
    "file-path",
    "^.+$",
    "a file path",
    |text| match text.is_empty() || text.contains('\0') {
        true => Err(not_allowed(text, "a file path")),
        false => Ok(Self(text.into())),
    }
);
checked_text!(
    /// A user of Redis.
    RedisUser, "redis-user", "^[!-~]{1,128}$", "a user's name",
    |text| keep(text, 128, "a user's name (1 to 128 visible ASCII characters)", |c| c.is_ascii_graphic())
);
checked_text!(
    /// What sentinels call a primary.
    ServiceName, "service-name", "^[A-Za-z0-9._-]{1,128}$", "a name such as `mymaster`",
    |text| keep(text, 128, "a name that sentinels allow (1 to 128 of A-Z a-z 0-9 . _ -)", |c| {
        c.is_ascii_alphanumeric() || "._-".contains(c)
    })
);
checked_text!(
    /// Beginning of every name in Redis. Without what patterns, hash tags and ACL rules give a meaning to.
    RedisPrefix, "redis-prefix", "^[A-Za-z0-9!#$%&+,./:;<=>@_`|~-]{1,32}$", "a prefix such as \"ks:\"",
    |text| keep(text, 32, "a prefix (1 to 32 visible ASCII characters, none of { } ( ) * ? [ ] ^ \\ \" ')", |c| {
        c.is_ascii_graphic() && !"{}()*?[]^\\\"'".contains(c)
    })
);
text!(
    SanPattern,
    "certificate-name",
    "^(dns:[A-Za-z0-9._*-]+|uri:[^:/*]+://[^/*]+(/.*)?)$",
    "a name such as `dns:envoy.mesh`",
    |text| match text.is_empty() {
        true => text.parse().map_err(|why: InvalidPattern| why.to_string()),
        false => shown_with(text),
    }
);
/// Permission bits of a socket, as octal text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketMode(pub u32);

impl fmt::Display for SocketMode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:04o}", self.0)
    }
}
text!(
    SocketMode,
    "socket-mode",
    "^0?[0-7]{3}$",
    "octal text in quotes such as \"0660\"",
    parse_socket_mode
);

/// For types whose error says what is wrong with the text, after the text.
fn shown_with<T: FromStr<Err: fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|why| format!("{} {why}", shown(text)))
}

pub(super) fn keep(
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

fn parse_socket_mode(text: &str) -> Result<SocketMode, String> {
    let digits = text.strip_prefix('0').unwrap_or(text);
    let octal = digits.len() == 3 && digits.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    // Without both bits the owner, which is this process, could not serve its own socket's clients.
    if !octal || !matches!(digits.as_bytes().first(), Some(b'6' | b'7')) {
        return Err(not_allowed(
            text,
            "a socket mode (octal text with read and write for the owner, such as \"0660\")",
        ));
    }
    u32::from_str_radix(digits, 8)
        .map(SocketMode)
        .map_err(|why| why.to_string())
}
