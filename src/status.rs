//! The one table from our errors to what a client of the admin API sees: code, reason, message.
//!
//! Reasons are in upper snake case (AIP-193) and stable; messages may change, except where DESIGN section 7 gives
//! their words. A cause inside us is logged here and never sent.
//!
//! | what happened | code | reason |
//! |---|---|---|
//! | no credential | UNAUTHENTICATED | `MISSING_API_KEY` |
//! | not a valid key | UNAUTHENTICATED | `INVALID_API_KEY` |
//! | an expired key | UNAUTHENTICATED | `API_KEY_EXPIRED` |
//! | a paused key | PERMISSION_DENIED | `API_KEY_PAUSED` |
//! | a JWT that is not valid, where JWTs are accepted | UNAUTHENTICATED | `INVALID_JWT` |
//! | an expired JWT | UNAUTHENTICATED | `JWT_EXPIRED` |
//! | too many wrong credentials came from there | RESOURCE_EXHAUSTED | `TEMPORARILY_BLOCKED`, with `RetryInfo` |
//! | more than one credential | INVALID_ARGUMENT | `AMBIGUOUS_REQUEST` |
//! | the caller's tenant is suspended | PERMISSION_DENIED | `TENANT_SUSPENDED` |
//! | the role does not allow it | PERMISSION_DENIED | `PERMISSION_DENIED` |
//! | a field is not acceptable | INVALID_ARGUMENT | `INVALID_FIELD`, with `BadRequest` |
//! | no such tenant or key | NOT_FOUND | `TENANT_NOT_FOUND`, `KEY_NOT_FOUND` |
//! | there is one already | ALREADY_EXISTS | `TENANT_ALREADY_EXISTS`, `KEY_ALREADY_EXISTS` |
//! | a revoked key does not change | FAILED_PRECONDITION | `KEY_REVOKED` |
//! | an expired key does not rotate | FAILED_PRECONDITION | `KEY_EXPIRED` |
//! | a token to be imported is a key's already | ALREADY_EXISTS | `KEY_ALREADY_EXISTS`, with the `name` |
//! | it is one that does not work as asked | ALREADY_EXISTS | `TOKEN_REVOKED`, `TOKEN_EXPIRED`, `TOKEN_PAUSED`, `TOKEN_IN_USE`, with the `name` |
//! | a token is asked for that is not kept | FAILED_PRECONDITION | `TOKEN_NOT_KEPT` |
//! | no token waits, or it was given out before | FAILED_PRECONDITION | `NOTHING_TO_CLAIM`, `ALREADY_CLAIMED` |
//! | a request id was used for something else | INVALID_ARGUMENT | `REQUEST_ID_REUSED`, with `BadRequest` |
//! | a request was done, its token is not kept | ALREADY_EXISTS | `KEY_ALREADY_EXISTS`, with the `name` |
//! | the etag is not the current one | ABORTED | `ETAG_MISMATCH` |
//! | too many keys | RESOURCE_EXHAUSTED | `API_KEY_LIMIT_EXCEEDED`, with the numbers |
//! | no keys can be made | FAILED_PRECONDITION | `API_KEYS_DISABLED` |
//! | a key may not have this expiry | INVALID_ARGUMENT | `API_KEY_EXPIRY_INVALID`, with `BadRequest` and the numbers |
//! | limits cannot be changed at run time | PERMISSION_DENIED | `TENANT_OVERRIDE_DISABLED`, `ADMIN_OVERRIDE_DISABLED` |
//! | the message is no message of the method | INVALID_ARGUMENT | `MALFORMED_REQUEST` |
//! | the message is too large | OUT_OF_RANGE | `MESSAGE_TOO_LARGE` |
//! | no such method, or no such encoding | UNIMPLEMENTED | `UNIMPLEMENTED` |
//! | the caller's deadline is exceeded | DEADLINE_EXCEEDED | `DEADLINE_EXCEEDED` |
//! | the store does not answer, refuses, or has lost its data | UNAVAILABLE | `STORE_UNAVAILABLE`, with `RetryInfo` |
//! | we cannot tell who calls | UNAVAILABLE | `AUTHORIZATION_UNAVAILABLE`, with `RetryInfo` |
//! | too many unfinished requests at once | UNAVAILABLE | `OVERLOADED`, with `RetryInfo` |
//! | anything else | INTERNAL | `INTERNAL` |
#![warn(clippy::wildcard_enum_match_arm)]

