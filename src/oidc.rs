//! JWTs of one issuer: who holds one, and what the settings let that person do.
//!
//! Pure: a token, a key set and the time go in, a holder or a refusal comes out. Nothing in a token says where its key
//! is to be found: `jwk`, `jku`, `x5c` and `x5u` are not read. Where the key set comes from is the server's matter.
#![warn(missing_docs)]

mod claims;
mod json;
mod key_set;
mod signature;

use std::collections::BTreeSet;
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, Validation, decode};

use crate::clock::Timestamp;
use crate::domain::name::{Issuer, Owner, Scope, Subject, TenantId};
use crate::domain::role::Role;
pub use claims::{ClaimPath, Mapping};
use json::Object;
use key_set::Key;
pub use key_set::{KEY_SET_BYTES_MAX, KeySet, KeySetError};

/// The longest JWT that is read: those of issuers that list a user's groups have some thousand characters.
pub const JWT_LEN_MAX: usize = 16 * 1024;
/// The longest name of a key.
const KID_LEN_MAX: usize = 256;

/// Whose tokens are accepted, and what they say.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Exactly what the claim `iss` must be.
    pub issuer: Issuer,
    /// The claim `aud` must name one of these.
    pub audience: Vec<String>,
    /// How tokens may be signed.
    pub algorithms: Vec<Algorithm>,
    /// How far the issuer's clock may be from ours.
    pub leeway: Duration,
    /// What claims mean.
    pub mapping: Mapping,
}

/// Whom a token is about, and what it may do here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The claim `sub`: what the issuer calls it, always the same.
    pub subject: Subject,
    /// What it may do.
    pub role: Role,
    /// Where it belongs; none for a `global_admin`.
    pub tenant: Option<TenantId>,
    /// Whose keys are its own.
    pub owner: Option<Owner>,
    /// What keys that it makes may do.
    pub scopes: BTreeSet<Scope>,
}

/// Why a token is not accepted. The first group says nothing of who sent it: its signature was not proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// No JWT, too long, a name twice, or a header that we must understand and do not.
    Malformed,
    /// Signed in a way that is not allowed here.
    Algorithm,
    /// Signed by a key that is not in the key set.
    UnknownKey,
    /// Not signed by the key that it names.
    Signature,

    /// Of another issuer.
    Issuer,
    /// For somebody else.
    Audience,
    /// Its time is over, or it has no end.
    Expired,
    /// Its time has not come.
    NotYetValid,
    /// Bound to a key of its holder's, who cannot prove here to have it.
    Bound,
    /// Its subject cannot be named in the audit.
    NoSubject,
    /// None of its values has a role.
    NoRole,
    /// It names no tenant, or more than one.
    NoTenant,
    /// It names nobody who could own keys.
    NoOwner,
}

impl Refusal {
    /// Every one.
    pub const ALL: [Self; 13] = [
        Self::Malformed,
        Self::Algorithm,
        Self::UnknownKey,
        Self::Signature,
        Self::Issuer,
        Self::Audience,
        Self::Expired,
        Self::NotYetValid,
        Self::Bound,
        Self::NoSubject,
        Self::NoRole,
        Self::NoTenant,
        Self::NoOwner,
    ];

    /// Its word in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Algorithm => "algorithm",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "signature",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Bound => "bound",
            Self::NoSubject => "no_subject",
            Self::NoRole => "no_role",
            Self::NoTenant => "no_tenant",
            Self::NoOwner => "no_owner",
        }
    }
}

/// Whether a credential has the form of a JWT: three parts, the first of which begins as a JSON object does.
pub fn is_jwt(token: &[u8]) -> bool {
    token.starts_with(b"ey") && token.iter().filter(|byte| **byte == b'.').count() == 2
}

/// Tells tokens of an issuer from all others.
#[derive(Clone, Debug)]
pub struct Verifier {
    settings: Settings,
}

impl Verifier {
    /// A verifier of tokens that these settings accept.
    pub fn new(settings: Settings) -> Self {
        signature::install();
        Self { settings }
    }

    /// Whom the tokens are of.
    pub fn issuer(&self) -> &Issuer {
        &self.settings.issuer
    }

    /// Who holds the token.
    pub fn verify(&self, token: &[u8], keys: &KeySet, now: Timestamp) -> Result<Holder, Refusal> {
        let header = self.header(token)?;
        let mut refused = Refusal::UnknownKey;
        for key in keys.candidates(header.kid.as_deref(), header.algorithm) {
            match self.decode(token, key, header.algorithm) {
                Ok(claims) => return self.holder(&claims, now),
                // Two keys of one name: either may have signed it.
                Err(Refusal::Signature) => refused = Refusal::Signature,
                Err(refusal) => return Err(refusal),
            }
        }
        Err(refused)
    }

