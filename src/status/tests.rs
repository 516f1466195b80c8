//! Every error, and what a client sees of it.

use super::*;
use crate::domain::governance::LimitSource;

#[track_caller]
fn check(error: RegistryError, code: Code, reason: &str, message: &str) -> ErrorDetails {
    let status = from_registry("key")(error);
    let details = status.get_error_details();
    let info = details.error_info().expect("every error has an ErrorInfo");
    assert_eq!(
        (status.code(), info.reason.as_str(), info.domain.as_str()),
        (code, reason, "keystile")
    );
    assert_eq!(status.message(), message);
    details
}

#[test]
fn each_registry_error_has_its_code_reason_and_message() {
    let invalid = |field| RegistryError::Invalid {
        field,
        problem: "must be in the future".into(),
    };
    let not_found = |what| RegistryError::NotFound { what };
    let exists = |what| RegistryError::AlreadyExists { what };
    let limit = RegistryError::CountLimit {
        scope: CountScope::Owner,
        limit: 10,
        current: 10,
        role: Role::User,
        set_by: LimitSource::TenantConfig,
    };
    let total = RegistryError::CountLimit {
        scope: CountScope::Total,
        limit: 5000,
        current: 5000,
        role: Role::User,
        set_by: LimitSource::Default,
    };
    let disabled = |disabled| RegistryError::OverridesDisabled {
        disabled,
        kept: [5, 15, 50],
    };
    let down = StoreError::Unavailable("127.0.0.1:6379 refused".into());
    let damaged = StoreError::Damaged("page 7".into());
    let changed = "the key was modified concurrently; re-read it and retry";
    for (error, code, reason, message) in [
        (
            not_found("tenant"),
            Code::NotFound,
            "TENANT_NOT_FOUND",
            "tenant not found",
        ),
        (
            not_found("key"),
            Code::NotFound,
            "KEY_NOT_FOUND",
            "key not found",
        ),
        (
            exists("tenant"),
            Code::AlreadyExists,
            "TENANT_ALREADY_EXISTS",
            "tenant exists already",
        ),
        (
            exists("key"),
            Code::AlreadyExists,
            "KEY_ALREADY_EXISTS",
            "key exists already",
        ),
        (
            exists("token"),
            Code::AlreadyExists,
            "KEY_ALREADY_EXISTS",
            "token exists already",
        ),
        (
            RegistryError::KeyRevoked,
            Code::FailedPrecondition,
            "KEY_REVOKED",
            "the key is revoked: it does not change any more",
        ),
        (
            RegistryError::KeyExpired,
            Code::FailedPrecondition,
            "KEY_EXPIRED",
            "the key has expired: renew it first",
        ),
        (
            RegistryError::NotKept("no tokens are kept here"),
            Code::FailedPrecondition,
            "TOKEN_NOT_KEPT",
            "no tokens are kept here",
        ),
        (
            NoClaim::Nothing.into(),
            Code::FailedPrecondition,
            "NOTHING_TO_CLAIM",
            "no token waits for the holder of this one",
        ),
        (
            NoClaim::Claimed.into(),
            Code::FailedPrecondition,
            "ALREADY_CLAIMED",
            "the token was claimed before",
        ),
        (
            RegistryError::RequestReused,
            Code::InvalidArgument,
            "REQUEST_ID_REUSED",
            "request_id: was used before, for something else",
        ),
        (
            RegistryError::TokenNotKept {
                tenant: TenantId::parse("acme").unwrap(),
                key: KeyId::parse("abcd2345").unwrap(),
            },
            Code::AlreadyExists,
            "KEY_ALREADY_EXISTS",
            "the request made tenants/acme/keys/abcd2345 before; its token is not kept, so it is not shown again",
        ),
        (
            RegistryError::Conflict { what: "key" },
            Code::Aborted,
            "ETAG_MISMATCH",
            changed,
        ),
        (
            invalid("scopes"),
            Code::InvalidArgument,
            "INVALID_FIELD",
            "key.scopes: must be in the future",
        ),
        (
            RegistryError::Expiry(ExpiryProblem::Past),
            Code::InvalidArgument,
            "API_KEY_EXPIRY_INVALID",
            "API key expiry validation failed: must be in the future",
        ),
        (
            limit,
            Code::ResourceExhausted,
            "API_KEY_LIMIT_EXCEEDED",
            "API key limit exceeded: the owner has 10 of 10 keys; the limit for the role `user` is from tenant_config",
        ),
        (
            total,
            Code::ResourceExhausted,
            "API_KEY_LIMIT_EXCEEDED",
            "API key limit exceeded: the platform has 5000 of 5000 keys",
        ),
        (
            RegistryError::KeysDisabled,
            Code::FailedPrecondition,
            "API_KEYS_DISABLED",
            "API keys cannot be made: `api_keys.enabled` is false",
        ),
        (
            disabled(OverridesDisabled::ForTenants),
            Code::PermissionDenied,
            "TENANT_OVERRIDE_DISABLED",
            "Tenant admin overrides are disabled: `api_keys.allow_tenant_override` is false; the limits stay 5/15/50",
        ),
        (
            disabled(OverridesDisabled::ForAll),
            Code::PermissionDenied,
            "ADMIN_OVERRIDE_DISABLED",
            "Admin overrides are disabled: `api_keys.allow_admin_override` is false for every role; the limits stay 5/15/50",
        ),
        (
            down.into(),
            Code::Unavailable,
            "STORE_UNAVAILABLE",
            "the key store does not answer; try again",
        ),
        (damaged.into(), Code::Internal, "INTERNAL", "internal error"),
    ] {
        check(error, code, reason, message);
    }
}

#[test]
fn what_may_be_retried_says_when() {
    let status = Reason::AuthorizationUnavailable.status("later");
    assert_eq!(
        status
            .get_details_retry_info()
            .and_then(|info| info.retry_delay),
        Some(Duration::from_secs(1))
    );
}

#[test]
fn a_thousand_bad_fields_still_fit_the_headers() {
    let violation = |at| FieldViolation::new(format!("key.scopes[{at}]"), "x".repeat(100));
    let status = invalid((0..1000).map(violation).collect());
    assert_eq!(status.message(), "1000 fields are not acceptable");
    assert_eq!(
        status
            .get_details_bad_request()
            .unwrap()
            .field_violations
            .len(),
        VIOLATIONS_MAX
    );
    assert!(status.details().len() < 4096);
}