use std::collections::HashMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use crate::domain::governance::{ExpiryProblem, OverridesDisabled, limit_field};
use crate::domain::key::NoClaim;
use crate::domain::name::{KeyId, TenantId};
use crate::domain::role::Role;
use crate::registry::{RegistryError, TokenHolder, TokenState, not_importable};
use crate::store::{CountScope, StoreError};

/// The domain of every `ErrorInfo`.
pub const DOMAIN: &str = "keystile";
/// Details travel in a header, which clients bound (16 KiB is common): more violations than this are left out.
pub const VIOLATIONS_MAX: usize = 16;
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The stable word for what went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No credential.
    MissingApiKey,
    /// Not a valid key: malformed, unknown or revoked.
    InvalidApiKey,
    /// The key is past its expiry.
    ApiKeyExpired,
    /// The key is paused.
    ApiKeyPaused,
    /// Not a valid JWT, or not one for us.
    InvalidJwt,
    /// The JWT is past its expiry.
    JwtExpired,
    /// Too many wrong credentials came from there.
    TemporarilyBlocked,
    /// More than one credential.
    AmbiguousRequest,
    /// The caller's tenant is suspended.
    TenantSuspended,
    /// The role does not allow it.
    PermissionDenied,
    /// A field is not acceptable.
    InvalidField,
    /// No such tenant, or none that the caller may know of.
    TenantNotFound,
    /// No such key, or none that the caller may know of.
    KeyNotFound,
    /// The id is taken.
    TenantAlreadyExists,
    /// The token is a key's already.
    KeyAlreadyExists,
    /// A revoked key does not change any more.
    KeyRevoked,
    /// An expired key is renewed first.
    KeyExpired,
    /// A token to be imported is a revoked key's, or was replaced long ago.
    TokenRevoked,
    /// A token to be imported is an expired key's, or was replaced by a rotation.
    TokenExpired,
    /// A token to be imported is a paused key's.
    TokenPaused,
    /// A token to be imported is another owner's or tenant's.
    TokenInUse,
    /// The token that is asked for is not kept.
    TokenNotKept,
    /// No token waits for the holder of this one.
    NothingToClaim,
    /// The token was claimed before.
    AlreadyClaimed,
    /// The request id was used for something else.
    RequestIdReused,
    /// The message is no message of the method.
    MalformedRequest,
    /// The message is larger than we read.
    MessageTooLarge,
    /// There is no such method, or no such encoding.
    Unimplemented,
    /// The caller's deadline is exceeded.
    DeadlineExceeded,
    /// Somebody else was faster.
    EtagMismatch,
    /// One more key would be too many.
    ApiKeyLimitExceeded,
    /// No keys can be made.
    ApiKeysDisabled,
    /// A key may not have this expiry.
    ApiKeyExpiryInvalid,
    /// Tenant admins cannot change limits.
    TenantOverrideDisabled,
    /// Nobody can change limits at run time.
    AdminOverrideDisabled,
    /// The store does not answer.
    StoreUnavailable,
    /// We cannot tell who calls.
    AuthorizationUnavailable,
    /// Too many unfinished requests at once.
    Overloaded,
    /// We failed.
    Internal,
}

