//! The second hop: a request that carries a fresh signed context of ours has been proven where that was made, and its
//! key is not in it any more.
//!
//! The context is believed for what it says of *which key* let *this very request* through a moment ago, and for nothing
//! else: the key is looked up again, and everything that a decision rests on is asked anew. What is not believed is as
//! if it had not been sent.

mod seen;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use opentelemetry::KeyValue;
use serde::Deserialize;

use crate::clock::Timestamp;
use crate::domain::key::LookupId;
use crate::domain::request::Proven;
use crate::ext_authz::signed::{Bound, TOKEN_LEN_MAX, host};
use crate::ext_authz::target::Target;
use crate::telemetry::metrics::Metrics;
use seen::Seen;

/// How far the clocks of two hops may be apart.
const LEEWAY: Duration = Duration::from_secs(5);
/// No context of ours is valid for longer.
const TTL_MAX: i64 = 300;

/// The public keys of the first hop.
pub trait PublicKeys: fmt::Debug + Send + Sync {
    /// Whether the key of that id has signed the message; none when there is no such key.
    fn verify(&self, kid: &str, message: &[u8], signature: &[u8], now: Timestamp) -> Option<bool>;
}

/// Which routes believe a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// None is.
    No,
    /// One for the request as it is.
    Exact,
    /// One for the request as it is, or as Envoy says that it was before it redirected or rewrote it.
    Rewritten,
}

/// Whose contexts are believed.
#[derive(Debug)]
pub struct TrustedHop {
    keys: Box<dyn PublicKeys>,
    settings: HopSettings,
    seen: Seen,
    counts: [AtomicU64; Outcome::ALL.len()],
}

/// What a context must say.
#[derive(Clone, Debug)]
pub struct HopSettings {
    /// Routes that say nothing believe one; else only those with `keystile.trusted_hop`.
    pub all_listeners: bool,
    /// The `iss` claim.
    pub issuer: String,
    /// The `aud` claim names one of these; empty: the host of the request.
    pub audience: Vec<String>,
    /// How long after it was made it is believed.
    pub max_age: Duration,
}

/// What came of a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Believed, for the first time: nothing is charged.
    Accepted,
    /// Believed, and seen before: charged like any request.
    Repeated,
    /// No token of this form, or two.
    Malformed,
    /// Signed by a key that is not in the key set.
    UnknownKey,
    /// Not signed by the key that it names.
    Signature,
    /// Of another issuer, or for another audience.
    Foreign,
    /// Too old, or not valid yet.
    Expired,
    /// For another method, host or path.
    OtherRequest,
    /// Without `key_ref`: the first hop is not told to put it in.
    NoKeyRef,
}

impl Outcome {
    /// Every one.
    pub const ALL: [Self; 9] = [
        Self::Accepted,
        Self::Repeated,
        Self::Malformed,
        Self::UnknownKey,
        Self::Signature,
        Self::Foreign,
        Self::Expired,
        Self::OtherRequest,
        Self::NoKeyRef,
    ];

    /// Its word in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Repeated => "repeated",
            Self::Malformed => "malformed",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "signature",
            Self::Foreign => "foreign",
            Self::Expired => "expired",
            Self::OtherRequest => "other_request",
            Self::NoKeyRef => "no_key_ref",
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header<'a> {
    alg: &'a str,
    kid: &'a str,
    typ: &'a str,
}

#[derive(Deserialize)]
struct Claims<'a> {
    #[serde(borrow)]
    iss: Cow<'a, str>,
    #[serde(borrow)]
    aud: Audience<'a>,
    iat: i64,
    nbf: i64,
    exp: i64,
    jti: &'a str,
    tenant: &'a str,
    key_id: &'a str,
    key_ref: Option<&'a str>,
    #[serde(borrow)]
    htm: Cow<'a, str>,
    #[serde(borrow)]
    authority: Cow<'a, str>,
    #[serde(borrow)]
    path: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience<'a> {
    One(#[serde(borrow)] Cow<'a, str>),
    Many(#[serde(borrow)] Vec<Cow<'a, str>>),
}

impl Audience<'_> {
    fn names(&self, wanted: &str) -> bool {
        match self {
            Self::One(one) => one == wanted,
            Self::Many(many) => many.iter().any(|one| one == wanted),
        }
    }
}

impl TrustedHop {
    /// Believes what the keys have signed and the settings allow.
    pub fn new(keys: Box<dyn PublicKeys>, settings: HopSettings) -> Self {
        Self {
            seen: Seen::new(settings.max_age + LEEWAY),
            keys,
            settings,
            counts: Default::default(),
        }
    }

    /// Shows what came of contexts.
    pub fn observe(self: &Arc<Self>, metrics: &Metrics) {
        let this = Arc::clone(self);
        metrics.counters(
            "keystile_trusted_hop_contexts",
            "Signed contexts of another hop, by what came of them.",
            move || {
                let row = |outcome: Outcome| {
                    let label = KeyValue::new("outcome", outcome.as_str());
                    let count = this.counts[outcome as usize].load(Ordering::Relaxed);
                    (vec![label], count)
                };
                Outcome::ALL.map(row).into()
            },
        );
    }

