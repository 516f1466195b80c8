//! The tenant's context as a signed token (JWT, EdDSA), for upstreams that trust no network.
//!
//! It is bound to the request by method, authority and path, and valid for a minute. It never holds the API key. What
//! it cannot bind it does not sign: then the header is removed, and an upstream that asks for it refuses.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use data_encoding::BASE64URL_NOPAD;
use rand::Rng as _;
use serde::Serialize;

use crate::cache::Found;
use crate::clock::Timestamp;
use crate::crypto::signing::ContextKeys;
use crate::domain::name::Feature;
use crate::domain::request::parts;
use crate::ext_authz::target::Target;

/// Far below the 60 KiB that Envoy allows for all headers; the largest sets of features and scopes fit.
pub(super) const TOKEN_LEN_MAX: usize = 16 * 1024;

/// How tokens are made.
#[derive(Clone, Debug)]
pub struct SignedContext {
    /// The keys, which may be exchanged at any time.
    pub keys: Arc<ArcSwap<ContextKeys>>,
    /// The `iss` claim.
    pub issuer: String,
    /// The `aud` claim; empty: the host of the request.
    pub audience: Vec<String>,
    /// How long a token is valid.
    pub ttl: Duration,
    /// Whether another hop of ours can find the key again by it.
    pub key_ref: bool,
}

/// `docs/SIGNED_CONTEXT.md` says what each claim is for.
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: Audience<'a>,
    iat: i64,
    nbf: i64,
    exp: i64,
    jti: String,
    tenant: &'a str,
    key_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_ref: Option<String>,
    owner: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<&'a str>,
    features: Vec<&'a str>,
    scopes: Vec<&'a str>,
    htm: &'a str,
    authority: &'a str,
    path: &'a str,
}

/// One text, or a list (RFC 7519 section 4.1.3).
#[derive(Serialize)]
#[serde(untagged)]
enum Audience<'a> {
    One(&'a str),
    Many(&'a [String]),
}

impl SignedContext {
    /// The token for a request; none for one that it cannot be bound to.
    pub(super) fn token(
        &self,
        found: &Found,
        target: &Target<'_>,
        now: Timestamp,
    ) -> Option<String> {
        let bound = Bound::of(target)?;
        let claims = serde_json::to_vec(&self.claims(found, &bound, now)).ok()?;
        if BASE64URL_NOPAD.encode_len(claims.len()) > TOKEN_LEN_MAX {
            tracing::warn!(
                tenant = found.key.tenant().as_str(),
                key = found.key.key(),
                path_len = bound.path.len(),
                "a request goes on without a signed context: it would be too long for a header"
            );
            return None;
        }
        Some(self.keys.load().signer(now).sign(&claims))
    }

    fn claims<'a>(&'a self, found: &'a Found, bound: &'a Bound<'_>, now: Timestamp) -> Claims<'a> {
        let (key, tenant) = (&found.key, found.tenant.access());
        let iat = now.as_millis().div_euclid(1000);
        Claims {
            iss: &self.issuer,
            sub: tenant.id.as_str(),
            aud: match self.audience.as_slice() {
                [] => Audience::One(host(&bound.authority)),
                [one] => Audience::One(one),
                many => Audience::Many(many),
            },
            iat,
            nbf: iat,
            exp: iat.saturating_add_unsigned(self.ttl.as_secs()),
            jti: unique(),
            tenant: tenant.id.as_str(),
            key_id: key.key(),
            key_ref: self
                .key_ref
                .then(|| BASE64URL_NOPAD.encode(&key.digest()[..16])),
            owner: key.owner(),
            plan: tenant.plan.as_ref().map(|plan| plan.as_str()),
            features: features(&tenant.features, key.features()),
            scopes: parts(key.scopes()).collect(),
            htm: bound.method,
            authority: &bound.authority,
            path: bound.path,
        }
    }
}

/// What of a request the token is bound to.
pub(super) struct Bound<'a> {
    pub(super) method: &'a str,
    /// In lower case, as hosts are compared.
    pub(super) authority: Cow<'a, str>,
    /// As it was sent, without the query: Envoy may have to take the API key out of that.
    pub(super) path: &'a str,
}

impl<'a> Bound<'a> {
    pub(super) fn of(target: &Target<'a>) -> Option<Self> {
        let method = std::str::from_utf8(target.method).ok()?;
        let authority = std::str::from_utf8(target.authority).ok()?;
        let path = std::str::from_utf8(target.path).ok()?;
        if method.is_empty() || authority.is_empty() {
            return None;
        }
        let authority = if authority.bytes().any(|byte| byte.is_ascii_uppercase()) {
            authority.to_ascii_lowercase().into()
        } else {
            authority.into()
        };
        Some(Self {
            method,
            authority,
            path: path.split('?').next().unwrap_or_default(),
        })
    }
}

/// An authority without its port. IPv6 addresses stand in brackets.
pub(super) fn host(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        Some(_) | None => authority,
    }
}

fn features<'a>(tenant: &'a BTreeSet<Feature>, narrow: Option<&BTreeSet<Feature>>) -> Vec<&'a str> {
    tenant
        .iter()
        .filter(|feature| narrow.is_none_or(|narrow| narrow.contains(*feature)))
        .map(|feature| feature.as_str())
        .collect()
}

/// For upstreams that remember what they have seen.
fn unique() -> String {
    let mut bytes = [0; 16];
    rand::rng().fill_bytes(&mut bytes);
    BASE64URL_NOPAD.encode(&bytes)
}

#[cfg(test)]
mod tests;
