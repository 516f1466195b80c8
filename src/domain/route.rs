//! Which requests a route rule of the configuration is for, and whether one rule leaves anything to another.
//!
//! Says nothing about how a request is read; that is the protocol's matter. Templates are made of whole segments, so
//! that whether one covers another can be decided exactly.

use std::fmt;
use std::str::FromStr;

/// Longest template or host, in bytes.
const LEN_MAX: usize = 512;
/// What a segment may hold besides letters and digits. Without `;`, which upstreams cut at, and `*`, which looks like
/// a wildcard.
const SEGMENT_SIGNS: &[u8] = b"-._~!$&'()+,=:@";

const EMPTY_SEGMENT: PatternError =
    PatternError("has an empty segment; write each slash once and none at the end");

/// Why a text is no pattern, as the end of a sentence that begins with the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PatternError(&'static str);

/// One part of a path between two slashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Exactly this.
    Text(String),
    /// Anything, once.
    Any,
}

/// A path with places left open: `/v1/images/{id}`, `/v1/{*rest}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathTemplate {
    text: String,
    segments: Vec<Segment>,
    open: bool,
}

impl PathTemplate {
    /// The segments before `{*rest}`, or all.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Whether it ends in `{*rest}`: no more segments, or any.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Whether it matches every path that `other` does.
    pub fn covers(&self, other: &Self) -> bool {
        let enough = other.segments.len() >= self.segments.len();
        let fits = |(own, theirs): (&Segment, &Segment)| *own == Segment::Any || own == theirs;
        let ends = self.open || (!other.open && other.segments.len() == self.segments.len());
        enough && ends && self.segments.iter().zip(&other.segments).all(fits)
    }

    /// Whether some path matches both.
    pub fn overlaps(&self, other: &Self) -> bool {
        let (own, theirs) = (self.segments.len(), other.segments.len());
        let ends = own == theirs || (own < theirs && self.open) || (theirs < own && other.open);
        let meets = |(one, two): (&Segment, &Segment)| {
            *one == Segment::Any || *two == Segment::Any || one == two
        };
        ends && self.segments.iter().zip(&other.segments).all(meets)
    }
}

impl FromStr for PathTemplate {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let path = text
            .strip_prefix('/')
            .ok_or(PatternError("must begin with `/`, such as /v1/images/{id}"))?;
        if text.len() > LEN_MAX {
            return Err(PatternError("is longer than 512 bytes"));
        }
        if text.contains("//") {
            return Err(EMPTY_SEGMENT);
        }
        let (path, open) = match path.rsplit_once('/').unwrap_or(("", path)) {
            (before, last) if last.starts_with("{*") => {
                check_name(
                    last.strip_prefix("{*")
                        .and_then(|last| last.strip_suffix('}')),
                )?;
                (before, true)
            }
            _ => (path, false),
        };
        let parts = path.split('/').filter(|_| !path.is_empty());
        Ok(Self {
            text: text.to_owned(),
            segments: parts.map(segment).collect::<Result<_, _>>()?,
            open,
        })
    }
}

fn segment(part: &str) -> Result<Segment, PatternError> {
    if let Some(name) = part.strip_prefix('{') {
        if name.starts_with('*') {
            return Err(PatternError("may have {*rest} only at the end"));
        }
        check_name(name.strip_suffix('}'))?;
        return Ok(Segment::Any);
    }
    if part.is_empty() {
        return Err(EMPTY_SEGMENT);
    }
    if part == "." || part == ".." {
        return Err(PatternError(
            "has a dot segment; such paths are refused before any rule",
        ));
    }
    if part.contains('*') || part.starts_with(':') {
        return Err(PatternError(
            "has a wildcard in another form; write {id} for one segment and {*rest} for all that follow",
        ));
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || SEGMENT_SIGNS.contains(&b);
    match part.bytes().all(plain) {
        true => Ok(Segment::Text(part.to_owned())),
        false => Err(PatternError(
            "has a segment that is neither {name} nor of A-Z a-z 0-9 - . _ ~ ! $ & ' ( ) + , = : @",
        )),
    }
}

fn check_name(name: Option<&str>) -> Result<(), PatternError> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    match name {
        Some(name) if !name.is_empty() && name.bytes().all(legal) => Ok(()),
        Some(_) | None => Err(PatternError(
            "has braces that are not a whole segment such as {id} or {*rest}",
        )),
    }
}

impl fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A host, or all hosts under one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern {
    /// In lower case.
    name: String,
    /// `*.`: one label or more before the name, as in Envoy's virtual hosts.
    under: bool,
}

impl HostPattern {
    /// Whether it is the host's: without port and dot at the end, in any case.
    pub fn matches(&self, host: &[u8]) -> bool {
        if !self.under {
            return host.eq_ignore_ascii_case(self.name.as_bytes());
        }
        let before = host.len().checked_sub(self.name.len());
        let split = before.and_then(|before| host.split_at_checked(before));
        split.is_some_and(|(labels, name)| {
            labels.len() > 1 && labels.ends_with(b".") && self.is_name(name)
        })
    }

    fn is_name(&self, name: &[u8]) -> bool {
        name.eq_ignore_ascii_case(self.name.as_bytes())
    }

    /// Whether it matches every host that `other` does.
    pub fn covers(&self, other: &Self) -> bool {
        match (self.under, other.under) {
            (true, true) => self.name == other.name || self.matches(other.name.as_bytes()),
            (_, false) => self.matches(other.name.as_bytes()),
            (false, true) => false,
        }
    }
}

impl FromStr for HostPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let (name, under) = match text.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (text, false),
        };
        let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        let is_label = |label: &str| !label.is_empty() && label.bytes().all(legal);
        if text.len() > LEN_MAX || !name.split('.').all(is_label) {
            return Err(PatternError(
                "is not a host without port, such as api.example.com or *.example.com",
            ));
        }
        Ok(Self {
            name: name.to_ascii_lowercase(),
            under,
        })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let before = if self.under { "*." } else { "" };
        write!(f, "{before}{}", self.name)
    }
}

/// The requests that a rule is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoutePattern {
    /// Exactly as sent; empty: any.
    pub methods: Vec<String>,
    /// None: any.
    pub host: Option<HostPattern>,
    /// None: any, and requests that have no path (CONNECT).
    pub path: Option<PathTemplate>,
}

impl RoutePattern {
    /// Whether the method is one of those that it names.
    pub fn names_method(&self, method: &[u8]) -> bool {
        self.methods.iter().any(|known| known.as_bytes() == method)
    }

    /// Whether it takes every request that `other` does.
    pub fn covers(&self, other: &Self) -> bool {
        let takes = |method| self.methods.contains(method);
        let methods = self.methods.is_empty()
            || (!other.methods.is_empty() && other.methods.iter().all(takes));
        methods
            && covers(self.host.as_ref(), other.host.as_ref(), HostPattern::covers)
            && covers(
                self.path.as_ref(),
                other.path.as_ref(),
                PathTemplate::covers,
            )
    }
}

fn covers<T>(own: Option<&T>, other: Option<&T>, covers: fn(&T, &T) -> bool) -> bool {
    own.is_none_or(|own| other.is_some_and(|other| covers(own, other)))
}

#[cfg(test)]
mod tests;