    fn header(&self, token: &[u8]) -> Result<Header, Refusal> {
        if token.len() > JWT_LEN_MAX || !is_jwt(token) {
            return Err(Refusal::Malformed);
        }
        let first = token.split(|byte| *byte == b'.').next().unwrap_or_default();
        let decoded = BASE64URL_NOPAD
            .decode(first)
            .map_err(|_| Refusal::Malformed)?;
        let header = Object::parse(&decoded).ok_or(Refusal::Malformed)?;
        // What is critical must be understood, and there is nothing of the kind that we do.
        if header.get("crit").is_some() || !is_access_token(&header)? {
            return Err(Refusal::Malformed);
        }
        let kid = match header.get("kid") {
            None => None,
            Some(value) => {
                let kid = value.as_str().filter(|kid| kid.len() <= KID_LEN_MAX);
                Some(kid.ok_or(Refusal::Malformed)?.to_owned())
            }
        };
        let named = header.get("alg").and_then(serde_json::Value::as_str);
        let known = named.and_then(|name| name.parse::<Algorithm>().ok());
        let algorithm = known.filter(|found| self.settings.algorithms.contains(found));
        Ok(Header {
            kid,
            algorithm: algorithm.ok_or(Refusal::Algorithm)?,
        })
    }

    fn decode(&self, token: &[u8], key: &Key, algorithm: Algorithm) -> Result<Object, Refusal> {
        let mut rules = Validation::new(algorithm);
        rules.set_required_spec_claims(&["exp", "iss", "aud"]);
        rules.set_issuer(&[self.settings.issuer.as_str()]);
        rules.set_audience(&self.settings.audience);
        // Held against our own clock afterwards, which tests can set.
        rules.validate_exp = false;
        decode::<Object>(token, key.decoding(), &rules)
            .map(|token| token.claims)
            .map_err(|error| refusal(&error))
    }

    fn holder(&self, claims: &Object, now: Timestamp) -> Result<Holder, Refusal> {
        // A list of issuers is not an issuer.
        let issuer = claims.get("iss").and_then(serde_json::Value::as_str);
        if issuer != Some(self.settings.issuer.as_str()) {
            return Err(Refusal::Issuer);
        }
        self.check_time(claims, now)?;
        if claims.get("cnf").is_some() {
            return Err(Refusal::Bound);
        }
        let subject = claims.get("sub").and_then(serde_json::Value::as_str);
        let subject = subject.and_then(|subject| Subject::parse(subject).ok());
        let subject = subject.ok_or(Refusal::NoSubject)?;
        self.settings.mapping.holder(subject, claims)
    }

    fn check_time(&self, claims: &Object, now: Timestamp) -> Result<(), Refusal> {
        let now = now.as_millis();
        let leeway = i64::try_from(self.settings.leeway.as_millis()).unwrap_or(i64::MAX);
        let expires = millis(claims, "exp")?.ok_or(Refusal::Expired)?;
        if now >= expires.saturating_add(leeway) {
            return Err(Refusal::Expired);
        }
        for name in ["nbf", "iat"] {
            let begins = millis(claims, name)?.unwrap_or(i64::MIN);
            if now.saturating_add(leeway) < begins {
                return Err(Refusal::NotYetValid);
            }
        }
        Ok(())
    }
}

/// The parts of a token's header that choose its key.
struct Header {
    kid: Option<String>,
    algorithm: Algorithm,
}

/// Whether `typ` says nothing else, such as that it is a token for logging out.
fn is_access_token(header: &Object) -> Result<bool, Refusal> {
    let Some(kind) = header.get("typ") else {
        return Ok(true);
    };
    let kind = kind
        .as_str()
        .ok_or(Refusal::Malformed)?
        .to_ascii_lowercase();
    let kind = kind.strip_prefix("application/").unwrap_or(&kind);
    Ok(matches!(kind, "jwt" | "at+jwt"))
}

/// A time of RFC 7519: seconds, with a fraction or without.
fn millis(claims: &Object, name: &str) -> Result<Option<i64>, Refusal> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    if let Some(seconds) = value.as_i64() {
        return Ok(Some(seconds.saturating_mul(1000)));
    }
    let seconds = value.as_f64().ok_or(Refusal::Malformed)?;
    let whole = Duration::try_from_secs_f64(seconds).map_err(|_| Refusal::Malformed)?;
    Ok(Some(i64::try_from(whole.as_millis()).unwrap_or(i64::MAX)))
}

fn refusal(error: &Error) -> Refusal {
    match error.kind() {
        ErrorKind::InvalidSignature => Refusal::Signature,
        ErrorKind::InvalidIssuer => Refusal::Issuer,
        ErrorKind::InvalidAudience => Refusal::Audience,
        ErrorKind::MissingRequiredClaim(claim) => match claim.as_str() {
            "iss" => Refusal::Issuer,
            "aud" => Refusal::Audience,
            _ => Refusal::Expired,
        },
        ErrorKind::InvalidAlgorithm | ErrorKind::UnsupportedAlgorithm => Refusal::Algorithm,
        _ => Refusal::Malformed,
    }
}
