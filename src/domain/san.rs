//! Subject alternative names: whom a certificate speaks for, and patterns that name some of them.

use std::fmt;
use std::str::FromStr;

/// One name in a certificate. Other kinds than these two, such as addresses, name nobody here.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum San {
    /// A host name.
    Dns(String),
    /// A URI, such as a SPIFFE id.
    Uri(String),
}

impl fmt::Display for San {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => write!(f, "dns:{name}"),
            Self::Uri(uri) => write!(f, "uri:{uri}"),
        }
    }
}

/// `dns:NAME` or `uri:URI`. A `*` stands for exactly one label of the name, or one segment of the URI's path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SanPattern(San);

/// Longest pattern, in bytes: what RFC 1035 gives a host name and SPIFFE a trust domain.
const NAME_LEN_MAX: usize = 255;
/// Longest URI in a pattern: what SPIFFE lets an id have.
const URI_LEN_MAX: usize = 2048;

/// Text that is no pattern. Says which rule is broken, without the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidPattern(&'static str);

const FORM: InvalidPattern = InvalidPattern(
    "must be `dns:NAME` or `uri:SCHEME://AUTHORITY/PATH`, such as `uri:spiffe://mesh/ns/*/sa/envoy`",
);
const DNS: InvalidPattern = InvalidPattern(
    "must be labels of A-Z a-z 0-9 - _ joined by dots, or `*` for exactly one whole label",
);
const URI: InvalidPattern = InvalidPattern(
    "must have a scheme and an authority without `*`, and `*` only for exactly one whole segment of the path",
);

impl FromStr for SanPattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        match text.split_once(':') {
            Some(("dns", name)) => parse_dns(name).map(Self),
            Some(("uri", uri)) => parse_uri(uri).map(Self),
            Some(_) | None => Err(FORM),
        }
    }
}