impl Reason {
    /// The word and the code that goes with it.
    fn entry(self) -> (&'static str, Code) {
        match self {
            Self::MissingApiKey => ("MISSING_API_KEY", Code::Unauthenticated),
            Self::InvalidApiKey => ("INVALID_API_KEY", Code::Unauthenticated),
            Self::ApiKeyExpired => ("API_KEY_EXPIRED", Code::Unauthenticated),
            Self::ApiKeyPaused => ("API_KEY_PAUSED", Code::PermissionDenied),
            Self::InvalidJwt => ("INVALID_JWT", Code::Unauthenticated),
            Self::JwtExpired => ("JWT_EXPIRED", Code::Unauthenticated),
            Self::TemporarilyBlocked => ("TEMPORARILY_BLOCKED", Code::ResourceExhausted),
            Self::AmbiguousRequest => ("AMBIGUOUS_REQUEST", Code::InvalidArgument),
            Self::TenantSuspended => ("TENANT_SUSPENDED", Code::PermissionDenied),
            Self::PermissionDenied => ("PERMISSION_DENIED", Code::PermissionDenied),
            Self::InvalidField => ("INVALID_FIELD", Code::InvalidArgument),
            Self::TenantNotFound => ("TENANT_NOT_FOUND", Code::NotFound),
            Self::KeyNotFound => ("KEY_NOT_FOUND", Code::NotFound),
            Self::TenantAlreadyExists => ("TENANT_ALREADY_EXISTS", Code::AlreadyExists),
            Self::KeyAlreadyExists => ("KEY_ALREADY_EXISTS", Code::AlreadyExists),
            Self::KeyRevoked => ("KEY_REVOKED", Code::FailedPrecondition),
            Self::KeyExpired => ("KEY_EXPIRED", Code::FailedPrecondition),
            Self::TokenRevoked => ("TOKEN_REVOKED", Code::AlreadyExists),
            Self::TokenExpired => ("TOKEN_EXPIRED", Code::AlreadyExists),
            Self::TokenPaused => ("TOKEN_PAUSED", Code::AlreadyExists),
            Self::TokenInUse => ("TOKEN_IN_USE", Code::AlreadyExists),
            Self::TokenNotKept => ("TOKEN_NOT_KEPT", Code::FailedPrecondition),
            Self::NothingToClaim => ("NOTHING_TO_CLAIM", Code::FailedPrecondition),
            Self::AlreadyClaimed => ("ALREADY_CLAIMED", Code::FailedPrecondition),
            Self::RequestIdReused => ("REQUEST_ID_REUSED", Code::InvalidArgument),
            Self::MalformedRequest => ("MALFORMED_REQUEST", Code::InvalidArgument),
            Self::MessageTooLarge => ("MESSAGE_TOO_LARGE", Code::OutOfRange),
            Self::Unimplemented => ("UNIMPLEMENTED", Code::Unimplemented),
            Self::DeadlineExceeded => ("DEADLINE_EXCEEDED", Code::DeadlineExceeded),
            Self::EtagMismatch => ("ETAG_MISMATCH", Code::Aborted),
            Self::ApiKeyLimitExceeded => ("API_KEY_LIMIT_EXCEEDED", Code::ResourceExhausted),
            Self::ApiKeysDisabled => ("API_KEYS_DISABLED", Code::FailedPrecondition),
            Self::ApiKeyExpiryInvalid => ("API_KEY_EXPIRY_INVALID", Code::InvalidArgument),
            Self::TenantOverrideDisabled => ("TENANT_OVERRIDE_DISABLED", Code::PermissionDenied),
            Self::AdminOverrideDisabled => ("ADMIN_OVERRIDE_DISABLED", Code::PermissionDenied),
            Self::StoreUnavailable => ("STORE_UNAVAILABLE", Code::Unavailable),
            Self::AuthorizationUnavailable => ("AUTHORIZATION_UNAVAILABLE", Code::Unavailable),
            Self::Overloaded => ("OVERLOADED", Code::Unavailable),
            Self::Internal => ("INTERNAL", Code::Internal),
        }
    }

    /// The word as clients see it.
    pub fn as_str(self) -> &'static str {
        self.entry().0
    }

    /// A status of that reason.
    pub fn status(self, message: impl Into<String>) -> Status {
        self.with(message, ErrorDetails::new(), HashMap::new())
    }

    /// A status of that reason which names fields.
    pub fn with_fields(self, message: impl Into<String>, fields: Vec<FieldViolation>) -> Status {
        self.with(
            message,
            ErrorDetails::with_bad_request(fields),
            HashMap::new(),
        )
    }

    fn with(
        self,
        message: impl Into<String>,
        mut details: ErrorDetails,
        metadata: HashMap<String, String>,
    ) -> Status {
        let (word, code) = self.entry();
        details.set_error_info(word, DOMAIN, metadata);
        if code == Code::Unavailable {
            details.set_retry_info(Some(RETRY_AFTER));
        }
        Status::with_error_details(code, message, details)
    }
}

