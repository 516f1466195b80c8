//! What a Check ends in: allow, with a grant, or deny, with a reason. A decision is never an error.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::domain::limit::{LimitName, LimitState};
use crate::domain::name::{KeyId, PlanName, TenantId};

/// Why a request was refused (DESIGN section 3.2). The words are part of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DenyReason {
    /// No credential where the route needs one.
    MissingApiKey,
    /// Malformed, unknown, revoked or wrong: one answer, so that nothing can be learnt from it.
    InvalidApiKey,
    /// The full token is right and past its expiry or grace.
    ApiKeyExpired,
    /// The tenant is suspended.
    TenantSuspended,
    /// The full token is right and the key is paused.
    ApiKeyPaused,
    /// The route needs a feature that the key does not have.
    FeatureNotEnabled,
    /// The route needs a scope that the key does not have.
    ScopeNotGranted,
    /// The key's list of networks excludes the caller.
    NetworkNotAllowed,
    /// Two readers could read the request differently.
    AmbiguousRequest,
    /// Faster than the tenant or the key may.
    RateLimited,
    /// More in a day or month than the tenant or the key may.
    QuotaExceeded,
    /// The source has failed too often.
    TemporarilyBlocked,
    /// We could not decide.
    AuthorizationUnavailable,
}

impl DenyReason {
    /// Every reason, in the order of the table in DESIGN section 3.2.
    pub const ALL: [Self; 13] = [
        Self::MissingApiKey,
        Self::InvalidApiKey,
        Self::ApiKeyExpired,
        Self::TenantSuspended,
        Self::ApiKeyPaused,
        Self::FeatureNotEnabled,
        Self::ScopeNotGranted,
        Self::NetworkNotAllowed,
        Self::AmbiguousRequest,
        Self::RateLimited,
        Self::QuotaExceeded,
        Self::TemporarilyBlocked,
        Self::AuthorizationUnavailable,
    ];

    /// The stable word that clients, metrics and logs see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MissingApiKey => "missing_api_key",
            Self::InvalidApiKey => "invalid_api_key",
            Self::ApiKeyExpired => "api_key_expired",
            Self::TenantSuspended => "tenant_suspended",
            Self::ApiKeyPaused => "api_key_paused",
            Self::FeatureNotEnabled => "feature_not_enabled",
            Self::ScopeNotGranted => "scope_not_granted",
            Self::NetworkNotAllowed => "network_not_allowed",
            Self::AmbiguousRequest => "ambiguous_request",
            Self::RateLimited => "rate_limited",
            Self::QuotaExceeded => "quota_exceeded",
            Self::TemporarilyBlocked => "temporarily_blocked",
            Self::AuthorizationUnavailable => "authorization_unavailable",
        }
    }
}

/// Whose key was proven, for metadata and audit; none when the key is unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The tenant.
    pub tenant: TenantId,
    /// The key.
    pub key: KeyId,
    /// The tenant's plan.
    pub plan: Option<PlanName>,
}

/// A refusal and what may be said about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The stable reason.
    pub reason: DenyReason,
    /// The feature or scope that is missing, the limit that is reached, or why the request is ambiguous. Safe to show to the client.
    pub detail: Option<String>,
    /// After which time the same request would pass, when waiting helps.
    pub retry_after: Option<Duration>,
    /// How the limits of the tenant and the key stand, where they were asked.
    pub limits: Vec<LimitState>,
    /// Which of them refuses.
    pub refused_by: Option<LimitName>,
    /// Whose key it was, when it was proven. Only for the operator.
    pub subject: Option<Subject>,
}

impl Denial {
    /// A refusal without anything more to say.
    pub fn because(reason: DenyReason) -> Self {
        Self {
            reason,
            detail: None,
            retry_after: None,
            limits: Vec::new(),
            refused_by: None,
            subject: None,
        }
    }
}

/// Who was let in without a key, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keyless {
    /// The route takes requests without a key.
    Anonymous,
    /// The route is not checked.
    Exempt,
}

impl Keyless {
    /// The word that metrics and metadata see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::Exempt => "exempt",
        }
    }
}

/// The end of a life, shared by policy and tests: a key is expired from this instant on.
pub fn is_past(end: Option<Timestamp>, now: Timestamp) -> bool {
    end.is_some_and(|end| now >= end)
}

impl From<LimitName> for DenyReason {
    fn from(limit: LimitName) -> Self {
        match limit.window() {
            None => Self::RateLimited,
            Some(_) => Self::QuotaExceeded,
        }
    }
}
