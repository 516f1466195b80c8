//! Methods and paths that a request asks upstreams to use instead of its own, and which methods there are.
//!
//! A rule for `POST` is worth nothing where an upstream takes `post` for it, or a `GET` with
//! `x-http-method-override: POST`. What is in a form body we do not see.

use std::borrow::Cow;

use crate::ext_authz::credential;
use crate::ext_authz::target::Target;

/// Headers that ask for another method.
pub(in crate::ext_authz) const METHOD_OVERRIDES: [&str; 3] = [
    "x-http-method-override",
    "x-method-override",
    "x-http-method",
];
/// Headers that ask for another path.
pub(in crate::ext_authz) const PATH_OVERRIDES: [&str; 2] = ["x-original-url", "x-rewrite-url"];
/// Query parameters that ask for another method.
const METHOD_PARAMETERS: [&[u8]; 2] = [b"_method", b"x-http-method-override"];
/// What frameworks let a `POST` stand for, when they do.
const HONOURED: [&str; 3] = ["PUT", "PATCH", "DELETE"];

/// The methods of IANA's registry. Whoever treats another one as one of these decides alone which.
const REGISTERED: [&str; 40] = [
    "ACL",
    "BASELINE-CONTROL",
    "BIND",
    "CHECKIN",
    "CHECKOUT",
    "CONNECT",
    "COPY",
    "DELETE",
    "GET",
    "HEAD",
    "LABEL",
    "LINK",
    "LOCK",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MKREDIRECTREF",
    "MKWORKSPACE",
    "MOVE",
    "OPTIONS",
    "ORDERPATCH",
    "PATCH",
    "POST",
    "PRI",
    "PROPFIND",
    "PROPPATCH",
    "PUT",
    "QUERY",
    "REBIND",
    "REPORT",
    "SEARCH",
    "TRACE",
    "UNBIND",
    "UNCHECKOUT",
    "UNLINK",
    "UNLOCK",
    "UPDATE",
    "UPDATEREDIRECTREF",
    "VERSION-CONTROL",
];

/// What becomes of a request that asks for another method than its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MethodOverride {
    Refuse,
    /// It is matched by its own method.
    Ignore,
    /// A `POST` is matched by what it asks for; all else is refused.
    Honour,
}

/// What becomes of a request that asks for another path than its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathOverride {
    Refuse,
    /// It is matched by its own path.
    Ignore,
}

/// What the headers of a request ask for.
#[derive(Debug, Default)]
pub(in crate::ext_authz) struct Overrides<'a> {
    pub(in crate::ext_authz) methods: Vec<&'a [u8]>,
    pub(in crate::ext_authz) paths: Vec<&'a [u8]>,
}

/// Whether every reader knows the method, and by this name.
pub(super) fn is_registered(method: &[u8]) -> bool {
    REGISTERED.iter().any(|known| known.as_bytes() == method)
}

/// The method that a request is matched by.
pub(super) fn method<'a>(
    target: &Target<'a>,
    overrides: &Overrides<'a>,
    policy: MethodOverride,
) -> Result<&'a [u8], &'static str> {
    let sent = target.method;
    if policy == MethodOverride::Ignore {
        return Ok(sent);
    }
    let mut asked: Vec<Cow<'_, [u8]>> = overrides
        .methods
        .iter()
        .map(|said| (*said).into())
        .collect();
    // Some readers separate parameters by semicolons too.
    credential::parameters(target.path, b"&;", |name, _, value| {
        if asks_for_method(name) {
            asked.push(value);
        }
    });
    asked.retain(|method| !method.is_empty() && **method != *sent);
    let Some(first) = asked.first() else {
        return Ok(sent);
    };
    let agree = asked.iter().all(|method| method == first);
    let known = HONOURED
        .into_iter()
        .find(|known| first.eq_ignore_ascii_case(known.as_bytes()));
    match known {
        Some(known) if policy == MethodOverride::Honour && sent == b"POST" && agree => {
            Ok(known.as_bytes())
        }
        Some(_) | None => Err("it asks for another method than its own"),
    }
}

/// Whether a parameter asks for another method, as the most lenient reader takes its name: PHP leaves out blanks before it,
/// ends it at a NUL, and reads dots, blanks and a bracket that begins it as `_`; `_method[]` is a list of `_method`.
fn asks_for_method(name: &[u8]) -> bool {
    let name = name.trim_ascii_start();
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    let (first, rest) = name.split_at(name.len().min(1));
    let rest = rest.split(|byte| *byte == b'[').next().unwrap_or_default();
    let read: Vec<u8> = [first, rest]
        .concat()
        .into_iter()
        .map(|byte| if b". [".contains(&byte) { b'_' } else { byte })
        .collect();
    METHOD_PARAMETERS
        .iter()
        .any(|known| read.eq_ignore_ascii_case(known))
}

/// Whether a header asks for another path.
pub(super) fn asks_for_another_path(target: &Target<'_>, overrides: &Overrides<'_>) -> bool {
    let own = without_query(target.path);
    let is_other = |asked: &&[u8]| !asked.is_empty() && without_query(path_of(asked)) != own;
    overrides.paths.iter().any(is_other)
}

fn without_query(path: &[u8]) -> &[u8] {
    path.split(|b| *b == b'?').next().unwrap_or_default()
}

/// The path of a URL, or what is none.
fn path_of(url: &[u8]) -> &[u8] {
    let Some(colon) = url.windows(3).position(|part| part == b"://") else {
        return url;
    };
    let rest = &url[colon + 3..];
    match rest.iter().position(|b| *b == b'/') {
        Some(at) if !url[..colon].contains(&b'/') => &rest[at..],
        Some(_) | None => url,
    }
}
