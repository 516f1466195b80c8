//! Where a request carries its key, and how the key is taken out before the request goes on.

use std::borrow::Cow;

use percent_encoding::percent_decode;

use crate::domain::request::Credential;

/// One place where a key may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialSource {
    /// A header that holds the key and nothing else; the name in lower case.
    Header(String),
    /// A header with `Bearer` before the key (RFC 6750); the name in lower case.
    Bearer(String),
    Query(String),
    Cookie(String),
}

/// The places in words, for who has sent no key.
pub(super) fn places(sources: &[CredentialSource]) -> String {
    let place = |source: &CredentialSource| match source {
        CredentialSource::Header(name) => format!("in the header {name}"),
        CredentialSource::Bearer(name) => format!("as a bearer token in {name}"),
        CredentialSource::Query(name) => format!("in the query parameter {name}"),
        CredentialSource::Cookie(name) => format!("in the cookie {name}"),
    };
    let all: Vec<String> = sources.iter().map(place).collect();
    match all.split_last() {
        Some((last, before)) if !before.is_empty() => format!("{} or {last}", before.join(", ")),
        Some((only, _)) => only.clone(),
        None => "nowhere, as this gateway is configured".to_owned(),
    }
}

/// What has been found so far. More than one *different* credential is never resolved by taking one of them.
#[derive(Default)]
pub struct Finder<'a> {
    found: Option<Cow<'a, [u8]>>,
    ambiguous: bool,
}

impl std::fmt::Debug for Finder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Finder(..)")
    }
}

impl<'a> Finder<'a> {
    /// A place had this value; an empty one is none.
    pub(super) fn add(&mut self, value: impl Into<Cow<'a, [u8]>>) {
        let value = value.into();
        if value.is_empty() {
            return;
        }
        // Envoy joins duplicate headers with a comma, which no token can have.
        self.ambiguous |=
            value.contains(&b',') || self.found.as_ref().is_some_and(|found| *found != value);
        self.found = Some(value);
    }

    /// One place had two values.
    pub(super) fn duplicate(&mut self) {
        self.ambiguous = true;
    }

    /// Whether a text holds the credential that was found last.
    pub(super) fn found_in(&self, text: &[u8]) -> bool {
        self.found
            .as_deref()
            .is_some_and(|found| text.windows(found.len()).any(|part| part == found))
    }

    /// What all places together had.
    pub fn credential(&self) -> Credential<'_> {
        match &self.found {
            _ if self.ambiguous => Credential::Ambiguous,
            Some(value) => Credential::One(value),
            None => Credential::None,
        }
    }
}

/// What an `Authorization` header holds for us.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Bearer<'a> {
    /// Another scheme: not ours to read or remove.
    None,
    /// The text after `Bearer`.
    Token(&'a [u8]),
    /// Several credentials in one header, a bearer among them.
    Ambiguous,
}

/// Reads `1#credentials`: the scheme is case-insensitive (RFC 9110 section 11.1), spaces separate (RFC 6750 section 2.1).
pub(super) fn bearer(value: &[u8]) -> Bearer<'_> {
    let mut tokens = value
        .split(|b| *b == b',')
        .filter_map(|part| bearer_token(part.trim_ascii()));
    match tokens.next() {
        None => Bearer::None,
        Some(_) if value.contains(&b',') => Bearer::Ambiguous,
        Some(token) => Bearer::Token(token),
    }
}

fn bearer_token(part: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = part.split_at_checked(6)?;
    let ends = rest.first().is_none_or(|b| *b == b' ' || *b == b'\t');
    (scheme.eq_ignore_ascii_case(b"bearer") && ends).then(|| rest.trim_ascii())
}

/// Finds a query parameter by its decoded name; `each` is told the name as it was spelled and the decoded value.
pub(super) fn query<'a>(path: &'a [u8], name: &str, mut each: impl FnMut(&'a [u8], Cow<'a, [u8]>)) {
    parameters(path, b"&", |decoded, spelled, value| {
        if *decoded == *name.as_bytes() {
            each(spelled, value);
        }
    });
}

/// Goes through the query: `each` is told a parameter's decoded name, the name as it was spelled and the decoded value.
///
/// The path is never given to a URL parser: it is cut at the first `?`, as upstreams do (compare CVE-2026-26205).
pub(super) fn parameters<'a>(
    path: &'a [u8],
    separators: &[u8],
    mut each: impl FnMut(&[u8], &'a [u8], Cow<'a, [u8]>),
) {
    let Some(at) = path.iter().position(|b| *b == b'?') else {
        return;
    };
    let query = &path[at + 1..];
    let query = query.split(|b| *b == b'#').next().unwrap_or_default();
    for part in query.split(|b| separators.contains(b)) {
        let (key, value) = part
            .iter()
            .position(|b| *b == b'=')
            .map_or((part, &[][..]), |at| (&part[..at], &part[at + 1..]));
        each(&form_decode(key), key, form_decode(value));
    }
}