fn parse_dns(name: &str) -> Result<San, InvalidPattern> {
    let is_label = |label: &str| {
        label == "*"
            || !label.is_empty()
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let ok = name.len() <= NAME_LEN_MAX && name.split('.').all(is_label);
    ok.then(|| San::Dns(name.to_ascii_lowercase())).ok_or(DNS)
}

fn parse_uri(uri: &str) -> Result<San, InvalidPattern> {
    let (scheme, rest) = uri.split_once("://").ok_or(FORM)?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let ok = uri.len() <= URI_LEN_MAX
        && uri.bytes().all(|byte| byte.is_ascii_graphic())
        && !scheme.is_empty()
        && !authority.is_empty()
        && !scheme.contains('*')
        && !authority.contains('*')
        && path
            .split('/')
            .all(|segment| segment == "*" || !segment.contains('*'));
    ok.then(|| San::Uri(uri.to_owned())).ok_or(URI)
}

impl fmt::Display for SanPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl SanPattern {
    /// Whether the pattern names `san`.
    pub fn matches(&self, san: &San) -> bool {
        match (&self.0, san) {
            (San::Dns(pattern), San::Dns(name)) => {
                parts_match(pattern, &name.to_ascii_lowercase(), '.')
            }
            // URIs are compared byte by byte: SPIFFE ids are case-sensitive.
            (San::Uri(pattern), San::Uri(uri)) => parts_match(pattern, uri, '/'),
            (San::Dns(_), San::Uri(_)) | (San::Uri(_), San::Dns(_)) => false,
        }
    }

    /// Whether any of `patterns` names any of `sans`.
    pub fn any_match(patterns: &[Self], sans: &[San]) -> bool {
        patterns
            .iter()
            .any(|pattern| sans.iter().any(|san| pattern.matches(san)))
    }
}

fn parts_match(pattern: &str, name: &str, separator: char) -> bool {
    // A wildcard certificate speaks for hosts, not for one client: its own `*` is nobody's name.
    if name.contains('*') {
        return false;
    }
    let (mut wanted, mut found) = (pattern.split(separator), name.split(separator));
    loop {
        match (wanted.next(), found.next()) {
            (None, None) => return true,
            (Some("*"), Some(part)) if is_plain(part) => {}
            (Some(wanted), Some(part)) if wanted == part => {}
            (_, _) => return false,
        }
    }
}

/// What `*` stands for: nothing that another reader could take for more or less than one part.
fn is_plain(part: &str) -> bool {
    !part.is_empty()
        && part != "."
        && part != ".."
        && part
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
}

/// The names as a log shows them.
pub fn listed<T: fmt::Display>(names: &[T]) -> String {
    match names {
        [] => "none".to_owned(),
        names => names
            .iter()
            .map(T::to_string)
            .collect::<Vec<_>>()
            .join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn san(text: &str) -> San {
        match text.split_once(':') {
            Some(("dns", name)) => San::Dns(name.to_owned()),
            Some(("uri", uri)) => San::Uri(uri.to_owned()),
            _ => panic!("{text}"),
        }
    }

    #[test]
    fn a_star_stands_for_exactly_one_part() {
        for (pattern, name, expected) in [
            ("dns:envoy.mesh", "dns:envoy.mesh", true),
            ("dns:Envoy.mesh", "dns:envoy.MESH", true),
            ("dns:envoy.mesh", "dns:envoy.mesh.evil", false),
            ("dns:envoy.mesh", "dns:evil.envoy.mesh", false),
            ("dns:envoy.mesh", "dns:*.mesh", false),
            ("dns:envoy.mesh", "uri:envoy.mesh", false),
            ("dns:*.mesh", "dns:envoy.mesh", true),
            ("dns:*.mesh", "dns:a.b.mesh", false),
            ("dns:*.mesh", "dns:.mesh", false),
            ("dns:*.mesh", "dns:mesh", false),
            ("dns:*.mesh", "dns:*.mesh", false),
            ("uri:spiffe://m/ns/*/sa/e", "uri:spiffe://m/ns/a/sa/e", true),
            (
                "uri:spiffe://m/ns/*/sa/e",
                "uri:spiffe://m/ns/a.b-1/sa/e",
                true,
            ),
            (
                "uri:spiffe://m/ns/*/sa/e",
                "uri:spiffe://m/ns/a/b/sa/e",
                false,
            ),
            ("uri:spiffe://m/ns/*/sa/e", "uri:spiffe://m/ns//sa/e", false),
            (
                "uri:spiffe://m/ns/*/sa/e",
                "uri:spiffe://m/ns/../sa/e",
                false,
            ),
            (
                "uri:spiffe://m/ns/*/sa/e",
                "uri:spiffe://m/ns/a%2fb/sa/e",
                false,
            ),
            (
                "uri:spiffe://m/ns/*/sa/e",
                "uri:spiffe://m/ns/*/sa/e",
                false,
            ),
            (
                "uri:spiffe://m/ns/*/sa/e",
                "uri:spiffe://m/ns/a/sa/e/",
                false,
            ),
            (
                "uri:spiffe://m/ns/*/sa/e",
                "uri:spiffe://evil/ns/a/sa/e",
                false,
            ),
            (
                "uri:spiffe://m/ns/*/sa/e",
                "uri:spiffe://m/ns/a/sa/E",
                false,
            ),
            ("uri:spiffe://m/ns/*/sa/e", "uri:spiffe://m/ns/a/sa", false),
        ] {
            let pattern_: SanPattern = pattern.parse().unwrap();
            assert_eq!(pattern_.matches(&san(name)), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn what_could_be_read_wider_than_meant_is_no_pattern() {
        for bad in [
            "",
            "envoy.mesh",
            "dns:",
            "dns:a..b",
            "dns:.mesh",
            "dns:e*.mesh",
            "dns:a b",
            "dns:é.mesh",
            "ip:127.0.0.1",
            "uri:envoy",
            "uri:spiffe:///ns",
            "uri:*://mesh/ns",
            "uri:spiffe://*/ns",
            "uri:spiffe://mesh/ns/e*",
            "uri:spiffe://mesh/a b",
        ] {
            assert!(bad.parse::<SanPattern>().is_err(), "{bad}");
        }
        let shown = "uri:spiffe://mesh/ns/*/sa/envoy";
        assert_eq!(shown.parse::<SanPattern>().unwrap().to_string(), shown);
    }
}
