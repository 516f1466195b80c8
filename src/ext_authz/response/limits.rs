//! How limits stand, for clients: `ratelimit` and `ratelimit-policy` (IETF draft "RateLimit header fields for HTTP"), and
//! the older `x-ratelimit-*`.

use std::fmt::Write as _;

use crate::domain::limit::{LimitName, LimitState};
use crate::ext_authz::response::{put_header, seconds};

/// Appends the headers as field `tag`. The older ones can tell of one limit: the one that refuses, or the one of which
/// the least is left.
pub(super) fn put_limits(
    out: &mut Vec<u8>,
    tag: u32,
    limits: &[LimitState],
    refused: Option<LimitName>,
) {
    let tightest = match refused {
        Some(name) => limits.iter().find(|state| state.limit == name),
        None => limits.iter().min_by_key(|state| state.remaining),
    };
    let Some(tightest) = tightest else {
        return;
    };
    let mut text = String::with_capacity(128);
    for (name, list) in [
        ("ratelimit", remaining as Item),
        ("ratelimit-policy", policy),
    ] {
        text.clear();
        for state in limits {
            let separator = if text.is_empty() { "" } else { ", " };
            text.push_str(separator);
            list(&mut text, state);
        }
        put_header(out, tag, name, &text);
    }
    for (name, number) in [
        ("x-ratelimit-limit", tightest.amount),
        ("x-ratelimit-remaining", tightest.remaining),
        ("x-ratelimit-reset", seconds(tightest.reset)),
    ] {
        text.clear();
        // Writing to a text does not fail.
        write!(text, "{number}").ok();
        put_header(out, tag, name, &text);
    }
}

/// Writes how one limit stands.
type Item = fn(&mut String, &LimitState);

/// An item of `ratelimit`: what is left, and in how many seconds all is there again.
fn remaining(text: &mut String, state: &LimitState) {
    let (name, reset) = (state.limit.as_str(), seconds(state.reset));
    write!(text, "\"{name}\";r={};t={reset}", state.remaining).ok();
}

/// An item of `ratelimit-policy`: how many in how many seconds.
fn policy(text: &mut String, state: &LimitState) {
    let (name, window) = (state.limit.as_str(), seconds(state.window));
    write!(text, "\"{name}\";q={};w={window}", state.amount).ok();
}