/// Fields that are not acceptable; all of them at once.
pub fn invalid(mut violations: Vec<FieldViolation>) -> Status {
    let message = match violations.as_slice() {
        [one] => format!("{}: {}", one.field, one.description),
        all => format!("{} fields are not acceptable", all.len()),
    };
    violations.truncate(VIOLATIONS_MAX);
    Reason::InvalidField.with_fields(message, violations)
}

/// No such thing, or none that the caller may know of: the two cannot be told apart.
pub fn not_found(what: &'static str) -> Status {
    tenant_or_key(what, Reason::TenantNotFound, Reason::KeyNotFound)
        .status(format!("{what} not found"))
}

/// Nobody is asked about credentials from there for so long. In whole seconds: it is an estimate.
pub fn temporarily_blocked(wait: Duration) -> Status {
    let seconds = Duration::from_secs_f64(wait.as_secs_f64().ceil().max(1.0));
    let mut details = ErrorDetails::new();
    details.set_retry_info(Some(seconds));
    let message = format!(
        "too many wrong credentials came from this address: try again in {} s",
        seconds.as_secs()
    );
    Reason::TemporarilyBlocked.with(message, details, HashMap::new())
}

/// The etag is not the current one.
pub fn etag_mismatch(what: &'static str) -> Status {
    Reason::EtagMismatch.status(format!(
        "the {what} was modified concurrently; re-read it and retry"
    ))
}

/// What the registry said, in the client's terms. Paths of fields begin with `prefix`, the resource's field in
/// the request, if it has one.
pub fn from_registry(prefix: &'static str) -> impl Fn(RegistryError) -> Status {
    move |error| status_of(prefix, error)
}

fn status_of(prefix: &'static str, error: RegistryError) -> Status {
    let message = error.to_string();
    match error {
        RegistryError::NotFound { what } => not_found(what),
        RegistryError::AlreadyExists { what } => {
            tenant_or_key(what, Reason::TenantAlreadyExists, Reason::KeyAlreadyExists)
                .status(format!("{what} exists already"))
        }
        // Who may know of the holder is told by `token_taken`.
        RegistryError::TokenTaken(_) => status_of(prefix, not_importable()),
        RegistryError::Conflict { what } => etag_mismatch(what),
        RegistryError::KeyRevoked => {
            Reason::KeyRevoked.status("the key is revoked: it does not change any more")
        }
        RegistryError::KeyExpired => {
            Reason::KeyExpired.status("the key has expired: renew it first")
        }
        RegistryError::PausedByAdmin => Reason::PermissionDenied
            .status("an admin has paused the key: an admin ends or changes that"),
        RegistryError::NotKept(why) => Reason::TokenNotKept.status(why),
        RegistryError::NoClaim(NoClaim::Nothing) => Reason::NothingToClaim.status(message),
        RegistryError::NoClaim(NoClaim::Claimed) => Reason::AlreadyClaimed.status(message),
        RegistryError::RequestReused => request_reused(),
        RegistryError::TokenNotKept { tenant, key } => token_not_kept(&tenant, &key),
        RegistryError::Invalid { field, problem } => invalid_field(prefix, field, problem),
        RegistryError::CountLimit {
            scope,
            limit,
            current,
            role,
            set_by,
        } => {
            let numbers = [
                ("scope", scope_word(scope)),
                ("limit", &limit.to_string()),
                ("current", &current.to_string()),
                ("role", role.as_str()),
                ("source", set_by.as_str()),
            ];
            explained(Reason::ApiKeyLimitExceeded, message, &numbers)
        }
        RegistryError::KeysDisabled => Reason::ApiKeysDisabled.status(message),
        RegistryError::Expiry(problem) => bad_expiry(prefix, message, problem),
        RegistryError::OverridesDisabled { disabled, kept } => {
            let reason = match disabled {
                OverridesDisabled::ForTenants => Reason::TenantOverrideDisabled,
                OverridesDisabled::ForAll => Reason::AdminOverrideDisabled,
            };
            let kept = kept.map(|max| max.to_string());
            let numbers = Role::ALL.map(limit_field).into_iter().zip(&kept);
            let numbers: Vec<_> = numbers.map(|(name, max)| (name, max.as_str())).collect();
            explained(reason, message, &numbers)
        }
        RegistryError::Store(StoreError::Unavailable(source)) => {
            tracing::error!(
                error = source.as_ref() as &dyn std::error::Error,
                "store unavailable"
            );
            Reason::StoreUnavailable.status("the key store does not answer; try again")
        }
        RegistryError::Store(error @ (StoreError::Unusable(_) | StoreError::Lost(_))) => {
            tracing::error!(error = &error as &dyn std::error::Error, "store unusable");
            // Its text is the operator's, who is who calls here.
            Reason::StoreUnavailable.status(error.to_string())
        }
        RegistryError::Store(error @ StoreError::Damaged(_)) => internal(&error),
        RegistryError::Record(error) => internal(&error),
    }
}