/// `application/x-www-form-urlencoded`: `+` is a space.
fn form_decode(text: &[u8]) -> Cow<'_, [u8]> {
    if text.contains(&b'+') {
        let spaced: Vec<u8> = text
            .iter()
            .map(|b| if *b == b'+' { b' ' } else { *b })
            .collect();
        return Cow::Owned(Cow::from(percent_decode(&spaced)).into_owned());
    }
    percent_decode(text).into()
}

/// Splits a `Cookie` header (RFC 6265 section 4.2): `each` is told the values of `name`; the rest is returned as it was.
pub(super) fn cookie<'a>(header: &'a [u8], name: &str, mut each: impl FnMut(&'a [u8])) -> Vec<u8> {
    let mut rest = Vec::with_capacity(header.len());
    for pair in header
        .split(|b| *b == b';')
        .map(<[u8]>::trim_ascii)
        .filter(|pair| !pair.is_empty())
    {
        let cut = pair.iter().position(|b| *b == b'=');
        match cut {
            Some(at) if pair[..at].trim_ascii() == name.as_bytes() => {
                each(pair[at + 1..].trim_ascii());
            }
            Some(_) | None => {
                if !rest.is_empty() {
                    rest.extend_from_slice(b"; ");
                }
                rest.extend_from_slice(pair);
            }
        }
    }
    rest
}

/// Whether a cookie of that name stands behind a comma, where one reader sees a new cookie and another the end of a value.
pub(super) fn cookie_after_comma(header: &[u8], name: &str) -> bool {
    header.split(|b| *b == b',').skip(1).any(|part| {
        let part = part.trim_ascii();
        let named = part
            .strip_prefix(name.as_bytes())
            .map(<[u8]>::trim_ascii_start);
        named.is_some_and(|rest| rest.first().is_none_or(|b| *b == b'='))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_is_read_like_the_rfcs_say() {
        let rows: [(&str, Bearer<'_>); 11] = [
            ("Bearer abc", Bearer::Token(b"abc")),
            ("bEARER   abc ", Bearer::Token(b"abc")),
            ("Bearer", Bearer::Token(b"")),
            ("Bearer a b", Bearer::Token(b"a b")),
            ("Bearerabc", Bearer::None),
            ("Basic dTpw", Bearer::None),
            ("Digest a=\"1\", b=2", Bearer::None),
            ("Bearer abc,Bearer def", Bearer::Ambiguous),
            ("Basic dTpw,Bearer def", Bearer::Ambiguous),
            ("Bearer abc,", Bearer::Ambiguous),
            ("", Bearer::None),
        ];
        for (value, expected) in rows {
            assert_eq!(bearer(value.as_bytes()), expected, "{value}");
        }
    }

    #[test]
    fn every_spelling_of_a_query_parameter_is_found() {
        let mut seen = Vec::new();
        let path = b"/a?x=1&api_key=k1&api%5fkey=k%312&%61pi_key=&api_keys=no&api_key#api_key=frag";
        query(path, "api_key", |name, value| {
            seen.push((
                String::from_utf8_lossy(name).into_owned(),
                String::from_utf8_lossy(&value).into_owned(),
            ));
        });
        let expected = [
            ("api_key", "k1"),
            ("api%5fkey", "k12"),
            ("%61pi_key", ""),
            ("api_key", ""),
        ];
        assert_eq!(
            seen,
            expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
        query(b"/api_key=1", "api_key", |_, _| {
            panic!("a path without `?` has no query")
        });
    }

    #[test]
    fn other_cookies_stay_as_they_were() {
        let mut values = Vec::new();
        let rest = cookie(b"a=1;  key=K ; b=\"x y\";flag; key=", "key", |value| {
            values.push(value.to_vec());
        });
        assert_eq!(rest, b"a=1; b=\"x y\"; flag");
        assert_eq!(values, [b"K".to_vec(), b"".to_vec()]);
    }

    #[test]
    fn a_cookie_behind_a_comma_is_noticed() {
        for (header, noticed) in [
            ("a=1,key=K", true),
            ("a=1, key = K; b=2", true),
            ("key=K", false),
            ("a=x,keys=1; key=K", false),
            ("a=1,2,3; key=K", false),
        ] {
            assert_eq!(
                cookie_after_comma(header.as_bytes(), "key"),
                noticed,
                "{header}"
            );
        }
    }

    #[test]
    fn two_different_credentials_are_ambiguous_and_two_equal_ones_are_not() {
        let finder = |values: &[&'static str]| {
            let mut finder = Finder::default();
            values.iter().for_each(|value| finder.add(value.as_bytes()));
            finder
        };
        assert_eq!(finder(&[]).credential(), Credential::None);
        assert_eq!(finder(&["", ""]).credential(), Credential::None);
        assert_eq!(finder(&["a", "", "a"]).credential(), Credential::One(b"a"));
        assert_eq!(finder(&["a", "b"]).credential(), Credential::Ambiguous);
        assert_eq!(finder(&["a,a"]).credential(), Credential::Ambiguous);
    }
}