    pub(super) fn by_default(&self) -> Trust {
        match self.settings.all_listeners {
            true => Trust::Exact,
            false => Trust::No,
        }
    }

    /// Whose request it is, if a context is to be believed. `targets` are the request, and what it was before.
    /// `looks_only` leaves no trace.
    pub(super) fn proven(
        &self,
        token: &[u8],
        targets: &[Target<'_>],
        now: Timestamp,
        looks_only: bool,
    ) -> Result<Proven, Outcome> {
        let checked = self.check(token, targets, now).map(|(mut proven, jti)| {
            proven.first_use = looks_only || self.seen.is_first(jti, now);
            proven
        });
        let outcome = match &checked {
            Ok(proven) if proven.first_use => Outcome::Accepted,
            Ok(_) => Outcome::Repeated,
            Err(outcome) => *outcome,
        };
        if !looks_only {
            self.counts[outcome as usize].fetch_add(1, Ordering::Relaxed);
        }
        checked
    }

    fn check(
        &self,
        token: &[u8],
        targets: &[Target<'_>],
        now: Timestamp,
    ) -> Result<(Proven, [u8; 16]), Outcome> {
        let parts = Parts::of(token).ok_or(Outcome::Malformed)?;
        let claims: Claims<'_> =
            serde_json::from_slice(&parts.claims).map_err(|_| Outcome::Malformed)?;
        // Before the signature, which costs more: whoever makes up a token has to make up all of it.
        let bound = bound(&claims, targets).ok_or(Outcome::OtherRequest)?;
        self.check_claims(&claims, &bound, now)?;
        let header: Header<'_> =
            serde_json::from_slice(&parts.header).map_err(|_| Outcome::Malformed)?;
        if header.alg != "EdDSA" || header.typ != "JWT" {
            return Err(Outcome::Malformed);
        }
        match self
            .keys
            .verify(header.kid, parts.message, &parts.signature, now)
        {
            Some(true) => {}
            Some(false) => return Err(Outcome::Signature),
            None => return Err(Outcome::UnknownKey),
        }
        let lookup_id = claims.key_ref.ok_or(Outcome::NoKeyRef)?;
        let (lookup_id, jti) = (id(lookup_id), id(claims.jti));
        let (lookup_id, jti) = lookup_id.zip(jti).ok_or(Outcome::Malformed)?;
        let proven = Proven {
            lookup_id: LookupId(lookup_id),
            tenant: claims.tenant.to_owned(),
            key: claims.key_id.to_owned(),
            first_use: false,
        };
        Ok((proven, jti))
    }

    fn check_claims(
        &self,
        claims: &Claims<'_>,
        bound: &Bound<'_>,
        now: Timestamp,
    ) -> Result<(), Outcome> {
        let audience = &self.settings.audience;
        let is_meant = match audience.is_empty() {
            true => claims.aud.names(host(&bound.authority)),
            false => audience.iter().any(|wanted| claims.aud.names(wanted)),
        };
        if claims.iss != self.settings.issuer || !is_meant {
            return Err(Outcome::Foreign);
        }
        let now = now.as_millis().div_euclid(1000);
        let begun = now.saturating_add_unsigned(LEEWAY.as_secs());
        let oldest = now.saturating_sub_unsigned(self.settings.max_age.as_secs());
        let lasts = claims.exp.saturating_sub(claims.iat);
        let is_fresh = claims.nbf <= begun
            && claims.iat <= begun
            && claims.iat > oldest
            && claims.exp > now
            && (1..=TTL_MAX).contains(&lasts);
        is_fresh.then_some(()).ok_or(Outcome::Expired)
    }
}

/// The request that it is for.
fn bound<'a>(claims: &Claims<'_>, targets: &[Target<'a>]) -> Option<Bound<'a>> {
    let is_for = |bound: &Bound<'_>| {
        claims.htm == bound.method
            && claims.authority == bound.authority
            && claims.path == bound.path
    };
    targets.iter().filter_map(Bound::of).find(is_for)
}

/// A JWT, taken apart and decoded.
struct Parts<'a> {
    /// What is signed.
    message: &'a [u8],
    header: Vec<u8>,
    claims: Vec<u8>,
    signature: Vec<u8>,
}

impl<'a> Parts<'a> {
    fn of(token: &'a [u8]) -> Option<Self> {
        if token.len() > TOKEN_LEN_MAX + 1024 {
            return None;
        }
        let mut dots = token.iter().enumerate().filter(|(_, b)| **b == b'.');
        let (first, second) = (dots.next()?.0, dots.next()?.0);
        let decode = |part: &[u8]| BASE64URL_NOPAD.decode(part).ok();
        Some(Self {
            message: &token[..second],
            header: decode(&token[..first])?,
            claims: decode(&token[first + 1..second])?,
            // Another dot does not decode.
            signature: decode(&token[second + 1..])?,
        })
    }
}

fn id(text: &str) -> Option<[u8; 16]> {
    let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).ok()?;
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests;