fn tenant_or_key(what: &str, tenant: Reason, key: Reason) -> Reason {
    if what == "tenant" { tenant } else { key }
}

fn invalid_field(prefix: &str, field: &str, problem: String) -> Status {
    // A token is not a part of a key, but stands beside it.
    let path = match field {
        "token" => field.to_owned(),
        field => path_of(prefix, field),
    };
    invalid(vec![FieldViolation::new(path, problem)])
}

/// Some requests have no resource, and the field stands by itself.
fn path_of(prefix: &str, field: &str) -> String {
    match prefix {
        "" => field.to_owned(),
        prefix => format!("{prefix}.{field}"),
    }
}

fn bad_expiry(prefix: &str, message: String, problem: ExpiryProblem) -> Status {
    let violation = FieldViolation::new(path_of(prefix, "expire_time"), problem.to_string());
    let numbers = problem.rules().map(|rules| {
        [
            ("min_expiry_days", rules.min_days.to_string()),
            ("max_expiry_days", rules.max_days.to_string()),
            ("enforce_expiry", rules.enforce.to_string()),
        ]
    });
    let numbers = numbers.into_iter().flatten();
    let metadata = numbers.map(|(name, value)| (name.to_owned(), value));
    let details = ErrorDetails::with_bad_request(vec![violation]);
    Reason::ApiKeyExpiryInvalid.with(message, details, metadata.collect())
}

fn request_reused() -> Status {
    let problem = "was used before, for something else";
    let violation = FieldViolation::new("request_id", problem);
    Reason::RequestIdReused.with_fields(format!("request_id: {problem}"), vec![violation])
}

fn token_not_kept(tenant: &TenantId, key: &KeyId) -> Status {
    let name = format!("tenants/{tenant}/keys/{key}");
    let message =
        format!("the request made {name} before; its token is not kept, so it is not shown again");
    let metadata = [("name".to_owned(), name)].into();
    Reason::KeyAlreadyExists.with(message, ErrorDetails::new(), metadata)
}

/// Why a token is not taken over, for who may know of its holder: that it is of the key that was meant, in this state,
/// or, without one, that it is in use elsewhere.
pub fn token_taken(holder: &TokenHolder, state: Option<TokenState>) -> Status {
    let name = format!("tenants/{}/keys/{}", holder.tenant, holder.key);
    let (reason, what) = match state {
        Some(TokenState::Works) => (Reason::KeyAlreadyExists, "is that of this key already"),
        Some(TokenState::Paused) => (Reason::TokenPaused, "is that of this key, which is paused"),
        Some(TokenState::Revoked) => (Reason::TokenRevoked, "was revoked with this key"),
        Some(TokenState::Expired) => (Reason::TokenExpired, "has expired with this key"),
        None => (Reason::TokenInUse, "is in use elsewhere, by this key"),
    };
    explained(
        reason,
        format!("the token {what}: {name}"),
        &[("name", &name)],
    )
}

/// A status of that reason, with the numbers that explain it.
fn explained(reason: Reason, message: String, numbers: &[(&str, &str)]) -> Status {
    let numbers = numbers.iter();
    let metadata = numbers.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    reason.with(message, ErrorDetails::new(), metadata.collect())
}

fn scope_word(scope: CountScope) -> &'static str {
    match scope {
        CountScope::Owner => "owner",
        CountScope::Total => "total",
    }
}

fn internal(error: &(dyn std::error::Error + 'static)) -> Status {
    tracing::error!(error = error, "admin request failed");
    Reason::Internal.status("internal error")
}

#[cfg(test)]
mod tests;
